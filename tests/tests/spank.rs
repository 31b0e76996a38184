//! The Slurm plugin on a cluster of two nodes: who asks for a container gets it, whatever started the task, or the task does not
//! run; and who does not ask pays nothing.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use udocker_tests::cluster::Release;
use udocker_tests::mpi_steps::{attempt, open_mpi_crashed};
use udocker_tests::slurm_site::{ALL, Site, is, meets, on_the_host, places, plugin};
use udocker_tests::stdout;

#[test]
fn a_step_has_one_container_per_node() {
    for release in ALL {
        let site = Site::new(release);
        let script = format!("{}; {}", site.place, meets(4));
        let (status, out, err) =
            site.run(&["srun", "-N2", "-n4", "--ntasks-per-node=2", &site.image, "sh", "-c", &script]);
        assert_eq!((status, err.as_str()), (0, ""), "{release:?}: {out}");
        let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in out.lines() {
            let [node, namespace, "inside"] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{release:?}: {out}")
            };
            nodes.entry(node).or_default().push(namespace);
        }
        assert_eq!(nodes.keys().copied().collect::<Vec<_>>(), ["n1", "n2"]);
        assert!(nodes.values().all(|all| all.len() == 2 && all[0] == all[1]), "{release:?}: {out}");
        site.down();
    }
}

#[test]
fn the_whole_job_is_contained_by_a_line_of_its_script() {
    for release in ALL {
        let site = Site::new(release);
        let script = format!("#!/bin/sh\n#SBATCH {}\n{}\necho $#$1; exit 7\n", site.image, site.place);
        let (status, out, err) = site.batch(&[], &[], &script);
        assert_eq!((status, err.as_str()), (7, ""), "{release:?}: {out}");
        assert_eq!((places(&out)[0], out.lines().count()), ("inside", 2), "{release:?}: {out}");
        // The command line beats the script, and only there is nothing inherited.
        let (status, out, err) = site.batch(&[], &["--udocker-image=none"], &script);
        assert_eq!((status, places(&out)[0], err.as_str()), (7, "host", ""), "{release:?}: {out}");
        site.down();
    }
}

#[test]
fn steps_of_a_script_on_the_host_inherit_change_and_opt_out() {
    for release in ALL {
        let site = Site::new(release);
        let place = &site.place;
        // Quiet: a step that waits for the last one's processors says so.
        let script = format!(
            "#!/bin/bash\n{place}\nsrun -Q sh -c '{place}'\nsrun -Q --udocker-image=none sh -c '{place}'\n\
             srun -Q --export=NONE /bin/sh -c '{place}'\nsrun -Q --udocker-env=A=5 sh -c 'echo $A$UDOCKER_ENV'\n\
             export UDOCKER_ENV=A=6\nsrun -Q sh -c 'echo $A$UDOCKER_ENV'\n\
             export UDOCKER_IMAGE=none\nsrun -Q sh -c '{place}'\n"
        );
        let (status, out, err) = site.batch(&[], &[&site.image, "--udocker-batch=host"], &script);
        let says = on_the_host(&site.root);
        assert_eq!((status, err.as_str()), (0, says.as_str()), "{release:?}: {out}");
        assert_eq!(places(&out), ["host", "inside", "host", "inside", "5", "6", "host"], "{release:?}: {out}");
        site.down();
    }
}

#[test]
fn a_script_runs_on_the_host_where_that_is_configured_and_its_steps_do_not() {
    for release in ALL {
        let site = Site::new(release);
        std::fs::create_dir_all(site.cluster.home().join(".config/udocker")).unwrap();
        site.write(".config/udocker/config.toml", "[run]\nbatch = \"host\"\n");
        let place = &site.place;
        let script = format!("#!/bin/bash\n{place}\nsrun -Q sh -c '{place}'\n");
        let (status, out, err) = site.batch(&[], &[&site.image], &script);
        let says = on_the_host(&site.root);
        assert_eq!((status, err.as_str()), (0, says.as_str()), "{release:?}: {out}");
        assert_eq!(places(&out), ["host", "inside"], "{release:?}: {out}");
        let (status, out, err) =
            site.batch(&[], &[&site.image, "--udocker-batch=container"], &format!("#!/bin/sh\n{place}\n"));
        assert_eq!((status, places(&out), err.as_str()), (0, vec!["inside"], ""), "{release:?}");
        site.down();
    }
}

#[test]
fn a_job_within_a_job_asks_for_itself() {
    let site = Site::new(Release::Bookworm);
    site.write("inner", &format!("#!/bin/sh\n{}\n", site.place));
    let script = "#!/bin/bash\nenv | grep -c ^SLURM_UDOCKER_REQUEST=\nsbatch -W -Q -n1 -o inner.1 inner\n\
                  UDOCKER_IMAGE=$1 sbatch -W -Q -n1 -o inner.2 inner\nsalloc -Q -n1 sh -c 'srun sh inner'\ncat inner.1 inner.2\n";
    let script = script.replace("$1", &site.root);
    let (status, out, err) = site.batch(&["SHELL=/bin/bash"], &["-n1", &site.image, "--udocker-batch=host"], &script);
    let says = on_the_host(&site.root);
    assert_eq!((status, err.as_str()), (0, says.as_str()), "{out}");
    assert_eq!(places(&out), ["1", "host", "host", "inside"], "{out}");
    site.down();
}

#[test]
fn an_allocation_is_inherited_by_its_steps() {
    for release in ALL {
        let site = Site::new(release);
        let place = &site.place;
        let command = format!("{place}; srun -n1 sh -c '{place}'; srun -n1 --udocker-image=none sh -c '{place}'");
        let shell = ["SHELL=/bin/bash"];
        let (status, out, err) =
            site.cluster.run(&shell, &["salloc", "-Q", "-N1", "-n1", &site.image, "sh", "-c", &command]);
        assert_eq!((status, err.as_str()), (0, ""), "{release:?}: {out}");
        assert_eq!(places(&out), ["host", "inside", "host"], "{release:?}: {out}");
        site.down();
    }
}

#[test]
fn options_are_variables_as_well_and_survive_an_empty_environment() {
    for release in ALL {
        let site = Site::new(release);
        let variable = format!("UDOCKER_IMAGE={}", site.root);
        let (status, out, err) = site.cluster.run(&[&variable], &["srun", "-n1", "sh", "-c", &site.place]);
        assert_eq!((status, places(&out), err.as_str()), (0, vec!["inside"], ""), "{release:?}");
        let words = ["srun", "-n1", "--export=NONE", &site.image, "sh", "-c", &site.place];
        let (status, out, err) = site.run(&words);
        assert_eq!((status, places(&out), err.as_str()), (0, vec!["inside"], ""), "{release:?}");
        // Others' jobs are not touched by a variable that says nothing of an image.
        let (status, out, err) = site.cluster.run(&["UDOCKER_MOUNT=x"], &["srun", "-n1", "sh", "-c", &site.place]);
        assert_eq!((status, places(&out), err.as_str()), (0, vec!["host"], ""), "{release:?}");
        site.down();
    }
}

#[test]
fn a_wrong_option_is_refused_where_it_is_typed() {
    for release in ALL {
        let site = Site::new(release);
        for (option, value, text) in [
            (
                "mount",
                "x",
                "cannot read the mount `x`: expected SOURCE:TARGET[:OPTION,OPTION] or tmpfs:TARGET[:size=N]",
            ),
            (
                "user",
                "a b",
                "cannot read the user `a b`: expected self, root, image, or a name or number, with or without :GROUP",
            ),
            ("mpi", "auto", "option --udocker-mpi is not supported by this version"),
            ("batch", "here", "cannot read where the batch script runs from `here`: expected container or host"),
        ] {
            let word = format!("--udocker-{option}={value}");
            for command in ["srun", "sbatch", "salloc"] {
                let expected = format!(
                    "{command}: error: udocker: {text}\n{command}: error: Invalid --udocker-{option} argument: {value}\n"
                );
                let words: &[&str] = if command == "sbatch" { &["--wrap", "true"] } else { &["true"] };
                let ended = site.run(&[&[command, "-n1", &site.image, &word], words].concat());
                assert_eq!(ended, is(255, "", &expected), "{release:?} {command} {word}");
            }
            site.write("script", &format!("#!/bin/sh\n#SBATCH {}\n#SBATCH \"{word}\"\n", site.image));
            let expected = format!(
                "sbatch: error: udocker: {text}\nsbatch: error: Invalid --udocker-{option} argument: {value}\n"
            );
            assert_eq!(site.run(&["sbatch", "script"]), is(255, "", &expected), "{release:?} {word}");
        }
        let ended = site.run(&["srun", "-n1", "--udocker-home", "true"]);
        assert_eq!(ended.0, 1);
        let said = "srun: error: udocker: options of a container and no image were given\n  hint: `--udocker-image=IMAGE` or \
                    UDOCKER_IMAGE names it\n";
        assert!(ended.2.starts_with(said), "{release:?}: {}", ended.2);
        site.down();
    }
}

#[test]
fn a_contained_step_ends_as_a_bare_one() {
    let site = Site::new(Release::Bookworm);
    for words in [&["sh", "-c", "exit 9"][..], &["sh", "-c", "kill -9 $$"], &["sh", "-c", "kill -TERM $$"], &["true"]] {
        let bare = site.run(&[&["srun", "-n1"], words].concat());
        let contained = site.run(&[&["srun", "-n1", &site.image], words].concat());
        assert_eq!((contained.0, &contained.1), (bare.0, &bare.1), "{words:?}: {contained:?}");
    }
    let (status, out, err) = site.run(&["srun", "-n1", &site.image, "nothere"]);
    assert_eq!((status, out.as_str()), (127, ""), "{err}");
    // The words arrive as they are, also such as the launcher has of its own.
    let words = ["srun", "-n1", &site.image, "printf", "%s|", "--", "--help", "a b", ""];
    assert_eq!(site.run(&words), is(0, "--|--help|a b||", ""));
    let script = "ulimit -n; cat; echo $A; env | grep -c -e ^UDOCKER_IMAGE -e ^SLURM_UDOCKER_PROGRAM";
    let line = format!("ulimit -n 777; echo text | A=5 srun -n1 {} sh -c '{script}'", site.image);
    assert_eq!(site.run(&["sh", "-c", &line]).1, "777\ntext\n5\n0\n");
    site.down();
}

#[test]
fn programs_of_their_own_are_contained_or_refused() {
    for release in ALL {
        let site = Site::new(release);
        site.write(
            "programs",
            &format!("0 sh -c '{}'\n1-2 sh -c '{}'\n", site.place.replace('\n', " "), site.place.replace('\n', " ")),
        );
        let ended = site.run(&["srun", "-n3", &site.image, "--multi-prog", "programs"]);
        if release == Release::Bookworm {
            assert_eq!((ended.0, ended.1.as_str()), (1, ""));
            let said = "srun: error: udocker: cannot put the programs of `programs` into containers: Slurm can do that with \
                        --multi-prog from release 23.11 on\n  hint: `--udocker-image=none`, and `udocker-launch IMAGE` before \
                        each program in the file\n";
            assert!(ended.2.starts_with(said), "{}", ended.2);
        } else {
            assert_eq!((ended.0, places(&ended.1), ended.2.as_str()), (0, vec!["inside"; 3], ""), "{release:?}");
        }
        let (status, out, err) = site.run(&["srun", "-n3", "--multi-prog", "programs"]);
        assert_eq!((status, places(&out), err.as_str()), (0, vec!["host"; 3], ""), "{release:?}");
        // A refused one leaves no step that the next would wait for.
        let script = "srun -n3 --multi-prog programs >/dev/null 2>&1; srun -t1 -n3 echo next";
        let words = ["timeout", "40", "salloc", "-Q", "-n3", &site.image, "sh", "-c", script];
        let (status, out, err) = site.cluster.run(&["SHELL=/bin/sh"], &words);
        assert_eq!((status, out.as_str()), (0, "next\nnext\nnext\n"), "{release:?}: {err}");
        site.down();
    }
}

#[test]
fn components_of_a_step_share_an_image() {
    for release in ALL {
        let site = Site::whole(release, "");
        let sh = ["sh", "-c", &site.place];
        // Whichever of them names it.
        for (first, second) in [(Some(site.image.as_str()), None), (None, Some(site.image.as_str()))] {
            let [first, second] = [first, second].map(|image| image.as_slice().to_vec());
            let line = [&["srun", "-Q", "-n1"][..], &first, &sh, &[":", "-n1"], &second, &sh].concat();
            let (status, out, err) = site.run(&line);
            assert_eq!((status, places(&out), err.as_str()), (0, vec!["inside"; 2], ""), "{release:?}");
        }
        let ended =
            site.run(&["srun", "-Q", "-n1", "--udocker-image=a", "true", ":", "-n1", "--udocker-image=b", "true"]);
        let said = "srun: error: udocker: one job was given two images, `a` and `b`: Slurm hands one to all components\n  hint: start a srun for each\n";
        assert!(ended.0 == 1 && ended.2.starts_with(said), "{release:?}: {ended:?}");
        let script = format!(
            "#!/bin/bash\n#SBATCH -n1\n#SBATCH hetjob\n#SBATCH -n1\n{0}\nsrun --het-group=0,1 sh -c '{0}'\n\
             srun --het-group=1 sh -c '{0}'\n",
            site.place
        );
        let (status, out, err) = site.batch(&[], &[&site.image, "--udocker-batch=host"], &script);
        let says = on_the_host(&site.root);
        assert_eq!((status, err.as_str()), (0, says.as_str()), "{release:?}: {out}");
        assert_eq!(places(&out), ["host", "inside", "inside", "inside"], "{release:?}: {out}");
        site.down();
    }
}

/// Where a request would not arrive, or one component's at all of them, nothing is submitted.
#[test]
fn what_would_not_arrive_is_refused() {
    for release in ALL {
        // Only later releases have it.
        let has_scrontab = release != Release::Bookworm;
        let site = Site::with(release, if has_scrontab { "ScronParameters=enable\n" } else { "" });
        let image = site.image.as_str();
        site.write("vars", "A=1\0PATH=/usr/bin:/bin\0");
        let script = |lines: &str| format!("#!/bin/sh\n{lines}\n{}\n", site.place);
        let het =
            |first: &str, second: &str| script(&format!("#SBATCH -n1 {first}\n#SBATCH hetjob\n#SBATCH -n1 {second}"));
        site.write("bare", &script(""));
        site.write("file", &script(&format!("#SBATCH --export-file=vars {image}")));
        site.write("later", &het("", image));
        site.write("other", &het("", "--udocker-umount=/tmp"));
        site.write("two", &het(image, "--udocker-image=/usr/../opt"));
        let cannot = "udocker: cannot put the job into a container: ";
        let file = format!(
            "{cannot}with `--export-file` sbatch sends the file's variables alone, and the request is one\n  hint: \
             `--export=NAME=VALUE,…` sets variables, and the request passes it\n"
        );
        let later = "udocker: a later component of the job asks for another container than the first one\n  hint: give the options \
                     to the first component, whose container sbatch hands to all\n";
        let two = format!(
            "udocker: one job was given two images, `{}` and `/usr/../opt`: Slurm hands one to all components\n  hint: start a srun \
             for each\n",
            site.root
        );
        let shell = format!(
            "{cannot}`salloc --no-shell` hands nothing on to the steps of its allocation\n  hint: give `--udocker-image` to each \
             srun of the allocation\n"
        );
        let asks = format!("UDOCKER_IMAGE={}", site.root);
        for (line, expected) in [
            (format!("sbatch --export-file=vars {image} bare"), &file),
            (format!("sbatch --export-file=vars --export=ALL {image} --wrap true"), &file),
            (format!("{asks} sbatch --export-file vars bare"), &file),
            ("sbatch file".into(), &file),
            ("cat file | sbatch".into(), &file),
            ("sbatch later".into(), &later.to_owned()),
            (format!("sbatch -n1 : -n1 {image} bare"), &later.to_owned()),
            (format!("sbatch {image} other"), &later.to_owned()),
            ("sbatch two".into(), &two),
            (format!("sbatch {image} : --udocker-image=/usr/../opt bare"), &two),
            (format!("salloc --no-shell {image}"), &shell),
        ] {
            let (status, out, err) = site.run(&["sh", "-c", &line]);
            let err = err.split_once("error: ").map_or("", |(_, said)| said);
            assert!(
                (status, out.as_str()) == (1, "") && err.starts_with(expected.as_str()),
                "{release:?} {line}: {err}"
            );
        }
        assert_eq!(site.run(&["squeue", "-h"]), is(0, "", ""), "{release:?}");
        // A variable is there for the step as well.
        let line = format!(
            "export {asks}; salloc -Q --no-shell -n1 -J none; job=$(squeue -h -o %i -n none); srun --jobid=$job sh -c '{}'; scancel $job",
            site.place.replace('\'', "'\\''")
        );
        let (status, out, err) = site.run(&["sh", "-c", &line]);
        assert_eq!((status, places(&out), err.as_str()), (0, vec!["inside"], ""), "{release:?}");
        // What asks for nothing goes on, and so does one container for all.
        let (status, out, err) = site.batch(&[], &[], &script("#SBATCH --export-file=vars"));
        assert_eq!((status, places(&out), err.as_str()), (0, vec!["host"], ""), "{release:?}");
        let (status, out, err) = site.batch(&[], &[], &het(image, &format!("{image}/")));
        assert_eq!((status, places(&out), err.as_str()), (0, vec!["inside"], ""), "{release:?}");
        if has_scrontab {
            site.write("table", &format!("#SCRON {image}\n* * * * * /bin/true\n"));
            let (status, _, err) = site.run(&["scrontab", "table"]);
            let said = format!(
                "scrontab: error: {cannot}scrontab sends no variables, and the request is one\n  hint: give `--udocker-image` to \
                 each srun of the script, or run `udocker-launch` in it\n"
            );
            assert!(status == 1 && err.starts_with(&said), "{release:?}: {err}");
            assert_eq!(site.run(&["scrontab", "-l"]).1, "no crontab for tester\n", "{release:?}");
        }
        site.down();
    }
}

#[test]
fn each_job_of_an_array_names_itself() {
    let site = Site::new(Release::Bookworm);
    let script = "#!/bin/sh\necho \"$SLURM_UDOCKER_REQUEST\" | grep -c \"\\\"job\\\":\\\"$SLURM_JOB_ID\\\"\"; [ ! -e LAUNCHER ] && echo inside\n";
    site.write("script", &script.replace("LAUNCHER", &site.launcher));
    let line = ["sbatch", "-W", "-Q", "-n1", "-a", "1-2", "-o", "out.%a", "-e", "err.%a", &site.image, "script"];
    assert_eq!(site.run(&line), is(0, "", ""));
    assert_eq!(site.run(&["cat", "out.1", "err.1", "out.2", "err.2"]), is(0, "1\ninside\n1\ninside\n", ""));
    site.down();
}

/// Whatever the plugin's line says of failures.
#[test]
fn what_cannot_be_contained_does_not_run() {
    for release in ALL {
        let site = Site::new(release);
        let step = ["srun", "-N2", "-n4", "--ntasks-per-node=2"];
        for how in ["required", "optional"] {
            site.plugstack(&format!("{how} {} launcher=/nothere\n", site.plugin));
            let (status, out, err) = site.run(&[&step[..], &[&site.image, "sh", "-c", &site.place]].concat());
            assert_eq!((status, out.as_str()), (125, ""), "{release:?} {how}: {err}");
            for node in ["n1", "n2"] {
                let says = format!("udocker: [{node} task ");
                assert_eq!(err.matches(&says).count(), 1, "{release:?} {how}: {err}");
            }
            let text = "] cannot start the task in its container: cannot run /nothere\n  caused by: No such file or directory \
                        (os error 2)\n  hint: the site installs it on each node, or names it by `launcher=` behind the plugin\n";
            assert_eq!(err.matches(text).count(), 2, "{release:?} {how}: {err}");
            let (status, out, _) = site.batch(&[], &["-n1", &site.image], &format!("#!/bin/sh\n{}\n", site.place));
            assert_eq!((status, out.matches("host").count()), (125, 0), "{release:?} {how}: {out}");
            // Who asks for nothing is not held up.
            assert_eq!(site.run(&[&step[..], &["true"]].concat()), is(0, "", ""), "{release:?} {how}");
        }
        let line = format!("required {} launcher={}\n", site.plugin, site.launcher);
        site.plugstack(&line.repeat(2));
        let (status, out, err) = site.run(&[&step[..], &[&site.image, "sh", "-c", &site.place]].concat());
        let text = "] cannot start the task in its container: plugstack.conf loads the plugin twice\n  hint: leave one line; `udocker \
                    site check --node` names them\n";
        assert_eq!((status, out.as_str(), err.matches(text).count()), (125, "", 2), "{release:?}: {err}");
        site.plugstack(&line);
        // A client without the plugin, and a request that nobody made.
        let conf = std::fs::read_to_string(site.cluster.etc().join("slurm/slurm.conf")).expect("a file");
        site.write("slurm.conf", &conf.replace("/etc/slurm/plugstack.conf", "/dev/null"));
        let client = "SLURM_CONF=/home/tester/slurm.conf";
        for (request, text) in [
            ("{}", "the request cannot be read\n"),
            ("{\"version\":2}", "the request is of version 2, and this program reads version 1\n"),
        ] {
            let variable = format!("SLURM_UDOCKER_REQUEST={request}");
            let (status, out, err) =
                site.cluster.run(&[client, &variable], &["srun", "-n2", "-N1", "sh", "-c", &site.place]);
            assert_eq!((status, out.as_str()), (125, ""), "{release:?} {request}: {err}");
            assert_eq!(err.matches(text).count(), 1, "{release:?} {request}: {err}");
        }
        // With the plugin the client says so itself, within a job, and drops what is none of its job's.
        let inner = ["salloc", "-Q", "-n1", "sh", "-c", "SLURM_UDOCKER_REQUEST={} srun true"];
        let (status, out, err) = site.cluster.run(&["SHELL=/bin/bash"], &inner);
        assert_eq!((status, out.as_str()), (1, ""), "{release:?}: {err}");
        assert!(err.starts_with("srun: error: udocker: cannot inherit"), "{release:?}: {err}");
        let (status, out, err) =
            site.cluster.run(&["SLURM_UDOCKER_REQUEST={}"], &["srun", "-n1", "sh", "-c", &site.place]);
        assert_eq!((status, places(&out), err.as_str()), (0, vec!["host"], ""), "{release:?}");
        site.down();
    }
}

/// The site's TaskProlog is our guard; users submit with the plugin, and the nodes have none.
#[test]
fn a_node_without_the_plugin_runs_nothing() {
    let guard = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spank-plugin/task-prolog.sh");
    let guard = guard.canonicalize().expect("it is checked in");
    for release in ALL {
        let site = Site::with(release, &format!("TaskProlog={}\n", guard.display()));
        // Where there is one the guard lets the task pass, and who asks for nothing passes anyway.
        for (image, place) in [(Some(site.image.as_str()), "inside"), (None, "host")] {
            let words = [&["srun", "-n1"][..], image.as_slice(), &["sh", "-c", &site.place]].concat();
            let (status, out, err) = site.run(&words);
            assert_eq!((status, places(&out), err.as_str()), (0, vec![place], ""), "{release:?}");
        }
        let conf = std::fs::read_to_string(site.cluster.etc().join("slurm/slurm.conf")).expect("a file");
        site.write("slurm.conf", &conf.replace("/etc/slurm/plugstack.conf", "/home/tester/plugstack.conf"));
        site.write("plugstack.conf", &format!("required {}\n", site.plugin));
        site.plugstack("");
        let client = ["SLURM_CONF=/home/tester/slurm.conf"];
        let words = ["srun", "-N2", "-n4", "--ntasks-per-node=2", &site.image, "sh", "-c", &site.place];
        let (status, out, err) = site.cluster.run(&client, &words);
        let lacks = |node: &str| format!("] cannot start the task in its container: {node} lacks Slurm's plugin\n");
        assert_eq!((status, out.lines().count()), (125, 2), "{release:?}: {out}{err}");
        assert!(["n1", "n2"].iter().all(|node| out.contains(&lacks(node))), "{release:?}: {out}{err}");
        let (status, out, _) = site.batch(&client, &["-n1", &site.image], &format!("#!/bin/sh\n{}\n", site.place));
        assert!(
            status == 125 && out.lines().count() == 1 && out.contains("lacks Slurm's plugin"),
            "{release:?}: {out}"
        );
        site.down();
    }
}

#[test]
fn signals_reach_the_program_and_a_missing_image_is_told_once_per_node() {
    let site = Site::new(Release::Bookworm);
    let trap = "trap 'echo got; exit 9' USR1; touch up.$SLURM_PROCID; while :; do sleep 0.1; done";
    let signal = "until [ -e up.0 ] && [ -e up.1 ]; do sleep 0.1; done; sleep 0.5; rm up.?; \
                  scancel -s USR1 $(squeue -h -o %i -n traps).0";
    for image in [&[][..], &[site.image.as_str()]] {
        let line = [&["srun", "-J", "traps", "-N2", "-n2"], image, &["sh", "-c", trap]].concat();
        let (traps, _) = std::thread::scope(|scope| {
            let traps = scope.spawn(|| site.run(&line));
            let sent = scope.spawn(|| site.run(&["sh", "-c", signal]));
            (traps.join().expect("a step"), sent.join().expect("a signal"))
        });
        assert_eq!((traps.0, traps.1.as_str()), (9, "got\ngot\n"), "{image:?}: {traps:?}");
    }
    let (status, out, err) = site.run(&["srun", "-N2", "-n4", "--udocker-image=/nothere", "echo", "ran"]);
    assert_eq!((status, out.as_str()), (122, ""), "{err}");
    let text = "] cannot run /nothere: it is no directory with a root file system\n";
    assert_eq!((err.matches(text).count(), err.matches("[n1 ").count()), (2, 1), "{err}");
    site.down();
}

#[test]
fn the_shell_of_an_allocation_is_contained() {
    let site = Site::new(Release::Bookworm);
    site.write("where", &site.place);
    let line = format!(
        "(sleep 1; echo '. ./where'; sleep 1; echo exit) | script -qec 'salloc -Q -n1 {}' /dev/null",
        site.image
    );
    let (status, out, err) = site.cluster.run(&["SHELL=/bin/bash"], &["sh", "-c", &line]);
    assert!(status == 0 && out.lines().any(|line| line.starts_with("n1 ") && line.ends_with(" inside")), "{out}{err}");
    site.down();
}

#[test]
fn no_panic_reaches_slurm() {
    let site = Site::new(Release::Bookworm);
    // `cargo build --examples` puts it beside the programs.
    let path = std::env::current_exe().expect("a test has a path");
    let library = path.parent().and_then(Path::parent).expect("target/debug").join("examples/libpanics.so");
    site.write("libpanics.so", "");
    std::fs::copy(&library, site.cluster.home().join("libpanics.so")).expect("an example of udocker-spank-sys");
    for how in ["required", "optional"] {
        site.plugstack(&format!("{how} /home/tester/libpanics.so\n"));
        // Under `optional` srun goes on by itself: what the plugin decides on the client is refused again on the node.
        let client = if how == "required" { (1, "") } else { (0, "ran\n") };
        for place in ["begin", "options", "options_read", "before_step"] {
            let (status, out, err) =
                site.cluster.run(&[&format!("PANICS_AT={place}")], &["srun", "-n1", "echo", "ran"]);
            assert_eq!((status, out.as_str()), client, "{how} {place}: {err}");
            assert!(err.contains(&format!("as asked for: {place}\n")), "{how} {place}: {err}");
        }
        let (status, out, err) = site.run(&["srun", "-n1", "--panics=local", "echo", "ran"]);
        assert_eq!((status, out.as_str()), (255, ""), "{how}: {err}");
        assert!(err.ends_with("srun: error: Invalid --panics argument: local\n"), "{how}: {err}");
        assert_eq!(site.run(&["srun", "-n1", "--panics=remote", "echo", "ran"]).1, "ran\n", "{how}");
        let (status, out, err) = site.cluster.run(&["PANICS_AT=task_init"], &["srun", "-N2", "-n4", "echo", "ran"]);
        assert_eq!((status, out.as_str()), (125, ""), "{how}: {err}");
    }
    site.down();
}

/// MPICH over the process manager's socket, which the launcher finds open, and Open MPI over PMIx: as on the host, by the same
/// transport. The last release is packaged without PMIx.
#[test]
fn ranks_of_mpi_meet() {
    for (release, mpis) in [
        (Release::Trixie, &[("mpich", "--mpi=pmi2"), ("openmpi", "--mpi=pmix")][..]),
        (Release::Forky, &[("mpich", "--mpi=pmi2")]),
    ] {
        let site = Site::new(release);
        let own = format!("--udocker-image={}", release.root().display());
        let mount = format!("--udocker-mount={}/programs:/mnt:ro", env!("CARGO_MANIFEST_DIR"));
        for (mpi, pmi) in mpis {
            let (compiler, program) = (format!("mpicc.{mpi}"), format!("./ranks.{mpi}"));
            let compile = ["srun", "-n1", &own, &mount, &compiler, "-O1", "-o", &program, "/mnt/ranks.c"];
            assert_eq!(site.run(&compile), is(0, "", ""), "{release:?}");
            let size = ["timeout", "-k5", "60", "srun", pmi, "-N2", "-n4", "--ntasks-per-node=2"];
            for image in [&[][..], &[own.as_str()]] {
                let words = [&size[..], image, &[program.as_str()]].concat();
                let run = || site.cluster.run(&["OMPI_MCA_btl_tcp_if_include=lo"], &words);
                let (status, out, err) = attempt(open_mpi_crashed, run);
                let expected = (0, "ranks 4 sum 10 wrong 0 cma yes\n");
                assert_eq!((status, out.as_str()), expected, "{release:?} {mpi} {image:?}: {err}");
            }
        }
        site.down();
    }
}

/// The plugin reads no configuration: the launcher does, for who asks for a container.
#[test]
fn a_broken_site_file_holds_up_nobody_else() {
    for release in ALL {
        let site = Site::new(release);
        std::fs::write(site.cluster.etc().join("udocker/site.toml"), "[site\n").expect("a file");
        assert_eq!(site.run(&["srun", "-N2", "-n2", "echo", "ran"]), is(0, "ran\nran\n", ""), "{release:?}");
        assert_eq!(site.batch(&[], &["-n1"], "#!/bin/sh\nsrun echo ran\n"), is(0, "ran\n", ""), "{release:?}");
        let (status, out, err) = site.run(&["srun", "-n1", &site.image, "echo", "ran"]);
        assert_eq!((status, out.as_str()), (125, ""), "{release:?}: {err}");
        assert!(err.contains("udocker: [n1] /etc/udocker/site.toml:1:6: unclosed table"), "{release:?}: {err}");
        site.down();
    }
}

/// The files that slurmd and its children open with the plugin and not without it, for a step that asks for nothing.
#[test]
fn nodes_open_nothing_for_who_asks_for_nothing() {
    let site = Site::new(Release::Bookworm);
    let opened = || {
        for name in ["up", "done"] {
            // There is none before the first.
            let _ = std::fs::remove_file(site.cluster.home().join(name));
        }
        let trace = "strace -f -o trace -e trace=openat,open -p $(pgrep -xf 'slurmd -D -N n1') & pid=$!
            until grep -q TracerPid:.[1-9] /proc/$(pgrep -xf 'slurmd -D -N n1')/status; do sleep 0.05; done
            touch up; until [ -e done ]; do sleep 0.05; done; sleep 0.5; kill $pid; wait";
        let step = "until [ -e up ]; do sleep 0.05; done; srun -w n1 -n1 true; echo $?; touch done";
        std::thread::scope(|scope| {
            let traced =
                scope.spawn(|| site.cluster.run_as_root("n1", &["sh", "-c", &format!("cd /home/tester; {trace}")]));
            assert_eq!(site.run(&["sh", "-c", step]), is(0, "0\n", ""));
            traced.join().expect("a trace");
        });
        let trace = std::fs::read_to_string(site.cluster.home().join("trace")).expect("a trace");
        let names = trace.lines().filter_map(|line| line.split('"').nth(1));
        // Numbers of jobs and processes differ.
        names.map(|name| name.replace(|c: char| c.is_ascii_digit(), "")).collect::<std::collections::BTreeSet<_>>()
    };
    let with = opened();
    site.plugstack("");
    let without = opened();
    assert!(without.iter().any(|name| name.ends_with("plugstack.conf")), "{without:?}");
    let own: Vec<&str> = with.difference(&without).map(String::as_str).collect();
    assert_eq!(own, [site.plugin.replace(|c: char| c.is_ascii_digit(), "")]);
    site.down();
}

/// The files that srun opens with the plugin and not without it.
#[test]
fn who_asks_for_nothing_pays_nothing() {
    let site = Site::new(Release::Bookworm);
    let opened = || {
        let (status, _, err) =
            site.run(&["strace", "-f", "-o", "trace", "-e", "trace=openat,open", "srun", "-n1", "true"]);
        assert_eq!(status, 0, "{err}");
        let trace = std::fs::read_to_string(site.cluster.home().join("trace")).expect("a trace");
        let names = trace.lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned);
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let with = opened();
    site.plugstack("");
    let without = opened();
    let own: Vec<&str> = with.difference(&without).map(String::as_str).collect();
    assert_eq!(own, [site.plugin.as_str()]);
    site.down();
}

#[test]
fn the_library_shows_what_slurm_looks_for() {
    for release in ALL {
        let output = Command::new("nm").args(["-D", "--defined-only"]).arg(plugin(release)).output().expect("binutils");
        let text = stdout(&output);
        let mut names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(2)).collect();
        names.sort_unstable();
        let expected = [
            "plugin_name",
            "plugin_type",
            "plugin_version",
            "slurm_spank_init",
            "slurm_spank_init_failure_mode",
            "slurm_spank_init_post_opt",
            "slurm_spank_job_epilog",
            "slurm_spank_local_user_init",
            "slurm_spank_task_init",
            "spank_plugin_version",
        ];
        assert_eq!(names, expected, "{release:?}");
    }
}

/// The bindings that are checked in are those of each release's header.
#[test]
fn bindings_are_those_of_the_headers() {
    let sys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spank-plugin/sys");
    for release in ALL {
        let output = Command::new("bash").arg(sys.join("regenerate.sh")).arg(release.root()).output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let checked_in =
            std::fs::read_to_string(sys.join(format!("bindings/{}.rs", release.number()))).expect("a file");
        assert!(stdout(&output) == checked_in, "bindings/{}.rs is not what regenerate.sh prints", release.number());
    }
}
