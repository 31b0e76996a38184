//! Content digests as the OCI image spec writes them (`descriptor.md`, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// 32 bytes.
    Sha256,
    /// 64 bytes.
    Sha512,
}

/// `sha256:` or `sha512:` and exactly as many lower-case hexadecimal digits as the algorithm has.
///
/// Paths in a store are derived from this type alone, so it admits no `/`, no `.` and no upper case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// A string is no digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no digest: expected `sha256:` and 64, or `sha512:` and 128, lower-case hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// The digest of `bytes` by SHA-256.
    pub fn sha256_of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_sha256(&sha2::Sha256::digest(bytes).into())
    }
    /// A digest from the raw output of SHA-256.
    pub fn from_sha256(raw: &[u8; 32]) -> Self {
        Self { algorithm: Algorithm::Sha256, hex: crate::text::to_hex(raw) }
    }
    /// A digest from the raw output of SHA-512.
    pub fn from_sha512(raw: &[u8; 64]) -> Self {
        Self { algorithm: Algorithm::Sha512, hex: crate::text::to_hex(raw) }
    }
    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    /// The digits without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let parsed = match text.split_once(':') {
            Some(("sha256", hex)) if hex.len() == 64 => Some((Algorithm::Sha256, hex)),
            Some(("sha512", hex)) if hex.len() == 128 => Some((Algorithm::Sha512, hex)),
            _ => None,
        };
        match parsed {
            Some((algorithm, hex)) if hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
                Ok(Self { algorithm, hex: hex.to_owned() })
            }
            _ => Err(DigestError(text.chars().take(200).flat_map(char::escape_default).collect())),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.algorithm {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        write!(f, "{name}:{}", self.hex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digest_of_nothing_round_trips() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::sha256_of(b"").to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
    }

    #[test]
    fn anything_else_is_refused() {
        let good = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (case, text) in [
            ("empty", String::new()),
            ("no algorithm", good.to_owned()),
            ("short", format!("sha256:{}", &good[1..])),
            ("upper case", format!("sha256:{}", good.to_uppercase())),
            ("path", format!("sha256:../{}", &good[3..])),
            ("md5", "md5:d41d8cd98f00b204e9800998ecf8427e".to_owned()),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{case}");
        }
    }
}
