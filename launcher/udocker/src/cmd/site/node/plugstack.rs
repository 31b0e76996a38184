//! plugstack.conf, as spank(7) has it: `required|optional PLUGIN WORD…` or `include PATTERN`.

use std::path::{Path, PathBuf};

use udocker_core::env_vars::matches;

/// Files that include each other end here.
const MAX_DEPTH: usize = 8;

/// One plugin.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// File and line.
    pub at: String,
    pub is_required: bool,
    /// As it is written.
    pub plugin: PathBuf,
    pub words: Vec<String>,
}

/// All plugins of `file` and of what it includes.
///
/// # Errors
/// What could not be read.
pub fn lines(file: &Path) -> Result<Vec<Line>, String> {
    let mut found = Vec::new();
    read(file, 0, &mut found)?;
    Ok(found)
}

fn read(file: &Path, depth: usize, found: &mut Vec<Line>) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))?;
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let (Some(kind), Some(name)) = (words.next(), words.next()) else { continue };
        match kind {
            "include" if depth < MAX_DEPTH => {
                for file in included(&file.parent().unwrap_or(Path::new("/")).join(name)) {
                    read(&file, depth + 1, found)
                        .map_err(|error| format!("includes {}, which {error}", file.display()))?;
                }
            }
            "required" | "optional" => found.push(Line {
                at: format!("{}:{}", file.display(), index + 1),
                is_required: kind == "required",
                plugin: name.into(),
                words: words.map(str::to_owned).collect(),
            }),
            _ => {}
        }
    }
    Ok(())
}

/// The files that `pattern` stands for, in order: its last part may have `*`.
fn included(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.as_encoded_bytes().to_owned()).unwrap_or_default();
    if !name.contains(&b'*') {
        return vec![pattern.to_owned()];
    }
    // A directory that is not there has no files, for Slurm as well.
    let entries = pattern.parent().and_then(|directory| std::fs::read_dir(directory).ok()).into_iter().flatten();
    let mut files: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|entry| matches(&name, entry.file_name().as_encoded_bytes()))
        .map(|entry| entry.path())
        .collect();
    files.sort_unstable();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_included_files_are_read_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::create_dir(path.join("plugstack.d")).unwrap();
        let file = path.join("plugstack.conf");
        std::fs::write(&file, "# a remark\ninclude plugstack.d/*.conf\nrequired /c.so a=1  b # c\noptional\n").unwrap();
        std::fs::write(path.join("plugstack.d/2.conf"), "required b.so\n").unwrap();
        std::fs::write(path.join("plugstack.d/1.conf"), "\n optional a.so launcher=/l\n").unwrap();
        std::fs::write(path.join("plugstack.d/3"), "required d.so\n").unwrap();
        let told: Vec<_> = lines(&file)
            .unwrap()
            .into_iter()
            .map(|line| {
                let at = line.at.strip_prefix(&format!("{}/", path.display())).unwrap().to_owned();
                (at, line.is_required, line.plugin.display().to_string(), line.words.join(","))
            })
            .collect();
        let row = |at: &str, required, plugin: &str, words: &str| {
            (at.to_owned(), required, plugin.to_owned(), words.to_owned())
        };
        assert_eq!(
            told,
            [
                row("plugstack.d/1.conf:2", false, "a.so", "launcher=/l"),
                row("plugstack.d/2.conf:1", true, "b.so", ""),
                row("plugstack.conf:3", true, "/c.so", "a=1,b")
            ]
        );
        assert_eq!(lines(&path.join("nothere")).unwrap_err(), "cannot be read: No such file or directory (os error 2)");
        std::fs::write(&file, "include plugstack.conf\n").unwrap();
        assert_eq!(lines(&file).unwrap(), []);
    }
}
