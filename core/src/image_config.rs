//! The image configuration (OCI image spec, `config.md`): what a run takes from it.

use serde::Deserialize;

use crate::platform::Platform;

/// Largest configuration that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// The fields that we act on. Labels and history steer nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Platform, if the configuration names one.
    pub platform: Option<Platform>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// Working directory; empty if none.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` …; empty if none.
    pub user: String,
}

#[derive(Deserialize)]
struct Raw {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    config: Option<RawConfig>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    env: Option<Vec<String>>,
    entrypoint: Option<Words>,
    cmd: Option<Words>,
    working_dir: Option<String>,
    user: Option<String>,
}

/// Old images have a string where the specification wants a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<String>),
    Text(String),
}

impl Words {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::List(list) => list,
            Self::Text(text) if text.is_empty() => Vec::new(),
            Self::Text(text) => vec!["/bin/sh".into(), "-c".into(), text],
        }
    }
}

/// A configuration that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the image's configuration cannot be read")]
pub struct ImageConfigError(#[source] serde_json::Error);

impl ImageConfig {
    /// Reads the JSON of an OCI or Docker configuration; empty or `null` fields are as absent ones.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageConfigError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(ImageConfigError)?;
        let config = raw.config.unwrap_or_default();
        let platform = match (raw.os, raw.architecture) {
            (Some(os), Some(architecture)) if !architecture.is_empty() && !os.is_empty() => {
                Some(Platform { os, architecture, variant: raw.variant.filter(|v| !v.is_empty()) })
            }
            _ => None,
        };
        Ok(Self {
            platform,
            env: config.env.unwrap_or_default(),
            entrypoint: config.entrypoint.map(Words::into_list).unwrap_or_default(),
            cmd: config.cmd.map(Words::into_list).unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_string_forms_are_read() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":"echo hi","Entrypoint":["/e"],"Unknown":1}}"#;
        let config = ImageConfig::parse(text).unwrap();
        assert_eq!(config.cmd, ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(config.entrypoint, ["/e"]);
        assert_eq!(config.platform.unwrap().to_string(), "linux/amd64");
        assert_eq!(ImageConfig::parse(b"{}").unwrap(), ImageConfig::default());
    }
}
