//! `udocker site check`, `explain` and `init`: what administrators are told of their files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use udocker_tests::{ORDINARY_USER, TestEnv, code, run, stderr, stdout};

/// What `udocker site check` says of the site's files, line by line; the status must be `status`.
fn checked(env: &TestEnv, status: i32) -> Vec<String> {
    let output = env.udocker(&["site", "check"]).output().unwrap();
    assert_eq!((code(&output), stderr(&output)), (status, String::new()), "{}", stdout(&output));
    stdout(&output).lines().map(|line| line.replace("/etc/udocker", "ETC")).collect()
}

#[test]
fn all_mistakes_are_told_each_by_its_place() {
    let mut env = TestEnv::ordinary();
    env.set_site(
        "[site]\nnme = \"x\"\n[polcy]\n[log]\nlevel = \"none\"\n[policy]\ndefault = \"maybe\"\npin = \"now\"\n\
         [[policy.rule]]\nreason = \"no action\"\n[[policy.rule]]\naction = \"deny\"\nmodes = [\"N1\"]\n\
         [modes]\nallowed = \"N1\"\npreference = [\"N9\"]\n[registries]\nparallel = 100\nretries = \"many\"\n",
    );
    let conf = env.path("etc/udocker/conf.d");
    fs::create_dir(&conf).unwrap();
    fs::write(conf.join("10.toml"), "[registries]\ndeny = [\"a/b\", \"c d\"]\n").unwrap();
    fs::write(conf.join("20.toml"), "[site]\nname = \"a\"\nname = \"b\"\n").unwrap();
    assert_eq!(
        checked(&env, 1),
        [
            "ETC/site.toml:2:1: unknown key `site.nme`; hint: did you mean `site.name`?",
            "ETC/site.toml:3:2: unknown key `polcy`; hint: did you mean `policy`?",
            "ETC/site.toml:4:2: the key `log` is not supported by this version",
            "ETC/site.toml:7:11: unknown variant `maybe`, expected `allow` or `deny`",
            "ETC/site.toml:8:7: unknown variant `now`, expected one of `require`, `prefer`, `off`",
            "ETC/site.toml:9:1: missing field `action`",
            "ETC/site.toml:15:11: invalid type: string \"N1\", expected a sequence",
            "ETC/site.toml:19:11: invalid type: string \"many\", expected u32",
            "ETC/site.toml:18:12: cannot use the value of `registries.parallel`: expected a number from 1 to 64",
            "ETC/site.toml:13:10: cannot use the value of `policy.rule.modes`: expected nothing, as a rule that denies \
             narrows nothing",
            "ETC/site.toml:16:15: cannot use the value of `modes.preference`: expected modes as \"N1\" or \"P2\"",
            "ETC/conf.d/10.toml:2:9: cannot use the value of `registries.deny`: expected a registry as host[:port], in \
             which `*` stands for a part of a label",
            "ETC/conf.d/10.toml:2:16: cannot use the value of `registries.deny`: expected a registry as host[:port], in \
             which `*` stands for a part of a label",
            "ETC/conf.d/20.toml:3:1: duplicate key",
        ]
    );
    // A run tells the first.
    let output = env.launch(&["img", "true"]).output().unwrap();
    assert_eq!(
        stderr(&output),
        "udocker: /etc/udocker/site.toml:2:1: unknown key `site.nme`\n  hint: did you mean `site.name`?\n"
    );
}

#[test]
fn files_that_others_can_write_are_told() {
    let mut env = TestEnv::ordinary();
    env.set_site("site.name = \"x\"\n");
    let etc = env.path("etc/udocker");
    assert_eq!(checked(&env, 0), ["ETC/site.toml: good"]);
    let mode = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&etc.join("site.toml"), 0o664);
    fs::create_dir(etc.join("conf.d")).unwrap();
    fs::write(etc.join("conf.d/a.toml"), "").unwrap();
    chown(etc.join("conf.d/a.toml"), Some(ORDINARY_USER), None).unwrap();
    std::os::unix::fs::symlink("a.toml", etc.join("conf.d/b.toml")).unwrap();
    assert_eq!(
        checked(&env, 1),
        [
            "cannot trust the configuration ETC/site.toml: mode 0664 lets group or others write it; hint: `chmod go-w \
             ETC/site.toml`"
                .to_owned(),
            format!(
                "cannot trust the configuration ETC/conf.d/a.toml: it belongs to uid {ORDINARY_USER}, not to uid 0; hint: \
                 `chown 0 ETC/conf.d/a.toml`"
            ),
            "cannot trust the configuration ETC/conf.d/b.toml: it is not a plain file".to_owned(),
        ]
    );
    mode(&etc, 0o777);
    assert_eq!(
        checked(&env, 1),
        ["cannot trust the configuration ETC: mode 0777 lets group or others write it; hint: `chmod go-w ETC`"]
    );
    fs::remove_dir_all(&etc).unwrap();
    assert_eq!(checked(&env, 1), ["ETC: no site.toml and no conf.d/*.toml"]);
}

#[test]
fn values_without_effect_are_told() {
    let mut env = TestEnv::ordinary();
    env.set_site(
        "[modes]\nallowed = [\"P1\"]\n[[policy.rule]]\nmatch.store = [\"a\", \"b\"]\naction = \"deny\"\n\
         [[policy.rule]]\nmatch = { store = [\"a\"], group = [1] }\naction = \"allow\"\n\
         [[policy.rule]]\naction = \"allow\"\nmodes = [\"N1\"]\n[[policy.rule]]\nmatch.image = [\"a.example/**\"]\n\
         action = \"deny\"\n",
    );
    assert_eq!(
        checked(&env, 1),
        [
            "ETC/site.toml:6:1: `policy.rule` has no effect: the rule at ETC/site.toml:3:1 matches all that it matches, \
             and comes first",
            "ETC/site.toml:9:1: `policy.rule` has no effect: `modes.allowed` (ETC/site.toml:2:11) has none of its modes",
            "ETC/site.toml:12:1: `policy.rule` has no effect: the rule at ETC/site.toml:9:1 matches all that it matches, \
             and comes first",
        ]
    );
    env.set_site(
        "[mounts]\nforced = [\"/srv/a:/opt/a\"]\noptional = [\"/srv2:/opt/b\"]\nforbidden_sources = [\"/srv\"]\n\
         forbidden_targets = [\"/opt/b\"]\n",
    );
    assert_eq!(
        checked(&env, 1),
        [
            "ETC/site.toml:4:22: `mounts.forbidden_sources` has no effect: `mounts.forced` (ETC/site.toml:2:11) mounts \
             /srv all the same",
            "ETC/site.toml:5:22: `mounts.forbidden_targets` has no effect: `mounts.optional` (ETC/site.toml:3:13) mounts \
             /opt/b all the same",
        ]
    );
    // What an override does to the others is meant.
    let rule = "[[policy.rule]]\naction = \"allow\"\n";
    let over = "[[override]]\npartition = [\"p\"]\n[[override.policy.rule]]\naction = \"deny\"\n";
    env.set_site(&format!("{rule}{over}"));
    let mut command = env.udocker(&["site", "check"]);
    let output = run(command.env("SLURM_JOB_PARTITION", "p"));
    assert_eq!(stdout(&output), "/etc/udocker/site.toml: good\n");
}

#[test]
fn the_example_is_good_and_so_are_its_comments() {
    let env = TestEnv::ordinary();
    let example = stdout(&run(&mut env.udocker(&["site", "init"])));
    let path = env.own_directory("example", 0o755).join("site.toml");
    let is_setting = |line: &str| {
        let word = line.split_once(" = ").map(|(key, _)| key);
        line.starts_with('[') || word.is_some_and(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    };
    let whole: String = example
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line).to_owned() + "\n")
        .collect();
    assert!(whole.contains("\nallowed = ") && whole.contains("\n[[policy.rule]]"), "{whole}");
    for text in [&example, &whole] {
        fs::write(&path, text).unwrap();
        for named in [path.clone(), path.parent().unwrap().to_path_buf()] {
            let output = env.udocker(&["site", "check", named.to_str().unwrap()]).output().unwrap();
            let said = (code(&output), stdout(&output), stderr(&output));
            assert_eq!(said, (0, format!("{}: good\n", path.display()), String::new()), "{text}");
        }
    }
}

#[test]
fn a_key_is_explained_by_its_value_and_who_set_it() {
    let mut env = TestEnv::ordinary();
    env.set_site("[policy]\ndefault = \"deny\"\n[[policy.rule]]\naction = \"allow\"\n");
    for (key, status, expected) in [
        ("policy.default", 0, "policy.default = deny\n    set by /etc/udocker/site.toml:2:11\n"),
        (
            "policy",
            0,
            "policy.default = deny\n    set by /etc/udocker/site.toml:2:11\npolicy.pin = off\n    built in\n\
             policy.rule = /etc/udocker/site.toml:3:1\n    set by /etc/udocker/site.toml:3:1\n",
        ),
        ("modes.allowed", 0, "modes.allowed = all\n    built in\n"),
        ("registries.default", 0, "registries.default = docker.io\n    built in\n"),
        (
            "polcy.defualt",
            1,
            "Error: cannot explain `polcy.defualt`: site.toml has no such key\n  hint: did you mean `policy.default`?\n",
        ),
        ("gpu.compat", 1, "Error: cannot explain `gpu.compat`: the key is not supported by this version\n"),
    ] {
        let output = env.udocker(&["site", "explain", key]).output().unwrap();
        assert_eq!((code(&output), stdout(&output) + &stderr(&output)), (status, expected.to_owned()), "{key}");
    }
}
