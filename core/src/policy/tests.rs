use super::*;
use crate::run::tests::pairs;
use crate::settings::Settings;

fn rule(action: Action) -> Rule {
    Rule {
        origin: "site.toml:7:1".into(),
        action,
        images: None,
        digests: None,
        stores: None,
        accounts: None,
        partitions: None,
        queues: None,
        groups: None,
        modes: None,
        gpu: true,
        writable: true,
        reason: None,
    }
}

fn settings(default: Action, rules: Vec<Rule>) -> Settings {
    let mut settings = Settings { contact: Some("help@site.example".into()), ..Settings::default() };
    settings.policy = Policy {
        default,
        default_origin: "site.toml:1:1".into(),
        rules,
        registry: "registry.example".parse().unwrap(),
        pin: Pin::Off,
    };
    settings.registries.default = settings.policy.registry.clone();
    settings
}

fn images(list: &[&str]) -> Option<Vec<ImageGlob>> {
    Some(list.iter().map(|text| ImageGlob::parse(text).unwrap()).collect())
}

fn texts(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|text| (*text).to_owned()).collect())
}

fn digest(text: &str) -> Digest {
    Digest::sha256_of(text.as_bytes())
}

/// Whether `image`, with the digest of "m", is allowed.
fn allowed(settings: &Settings, image: &str, facts: &Facts) -> bool {
    let (reference, manifest) = (image.parse().unwrap(), digest("m"));
    let subject = Subject { shown: image, name: Name::Image(&reference), digests: vec![&manifest] };
    permit(settings.rules(), &subject, facts).is_ok()
}

fn facts() -> Facts {
    Facts {
        store: Some("central".into()),
        account: Some("physics".into()),
        partition: Some("gpu".into()),
        queue: Some("long".into()),
        groups: vec![100, 5000],
    }
}

#[test]
fn each_key_matches_and_does_not_match() {
    use Action::{Allow, Deny};
    let other = digest("other");
    let table: Vec<(&str, Rule, Rule)> = vec![
        (
            "image",
            Rule { images: images(&["a.example/**", "registry.example/team/*"]), ..rule(Allow) },
            Rule { images: images(&["registry.example/team"]), ..rule(Allow) },
        ),
        (
            "digest",
            Rule { digests: Some(vec![other.clone(), digest("m")]), ..rule(Allow) },
            Rule { digests: Some(vec![other]), ..rule(Allow) },
        ),
        (
            "store",
            Rule { stores: texts(&["central"]), ..rule(Allow) },
            Rule { stores: texts(&["user"]), ..rule(Allow) },
        ),
        (
            "account",
            Rule { accounts: texts(&["chem", "phys*"]), ..rule(Allow) },
            Rule { accounts: texts(&["phys"]), ..rule(Allow) },
        ),
        (
            "partition",
            Rule { partitions: texts(&["gpu"]), ..rule(Allow) },
            Rule { partitions: texts(&["gpu2"]), ..rule(Allow) },
        ),
        ("queue", Rule { queues: texts(&["*"]), ..rule(Allow) }, Rule { queues: texts(&["short"]), ..rule(Allow) }),
        ("group", Rule { groups: Some(vec![5000]), ..rule(Allow) }, Rule { groups: Some(vec![0]), ..rule(Allow) }),
        (
            "two keys",
            Rule { stores: texts(&["central"]), groups: Some(vec![5000]), ..rule(Allow) },
            Rule { stores: texts(&["central"]), groups: Some(vec![1]), ..rule(Allow) },
        ),
        ("an empty list", rule(Allow), Rule { stores: texts(&[]), ..rule(Allow) }),
    ];
    for (case, hit, miss) in table {
        for (action, default) in [(Allow, Deny), (Deny, Allow)] {
            let decide = |rule: &Rule| {
                let settings = settings(default, vec![Rule { action, ..rule.clone() }]);
                allowed(&settings, "registry.example/team/x:1", &facts())
            };
            assert_eq!(decide(&hit), action == Allow, "{case}, matching {action:?}");
            assert_eq!(decide(&miss), default == Allow, "{case}, not matching {action:?}");
        }
    }
}

#[test]
fn facts_that_are_not_known_match_no_rule() {
    for key in ["store", "account", "partition", "queue", "group"] {
        let all = texts(&["*"]);
        let mut rule = rule(Action::Allow);
        match key {
            "store" => rule.stores = all,
            "account" => rule.accounts = all,
            "partition" => rule.partitions = all,
            "queue" => rule.queues = all,
            _ => rule.groups = Some(vec![5000]),
        }
        let settings = settings(Action::Deny, vec![rule]);
        assert!(allowed(&settings, "x", &facts()), "{key}");
        assert!(!allowed(&settings, "x", &Facts::default()), "{key}");
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let deny = Rule { images: images(&["registry.example/team/old"]), ..rule(Action::Deny) };
    let allow = Rule { images: images(&["registry.example/team/*"]), ..rule(Action::Allow) };
    for (rules, default, old, new, foreign) in [
        (vec![deny.clone(), allow.clone()], Action::Deny, false, true, false),
        (vec![allow.clone(), deny.clone()], Action::Deny, true, true, false),
        (vec![deny.clone()], Action::Allow, false, true, true),
        (vec![], Action::Deny, false, false, false),
        (vec![], Action::Allow, true, true, true),
    ] {
        let settings = settings(default, rules.clone());
        let decided = ["team/old", "team/new", "a.example/x"].map(|image| allowed(&settings, image, &facts()));
        assert_eq!(decided, [old, new, foreign], "{rules:?} {default:?}");
    }
}

#[test]
fn no_spelling_of_an_image_is_another_image() {
    let hex = "a".repeat(64);
    let rules = vec![Rule { images: images(&["docker.io/library/alpine"]), ..rule(Action::Deny) }];
    let settings = settings(Action::Allow, rules);
    for image in [
        "docker.io/alpine",
        "docker.io/library/alpine:3.20",
        "docker://docker.io/alpine",
        "index.docker.io/library/alpine",
        "registry-1.docker.io/alpine",
        "registry.hub.docker.com/library/alpine",
        "DOCKER.io/library/alpine",
        "docker.io:443/alpine",
        &format!("docker.io/alpine:3@sha256:{hex}"),
        &format!("docker.io/library/alpine@sha256:{hex}"),
    ] {
        assert!(!allowed(&settings, image, &facts()), "{image}");
    }
    assert!(allowed(&settings, "docker.io/library/alpine2", &facts()));
    assert!(allowed(&settings, "docker.io.evil.example/library/alpine", &facts()));
}

#[test]
fn the_user_s_registry_makes_no_other_image_of_a_name() {
    for (action, default) in [(Action::Deny, Action::Allow), (Action::Allow, Action::Deny)] {
        let rules = vec![Rule { images: images(&["registry.example/**"]), ..rule(action) }];
        let mut settings = settings(default, rules);
        assert_eq!(allowed(&settings, "x", &facts()), action == Action::Allow);
        settings.registries.default = "other.example".parse().unwrap();
        assert!(!allowed(&settings, "x", &facts()), "{action:?}");
        settings.policy.registry = "other.example".parse().unwrap();
        settings.registries.default = "registry.example".parse().unwrap();
        assert!(!allowed(&settings, "x", &facts()), "{action:?}");
    }
}

#[test]
fn an_unknown_name_is_denied_by_rules_of_images_and_allowed_by_none() {
    let rules = |action| vec![Rule { images: images(&["registry.example/team/*"]), ..rule(action) }];
    for (default, action, name, expected) in [
        (Action::Allow, Action::Deny, Name::Unknown, false),
        (Action::Deny, Action::Allow, Name::Unknown, false),
        (Action::Allow, Action::Deny, Name::None, true),
        (Action::Deny, Action::Allow, Name::None, false),
    ] {
        let settings = settings(default, rules(action));
        let subject = Subject { shown: "/tree", name, digests: Vec::new() };
        assert_eq!(permit(settings.rules(), &subject, &facts()).is_ok(), expected, "{default:?} {action:?} {name:?}");
    }
}

#[test]
fn registries_that_may_be_asked() {
    let glob = |text: &str| RegistryGlob::parse(text).unwrap();
    let allow = |list: &[&str]| Some((list.iter().map(|text| glob(text)).collect(), "site.toml:3:9".to_owned()));
    let deny = |text: &str| vec![(glob(text), "site.toml:4:9".to_owned())];
    for (case, access, image, expected) in [
        ("all", RegistryAccess::default(), "a.example/x", Ok(())),
        ("listed", RegistryAccess { allow: allow(&["*.example"]), ..RegistryAccess::default() }, "a.example/x", Ok(())),
        (
            "not listed",
            RegistryAccess { allow: allow(&["b.example"]), ..RegistryAccess::default() },
            "a.example/x",
            Err("3:9"),
        ),
        ("an empty list", RegistryAccess { allow: allow(&[]), ..RegistryAccess::default() }, "a.example/x", Err("3:9")),
        (
            "denied",
            RegistryAccess { deny: deny("a.example"), ..RegistryAccess::default() },
            "A.example:443/x",
            Err("4:9"),
        ),
        (
            "another denied",
            RegistryAccess { deny: deny("a.example"), ..RegistryAccess::default() },
            "b.a.example/x",
            Ok(()),
        ),
        (
            "both",
            RegistryAccess { allow: allow(&["*.example"]), deny: deny("a.example"), contact: None },
            "a.example/x",
            Err("4:9"),
        ),
    ] {
        let mut settings = settings(Action::Allow, Vec::new());
        settings.registries.access = access;
        let reference: ImageReference = image.parse().unwrap();
        let subject = Subject { shown: image, name: Name::Image(&reference), digests: Vec::new() };
        let host = reference.registry(&settings.registries.default);
        let expected = expected.map_err(|at| {
            let registry = RegistryName::of(host);
            format!("cannot use {image}: the site forbids the registry {registry} (site.toml:{at})")
        });
        let text = |denied: Denied| denied.to_string();
        assert_eq!(permit(settings.rules(), &subject, &Facts::default()).map(drop).map_err(text), expected, "{case}");
        assert_eq!(settings.registries.access.check(image, host).map_err(text), expected, "{case}");
    }
}

#[test]
fn what_an_allow_rule_narrows() {
    let narrow = Rule {
        modes: Some(vec![ExecMode::N1]),
        gpu: false,
        writable: false,
        reason: Some("tests only".into()),
        ..rule(Action::Allow)
    };
    let (narrow, wide) = (settings(Action::Deny, vec![narrow]), settings(Action::Deny, vec![rule(Action::Allow)]));
    let reference: ImageReference = "x".parse().unwrap();
    let subject = Subject { shown: "x", name: Name::Image(&reference), digests: Vec::new() };
    let ask = |settings: &Settings, f: &dyn Fn(&Permit<'_>) -> Result<(), Denied>| {
        f(&permit(settings.rules(), &subject, &Facts::default()).unwrap()).map_err(|denied| denied.to_string())
    };
    type Check = fn(&Permit<'_>) -> Result<(), Denied>;
    let table: [(&str, Check, Option<&str>); 6] = [
        ("its mode", |permit| permit.check_mode(ExecMode::N1), None),
        ("another mode", |permit| permit.check_mode(ExecMode::P1), Some("mode P1")),
        ("nothing", |permit| permit.check_use(false, false), None),
        ("the GPU", |permit| permit.check_use(true, false), Some("the driver of the GPU in it")),
        ("writes", |permit| permit.check_use(false, true), Some("writes into its root")),
        ("both", |permit| permit.check_use(true, true), Some("the driver of the GPU in it")),
    ];
    for (case, check, forbidden) in table {
        let expected = forbidden
            .map_or(Ok(()), |what| Err(format!("cannot use x: the site forbids {what} (site.toml:7:1): tests only")));
        assert_eq!(ask(&narrow, &check), expected, "{case}");
        assert_eq!(ask(&wide, &check), Ok(()), "{case}");
    }
}

#[test]
fn a_denial_says_where_it_stands_why_and_whom_to_ask() {
    let reason = Some("use registry.example/team/x:2".to_owned());
    for (rules, text) in [
        (
            vec![Rule { reason, ..rule(Action::Deny) }],
            "cannot use x: the site forbids it (site.toml:7:1): use registry.example/team/x:2",
        ),
        (vec![rule(Action::Deny)], "cannot use x: the site forbids it (site.toml:7:1)"),
        (vec![], "cannot use x: the site forbids it (site.toml:1:1): no rule allows it"),
    ] {
        let settings = settings(Action::Deny, rules);
        let subject = Subject { shown: "x", name: Name::None, digests: Vec::new() };
        let denied = permit(settings.rules(), &subject, &Facts::default()).unwrap_err();
        assert_eq!((denied.to_string().as_str(), denied.kind()), (text, ErrorKind::Forbidden));
        assert_eq!(denied.hints(), ["ask help@site.example"]);
    }
}

#[test]
fn asking_looks_at_the_process_the_environment_and_the_place() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir_all(path("central/rootfs/tree")).unwrap();
    std::fs::create_dir_all(path("central2/tree")).unwrap();
    std::fs::create_dir_all(path("own")).unwrap();
    symlink(path("central"), path("link")).unwrap();
    symlink(path("central/rootfs"), path("own/rootfs")).unwrap();
    let store = |name: &str, path| crate::settings::StoreSettings {
        name: name.into(),
        path,
        parts: Default::default(),
        kind: crate::settings::StoreKind::User,
        readonly: true,
        keep_layers: true,
        sync: true,
        access: Default::default(),
    };
    let gid = rustix::process::getgid().as_raw();
    let reference: ImageReference = "x".parse().unwrap();
    let asked = |rule: Rule, user: &str, place: &str, name: Name<'_>, env: &[(&str, &str)]| {
        let mut settings = settings(Action::Deny, vec![rule]);
        settings.stores = vec![store("user", path(user)), store("central", path("central"))];
        let subject = Subject { shown: "x", name, digests: Vec::new() };
        ask(&settings, &subject, &path(place), &pairs(env)).is_ok()
    };
    let image = Name::Image(&reference);
    let central = || Rule { stores: texts(&["central"]), ..rule(Action::Allow) };
    for (case, user, place, expected) in [
        ("its own path", "own", "central/rootfs/tree", true),
        ("a user's store that is a link to it", "link", "link/rootfs/tree", true),
        ("a link within the user's store", "own", "own/rootfs/tree", true),
        ("a look-alike", "own", "central2/tree", false),
        ("the user's", "own", "own", false),
        ("out of it again", "own", "central/../central2/tree", false),
        ("nowhere", "own", "central/missing", false),
    ] {
        assert_eq!(asked(central(), user, place, image, &[]), expected, "{case}");
    }
    // A tree in a store that is given by its path may be any of its images.
    let every = || Rule { images: images(&["**"]), ..rule(Action::Allow) };
    assert!(asked(every(), "own", "own", image, &[]));
    assert!(!asked(every(), "own", "central/rootfs/tree", Name::None, &[]));
    let group = |gid| Rule { groups: Some(vec![gid]), ..rule(Action::Allow) };
    assert!(asked(group(gid), "own", "own", image, &[]));
    assert!(!asked(group(gid + 77), "own", "own", image, &[("GROUPS", &(gid + 77).to_string())]));
    for (name, rule) in [
        ("SLURM_JOB_ACCOUNT", Rule { accounts: texts(&["a"]), ..rule(Action::Allow) }),
        ("PBS_ACCOUNT", Rule { accounts: texts(&["a"]), ..rule(Action::Allow) }),
        ("SLURM_JOB_PARTITION", Rule { partitions: texts(&["a"]), ..rule(Action::Allow) }),
        ("PBS_QUEUE", Rule { queues: texts(&["a"]), ..rule(Action::Allow) }),
    ] {
        for (value, expected) in [("a", true), ("b", false), ("", false)] {
            assert_eq!(asked(rule.clone(), "own", "own", image, &[(name, value)]), expected, "{name}={value}");
        }
    }
}

#[test]
fn before_there_is_a_job_rules_count_at_their_mildest() {
    use Action::{Allow, Deny};
    let partition = |action| Rule { partitions: texts(&["gpu"]), images: images(&["*/b"]), ..rule(action) };
    let stored = |action| Rule { stores: texts(&["central"]), ..rule(action) };
    let of_digest = |action| Rule { digests: Some(vec![digest("m")]), ..rule(action) };
    let named = |action| Rule { images: images(&["*/b"]), ..rule(action) };
    let nothing = Facts::default();
    for (case, default, rules, is_found, expected) in [
        ("no rule", Allow, vec![], false, true),
        ("no rule allows it", Deny, vec![], true, false),
        ("a name", Allow, vec![named(Deny)], false, false),
        ("denied in some partition", Allow, vec![partition(Deny)], false, true),
        ("allowed in some partition", Deny, vec![partition(Allow)], false, true),
        (
            "allowed in some partition, of another name",
            Deny,
            vec![Rule { images: images(&["*/c"]), ..partition(Allow) }],
            false,
            false,
        ),
        ("denied before some partition allows it", Deny, vec![named(Deny), partition(Allow)], false, false),
        ("denied after some partition allows it", Deny, vec![partition(Allow), named(Deny)], false, true),
        ("by account", Deny, vec![Rule { accounts: texts(&["x"]), ..rule(Allow) }], true, true),
        ("by queue", Deny, vec![Rule { queues: texts(&["x"]), ..rule(Allow) }], true, true),
        ("a store denies it, perhaps", Allow, vec![stored(Deny)], false, true),
        ("a store allows it, perhaps", Deny, vec![stored(Allow)], false, true),
        ("a store allows it, and it is in none such", Deny, vec![stored(Allow)], true, false),
        ("a digest, perhaps", Allow, vec![of_digest(Deny)], false, true),
        ("its digest", Allow, vec![of_digest(Deny)], true, false),
    ] {
        let mut settings = settings(default, rules);
        settings.policy = settings.policy.mildest(is_found);
        assert_eq!(allowed(&settings, "registry.example/b", &nothing), expected, "{case}");
    }
    // One that may not be the rule in the end forbids no mode.
    let narrow = |rule: Rule| Rule { modes: Some(vec![ExecMode::P1]), writable: false, ..rule };
    for (rule, is_narrow) in [(narrow(partition(Allow)), false), (narrow(named(Allow)), true)] {
        let mut settings = settings(Allow, vec![rule]);
        settings.policy = settings.policy.mildest(true);
        let reference = "registry.example/b".parse().unwrap();
        let subject = Subject { shown: "b", name: Name::Image(&reference), digests: Vec::new() };
        let permit = permit(settings.rules(), &subject, &nothing).unwrap();
        assert_eq!(permit.check_mode(ExecMode::N1).is_err(), is_narrow);
        assert_eq!(permit.check_use(false, true).is_err(), is_narrow);
    }
}
