//! What a signature of a manifest of schema 1 covers: the document without its `signatures`, byte for byte.
//!
//! Registries name such a manifest by the digest of that payload (`distribution/docs/spec/api.md`, "Content Digests").
//! The signatures themselves say nothing: their keys are anybody's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

#[derive(Deserialize)]
struct Signed {
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    protected: String,
}

/// How the payload is made of the document: its first bytes, and a tail.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protected {
    format_length: usize,
    format_tail: String,
}

/// The payload of a signed document; `None` if `document` is none.
pub(super) fn payload(document: &[u8]) -> Option<Vec<u8>> {
    let signed: Signed = serde_json::from_slice(document).ok()?;
    let protected = URL_SAFE_NO_PAD.decode(&signed.signatures.first()?.protected).ok()?;
    let protected: Protected = serde_json::from_slice(&protected).ok()?;
    let mut payload = document.get(..protected.format_length)?.to_vec();
    payload.extend(URL_SAFE_NO_PAD.decode(&protected.format_tail).ok()?);
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_the_head_and_the_tail() {
        let signed = |length: usize| {
            let protected = format!(r#"{{"formatLength":{length},"formatTail":"{}"}}"#, URL_SAFE_NO_PAD.encode("\n}"));
            format!(r#"{{"a":1,"signatures":[{{"protected":"{}"}}]}}"#, URL_SAFE_NO_PAD.encode(protected))
        };
        assert_eq!(payload(signed(6).as_bytes()).unwrap(), b"{\"a\":1\n}");
        assert_eq!(payload(signed(1000).as_bytes()), None);
        assert_eq!(payload(br#"{"signatures":[]}"#), None);
        assert_eq!(payload(b"{}"), None);
    }
}
