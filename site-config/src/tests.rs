use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use tempfile::TempDir;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::policy::{Action, ImageGlob, ModeSettings, Policy, RegistryAccess, RegistryGlob, Rule};
use udocker_core::reference::RegistryHost;
use udocker_core::run::ExecMode;
use udocker_core::settings::{StageSettings, StageWhen};

use super::*;

/// A site's directory; `DIR` stands for it in expected messages.
struct SiteDir(TempDir);

impl SiteDir {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }
    fn with(text: &str) -> Self {
        let site = Self::new();
        site.write("site.toml", text);
        site
    }
    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    fn sources(&self) -> Sources {
        Sources {
            env: Vec::new(),
            home: "/home/alice".into(),
            cwd: "/work".into(),
            uid: rustix::process::geteuid().as_raw(),
            user: "alice".into(),
            repo: None,
            config: None,
            insecure: false,
            verbosity: None,
            in_detail: false,
            site_dir: self.0.path().into(),
            site_file: None,
            system_conf: self.0.path().join("udocker.conf"),
            site_owner: rustix::process::geteuid().as_raw(),
        }
    }
    fn report(&self) -> String {
        self.shorten(&load(&self.sources()).unwrap_err())
    }
    fn shorten(&self, error: &ConfigError) -> String {
        let mut text = error.to_string();
        error.hints().iter().for_each(|hint| text.push_str(&format!(" | {hint}")));
        text.replace(self.0.path().to_str().unwrap(), "DIR")
    }
}

fn env(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    list.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn stores(loaded: &Loaded) -> Vec<String> {
    let flags = |store: &StoreSettings| {
        let flag = |on: bool, text| if on { text } else { "" };
        [flag(store.readonly, " ro"), flag(!store.keep_layers, " flat"), flag(!store.sync, " unsynced")].concat()
    };
    let line = |s: &StoreSettings| format!("{} {} {:?}{}", s.name, s.path.display(), s.kind, flags(s));
    loaded.settings.stores.iter().map(line).collect()
}

#[test]
fn defaults_without_a_site() {
    let site = SiteDir::new();
    let mut sources = site.sources();
    sources.uid = 1234;
    sources.site_dir.push("missing");
    let loaded = load(&sources).unwrap();
    let settings = &loaded.settings;
    assert_eq!(stores(&loaded), ["user /home/alice/.udocker User"]);
    let run_dirs = ["/run/udocker/1234", "/dev/shm/udocker-1234", "/tmp/udocker-1234"].map(PathBuf::from);
    assert_eq!(settings.run_dirs, run_dirs);
    assert_eq!(settings.registries.keystore, Some("/home/alice/.udocker/keystore".into()));
    assert_eq!(settings.registries.default.as_str(), "docker.io");
    assert_eq!((settings.registries.parallel, settings.registries.retries), (4, 5));
    assert_eq!(settings.registries.backoff, Duration::from_millis(250));
    assert_eq!((settings.limits.image_bytes, settings.limits.tmpfs_bytes), (512 << 30, None));
    assert_eq!((&loaded.origins, &loaded.warnings), (&BTreeMap::new(), &Vec::new()));
    assert_eq!(stores(&load(&site.sources()).unwrap()), ["user /home/alice/.udocker User"]);
}

#[test]
fn a_configured_store_that_is_named_keeps_its_settings() {
    let site = SiteDir::with("[[store]]\nname = \"group\"\npath = \"/project/images\"\nkind = \"project\"\n");
    let mut sources = site.sources();
    sources.env = env(&[("UDOCKER_DIR", "/project/images")]);
    assert_eq!(stores(&load(&sources).unwrap()), ["group /project/images Project"]);
    sources.env.clear();
    sources.repo = Some("/project/images".into());
    assert_eq!(stores(&load(&sources).unwrap()), ["group /project/images Project"]);
}

#[test]
fn files_variables_and_options_in_their_order() {
    let site = SiteDir::with(
        r#"[site]
name = "Example"
contact = "help@example.org"
[paths]
run_dir = "/local/{user}/{uid}"
node_cache = "/local/cache-{uid}"
[stage]
node_cache_size = "5G"
[[store]]
name = "central"
path = "/sw/images"
kind = "site"
[[store]]
name = "group"
path = "/project/images"
kind = "project"
keep_layers = false
sync = false
[registries]
default = "registry.example.org:5000"
insecure = ["a.example.org"]
ca_dir = "/etc/pki/ours"
parallel = 8
retries = 0
[limits]
tmpfs_default = "2G"
image_max = 1048576
wait_timeout = "2h"
"#,
    );
    site.write("conf.d/20-b.toml", "[site]\ncontact = \"b\"\n[paths]\nrun_dir = \"/b\"\n");
    site.write("conf.d/10-a.toml", "[site]\ncontact = \"a\"\n[registries]\ninsecure = [\"b.example.org:80\"]\n");
    site.write("conf.d/readme.txt", "no toml");
    let mut sources = site.sources();
    let loaded = load(&sources).unwrap();
    let settings = &loaded.settings;
    assert_eq!(
        stores(&loaded),
        ["user /home/alice/.udocker User", "group /project/images Project flat unsynced", "central /sw/images Site ro"]
    );
    assert_eq!(settings.contact.as_deref(), Some("b"));
    assert_eq!(loaded.site_name.as_deref(), Some("Example"));
    assert_eq!(settings.limits.wait.as_secs(), 7200);
    let cache = settings.node_cache.as_ref().expect("a node cache");
    assert_eq!(cache.path, PathBuf::from(format!("/local/cache-{}", sources.uid)));
    assert_eq!(cache.bytes, Some(5 << 30));
    assert_eq!((settings.run_dirs.len(), &settings.run_dirs[0]), (4, &PathBuf::from("/b")));
    assert_eq!(settings.registries.default.as_str(), "registry.example.org:5000");
    let insecure: Vec<_> = settings.registries.insecure.iter().map(RegistryHost::as_str).collect();
    assert_eq!(insecure, ["a.example.org", "b.example.org:80"]);
    assert_eq!(settings.registries.ca_dir, Some("/etc/pki/ours".into()));
    assert_eq!((settings.registries.parallel, settings.registries.retries), (8, 0));
    assert_eq!((settings.limits.tmpfs_bytes, settings.limits.image_bytes), (Some(2 << 30), 1 << 20));
    let origin = |key: &str| loaded.origin(key).to_string().replace(site.0.path().to_str().unwrap(), "DIR");
    assert_eq!(origin("site.contact"), "DIR/conf.d/20-b.toml:2:11");
    assert_eq!(origin("registries.default"), "DIR/site.toml:20:11");
    assert_eq!(origin("registries.keystore"), "default");

    sources.env = env(&[
        ("UDOCKER_DIR", "/env/store"),
        ("UDOCKER_REPOS", "/env/repos"),
        ("UDOCKER_KEYSTORE", "/env/keys"),
        ("UDOCKER_REGISTRY", "https://registry.example.com/"),
        ("UDOCKER_LAYERS", ""),
    ]);
    sources.repo = Some("/option/store".into());
    sources.insecure = true;
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.settings.stores[0].path, PathBuf::from("/option/store"));
    let store = &loaded.settings.stores[0];
    assert_eq!((store.repos(), store.layers()), ("/env/repos".into(), "/option/store/layers".into()));
    assert_eq!(loaded.settings.registries.keystore, Some("/env/keys".into()));
    assert_eq!(loaded.settings.registries.default.as_str(), "registry.example.com");
    assert!(loaded.settings.registries.insecure_all);
    assert_eq!(loaded.origin("store.user"), &Origin::Option("--repo"));
    assert_eq!(loaded.origin("registries.default"), &Origin::Variable("UDOCKER_REGISTRY"));
}

#[test]
fn jobs_stage_into_a_store_that_takes_pulls() {
    let stores = "[[store]]\nname = \"group\"\npath = \"/g\"\nkind = \"project\"\n\
                  [[store]]\nname = \"closed\"\npath = \"/c\"\nkind = \"project\"\nreadonly = true\n\
                  [[store]]\nname = \"central\"\npath = \"/s\"\nkind = \"site\"\n";
    // The file that defines the stores comes later.
    let site = SiteDir::with("[stage]\nwhen = \"prolog\"\nstore = \"group\"\n");
    site.write("conf.d/stores.toml", stores);
    let mut sources = site.sources();
    let stage = |sources: &Sources| load(sources).unwrap().settings.stage;
    let of_site = StageSettings { when: StageWhen::Prolog, store: Some("group".into()) };
    assert_eq!(stage(&sources), of_site);
    sources.env = env(&[("UDOCKER_DIR", "/mine")]);
    assert_eq!(stage(&sources), StageSettings { when: StageWhen::Prolog, store: None });
    let no_store = "the `name` of a [[store]]";
    let no_pulls = "a store into which jobs may pull, of kind \"user\" or \"project\" and not readonly";
    for (name, expected) in [("nothere", no_store), ("closed", no_pulls), ("central", no_pulls)] {
        let site = SiteDir::with(&format!("[stage]\nstore = \"{name}\"\n{stores}"));
        let error = site.shorten(&load(&site.sources()).unwrap_err());
        assert_eq!(error, format!("DIR/site.toml:2:9: cannot use the value of `stage.store`: expected {expected}"));
    }
    let error = load(&SiteDir::with("stage.when = \"later\"").sources()).unwrap_err().to_string();
    assert!(
        error.ends_with(":1:14: cannot use the value of `stage.when`: expected `start`, `submit` or `prolog`"),
        "{error}"
    );
    assert_eq!(load(&SiteDir::with("").sources()).unwrap().settings.stage, StageSettings::default());
}

#[test]
fn templates_are_filled() {
    let site = SiteDir::with("paths.run_dir = \"/local/{user}/{uid}\"");
    let mut sources = site.sources();
    sources.uid = 1234;
    assert_eq!(load(&sources).unwrap().settings.run_dirs[0], PathBuf::from("/local/alice/1234"));
    sources.user = "../root".into();
    assert_eq!(
        site.shorten(&load(&sources).unwrap_err()),
        "DIR/site.toml:1:17: cannot use the value of `paths.run_dir`: expected a path without {user}, as the login name is unknown"
    );
}

#[test]
fn wrong_files_are_refused_by_place_and_name() {
    for (text, expected) in [
        ("[site]\nnme = \"x\"", "DIR/site.toml:2:1: unknown key `site.nme` | did you mean `site.name`?"),
        ("[regsitries]", "DIR/site.toml:1:2: unknown key `regsitries` | did you mean `registries`?"),
        ("[site]\nfoo = 1", "DIR/site.toml:2:1: unknown key `site.foo`"),
        ("[zzz]\n[site]\nyyy = 1", "DIR/site.toml:1:2: unknown key `zzz`"),
        (
            "[policy]\npin = \"on\"",
            "DIR/site.toml:2:7: unknown variant `on`, expected one of `require`, `prefer`, `off`",
        ),
        ("[limits]\ntmpfs_max = 1", "DIR/site.toml:2:1: the key `limits.tmpfs_max` is not supported by this version"),
        ("[policy]\ndefualt = 1", "DIR/site.toml:2:1: unknown key `policy.defualt` | did you mean `policy.default`?"),
        ("[policy]\ndefault = \"maybe\"", "DIR/site.toml:2:11: unknown variant `maybe`, expected `allow` or `deny`"),
        (
            "[[policy.rule]]\nacton = \"deny\"",
            "DIR/site.toml:2:1: unknown key `policy.rule.acton` | did you mean `policy.rule.action`?",
        ),
        ("[[policy.rule]]\nreason = \"x\"", "DIR/site.toml:1:1: missing field `action`"),
        (
            "[[policy.rule]]\nmatch = { imgae = [] }\naction = \"deny\"",
            "DIR/site.toml:2:11: unknown key `policy.rule.match.imgae` | did you mean `policy.rule.match.image`?",
        ),
        (
            "[[policy.rule]]\nmatch.image = [\"a.example/x\", \"team/*\"]\naction = \"deny\"",
            "DIR/site.toml:2:31: cannot use the value of `policy.rule.match.image`: expected a glob as `registry.example/team/*` or `docker.io/**`, without a tag or a digest",
        ),
        (
            "[[policy.rule]]\nmatch.digest = [\"sha256:00\"]\naction = \"deny\"",
            "DIR/site.toml:2:17: cannot use the value of `policy.rule.match.digest`: expected a digest as sha256:HEX",
        ),
        (
            "[[policy.rule]]\nmatch.group = [\"chem\"]\naction = \"deny\"",
            "DIR/site.toml:2:16: invalid type: string \"chem\", expected u32",
        ),
        (
            "[[policy.rule]]\naction = \"deny\"\nmodes = [\"N1\"]",
            "DIR/site.toml:3:10: cannot use the value of `policy.rule.modes`: expected nothing, as a rule that denies narrows nothing",
        ),
        (
            "[[policy.rule]]\naction = \"deny\"\nwritable = true",
            "DIR/site.toml:3:12: cannot use the value of `policy.rule.writable`: expected nothing, as a rule that denies narrows nothing",
        ),
        (
            "[[policy.rule]]\naction = \"deny\"\ngpu = true",
            "DIR/site.toml:3:7: cannot use the value of `policy.rule.gpu`: expected nothing, as a rule that denies narrows nothing",
        ),
        (
            "[[policy.rule]]\naction = \"allow\"\nmodes = [\"X1\"]",
            "DIR/site.toml:3:10: cannot use the value of `policy.rule.modes`: expected modes as \"N1\" or \"P2\"",
        ),
        (
            "modes.allowed = [\"N2\"]",
            "DIR/site.toml:1:18: cannot use the value of `modes.allowed`: expected modes as \"N1\" or \"P2\"",
        ),
        (
            "modes.preference = [\"auto\"]",
            "DIR/site.toml:1:21: cannot use the value of `modes.preference`: expected modes as \"N1\" or \"P2\"",
        ),
        (
            "registries.allow = [\"https://a\"]",
            "DIR/site.toml:1:21: cannot use the value of `registries.allow`: expected a registry as host[:port], in which `*` stands for a part of a label",
        ),
        (
            "registries.deny = [\"a/b\"]",
            "DIR/site.toml:1:20: cannot use the value of `registries.deny`: expected a registry as host[:port], in which `*` stands for a part of a label",
        ),
        (
            "mounts.forced = [\"/a\"]",
            "DIR/site.toml:1:18: cannot use the value of `mounts.forced`: expected SOURCE:TARGET[:OPTION,…] or tmpfs:TARGET[:size=N]; {uid} and {user} are replaced",
        ),
        (
            "mounts.forbidden_sources = [\"a\"]",
            "DIR/site.toml:1:29: cannot use the value of `mounts.forbidden_sources`: expected an absolute path without `..` and globs; {uid} is replaced",
        ),
        (
            "mounts.user_binds.allow = [\"/scratch/{user}\"]",
            "DIR/site.toml:1:28: cannot use the value of `mounts.user_binds.allow`: expected an absolute path without `..` and globs; {uid} is replaced",
        ),
        (
            "mounts.user_binds.alow = []",
            "DIR/site.toml:1:19: unknown key `mounts.user_binds.alow` | did you mean `mounts.user_binds.allow`?",
        ),
        ("mounts.tmp = \"none\"", "DIR/site.toml:1:14: unknown variant `none`, expected `host` or `private`"),
        (
            "[[override]]\nmodes.allowed = []",
            "DIR/site.toml:1:1: cannot use the value of `override`: expected `partition`, `queue` or `account` in it",
        ),
        (
            "[[override]]\npartition = [\"x\"]\n[override.policy]\ndefualt = \"deny\"",
            "DIR/site.toml:4:1: unknown key `policy.defualt` | did you mean `policy.default`?",
        ),
        (
            "[[override]]\npartition = [\"x\"]\ngpu.driver_root = \"x\"",
            "DIR/site.toml:3:19: cannot use the value of `gpu.driver_root`: expected an absolute path",
        ),
        ("gpu.compat = \"auto\"", "DIR/site.toml:1:5: the key `gpu.compat` is not supported by this version"),
        ("gpu.default = \"0\"", "DIR/site.toml:1:15: unknown variant `0`, expected one of `auto`, `none`, `all`"),
        (
            "[[override]]\npartition = [\"x\"]\nmodes.allowed = [\"X\"]",
            "DIR/site.toml:3:18: cannot use the value of `modes.allowed`: expected modes as \"N1\" or \"P2\"",
        ),
        (
            "env.set = { SLURM_PROCID = \"1\" }",
            "DIR/site.toml:1:13: cannot use the value of `env.set`: expected names of variables that no scheduler and process manager sets",
        ),
        (
            "[run]\nwrite = \"some\"",
            "DIR/site.toml:2:9: cannot use the value of `run.write`: expected none, tmpfs, tmpfs:SIZE, or dir:PATH with an absolute path; {uid} and {user} are replaced",
        ),
        (
            "[run]\nuser = \"a b\"",
            "DIR/site.toml:2:8: cannot use the value of `run.user`: expected self, root, image, or a name or number, with or without :GROUP",
        ),
        ("[run]\nbatch = \"x\"", "DIR/site.toml:2:9: cannot use the value of `run.batch`: expected container or host"),
        ("[run]\nshare = \"x\"", "DIR/site.toml:2:9: cannot use the value of `run.share`: expected node or task"),
        (
            "[registries]\n  mirror = []",
            "DIR/site.toml:2:3: the key `registries.mirror` is not supported by this version",
        ),
        (
            "[[store]]\nname='a'\npath='/a'\nkind='site'\ntrust=['root']",
            "DIR/site.toml:5:8: invalid type: string \"root\", expected u32",
        ),
        (
            "[[store]]\nname='a'\npath='/a'\nkind='site'\nacl = { group = [1] }",
            "DIR/site.toml:5:9: unknown key `store.acl.group` | did you mean `store.acl.groups`?",
        ),
        (
            "[cleanup]\norphan_after = \"1d\"",
            "DIR/site.toml:2:1: the key `cleanup.orphan_after` is not supported by this version",
        ),
        (
            "[cleanup]\nretire_after = \"0d\"",
            "DIR/site.toml:2:16: invalid value: string \"0d\", expected a time above 0, as \"90s\", \"15m\" or \"2h\"",
        ),
        ("[site]\nname = 5", "DIR/site.toml:2:8: invalid type: integer `5`, expected a string"),
        ("[site\n", "DIR/site.toml:1:6: unclosed table, expected `]`"),
        (
            "[limits]\nimage_max = 0",
            "DIR/site.toml:2:13: invalid value: integer `0`, expected a size above 0, as 1048576 or \"512G\"",
        ),
        (
            "[limits]\nimage_max = \"1X\"",
            "DIR/site.toml:2:13: invalid value: string \"1X\", expected a size above 0, as 1048576 or \"512G\"",
        ),
        ("[[store]]\nname='a'\nkind='site'", "DIR/site.toml:1:1: missing field `path`"),
        (
            "[[store]]\nname='a'\npath='/a'\nkind='shared'",
            "DIR/site.toml:4:6: unknown variant `shared`, expected one of `user`, `project`, `site`, `cache`",
        ),
        (
            "[[store]]\nname='user'\npath='/a'\nkind='site'",
            "DIR/site.toml:2:6: cannot use the value of `store.name`: expected a name that no other store has",
        ),
        (
            "[[store]]\nname='a/b'\npath='/a'\nkind='site'",
            "DIR/site.toml:2:6: cannot use the value of `store.name`: expected letters, digits, `-`, `_` and `.`",
        ),
        (
            "[[store]]\nname='a'\npath='/a/{jobid}'\nkind='site'",
            "DIR/site.toml:3:6: cannot use the value of `store.path`: expected an absolute path without `..`; {uid} and {user} are replaced",
        ),
        (
            "paths.run_dir='run'",
            "DIR/site.toml:1:15: cannot use the value of `paths.run_dir`: expected an absolute path without `..`; {uid} and {user} are replaced",
        ),
        (
            "registries.default='https://a'",
            "DIR/site.toml:1:20: cannot use the value of `registries.default`: expected a registry as host[:port]",
        ),
        (
            "registries.insecure=['a', 'b c']",
            "DIR/site.toml:1:27: cannot use the value of `registries.insecure`: expected a registry as host[:port]",
        ),
        (
            "registries.ca_dir='x'",
            "DIR/site.toml:1:19: cannot use the value of `registries.ca_dir`: expected an absolute path",
        ),
        (
            "registries.parallel=0",
            "DIR/site.toml:1:21: cannot use the value of `registries.parallel`: expected a number from 1 to 64",
        ),
        (
            "registries.retries=101",
            "DIR/site.toml:1:20: cannot use the value of `registries.retries`: expected a number from 0 to 100",
        ),
    ] {
        assert_eq!(SiteDir::with(text).report(), expected, "{text}");
    }
}

#[test]
fn untrusted_files_are_refused() {
    let site = SiteDir::with("");
    let file = site.0.path().join("site.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
    assert_eq!(
        site.report(),
        "cannot trust the configuration DIR/site.toml: mode 0664 lets group or others write it | `chmod go-w DIR/site.toml`"
    );
    let mut sources = site.sources();
    sources.site_owner += 1;
    let (owner, expected) = (sources.site_owner - 1, sources.site_owner);
    let error = load(&sources).unwrap_err();
    assert_eq!(
        site.shorten(&error),
        format!(
            "cannot trust the configuration DIR: it belongs to uid {owner}, not to uid {expected} | `chown {expected} DIR`"
        )
    );
    assert_eq!(error.kind(), ErrorKind::Denied);
    fs::rename(&file, site.0.path().join("real.toml")).unwrap();
    symlink("real.toml", &file).unwrap();
    assert_eq!(site.report(), "cannot trust the configuration DIR/site.toml: it is not a plain file");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(site.report(), "cannot trust the configuration DIR/site.toml: it is not a plain file");
    fs::remove_dir(&file).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(site.report(), "cannot trust the configuration DIR/site.toml: it is not a plain file");
    fs::remove_file(&file).unwrap();
    fs::write(site.0.path().join("conf.d"), "").unwrap();
    assert_eq!(site.report(), "cannot trust the configuration DIR/conf.d: it is not a plain directory");
    fs::set_permissions(site.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(
        site.report(),
        "cannot trust the configuration DIR: mode 0777 lets group or others write it | `chmod go-w DIR`"
    );
}

#[test]
fn oversized_and_binary_files_are_refused() {
    let site = SiteDir::with(&"#".repeat((1 << 20) + 1));
    assert_eq!(site.report(), "cannot read the configuration DIR/site.toml: it is larger than 1048576 bytes");
    fs::write(site.0.path().join("site.toml"), b"\xff").unwrap();
    assert_eq!(site.report(), "cannot read the configuration DIR/site.toml: it is not UTF-8");
}

#[test]
fn variables_without_a_usable_value_are_refused() {
    let site = SiteDir::new();
    for (name, value, expected) in [
        (
            "UDOCKER_REGISTRY",
            "a b",
            "cannot use the variable UDOCKER_REGISTRY, `a%20b`: expected a registry as host[:port], with https:// or http:// before it if need be",
        ),
        (
            "UDOCKER_REGISTRY",
            "https://me:secret@registry.example",
            "cannot use the variable UDOCKER_REGISTRY, `https://REDACTED@registry.example`: expected a registry as host[:port], with https:// or http:// before it if need be",
        ),
        ("UDOCKER_LOGLEVEL", "loud", "cannot use the variable UDOCKER_LOGLEVEL, `loud`: expected a number"),
        (
            "UDOCKER_DEFAULT_EXECUTION_MODE",
            "P9",
            "cannot use the variable UDOCKER_DEFAULT_EXECUTION_MODE, `P9`: expected an execution mode: N1, P1, P2, F1, F2, F3, F4, R1, R2, R3 or S1",
        ),
        (
            "UDOCKER_FAKECHROOT_EXPAND_SYMLINKS",
            "perhaps",
            "cannot use the variable UDOCKER_FAKECHROOT_EXPAND_SYMLINKS, `perhaps`: expected True or False",
        ),
    ] {
        let mut sources = site.sources();
        sources.env = env(&[(name, value)]);
        assert_eq!(site.shorten(&load(&sources).unwrap_err()), expected);
    }
}

#[test]
fn rules_of_all_files_in_their_order_and_none_of_the_user_s() {
    let site = SiteDir::with(
        r#"site.contact = "help@example.org"
[registries]
default = "registry.example"
allow = ["registry.example"]
deny = ["old.example"]
[modes]
allowed = ["N1"]
[policy]
default = "deny"
[[policy.rule]]
match = { image = ["registry.example/team/*"], store = ["central"], group = [5000], digest = ["sha256:HEX"] }
action = "allow"
modes = ["N1", "P2"]
gpu = false
writable = false
reason = "the team's"
"#
        .replace("HEX", &"a".repeat(64))
        .as_str(),
    );
    let second = "[registries]\nallow = [\"*.example.org\"]\n[modes]\nallowed = [\"P1\"]\npreference = [\"P1\", \"N1\"]\n\
                  [[policy.rule]]\nmatch = { account = [\"a*\"], partition = [\"p\"], queue = [\"q\"] }\naction = \"deny\"\n";
    site.write("conf.d/10.toml", second);
    let mut sources = site.sources();
    sources.env = env(&[("UDOCKER_REGISTRY", "other.example")]);
    let loaded = load(&sources).unwrap();
    let at = |place: &str| format!("{}/{place}", site.0.path().display());
    let policy = &loaded.settings.policy;
    let image = |text| ImageGlob::parse(text).unwrap();
    let host = |text| RegistryGlob::parse(text).unwrap();
    let texts = |text: &str| Some(vec![text.to_owned()]);
    let first = Rule {
        origin: at("site.toml:10:1"),
        action: Action::Allow,
        images: Some(vec![image("registry.example/team/*")]),
        digests: Some(vec![format!("sha256:{}", "a".repeat(64)).parse().unwrap()]),
        stores: texts("central"),
        accounts: None,
        partitions: None,
        queues: None,
        groups: Some(vec![5000]),
        modes: Some(vec![ExecMode::N1, ExecMode::P2]),
        gpu: false,
        writable: false,
        reason: Some("the team's".into()),
    };
    let second = Rule {
        origin: at("conf.d/10.toml:6:1"),
        action: Action::Deny,
        images: None,
        digests: None,
        stores: None,
        accounts: texts("a*"),
        partitions: texts("p"),
        queues: texts("q"),
        groups: None,
        modes: None,
        gpu: true,
        writable: true,
        reason: None,
    };
    assert_eq!(policy.rules, [first, second]);
    assert_eq!((policy.default, &policy.default_origin), (Action::Deny, &at("site.toml:9:11")));
    assert_eq!(
        (policy.registry.as_str(), loaded.settings.registries.default.as_str()),
        ("registry.example", "other.example")
    );
    let access = RegistryAccess {
        allow: Some((vec![host("registry.example"), host("*.example.org")], at("conf.d/10.toml:2:9"))),
        deny: vec![(host("old.example"), at("site.toml:5:9"))],
        contact: Some("help@example.org".into()),
    };
    assert_eq!(loaded.settings.registries.access, access);
    let modes = ModeSettings {
        allowed: Some((vec![ExecMode::P1], at("conf.d/10.toml:4:11"))),
        preference: vec![ExecMode::P1, ExecMode::N1],
    };
    assert_eq!(loaded.settings.modes, modes);

    let open = SiteDir::new();
    let settings = load(&open.sources()).unwrap().settings;
    assert_eq!((settings.policy, settings.modes), (Policy::default(), ModeSettings::default()));
    assert_eq!(settings.registries.access, RegistryAccess::default());
}

#[test]
fn a_named_file_is_the_site_s_and_its_directory_too() {
    let site = SiteDir::with("[site]\nname = \"named\"\n");
    site.write("conf.d/1.toml", "[policy]\npin = \"prefer\"\n");
    let env =
        env(&[("HOME", "/home/alice"), (SLURM_UDOCKER_CONFIG, site.0.path().join("site.toml").to_str().unwrap())]);
    let caller = Caller::gather(env, &udocker_core::run::UserSpec::Caller);
    let found = Sources::of_caller(&caller);
    assert_eq!(
        (found.site_dir.as_path(), found.site_file.clone()),
        (site.0.path(), Some(site.0.path().join("site.toml")))
    );
    let named = |path: PathBuf| Sources { site_file: Some(path), ..site.sources() };
    let loaded = load(&named(site.0.path().join("site.toml"))).unwrap();
    assert_eq!(
        (loaded.site_name.as_deref(), loaded.settings.policy.pin),
        (Some("named"), udocker_core::policy::Pin::Prefer)
    );
    let expected = "expected the absolute path of a file that is called site.toml, by `config=` in plugstack.conf";
    for name in ["/etc/environment", "site.toml", "/etc/udocker/"] {
        let report = site.shorten(&load(&named(name.into())).unwrap_err());
        assert_eq!(report, format!("cannot use the variable SLURM_UDOCKER_CONFIG, `{name}`: {expected}"));
    }
    fs::remove_file(site.0.path().join("site.toml")).unwrap();
    let report = site.shorten(&load(&named(site.0.path().join("site.toml"))).unwrap_err());
    assert_eq!(report, "cannot read the configuration DIR/site.toml: it does not exist");
}

/// Root's as well as the site's own, and in the words of whoever made the image.
#[test]
fn a_named_file_of_an_image_is_not_the_site_s() {
    let site = SiteDir::new();
    let in_image = |store: &str| format!("{store}/rootfs/1-shared/TREE/root/etc/udocker/site.toml");
    site.write("ours/udocker.store", "1\n");
    site.write("udockers/repos/x/1/TAG", "");
    site.write("udockers/layers/x", "");
    for store in ["ours", "udockers"] {
        site.write(&in_image(store), "[policy]\ndefault = \"allow\"\n");
    }
    site.write("elsewhere/udocker/site.toml", "[site]\nname = \"elsewhere\"\n");
    let path = |name: &str| site.0.path().join(name);
    let of = |name: &str| path(name).parent().unwrap().to_owned();
    symlink(of(&in_image("ours")).parent().unwrap(), path("link")).unwrap();
    symlink(path("elsewhere"), path("ours/link")).unwrap();
    symlink(path("elsewhere"), path("good")).unwrap();
    let load = |name: &str| load(&Sources { site_dir: of(name), site_file: Some(path(name)), ..site.sources() });
    for name in [&*in_image("ours"), &in_image("udockers"), "ours/link/udocker/site.toml", "link/udocker/site.toml"] {
        let report = site.shorten(&load(name).unwrap_err());
        let expected = "expected a file of the site's, and not one of an image in a store";
        assert_eq!(report, format!("cannot use the variable SLURM_UDOCKER_CONFIG, `DIR/{name}`: {expected}"));
    }
    for name in ["elsewhere/udocker/site.toml", "good/udocker/site.toml"] {
        assert_eq!(load(name).unwrap().site_name.as_deref(), Some("elsewhere"), "{name}");
    }
}

#[test]
fn what_an_override_sets_varies() {
    let site = SiteDir::with("[[override]]\npartition = [\"gpu\"]\nmodes.allowed = [\"P1\"]\n");
    let loaded = load(&site.sources()).unwrap();
    let varies = |table| loaded.varies(table);
    assert_eq!((varies("modes"), varies("mode"), varies("mounts"), varies("policy")), (true, false, false, false));
    let there = Sources { env: env(&[("SLURM_JOB_PARTITION", "gpu")]), ..site.sources() };
    assert!(!load(&there).unwrap().varies("modes"), "it holds here");
}
