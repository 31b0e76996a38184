//! What contained jobs leave on a node: it goes at the job's end and at slurmd's start, and whatever becomes of that holds up
//! no job and drains no node.
#![cfg(target_arch = "x86_64")]

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use udocker_tests::cluster::Release;
use udocker_tests::slurm_site::{ALL, Site, is};

/// The lists of steps in the run directory of the node `n1`.
fn lists(site: &Site) -> usize {
    let count = "ls /dev/shm/udocker-2000 2>/dev/null | grep -c '^step-'";
    let (_, out, err) = site.cluster.run_as_root("n1", &["sh", "-c", count]);
    out.trim().parse().unwrap_or_else(|_| panic!("{out}{err}"))
}

/// Waits until there is nothing in the run directory.
fn clean(site: &Site, what: &str) {
    let since = Instant::now();
    while lists(site) != 0 {
        assert!(since.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A contained step on `n1` that is killed at once.
fn killed(site: &Site) {
    let (status, ..) = site.run(&["srun", "-w", "n1", "-n1", &site.image, "sh", "-c", "kill -9 $$"]);
    assert_eq!(status, 137);
}

/// Makes a launcher that does `instead` of reaping.
fn launcher(site: &Site, name: &str, instead: &str) -> String {
    site.write(name, &format!("#!/bin/sh\n[ \"$1\" != reap ] || {instead}\nexec {} \"$@\"\n", site.launcher));
    let path = site.cluster.home().join(name);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a file of ours");
    format!("required {} launcher=/home/tester/{name}\n", site.plugin)
}

#[test]
fn a_job_that_was_killed_leaves_nothing() {
    for release in ALL {
        let site = Site::new(release);
        // While the job lasts its list is there.
        let line = format!("srun -n1 {} sh -c 'kill -9 $$'; srun -n1 ls /dev/shm/udocker-2000", site.image);
        let (_, out, err) =
            site.cluster.run(&["SHELL=/bin/bash"], &["salloc", "-Q", "-w", "n1", "-n1", "sh", "-c", &line]);
        assert!(out.lines().any(|name| name.starts_with("step-")), "{release:?}: {out}{err}");
        clean(&site, release.number());
        // As the job's user, who has no other groups.
        site.plugstack(&launcher(
            &site,
            "tells",
            "{ grep -E '^(Uid|Gid|Groups):' /proc/self/status; env; } >/tmp/told",
        ));
        killed(&site);
        clean(&site, release.number());
        let (_, out, err) = site.cluster.run_as_root("n1", &["cat", "/tmp/told"]);
        let told: Vec<_> =
            out.split_whitespace().filter(|word| !word.starts_with("PWD=") && !word.starts_with("_=")).collect();
        let expected = ["Uid:", "2000", "2000", "2000", "2000", "Gid:", "2000", "2000", "2000", "2000", "Groups:"];
        assert_eq!(told, expected, "{release:?}: {err}");
        site.idle();
        site.down();
    }
}

#[test]
fn a_reap_that_fails_or_hangs_holds_nobody_up() {
    for release in ALL {
        let site = Site::new(release);
        for (name, instead) in [("fails", "exit 1"), ("hangs", "exec sleep 1000")] {
            site.plugstack(&launcher(&site, name, instead));
            killed(&site);
            assert!(site.idle() < Duration::from_secs(20), "{release:?} {name}");
            assert_ne!(lists(&site), 0, "{release:?} {name}");
            // Who ran no container is not asked about.
            assert_eq!(site.run(&["srun", "-w", "n2", "-n1", "true"]).0, 0, "{release:?} {name}");
        }
        site.plugstack(&format!("required {} launcher=/nothere\n", site.plugin));
        assert_eq!(site.run(&["srun", "-w", "n1", "-n1", "true"]).0, 0, "{release:?}");
        site.idle();
        assert_ne!(lists(&site), 0, "{release:?}");
        site.down();
    }
}

#[test]
fn slurmd_cleans_up_when_it_starts() {
    let site = Site::new(Release::Bookworm);
    site.plugstack(&launcher(&site, "fails", "exit 1"));
    killed(&site);
    site.idle();
    assert_ne!(lists(&site), 0);
    site.plugstack(&format!("required {} launcher={}\n", site.plugin, site.launcher));
    // In one command: who enters the node does so by its first slurmd.
    let end = "pkill -xf 'slurmd -D -N n1'; while pgrep -xf 'slurmd -D -N n1' >/dev/null; do sleep 0.05; done";
    let restart = format!(
        "{end}; ls /dev/shm/udocker-2000 | grep -c '^step-'
        SLURM_CONF=/etc/slurm/slurm.conf setsid slurmd -D -N n1 </dev/null >/dev/null 2>&1 &
        for i in $(seq 400); do ls /dev/shm/udocker-2000 | grep -q '^step-' || break; sleep 0.05; done
        ls /dev/shm/udocker-2000 | grep '^step-'; true"
    );
    assert_eq!(site.cluster.run_as_root("n1", &["bash", "-c", &restart]), is(0, "1\n", ""));
    site.idle();
    assert_eq!(site.run(&["srun", "-w", "n1", "-n1", "echo", "up"]), is(0, "up\n", ""));
    site.idle();
    // The cluster ends only what it has started.
    site.cluster.run_as_root("ctl", &["bash", "-c", end]);
    site.down();
}
