//! `[env]`, `[run]` and `[[override]]` of the site's files, end to end.

use std::process::Command;

use udocker_tests::{TestEnv, children, code, run, stderr, stdout};

const POLICY: i32 = 121;

#[test]
fn a_site_sets_variables_below_its_users_and_removes_above_them() {
    let mut env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    env.set_site(
        "[env]\nset = { LICENSE = \"site\", MINE = \"site\" }\nprepend = { PATH = \"/site/bin\" }\n\
         append = { PATH = \"/site/last\" }\npass = [\"MODULEPATH\"]\ndrop = [\"HIDDEN\"]\nunset = [\"SECRET*\"]\n",
    );
    let script = "echo $LICENSE $MINE $MODULEPATH $HIDDEN $SECRET1; echo $PATH";
    let expected = |env: &TestEnv, mut command: Command, hidden: &str| {
        command.env("MODULEPATH", "/m").env("HIDDEN", "h").env("SECRET1", "s");
        let shown = stdout(&run(&mut command));
        let (variables, path) = shown.split_once('\n').unwrap();
        assert_eq!(variables, format!("site user /m{hidden}"), "{}", env.path("").display());
        assert!(path.starts_with("/site/bin:/") && path.ends_with(":/site/last\n"), "{path}");
    };
    let words = ["--env=MINE=user", "--env=SECRET1=user", "bb:1", "sh", "-c", script];
    expected(&env, env.launch(&words), "");
    expected(&env, env.launch(&[&["--env=HIDDEN"], &words[..]].concat()), " h");
    expected(&env, env.udocker(&[&["run"], &words[..]].concat()), "");
    expected(&env, env.udocker(&[&["run", "--hostenv"], &words[..]].concat()), "");
}

#[test]
fn a_site_keeps_the_containers_of_runs() {
    let mut env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    let containers = |env: &TestEnv| children(&env.store().join("containers")).len();
    for (site, expected) in [("run.keep = false\n", 0), ("run.keep = true\n", 1)] {
        env.set_site(site);
        run(&mut env.udocker(&["run", "bb:1", "true"]));
        assert_eq!(containers(&env), expected, "{site}");
    }
}

#[test]
fn some_jobs_have_tables_of_their_own() {
    let mut env = TestEnv::ordinary();
    env.import_busybox("bb:1");
    env.set_site(
        "[[policy.rule]]\naction = \"allow\"\n\
         [[override]]\npartition = [\"lic*\"]\naccount = [\"chem\"]\n\
         [[override.policy.rule]]\naction = \"deny\"\nreason = \"not here\"\n\
         [[override]]\nqueue = [\"p\"]\nmodes.allowed = [\"P1\"]\nmounts.forbidden_sources = [\"/srv\"]\n",
    );
    let ended = |variables: &[(&str, &str)], words: &[&str]| {
        let mut command = env.launch(words);
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        (code(&output), stderr(&output).lines().next().unwrap_or_default().to_owned())
    };
    let plain = ["bb:1", "true"];
    let licensed = [("SLURM_JOB_PARTITION", "licensed"), ("SLURM_JOB_ACCOUNT", "chem")];
    assert_eq!(ended(&[], &plain).0, 0);
    assert_eq!(ended(&licensed[..1], &plain).0, 0);
    assert_eq!(ended(&[("SLURM_JOB_PARTITION", "other"), licensed[1]], &plain).0, 0);
    let (status, said) = ended(&licensed, &plain);
    assert_eq!(status, POLICY, "{said}");
    assert!(said.ends_with("the site forbids it (/etc/udocker/site.toml:6:1): not here"), "{said}");
    let queue = [("PBS_QUEUE", "p")];
    for (words, expected) in [
        (&["--mode=N1", "bb:1", "true"][..], POLICY),
        (&["--mode=P1", "bb:1", "true"], 0),
        (&["--mount=/srv:/mnt", "bb:1", "true"], POLICY),
    ] {
        let (status, said) = ended(&queue, words);
        assert_eq!(status, expected, "{words:?}: {said}");
        assert_eq!(ended(&[], words).0, 0, "{words:?}");
    }
    let explained = |variables: &[(&str, &str)]| {
        let mut command = env.udocker(&["site", "explain", "modes.allowed"]);
        command.envs(variables.iter().copied());
        stdout(&run(&mut command))
    };
    assert_eq!(explained(&[]), "modes.allowed = all\n    built in\n    in queue p (/etc/udocker/site.toml:9:1): P1\n");
    assert_eq!(explained(&queue), "modes.allowed = P1\n    set by /etc/udocker/site.toml:11:17\n");
}
