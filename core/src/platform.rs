//! The platform of an image: operating system, architecture and variant (OCI image spec, `image-index.md`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `os/architecture[/variant]` in Go's words (`linux/amd64`, `linux/arm64/v8`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    /// GOOS.
    pub os: String,
    /// GOARCH.
    pub architecture: String,
    /// Variant of the processor, as `v8`.
    pub variant: Option<String>,
}

/// A string is no platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no platform: expected os/architecture or os/architecture/variant, as `linux/amd64`, or `native`")]
pub struct PlatformError(String);

impl Platform {
    /// The platform of this machine.
    pub fn native() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            other => (other, None),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.map(Into::into) }
    }

    /// What a user's word asks for: a platform, or `native`, which is `None`: that of the machine on which the image runs.
    ///
    /// # Errors
    /// It is neither.
    pub fn wish(word: &str) -> Result<Option<Self>, PlatformError> {
        if word == "native" { Ok(None) } else { word.parse().map(Some) }
    }

    /// Whether an image for `self` is what somebody who asked for `wanted` gets.
    ///
    /// A variant counts only if both name one; `arm64` and `arm64/v8` are the same (containerd's `platforms.Normalize`).
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && match (self.normal_variant(), wanted.normal_variant()) {
                (Some(have), Some(want)) => have == want,
                _ => true,
            }
    }

    /// `os-architecture[-variant]`: part of a record's file name. Characters outside `[A-Za-z0-9_.]` become `_`.
    pub fn file_suffix(&self) -> String {
        let mut out = format!("{}-{}", self.os, self.architecture);
        if let Some(variant) = self.normal_variant() {
            out.push('-');
            out.push_str(variant);
        }
        out.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' }).collect()
    }

    fn normal_variant(&self) -> Option<&str> {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", Some("v8")) | (_, Some("")) => None,
            (_, variant) => variant,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |p: &&str| {
            !p.is_empty() && p.len() <= 32 && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        match parts[..] {
            [os, architecture] if parts.iter().all(word) => {
                Ok(Self { os: os.into(), architecture: architecture.into(), variant: None })
            }
            [os, architecture, variant] if parts.iter().all(word) => {
                Ok(Self { os: os.into(), architecture: architecture.into(), variant: Some(variant.into()) })
            }
            _ => Err(PlatformError(text.chars().take(100).flat_map(char::escape_default).collect())),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;
    fn try_from(text: String) -> Result<Self, PlatformError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_match_as_containerd_does() {
        for (have, want, expected) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v9", "linux/arm64/v8", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/amd64", "linux/arm64", false),
            ("windows/amd64", "linux/amd64", false),
        ] {
            let (have, want): (Platform, Platform) = (have.parse().unwrap(), want.parse().unwrap());
            assert_eq!(have.satisfies(&want), expected, "{have} for {want}");
        }
    }

    #[test]
    fn odd_texts_are_refused() {
        for text in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux/am d64"] {
            assert!(text.parse::<Platform>().is_err() && Platform::wish(text).is_err(), "{text}");
        }
        assert_eq!(Platform::wish("native"), Ok(None));
        assert_eq!(Platform::wish("linux/arm64"), "linux/arm64".parse().map(Some));
    }
}
