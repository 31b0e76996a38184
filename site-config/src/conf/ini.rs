//! Reads the lines of udocker.conf by the rules of Python's configparser, so far as they concern udocker's one section.
//!
//! `key = value` or `key: value`; keys without case; `#` and `;` begin comments of a whole line; a line that is indented
//! deeper than its key continues the value; `%%` is `%`, and `%(key)s` the value of another key. Unlike Python's, this
//! reader takes keys without a section's header before them for those of `[DEFAULT]`. Other sections are passed over, as
//! by udocker.

/// One key of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// In lower case.
    pub key: String,
    /// Without the blanks around it; lines are joined by `\n`.
    pub value: String,
    /// Where the key stands, from 1.
    pub line: usize,
}

/// A whole file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// What udocker reads, in its order.
    pub settings: Vec<Setting>,
    /// Sections that nobody reads, with their lines.
    pub foreign: Vec<(usize, String)>,
}

/// A line that cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// From 1.
    pub line: usize,
    /// What is wrong, and what would do.
    pub message: String,
}

/// `%(a)s` may name a key whose value does the same, so often (Python's limit).
const MAX_DEPTH: usize = 10;
/// A value may name others so often, counting what they name themselves, and become so long (bytes): a small file must
/// not cost much.
const MAX_NAMES: usize = 1000;
const MAX_VALUE_BYTES: usize = 1 << 20;

/// Reads `text`.
pub(crate) fn parse(text: &str) -> Result<Lines, Broken> {
    let mut lines = read(text)?;
    let values: Result<Vec<_>, _> = lines
        .settings
        .iter()
        .map(|Setting { value, line, .. }| {
            interpolate(&lines.settings, value, 0, &mut 0).map_err(|message| Broken { line: *line, message })
        })
        .collect();
    lines.settings.iter_mut().zip(values?).for_each(|(setting, value)| setting.value = value);
    Ok(lines)
}

fn read(text: &str) -> Result<Lines, Broken> {
    let mut out = Lines::default();
    let mut in_default = true;
    // Whether a deeper line continues a value, and from which column on.
    let (mut continues, mut indent) = (false, 0);
    for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (line, content) = (index + 1, raw.trim());
        if content.starts_with(['#', ';']) {
            continue;
        }
        let depth = raw.len() - raw.trim_start().len();
        if continues && (content.is_empty() || depth > indent) {
            if let Some(setting) = out.settings.last_mut().filter(|_| in_default) {
                setting.value.push('\n');
                setting.value.push_str(content);
            }
            continue;
        }
        if content.is_empty() {
            continue;
        }
        indent = depth;
        if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.rsplit_once(']')).map(|(name, _)| name) {
            in_default = name == "DEFAULT";
            continues = false;
            if !in_default {
                out.foreign.push((line, name.to_owned()));
            }
            continue;
        }
        let broken = |message: &str| Broken { line, message: message.to_owned() };
        let (key, value) = content.split_once(['=', ':']).ok_or_else(|| broken("expected `key = value`"))?;
        let key = key.trim().to_lowercase();
        if key.is_empty() {
            return Err(broken("expected a key before the `=`"));
        }
        continues = true;
        if in_default {
            if let Some(other) = out.settings.iter().find(|other| other.key == key) {
                return Err(broken(&format!("the key `{key}` is set a second time, after line {}", other.line)));
            }
            out.settings.push(Setting { key, value: value.trim().to_owned(), line });
        }
    }
    for setting in &mut out.settings {
        setting.value.truncate(setting.value.trim_end().len());
    }
    Ok(out)
}

fn interpolate(settings: &[Setting], text: &str, depth: usize, names: &mut usize) -> Result<String, String> {
    if depth > MAX_DEPTH {
        return Err("`%(key)s` leads to itself".into());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let named = rest.strip_prefix('(').and_then(|rest| rest.split_once(")s"));
        let (name, after) = named.ok_or("a single `%`: write `%%`, or `%(key)s` for another key's value")?;
        let other = settings.iter().find(|other| other.key == name.to_lowercase());
        let other = other.ok_or_else(|| format!("`%({name})s` names no key of this file"))?;
        *names += 1;
        out.push_str(&interpolate(settings, &other.value, depth + 1, names)?);
        if *names > MAX_NAMES || out.len() > MAX_VALUE_BYTES {
            return Err("`%(key)s` leads to too much text".into());
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().settings.into_iter().map(|setting| (setting.key, setting.value)).collect()
    }

    #[test]
    fn files_as_users_have_them() {
        for (text, expected) in [
            ("[DEFAULT]\na = 1\nb: 2\n", &[("a", "1"), ("b", "2")][..]),
            ("a=1", &[("a", "1")]),
            ("\u{feff}A = x\r\nB=y\r\n", &[("a", "x"), ("b", "y")]),
            ("# c\n; d\n  # e\na = 1 # no comment\n", &[("a", "1 # no comment")]),
            ("url = http://h:5000/x=y\n", &[("url", "http://h:5000/x=y")]),
            ("url: http://h=1\n", &[("url", "http://h=1")]),
            ("a = x\n  y\n# c\n\tz\n\nb = 1", &[("a", "x\ny\nz"), ("b", "1")]),
            ("a =\n  (1,\n   2)\n", &[("a", "\n(1,\n2)")]),
            ("  a = 1\n  b = 2\n", &[("a", "1"), ("b", "2")]),
            ("a =\nb =   \n", &[("a", ""), ("b", "")]),
            ("a = 50%% of %(B)s\nb = %(c)s!\nc = x%%y", &[("a", "50% of x%y!"), ("b", "x%y!"), ("c", "x%y")]),
            ("[other]\na = 1\n   2\n[DEFAULT]\nb = 2\n[third]\n", &[("b", "2")]),
            ("", &[]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            assert_eq!(pairs(text), expected, "{text:?}");
        }
    }

    #[test]
    fn values_that_grow_without_bound_are_refused() {
        let many = |count: usize, name: &str| format!("%({name})s").repeat(count);
        for text in [
            format!("a = \nb = {}\nc = {}\nd = {}\n", many(100, "a"), many(100, "b"), many(100, "c")),
            format!("a = {}\nb = {}\n", "x".repeat(100_000), many(20, "a")),
        ] {
            assert_eq!(parse(&text).unwrap_err().message, "`%(key)s` leads to too much text");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_there_nothing_panics(text in "([%(){}\\[\\]\"'=:,#;a\n \t\u{e9}]|s)*") {
            if let Ok(lines) = parse(&text) {
                lines.settings.iter().for_each(|setting| drop(crate::conf::value::Value::parse(&setting.value)));
            }
        }

        #[test]
        fn any_text_can_be_written(value: String) {
            let value = value.trim().replace(['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'], "");
            let lines = parse(&format!("a = {}", value.replace('%', "%%"))).unwrap();
            proptest::prop_assert_eq!(&lines.settings[0].value, value.trim());
        }
    }

    #[test]
    fn places_are_those_of_the_keys() {
        let lines = parse("# c\n[DEFAULT]\na = 1\n  2\n\nb = 3\n[zzz]\n").unwrap();
        let places: Vec<_> = lines.settings.iter().map(|setting| (setting.key.as_str(), setting.line)).collect();
        assert_eq!(places, [("a", 3), ("b", 6)]);
        assert_eq!(lines.foreign, [(7, "zzz".to_owned())]);
    }

    #[test]
    fn broken_lines_are_named() {
        for (text, line, message) in [
            ("a = 1\nb\n", 2, "expected `key = value`"),
            ("[DEFAULT\n", 1, "expected `key = value`"),
            (" = 1", 1, "expected a key before the `=`"),
            ("a = 1\nA = 2", 2, "the key `a` is set a second time, after line 1"),
            ("a = 5%", 1, "a single `%`: write `%%`, or `%(key)s` for another key's value"),
            ("a = 1\nb = %(c)s", 2, "`%(c)s` names no key of this file"),
            ("a = %(b)s\nb = %(a)s", 1, "`%(key)s` leads to itself"),
        ] {
            assert_eq!(parse(text), Err(Broken { line, message: message.into() }), "{text:?}");
        }
    }
}
