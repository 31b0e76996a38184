//! Who the program is: from the wish, the image's User and the image's accounts to IDs, a name and a home. Pure.

use std::path::PathBuf;

use super::passwd::{PasswdEntry, group_id, passwd_entries};
use super::{Accounts, Caller, Defaults, ImageFiles, RunRequest, SpecError, UserSpec, home_is_visible};
use crate::engine::IdMap;
use crate::env_vars;
use crate::image_config::ImageConfig;

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User ID inside.
    pub uid: u32,
    /// Group ID inside.
    pub gid: u32,
    /// How they come about.
    pub map: IdMap,
    /// Login name inside.
    pub name: String,
    /// Home inside.
    pub home: PathBuf,
}

/// Decides who the program is.
///
/// `user[:group]` follows Docker: a number is a uid, whatever the image's accounts say; a name must be in them. Where
/// Docker takes gid 0 for a uid without an account, the caller's group is taken, as udocker does; and `udocker run`
/// makes an account with the caller's IDs for an unknown name, as udocker does, if accounts are generated.
///
/// Under PMIx the program keeps the caller's uid, since MPI_Init hangs with another (design, section 6): `udocker run`
/// then takes the caller where only the image names a user; any other user is refused.
pub(crate) fn decide(
    request: &RunRequest,
    config: &ImageConfig,
    files: &ImageFiles,
    caller: &Caller,
    defaults: Defaults,
) -> Result<Identity, SpecError> {
    let passwd: Vec<_> = passwd_entries(&files.passwd).collect();
    let pmix = caller.env.iter().any(|(name, _)| name == env_vars::PMIX_RANK);
    let user = request.user(defaults);
    let mut identity = match user {
        UserSpec::Caller => as_caller(&passwd, caller),
        UserSpec::Image if pmix && defaults == Defaults::Interactive => as_caller(&passwd, caller),
        UserSpec::Root => as_uid(0, &passwd, caller),
        UserSpec::Image if config.user.is_empty() => as_uid(0, &passwd, caller),
        UserSpec::Image => named(&config.user, &passwd, files, caller, unknown(request, defaults))?,
        UserSpec::Named(text) => named(text, &passwd, files, caller, unknown(request, defaults))?,
    };
    if pmix && identity.uid != caller.uid {
        return Err(SpecError::UserUnderPmix(user.to_string()));
    }
    if home_is_visible(request, caller, defaults) {
        identity.home.clone_from(&caller.home);
    }
    identity.map = id_map(&identity, user, caller);
    Ok(identity)
}

/// What becomes of a user without an account.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// A number is taken as it is, a name gets an account.
    Invented,
    /// A number is taken as it is, a name is refused.
    Numbers,
    /// Refused: these accounts are taken as they are.
    Refused(&'static str),
}

fn unknown(request: &RunRequest, defaults: Defaults) -> Unknown {
    match (defaults, request.accounts) {
        (Defaults::Interactive, Accounts::Generated) => Unknown::Invented,
        (Defaults::Interactive, Accounts::Host) => Unknown::Refused(HOSTS),
        (Defaults::Interactive, Accounts::Container) => Unknown::Refused("the container's"),
        (Defaults::Job, _) => Unknown::Numbers,
    }
}

/// Whose accounts `--hostauth` takes.
const HOSTS: &str = "the host's";

/// Root gets the subordinate ranges where the caller has some and they hold its group; everybody else is one ID.
fn id_map(identity: &Identity, user: &UserSpec, caller: &Caller) -> IdMap {
    match caller.subordinate {
        Some((uids, gids))
            if identity.uid == 0 && identity.gid <= gids.1 && caller.uid != 0 && *user != UserSpec::Caller =>
        {
            IdMap::Subordinate { uids, gids }
        }
        _ => IdMap::Single,
    }
}

fn as_caller(passwd: &[PasswdEntry<'_>], caller: &Caller) -> Identity {
    let home = passwd.iter().find(|e| e.uid == caller.uid).map_or_else(|| "/".into(), PasswdEntry::home);
    Identity { uid: caller.uid, gid: caller.gid, map: IdMap::Single, name: caller.name.clone(), home }
}

fn as_uid(uid: u32, passwd: &[PasswdEntry<'_>], caller: &Caller) -> Identity {
    match passwd.iter().find(|entry| entry.uid == uid) {
        Some(entry) => from_entry(entry),
        None if uid == 0 => Identity { uid, gid: 0, map: IdMap::Single, name: "root".into(), home: PathBuf::from("/") },
        None => {
            let name = if uid == caller.uid { caller.name.clone() } else { format!("u{uid}") };
            Identity { uid, gid: caller.gid, map: IdMap::Single, name, home: PathBuf::from("/") }
        }
    }
}

fn from_entry(entry: &PasswdEntry<'_>) -> Identity {
    Identity {
        uid: entry.uid,
        gid: entry.gid,
        map: IdMap::Single,
        name: String::from_utf8_lossy(entry.name).into_owned(),
        home: entry.home(),
    }
}

fn named(
    text: &str,
    passwd: &[PasswdEntry<'_>],
    files: &ImageFiles,
    caller: &Caller,
    unknown: Unknown,
) -> Result<Identity, SpecError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let uid = parse_id(user);
    let known = passwd.iter().find(|entry| uid.map_or(entry.name == user.as_bytes(), |uid| entry.uid == uid));
    // A directory service knows callers that /etc/passwd does not.
    let is_caller = uid.map_or(user == caller.name, |uid| uid == caller.uid);
    let mut identity = match (known, uid, unknown) {
        (Some(entry), ..) => from_entry(entry),
        (None, Some(0), _) => as_uid(0, passwd, caller),
        (None, None, _) if user.is_empty() || user == "root" => as_uid(0, passwd, caller),
        (None, _, Unknown::Refused(HOSTS)) if is_caller => {
            Identity { home: caller.home.clone(), ..as_caller(passwd, caller) }
        }
        (None, _, Unknown::Refused(whose)) => return Err(SpecError::NoAccount { user: user.into(), whose }),
        (None, Some(uid), _) => as_uid(uid, passwd, caller),
        (None, None, Unknown::Invented) if is_account_name(user) => {
            let home = PathBuf::from("/");
            Identity { uid: caller.uid, gid: caller.gid, map: IdMap::Single, name: user.into(), home }
        }
        (None, None, _) => return Err(SpecError::UnknownUser(user.into())),
    };
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        identity.gid = match parse_id(group) {
            Some(gid) => gid,
            None => group_id(&files.group, group.as_bytes()).ok_or_else(|| SpecError::UnknownGroup(group.into()))?,
        };
    }
    Ok(identity)
}

/// The largest value is no ID: for the kernel it means "leave unchanged".
fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

/// udocker's rule for names of accounts: `[a-zA-Z_][a-zA-Z0-9_-]*`.
fn is_account_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::caller;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/sbin/nologin\nweb:x:33:34:w:/srv/web:/bin/sh\n7:x:900:900::/seven:/bin/sh\nrelative:x:8:8::home:/bin/sh\n";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:34:web\n";

    fn who(user: UserSpec, image_user: &str) -> Result<(u32, u32, String, String), SpecError> {
        who_as(user, image_user, Defaults::Interactive, Accounts::Generated)
    }

    fn who_as(
        user: UserSpec,
        image_user: &str,
        defaults: Defaults,
        accounts: Accounts,
    ) -> Result<(u32, u32, String, String), SpecError> {
        let mut request = RunRequest::new("i");
        request.user = Some(user);
        request.accounts = accounts;
        let config = ImageConfig { user: image_user.into(), ..ImageConfig::default() };
        let files = ImageFiles { passwd: PASSWD.into(), group: GROUP.into() };
        let identity = decide(&request, &config, &files, &caller(), defaults)?;
        assert_eq!(identity.map, IdMap::Single);
        Ok((identity.uid, identity.gid, identity.name, identity.home.to_str().unwrap().into()))
    }

    fn named(text: &str) -> UserSpec {
        UserSpec::Named(text.into())
    }

    #[test]
    fn users_follow_docker_and_udocker() {
        for (case, user, image, expected) in [
            ("root", UserSpec::Root, "web", (0, 0, "root", "/root")),
            ("no user in the image", UserSpec::Image, "", (0, 0, "root", "/root")),
            ("the image's user", UserSpec::Image, "web", (33, 34, "web", "/srv/web")),
            ("the image's uid and gid", UserSpec::Image, "5:6", (5, 6, "u5", "/")),
            ("self", UserSpec::Caller, "web", (1234, 100, "alice", "/")),
            ("a name", named("web"), "", (33, 34, "web", "/srv/web")),
            ("a name and a group", named("web:root"), "", (33, 0, "web", "/srv/web")),
            ("a name and an empty group", named("web:"), "", (33, 34, "web", "/srv/web")),
            ("a name and a gid", named("web:77"), "", (33, 77, "web", "/srv/web")),
            ("a uid with an account", named("33"), "", (33, 34, "web", "/srv/web")),
            ("a uid without account", named("4242"), "", (4242, 100, "u4242", "/")),
            ("the caller's uid", named("1234"), "", (1234, 100, "alice", "/")),
            ("a number is never a name", named("7"), "", (7, 100, "u7", "/")),
            ("only a group", named(":www"), "", (0, 34, "root", "/root")),
            ("an unknown name gets an account", named("bob"), "", (1234, 100, "bob", "/")),
            ("a home that is no path", named("relative"), "", (8, 8, "relative", "/")),
            ("the largest uid", named("4294967294"), "", (4294967294, 100, "u4294967294", "/")),
        ] {
            let expected = (expected.0, expected.1, expected.2.to_owned(), expected.3.to_owned());
            assert_eq!(who(user, image).as_ref(), Ok(&expected), "{case}");
        }
    }

    #[test]
    fn unknown_users_and_groups_are_refused() {
        for (case, result, expected) in [
            (
                "no account name",
                who(named("a.b"), ""),
                "cannot run as user `a.b`: it is neither in the image's /etc/passwd nor a number",
            ),
            (
                "uid out of range",
                who(named("4294967296"), ""),
                "cannot run as user `4294967296`: it is neither in the image's /etc/passwd nor a number",
            ),
            (
                "uid -1",
                who(named("4294967295"), ""),
                "cannot run as user `4294967295`: it is neither in the image's /etc/passwd nor a number",
            ),
            (
                "unknown group",
                who(named("web:staff"), ""),
                "cannot run with group `staff`: it is neither in the image's /etc/group nor a number",
            ),
            (
                "the host's accounts",
                who_as(named("bob"), "", Defaults::Interactive, Accounts::Host),
                "cannot run as user `bob`: the host's accounts have no such user",
            ),
            (
                "a number and the host's accounts",
                who_as(named("4242"), "", Defaults::Interactive, Accounts::Host),
                "cannot run as user `4242`: the host's accounts have no such user",
            ),
            (
                "the image's accounts",
                who_as(named("bob"), "", Defaults::Interactive, Accounts::Container),
                "cannot run as user `bob`: the container's accounts have no such user",
            ),
            (
                "the image's user and the image's accounts",
                who_as(UserSpec::Image, "5:6", Defaults::Interactive, Accounts::Container),
                "cannot run as user `5`: the container's accounts have no such user",
            ),
            (
                "a job",
                who_as(UserSpec::Image, "bob", Defaults::Job, Accounts::Generated),
                "cannot run as user `bob`: it is neither in the image's /etc/passwd nor a number",
            ),
        ] {
            assert_eq!(result.map_err(|e| e.to_string()), Err(expected.to_owned()), "{case}");
        }
    }

    #[test]
    fn the_host_s_accounts_know_the_caller() {
        for user in ["alice", "1234"] {
            let found = who_as(named(user), "", Defaults::Interactive, Accounts::Host).unwrap();
            assert_eq!(found, (1234, 100, "alice".into(), "/home/alice".into()), "{user}");
        }
        for accounts in [Accounts::Host, Accounts::Container] {
            let found = who_as(UserSpec::Image, "", Defaults::Interactive, accounts).unwrap();
            assert_eq!(found, (0, 0, "root".into(), "/root".into()));
        }
    }

    #[test]
    fn homes_follow_their_visibility() {
        let job = |user| who_as(user, "", Defaults::Job, Accounts::Generated).unwrap().3;
        assert_eq!(job(UserSpec::Caller), "/home/alice");
        assert_eq!(job(UserSpec::Root), "/home/alice");
        let mut request = RunRequest::new("i");
        let files = ImageFiles { passwd: PASSWD.into(), group: GROUP.into() };
        let home = |request: &RunRequest| {
            decide(request, &ImageConfig::default(), &files, &caller(), Defaults::Interactive).unwrap().home
        };
        assert_eq!(home(&request), PathBuf::from("/root"));
        request.home = Some(true);
        assert_eq!(home(&request), PathBuf::from("/home/alice"));
    }

    #[test]
    fn under_pmix_the_program_is_the_caller() {
        let mut caller = caller();
        caller.env = vec![("PMIX_RANK".into(), "0".into())];
        let uid = |user, defaults| {
            let mut request = RunRequest::new("i");
            request.user = Some(user);
            let files = ImageFiles { passwd: PASSWD.into(), group: GROUP.into() };
            let found = decide(&request, &ImageConfig::default(), &files, &caller, defaults);
            found.map(|identity| identity.uid).map_err(|error| error.to_string())
        };
        let refused = |user: &str| {
            Err(format!(
                "cannot run as user `{user}` in a PMIx step: MPI_Init hangs unless the program has its caller's uid"
            ))
        };
        for defaults in [Defaults::Interactive, Defaults::Job] {
            assert_eq!(uid(UserSpec::Caller, defaults), Ok(1234));
            assert_eq!(uid(named("1234"), defaults), Ok(1234));
            assert_eq!(uid(UserSpec::Root, defaults), refused("root"));
            assert_eq!(uid(named("web"), defaults), refused("web"));
        }
        assert_eq!(uid(UserSpec::Image, Defaults::Interactive), Ok(1234));
        assert_eq!(uid(UserSpec::Image, Defaults::Job), refused("image"));
    }

    #[test]
    fn root_takes_the_subordinate_ranges_and_nobody_else_does() {
        let mut caller = caller();
        caller.subordinate = Some(((100_000, 65536), (200_000, 10)));
        let both = IdMap::Subordinate { uids: (100_000, 65536), gids: (200_000, 10) };
        for (user, expected) in [
            (UserSpec::Root, &both),
            (UserSpec::Image, &both),
            (named("0:10"), &both),
            (named("0:11"), &IdMap::Single),
            (named("web"), &IdMap::Single),
            (UserSpec::Caller, &IdMap::Single),
        ] {
            let mut request = RunRequest::new("i");
            request.user = Some(user);
            let files = ImageFiles { passwd: PASSWD.into(), group: GROUP.into() };
            let config = ImageConfig::default();
            let identity = decide(&request, &config, &files, &caller, Defaults::Interactive).unwrap();
            assert_eq!(&identity.map, expected, "{:?}", request.user);
        }
    }
}
