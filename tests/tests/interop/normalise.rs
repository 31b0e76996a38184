//! What differs from run to run, replaced: IDs, digests, sizes, times, ports, the directory of the test.

/// `text` with `places`, such as directories and ports, and each other varying part replaced by a word for it.
pub fn normalise(text: &str, places: &[(String, &str)]) -> String {
    let text = places.iter().fold(text.to_owned(), |text, (place, word)| text.replace(place, word));
    let mut result = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        // A word begins where the last one ended: "deadbeef" within a longer name is none.
        let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if length == 0 {
            result.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(length);
        result.push_str(&replacement(word));
        rest = after;
    }
    sizes(&result)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

fn replacement(word: &str) -> String {
    let hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let groups: Vec<&str> = word.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    if lengths == [8, 4, 4, 4, 12] && groups.iter().all(|group| hex(group)) {
        return "ID".into();
    }
    if word.len() == 64 && hex(word) { "HEX".into() } else { word.into() }
}

/// `(12 MB)` as `(N MB)`.
fn sizes(text: &str) -> String {
    let mut parts = text.split(" MB)");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let kept = result.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        result.truncate(kept);
        result.push_str("N MB)");
        result.push_str(part);
    }
    result
}

/// Standard output without what udocker says there and we say on standard error, and these lines: remarks, warnings and
/// the banner.
pub fn split_remarks(stdout: &str) -> (String, Vec<String>) {
    let mut results = String::new();
    let mut remarks = Vec::new();
    for line in stdout.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        let said = ["Info: ", "Warning: ", "Debug: "].iter().any(|prefix| bare.starts_with(prefix));
        let banner =
            bare == " " || bare.starts_with(" ***") || bare.starts_with(" *   ") || bare.starts_with(" executing: ");
        if said {
            remarks.push(bare.trim_end().to_owned());
        } else if !banner {
            results.push_str(line);
        }
    }
    (results, remarks)
}

#[cfg(test)]
mod tests {
    use super::{normalise, split_remarks};

    #[test]
    fn what_varies_is_replaced() {
        let hex = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            ("86df9906-c2f1-3799-8b0b-b9f77714b867 . W", "ID . W"),
            ("/tmp/x/containers/86df9906-c2f1-3799-8b0b-b9f77714b867/ROOT", "/T/containers/ID/ROOT"),
            (&format!("sha256:{hex}\n{hex}.json"), "sha256:HEX\nHEX.json"),
            (&format!("{hex}0"), &format!("{hex}0")),
            ("    /name (12 MB)\n (0 MB)", "    /name (N MB)\n (N MB)"),
            ("http://127.0.0.1:4711/v2", "http://127.0.0.1:PORT/v2"),
            ("é 86df9906 done", "é 86df9906 done"),
        ] {
            let places = [("/tmp/x".into(), "/T"), ("127.0.0.1:4711".into(), "127.0.0.1:PORT")];
            assert_eq!(normalise(text, &places), expected, "{text}");
        }
    }

    #[test]
    fn remarks_and_the_banner_are_no_results() {
        let banner = " \n ****\n *    * \n *   STARTING ID   * \n ****\n executing: sh\n";
        let (results, remarks) = split_remarks(&format!("Info: one\n{banner}out\n\nWarning: two\nlast"));
        assert_eq!((results.as_str(), remarks), ("out\n\nlast", vec!["Info: one".into(), "Warning: two".into()]));
    }
}
