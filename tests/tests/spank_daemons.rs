//! An mpirun of a script on the host: its daemons are not put into the container of its job.
#![cfg(target_arch = "x86_64")]

use udocker_tests::cluster::Release;
use udocker_tests::slurm_site::{Site, on_the_host, places};

/// The releases whose hosts have both MPIs, and an mpirun of each that is run for a line of shell.
const RELEASES: [Release; 2] = [Release::Trixie, Release::Forky];

/// A script on the host, on two nodes.
fn script(site: &Site, lines: &str) -> (i32, String, String) {
    let words = ["-N2", "-n4", "--ntasks-per-node=2", &site.image, "--udocker-batch=host"];
    site.batch(&[], &words, &format!("#!/bin/bash\nexport OMPI_MCA_btl_tcp_if_include=lo\n{lines}\n"))
}

#[test]
fn they_are_refused() {
    for release in RELEASES {
        let site = Site::new(release);
        // PRRTE hides what the daemon said.
        for (mpi, says) in [("mpich", true), ("openmpi", false)] {
            let lines = format!(
                "timeout -k5 60 mpirun.{mpi} -n 4 sh -c 'echo ran'\ncase $? in 0) ;; 124) echo hangs;; *) echo failed;; esac"
            );
            let (_, out, err) = script(&site, &lines);
            assert_eq!(out, "failed\n", "{release:?} {mpi}: {err}");
            assert!(err.starts_with(&on_the_host(&site.root)), "{release:?} {mpi}: {err}");
            let text = "it belongs to an mpirun on the host, and the image has an MPI of its own\n  \
                        hint: `srun` in place of mpirun starts the ranks in the image";
            assert_eq!(err.contains(text), says, "{release:?} {mpi}: {err}");
        }
        site.down();
    }
}

#[test]
fn a_site_lets_them_run_on_the_host() {
    for release in RELEASES {
        let site = Site::new(release);
        std::fs::create_dir_all(site.cluster.etc().join("udocker")).expect("a directory");
        std::fs::write(site.cluster.etc().join("udocker/site.toml"), "[mpi]\nrequire = false\n").expect("a file");
        for (mpi, says) in [("mpich", 1), ("openmpi", 0)] {
            let lines =
                format!("timeout -k5 60 mpirun.{mpi} -n 4 {} {} -- sh -c '{}'", site.launcher, site.root, site.place);
            let (status, out, err) = script(&site, &lines);
            assert_eq!((status, places(&out)), (0, vec!["inside"; 4]), "{release:?} {mpi}: {out}{err}");
            assert_eq!(err.matches("of an mpirun runs on the host").count(), says, "{release:?} {mpi}: {err}");
        }
        site.down();
    }
}
