//! The scripts of docs/admin/central-store.md, as they stand there: root's, then an ordinary user's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use udocker_tests::images::Kind;
use udocker_tests::{ORDINARY_USER, Registry, TestEnv, program, run, stderr, stdout};

const PAGE: &str = include_str!("../../docs/admin/central-store.md");

/// The script of the page that is marked as `who`'s.
fn script(who: &str) -> &'static str {
    let (_, after) = PAGE.split_once(&format!("```sh {who}\n")).expect("the page has the script");
    after.split_once("```").expect("the script ends").0
}

#[test]
fn a_new_admin_and_a_user_get_along_with_the_page() {
    let env = TestEnv::ordinary();
    let registry = Registry::start(&env);
    let reference = registry.serve(Kind::Busybox);
    // A fresh machine: an /etc without a file of ours, and our programs on PATH.
    let (etc, bin, store) = (env.path("etc"), env.path("bin"), env.path("apps/containers"));
    run(Command::new("cp").args(["-a", "/etc"]).arg(&etc));
    let _ = fs::remove_dir_all(etc.join("udocker"));
    fs::create_dir(&bin).unwrap();
    let launcher = std::env::var_os("UDOCKER_LAUNCH_BIN").map_or_else(|| program("udocker-launch"), Into::into);
    for (from, name) in [(program("udocker"), "udocker"), (launcher, "udocker-launch")] {
        fs::copy(from, bin.join(name)).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let execute = |who: &str, id: u32, home: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", r#"mount --bind "$0" /etc && exec "$@""#]).arg(&etc).arg("setpriv");
        command.args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".into()]);
        command.args(["sh", "-euc", script(who)]).env_clear().current_dir("/");
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
        command.env("HOME", env.path(home)).env("STORE", &store).env("IMAGE", &reference);
        run(&mut command)
    };
    let admin = execute("admin", 0, "admin");
    let digest = Kind::Busybox.image().digest();
    let said = stdout(&admin);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}\n{}", stderr(&admin));
    assert_eq!((lines[0], lines[1]), ("/etc/udocker/site.toml: good", digest.as_str()));
    assert!(lines[3].starts_with(&format!("{reference}  {digest}  ")), "{said}");
    assert_eq!(lines[4], "2 blobs, 1 trees and 1 tags are good");
    let user = execute("user", ORDINARY_USER, "home");
    let said = stdout(&user);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[1].starts_with(&format!("central  {reference}  {digest}  ")), "{said}\n{}", stderr(&user));
    let root = "root:x:0:0:root:/root:/bin/sh";
    assert_eq!(lines[2..].iter().filter(|line| **line == root).count(), 2, "{said}");
}
