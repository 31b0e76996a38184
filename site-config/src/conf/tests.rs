use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;
use udocker_core::error::Explain;
use udocker_core::run::ExecMode;
use udocker_core::settings::{Executable, Verbosity};

use super::*;
use crate::{Effect, Origin, load};

/// A machine with a home; `DIR` stands for it in expected messages.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(machine.path("home/.udocker")).unwrap();
        machine
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }
    fn sources(&self) -> Sources {
        let own = rustix::process::geteuid().as_raw();
        Sources {
            env: Vec::new(),
            home: self.path("home"),
            cwd: "/work".into(),
            uid: own,
            user: "alice".into(),
            repo: None,
            config: None,
            insecure: false,
            verbosity: None,
            in_detail: false,
            site_dir: self.path("site"),
            site_file: None,
            system_conf: self.path("udocker.conf"),
            site_owner: own,
        }
    }
    fn shorten(&self, text: &str) -> String {
        text.replace(self.0.path().to_str().unwrap(), "DIR")
    }
    /// With `text` as the user's file.
    fn with_own(text: &str) -> Self {
        let machine = Self::new();
        machine.write("home/.udocker/udocker.conf", text);
        machine
    }
    fn loaded(&self) -> Loaded {
        load(&self.sources()).unwrap()
    }
    fn report(&self, sources: &Sources) -> String {
        let error = load(sources).unwrap_err();
        let hints: String = error.hints().iter().map(|hint| format!(" | {hint}")).collect();
        self.shorten(&format!("{error}{hints}"))
    }
}

fn env(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    list.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Value and origin of a key, as showconf has them.
fn shown(loaded: &Loaded, key: &str) -> (String, String) {
    let row = loaded.udocker_rows().into_iter().find(|row| row.key == key).unwrap();
    (row.value, row.origin.to_string())
}

#[test]
fn every_variable_names_a_key_and_is_documented() {
    let names = VARIABLES.iter().map(|(name, key, _)| (name, key)).chain(SWITCHES.iter().map(|(n, k)| (n, k)));
    for (name, key) in names {
        assert!(keys::find(key).is_some(), "{key}");
        assert!(env::ALL.iter().any(|variable| variable.name == *name), "{name}");
    }
    for (index, key) in KEYS.iter().enumerate() {
        assert!(!KEYS[..index].iter().any(|other| other.name == key.name), "{} twice", key.name);
    }
}

#[test]
fn each_source_beats_those_before_it() {
    let machine = Machine::new();
    let mut sources = machine.sources();
    let level = |sources: &Sources| {
        let (value, origin) = shown(&load(sources).unwrap(), "verbose_level");
        format!("{value} {}", machine.shorten(&origin))
    };
    assert_eq!(level(&sources), "3 default");
    machine.write("udocker.conf", "[DEFAULT]\nverbose_level = 0\n");
    assert_eq!(level(&sources), "0 DIR/udocker.conf:2");
    machine.write("home/.udocker/udocker.conf", "verbose_level = 1\n");
    assert_eq!(level(&sources), "1 DIR/home/.udocker/udocker.conf:1");
    // TOPDIR is where it is in the end.
    sources.env = env(&[("UDOCKER_DIR", machine.path("store").to_str().unwrap())]);
    machine.write("store/udocker.conf", "verbose_level = 2\n");
    assert_eq!(level(&sources), "2 DIR/store/udocker.conf:1");
    sources.repo = Some(machine.path("repo"));
    machine.write("repo/udocker.conf", "\n\nverbose_level: \"4\"\n");
    assert_eq!(level(&sources), "4 DIR/repo/udocker.conf:3");
    sources.config = Some(machine.write("named.conf", "verbose_level = -1\n"));
    assert_eq!(level(&sources), "-1 DIR/named.conf:1");
    sources.env.extend(env(&[("UDOCKER_LOGLEVEL", "2")]));
    assert_eq!(level(&sources), "2 UDOCKER_LOGLEVEL");
    sources.verbosity = Some(Verbosity::Debug);
    assert_eq!(level(&sources), "5 --debug");
    sources.env = env(&[("UDOCKER_NOSYSCONF", "1")]);
    (sources.repo, sources.config, sources.verbosity) = (None, None, None);
    fs::remove_file(machine.path("home/.udocker/udocker.conf")).unwrap();
    assert_eq!(level(&sources), "3 default");
}

#[test]
fn the_site_file_is_below_udocker_conf_and_above_the_defaults() {
    let machine = Machine::new();
    machine.write("site/site.toml", "[registries]\ndefault = \"site.example\"\nindex = \"https://index.example\"\n");
    for directory in ["site", ""] {
        fs::set_permissions(machine.path(directory), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let loaded = machine.loaded();
    assert_eq!(shown(&loaded, "dockerio_index_url").0, "https://index.example");
    let (value, origin) = shown(&loaded, "dockerio_registry_url");
    assert_eq!(
        (value.as_str(), machine.shorten(&origin).as_str()),
        ("https://site.example", "DIR/site/site.toml:2:11")
    );
    machine.write("udocker.conf", "dockerio_registry_url = \"http://conf.example:5000\"\n");
    let loaded = machine.loaded();
    assert_eq!(shown(&loaded, "dockerio_registry_url").0, "http://conf.example:5000");
    assert_eq!(loaded.settings.registries.insecure[0].as_str(), "conf.example:5000");
}

#[test]
fn keys_that_act() {
    for (line, key, expected) in [
        ("sysdirs_list = (\"/dev\", \"/proc\",)", "sysdirs_list", r#"["/dev", "/proc"]"#),
        ("sysdirs_list = /dev /proc", "sysdirs_list", r#"["/dev", "/proc"]"#),
        ("sysdirs_list = ()", "sysdirs_list", "[]"),
        ("cmd = ['sh', '-l']", "cmd", r#"["sh", "-l"]"#),
        ("cmd = sh -l", "cmd", r#"["sh", "-l"]"#),
        ("root_path = \"/bin\"", "root_path", "/bin"),
        ("valid_host_env = TERM, LANG", "valid_host_env", r#"["TERM", "LANG"]"#),
        ("invalid_host_env = [\"X_*\"]", "invalid_host_env", r#"["X_*"]"#),
        ("dri_list = /a", "dri_list", r#"["/a"]"#),
        ("http_proxy = socks5://me:secret@proxy:1080", "http_proxy", "socks5://REDACTED@proxy:1080"),
        ("http_insecure = yes", "http_insecure", "True"),
        ("http_insecure = 0", "http_insecure", "False"),
        ("http_insecure = None", "http_insecure", "False"),
        ("dockerio_index_url = index.example/", "dockerio_index_url", "https://index.example"),
        ("dockerio_registry_url = registry-1.docker.io", "dockerio_registry_url", "https://registry-1.docker.io"),
        ("dockerio_registry_url = https://quay.io/v2/", "dockerio_registry_url", "https://quay.io"),
        (
            "docker_registries = {\"docker.io\": [\"https://r.example\", \"https://i.example\"]}",
            "docker_registries",
            r#"{"docker.io": ["https://r.example", "https://i.example"]}"#,
        ),
        ("default_execution_mode = N1", "override_default_execution_mode", "N1"),
        ("override_default_execution_mode = \"\"", "default_execution_mode", ""),
        ("default_execution_modes = {'x86_64': \"P1\"}", "default_execution_modes", r#"{"x86_64": "P1"}"#),
        ("topdir = ~/images", "topdir", "DIR/home/images"),
        ("topdir = \"/t\"\nreposdir = /r", "reposdir", "/r"),
        ("topdir = /t\nreposdir = /r", "layersdir", "/t/layers"),
        ("containersdir = None", "containersdir", "DIR/home/.udocker/containers"),
        ("keystore = keys", "keystore", "DIR/home/.udocker/keys"),
        ("topdir = /t\nkeystore = \"/k\"", "keystore", "/k"),
        ("homedir = /h", "keystore", "/h/keystore"),
        ("use_proot_executable = ", "use_proot_executable", ""),
        ("use_runc_executable = UDOCKER", "use_runc_executable", "UDOCKER"),
        ("proot_killonexit = False", "proot_killonexit", "False"),
        ("fakechroot_expand_symlinks = none", "fakechroot_expand_symlinks", "None"),
        ("timeout = 12", "timeout", "12"),
    ] {
        let machine = Machine::with_own(line);
        let loaded = machine.loaded();
        assert_eq!(machine.shorten(&shown(&loaded, key).0), expected, "{line}");
        assert!(loaded.warnings.is_empty(), "{line}: {:?}", loaded.warnings);
    }
}

#[test]
fn values_that_cannot_be_used_are_refused_by_place() {
    for (text, expected) in [
        ("a\n", "DIR/home/.udocker/udocker.conf:1: expected `key = value`"),
        (
            "cmd = \"sh",
            ":1: cannot use the value of `cmd`: expected a quote that ends on the same line, before a comment",
        ),
        ("verbose_level = high", ":1: cannot use the value of `verbose_level`: expected a number"),
        (
            "\ntopdir = store",
            ":2: cannot use the value of `topdir`: expected an absolute path, or one that begins with `~/`",
        ),
        ("topdir = ['/a']", ":1: cannot use the value of `topdir`: expected a path"),
        ("http_insecure = maybe", ":1: cannot use the value of `http_insecure`: expected True or False"),
        (
            "sysdirs_list = dev",
            ":1: cannot use the value of `sysdirs_list`: expected a list of absolute paths, as (\"/dev\", \"/proc\")",
        ),
        (
            "sysdirs_list = (\"/dev\"",
            ":1: cannot use the value of `sysdirs_list`: expected a list, as (\"a\", \"b\") or a, b",
        ),
        ("cmd = ()", ":1: cannot use the value of `cmd`: expected a program and its arguments"),
        (
            "dockerio_registry_url = a b",
            ":1: cannot use the value of `dockerio_registry_url`: expected a registry as host[:port], with https:// or http:// before it if need be",
        ),
        (
            "docker_registries = x",
            ":1: cannot use the value of `docker_registries`: expected a table of registries, as {\"docker.io\": [\"https://registry\", \"https://index\"]}",
        ),
        ("http_proxy = http://u:a%b@p", ":1: a single `%`: write `%%`, or `%(key)s` for another key's value"),
    ] {
        let machine = Machine::with_own(text);
        let report = machine.report(&machine.sources());
        let expected = if expected.starts_with(':') {
            format!("DIR/home/.udocker/udocker.conf{expected}")
        } else {
            expected.to_owned()
        };
        assert_eq!(report, expected, "{text}");
    }
}

#[test]
fn what_is_passed_over_is_told() {
    let machine = Machine::with_own(
        "tpodir = /x\nzzz = 1\ndocker_registries = {\"a.example\": [\"https://b.example\"]}\n[other]\nx = 1\n",
    );
    let warnings: Vec<_> = machine.loaded().warnings.iter().map(|warning| machine.shorten(warning)).collect();
    assert_eq!(
        warnings,
        [
            "DIR/home/.udocker/udocker.conf:4: the section [other] is passed over: only [DEFAULT] is read",
            "DIR/home/.udocker/udocker.conf:1: the unknown key `tpodir` is passed over; did you mean `topdir`?",
            "DIR/home/.udocker/udocker.conf:2: the unknown key `zzz` is passed over",
            "DIR/home/.udocker/udocker.conf:3: images of a.example are asked for there and not at b.example: this version has no mirrors",
        ]
    );
}

#[test]
fn variables_set_the_keys_of_the_files() {
    let machine = Machine::new();
    let mut sources = machine.sources();
    for (name, value, key, expected) in [
        ("UDOCKER_DIR", "store", "topdir", "/work/store"),
        ("SLURM_UDOCKER_DIR", "/of/job", "topdir", "/of/job"),
        ("UDOCKER_BIN", "/b", "bindir", "/b"),
        ("UDOCKER_LIB", "/l", "libdir", "/l"),
        ("UDOCKER_DOC", "/d", "docdir", "/d"),
        ("UDOCKER_REPOS", "/r", "reposdir", "/r"),
        ("UDOCKER_LAYERS", "./l", "layersdir", "/work/l"),
        ("UDOCKER_CONTAINERS", "/c", "containersdir", "/c"),
        ("UDOCKER_TMP", "/scratch", "tmpdir", "/scratch"),
        ("TMPDIR", "/node", "tmpdir", "/node"),
        ("UDOCKER_KEYSTORE", "keys", "keystore", "DIR/home/.udocker/keys"),
        ("UDOCKER_TARBALL", "http://x/t.tgz", "tarball", "http://x/t.tgz"),
        ("UDOCKER_INDEX", "https://i.example", "dockerio_index_url", "https://i.example"),
        ("UDOCKER_REGISTRY", "http://127.0.0.1:5000", "dockerio_registry_url", "http://127.0.0.1:5000"),
        ("UDOCKER_LOGLEVEL", "4", "verbose_level", "4"),
        ("UDOCKER_DEFAULT_EXECUTION_MODE", "F3", "override_default_execution_mode", "F3"),
        ("UDOCKER_USE_CURL_EXECUTABLE", "/c", "use_curl_executable", "/c"),
        ("UDOCKER_USE_PROOT_EXECUTABLE", "", "use_proot_executable", ""),
        ("UDOCKER_USE_RUNC_EXECUTABLE", "UDOCKER", "use_runc_executable", "UDOCKER"),
        ("UDOCKER_USE_SINGULARITY_EXECUTABLE", "/s", "use_singularity_executable", "/s"),
        ("UDOCKER_USE_PATCHELF_EXECUTABLE", "/p", "use_patchelf_executable", "/p"),
        ("UDOCKER_FAKECHROOT_SO", "lib.so", "fakechroot_so", "lib.so"),
        ("UDOCKER_FAKECHROOT_LIBC", "/lib/libc.so.6", "fakechroot_libc", "/lib/libc.so.6"),
        ("UDOCKER_FAKECHROOT_EXPAND_SYMLINKS", "True", "fakechroot_expand_symlinks", "True"),
        ("UDOCKER_FAKECHROOT_CMD_SUBST", "", "fakechroot_cmd_subst", ""),
        ("PROOT_NO_SECCOMP", "0", "proot_noseccomp", "True"),
        ("PROOT_NEW_SECCOMP", "1", "proot_newseccomp", "True"),
    ] {
        sources.env = env(&[(name, value)]);
        let (found, origin) = shown(&load(&sources).unwrap(), key);
        assert_eq!((machine.shorten(&found).as_str(), origin.as_str()), (expected, name));
    }
    for name in ["UDOCKER_DIR", "UDOCKER_LOGLEVEL", "UDOCKER_REGISTRY", "UDOCKER_KEYSTORE", "PROOT_NO_SECCOMP"] {
        sources.env = env(&[(name, "")]);
        assert_eq!(load(&sources).unwrap().udocker_rows(), machine.loaded().udocker_rows(), "{name}");
    }
    sources.env = env(&[("UDOCKER_DIR", "/mine"), ("SLURM_UDOCKER_DIR", "/of/job")]);
    assert_eq!(shown(&load(&sources).unwrap(), "topdir"), ("/mine".into(), "UDOCKER_DIR".into()));
    sources.env = env(&[("UDOCKER_DEFAULT_EXECUTION_MODE", "F3"), ("UDOCKER_USE_PROOT_EXECUTABLE", "")]);
    let engines = load(&sources).unwrap().settings.engines;
    assert_eq!((engines.default_mode, engines.proot), (Some(ExecMode::F3), Executable::Host));
    assert_eq!((engines.patchelf, engines.runc), (Executable::Store, Executable::Host));
}

#[test]
fn defaults_are_udockers() {
    let machine = Machine::new();
    let loaded = machine.loaded();
    let rows = loaded.udocker_rows();
    assert!(rows.iter().chain(&loaded.site_rows()).all(|row| row.origin == Origin::Default));
    for (key, expected, effect) in [
        ("verbose_level", "3", Effect::Acts),
        ("topdir", "DIR/home/.udocker", Effect::Acts),
        ("bindir", "DIR/home/.udocker/bin", Effect::Acts),
        ("keystore", "DIR/home/.udocker/keystore", Effect::Acts),
        ("tmpdir", "/tmp", Effect::Kept),
        ("cmd", r#"["bash", "-i"]"#, Effect::Acts),
        ("dockerio_registry_url", "https://registry-1.docker.io", Effect::Acts),
        ("dockerio_index_url", "https://hub.docker.com", Effect::Acts),
        ("use_proot_executable", "UDOCKER", Effect::Kept),
        ("use_runc_executable", "", Effect::Kept),
        ("proot_noseccomp", "None", Effect::Kept),
        ("autoinstall", "", Effect::None("engines are built in, nothing is downloaded")),
    ] {
        let row = rows.iter().find(|row| row.key == key).unwrap();
        assert_eq!((machine.shorten(&row.value).as_str(), row.effect), (expected, effect), "{key}");
    }
}

#[test]
fn only_trusted_files_are_read() {
    let machine = Machine::with_own("verbose_level = 1\n");
    let own = machine.path("home/.udocker/udocker.conf");
    let mut sources = machine.sources();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o664)).unwrap();
    assert_eq!(load(&sources).unwrap().settings.verbosity, Verbosity::Messages);
    fs::set_permissions(&own, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(
        machine.report(&sources),
        "cannot trust the configuration DIR/home/.udocker/udocker.conf: mode 0666 lets group or others write it | `chmod go-w DIR/home/.udocker/udocker.conf`"
    );
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).unwrap();
    // The user's file may be a link, the machine's not.
    fs::rename(&own, machine.path("real")).unwrap();
    symlink(machine.path("real"), &own).unwrap();
    assert_eq!(load(&sources).unwrap().settings.verbosity, Verbosity::Messages);
    symlink("real", machine.path("udocker.conf")).unwrap();
    assert_eq!(machine.report(&sources), "cannot trust the configuration DIR/udocker.conf: it is not a plain file");
    fs::remove_file(machine.path("udocker.conf")).unwrap();
    // Another's file: refused in one's own place, passed over in another's store, read if named.
    let found = sources.uid;
    (sources.uid, sources.site_owner) = (found + 1, found + 1);
    assert_eq!(
        machine.report(&sources),
        format!(
            "cannot trust the configuration DIR/home/.udocker/udocker.conf: it belongs to uid {found}, not to uid {} | `chown {} DIR/home/.udocker/udocker.conf`",
            found + 1,
            found + 1
        )
    );
    fs::remove_file(&own).unwrap();
    let store = machine.write("store/udocker.conf", "verbose_level = 1\n");
    sources.repo = store.parent().map(Into::into);
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.settings.verbosity, Verbosity::Info);
    assert_eq!(
        machine.shorten(&loaded.warnings.join("\n")),
        format!(
            "cannot trust the configuration DIR/store/udocker.conf: it belongs to uid {found}, not to uid {}; it is passed over",
            found + 1
        )
    );
    sources.config = Some(store);
    assert_eq!(load(&sources).unwrap().settings.verbosity, Verbosity::Messages);
    sources.config = Some(machine.path("missing.conf"));
    assert_eq!(machine.report(&sources), "cannot read the configuration DIR/missing.conf: it does not exist");
}

#[test]
fn the_reference_page_is_current() {
    const MARK: &str = "UPDATE_REFERENCE=1. -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/udocker-conf.md");
    let page = fs::read_to_string(path).unwrap();
    let (text, _) = page.split_once(MARK).unwrap();
    let machine = Machine::new();
    let mut current = format!("{text}{MARK}\n| key | default | what follows |\n|---|---|---|\n");
    for row in machine.loaded().udocker_rows() {
        let value = machine.shorten(&row.value).replace("DIR/home", "~");
        let value = if value.is_empty() { value } else { format!("`{value}`") };
        let effect = match row.effect {
            Effect::Acts => "obeyed".to_owned(),
            Effect::Kept => "kept for an engine that is not built yet".to_owned(),
            Effect::None(reason) => format!("accepted without effect: {reason}"),
        };
        current.push_str(&format!("| `{}` | {value} | {effect} |\n", row.key));
    }
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(path, &current).unwrap();
    } else {
        assert!(page == current, "docs/reference/udocker-conf.md is old: run this test with UPDATE_REFERENCE=1");
    }
}
