//! Messages in the words of Slurm's commands, whose options of ours are called `--udocker-NAME`.

use super::JobOption;

/// `text` with `--udocker-NAME` for each `--NAME` that is an option of a job and begins a word. What stands in backticks behind
/// a program is that program's, as in `udocker pull --platform=…`.
pub fn for_slurm(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    for line in text.split_inclusive('\n') {
        for (at, part) in line.split('`').enumerate() {
            if at > 0 {
                out.push('`');
            }
            match at % 2 == 1 && !part.starts_with("--") {
                true => out.push_str(part),
                false => rename(part, &mut out),
            }
        }
    }
    out
}

fn rename(part: &str, out: &mut String) {
    let mut rest = part;
    while let Some(at) = rest.find("--") {
        let (before, option) = (&rest[..at], &rest[at + 2..]);
        let end = option.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(option.len());
        out.push_str(before);
        let begins = before.chars().next_back().is_none_or(|c| c.is_whitespace() || c == '(');
        // Others of these names are Slurm's own.
        let is_ours = JobOption::find(&option[..end]).is_some_and(|found| found.is_built() || found.is_of_reader());
        out.push_str(if begins && is_ours { "--udocker-" } else { "--" });
        out.push_str(&option[..end]);
        rest = &option[end..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_jobs_are_named_as_slurm_s_commands_have_them() {
        for (text, expected) in [
            ("leave `--write` away", "leave `--udocker-write` away"),
            (
                "--timeout=1h (--mount)\n  hint: `--env-file`",
                "--udocker-timeout=1h (--udocker-mount)\n  hint: `--udocker-env-file`",
            ),
            ("`--pull=always` and `--platform`", "`--udocker-pull=always` and `--udocker-platform`"),
            ("`udocker pull --platform=x` or `--user=UID`", "`udocker pull --platform=x` or `--udocker-user=UID`"),
            ("`nvidia-ctk cdi generate --mode=auto`", "`nvidia-ctk cdi generate --mode=auto`"),
            // An odd backtick, as of a file's name, is over with its line.
            ("a ` b\n--share=task ` c", "a ` b\n--udocker-share=task ` c"),
            (
                "`--repo=DIR`, --gres=gpu:1, `--mpi=pmi2`, a--env, ---env",
                "`--repo=DIR`, --gres=gpu:1, `--mpi=pmi2`, a--env, ---env",
            ),
            ("--environment --env- --no-home --", "--environment --env- --udocker-no-home --"),
            ("", ""),
        ] {
            assert_eq!(for_slurm(text), expected);
            assert_eq!(for_slurm(expected), expected, "twice");
        }
    }
}
