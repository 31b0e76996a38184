//! What users ask for: `--gpu` and `--device`.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::run::{WishError, quote};

/// `--gpu`: which GPUs are visible, and which parts of their driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GpuWish {
    /// See [`GpuSet`].
    pub set: GpuSet,
    /// Parts of the driver; `None`: those that the image names, else [`Capability::DEFAULT`].
    pub capabilities: Option<Vec<Capability>>,
}

/// Which of the granted GPUs are visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpuSet {
    /// All of them, if there are any.
    #[default]
    Auto,
    /// None.
    None,
    /// All of them, and there must be one.
    All,
    /// These: numbers as in `/dev/nvidiaN`, and devices of CDI.
    These(Vec<GpuName>),
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuName {
    /// As in `/dev/nvidiaN`.
    Number(u32),
    /// As a CDI specification names it.
    Cdi(CdiName),
}

/// A part of NVIDIA's driver, as `NVIDIA_DRIVER_CAPABILITIES` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Capability {
    Compute,
    Utility,
    Video,
    Graphics,
    Display,
    Ngx,
}

impl Capability {
    /// All of them, by name.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Compute, "compute"),
        (Self::Utility, "utility"),
        (Self::Video, "video"),
        (Self::Graphics, "graphics"),
        (Self::Display, "display"),
        (Self::Ngx, "ngx"),
    ];
    /// Where nobody says.
    pub const DEFAULT: [Self; 2] = [Self::Compute, Self::Utility];

    /// Reads names with `separator` between them; `all` is all of them.
    pub fn parse_list(text: &str, separator: char) -> Option<Vec<Self>> {
        if text == "all" {
            return Some(Self::ALL.iter().map(|(capability, _)| *capability).collect());
        }
        let find = |name: &str| Self::ALL.iter().find(|(_, other)| *other == name).map(|(capability, _)| *capability);
        text.split(separator).map(find).collect()
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(other, _)| *other == self).expect("all are listed").1
    }
}

/// `vendor.com/class=name` (CDI 1.1.0, "Kind" and "Name").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdiName {
    /// `vendor.com/class`.
    pub kind: String,
    /// Of the device.
    pub name: String,
}

/// `--device`: one more device that is visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceWish {
    /// A device file of the host, at the same path inside.
    Path(PathBuf),
    /// A device of CDI.
    Cdi(CdiName),
}

impl CdiName {
    /// Reads a name; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('=')?;
        let (vendor, class) = kind.split_once('/')?;
        let is_word = |word: &str, others: &[u8]| {
            let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
            edge(word.bytes().next())
                && edge(word.bytes().next_back())
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
        };
        let fits = vendor.contains('.') && is_word(vendor, b"-_.") && is_word(class, b"-_.") && is_word(name, b"-_.:");
        fits.then(|| Self { kind: kind.into(), name: name.into() })
    }
}

impl fmt::Display for CdiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.name)
    }
}

impl FromStr for GpuWish {
    type Err = WishError;
    /// `auto`, `none`, `all`, or numbers, ranges of them and CDI names with commas between them; each with or without
    /// `caps=NAME+NAME`.
    fn from_str(text: &str) -> Result<Self, WishError> {
        let bad = || WishError::Gpu(quote(text));
        let mut wish = Self::default();
        let (mut names, mut word) = (Vec::new(), None);
        for part in text.split(',') {
            match part {
                "auto" | "none" | "all" if word.is_some() => return Err(bad()),
                "auto" => word = Some(GpuSet::Auto),
                "none" => word = Some(GpuSet::None),
                "all" => word = Some(GpuSet::All),
                part => match part.strip_prefix("caps=") {
                    Some(_) if wish.capabilities.is_some() => return Err(bad()),
                    Some(list) => wish.capabilities = Some(Capability::parse_list(list, '+').ok_or_else(bad)?),
                    None => names.extend(names_of(part).ok_or_else(bad)?),
                },
            }
            if names.len() > MOST_GPUS {
                return Err(bad());
            }
        }
        wish.set = match (word, names.is_empty()) {
            (Some(set), true) => set,
            (None, true) => GpuSet::Auto,
            (None, false) => GpuSet::These(names),
            (Some(_), false) => return Err(bad()),
        };
        match wish.set == GpuSet::None && wish.capabilities.is_some() {
            true => Err(bad()),
            false => Ok(wish),
        }
    }
}

/// How many can be named at once.
const MOST_GPUS: usize = 1024;

/// The GPUs that `N`, `N-M` or a CDI name stands for.
fn names_of(part: &str) -> Option<Vec<GpuName>> {
    if part.contains('/') {
        return Some(vec![GpuName::Cdi(CdiName::parse(part)?)]);
    }
    Some(numbers(part)?.map(GpuName::Number).collect())
}

/// The numbers that `N` or `N-M` stands for; at most 1024.
pub(super) fn numbers(text: &str) -> Option<std::ops::RangeInclusive<u32>> {
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last - first < MOST_GPUS as u32).then_some(first..=last)
}

impl fmt::Display for GpuWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = match &self.set {
            GpuSet::Auto => "auto".to_owned(),
            GpuSet::None => "none".to_owned(),
            GpuSet::All => "all".to_owned(),
            GpuSet::These(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        f.write_str(&set)?;
        match &self.capabilities {
            None => Ok(()),
            Some(all) => {
                let names: Vec<_> = all.iter().map(|capability| capability.name()).collect();
                write!(f, ",caps={}", names.join("+"))
            }
        }
    }
}

impl fmt::Display for GpuName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Cdi(name) => write!(f, "{name}"),
        }
    }
}

impl FromStr for DeviceWish {
    type Err = WishError;
    /// An absolute path other than `/` without `..`, or a CDI name.
    fn from_str(text: &str) -> Result<Self, WishError> {
        let path = Path::new(text);
        let is_file = || path.file_name().is_some() && !path.components().any(|part| part == Component::ParentDir);
        match CdiName::parse(text) {
            Some(name) => Ok(Self::Cdi(name)),
            None if path.is_absolute() && is_file() => Ok(Self::Path(path.into())),
            None => Err(WishError::Device(quote(text))),
        }
    }
}

impl fmt::Display for DeviceWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Cdi(name) => write!(f, "{name}"),
        }
    }
}

impl TryFrom<String> for GpuWish {
    type Error = WishError;
    fn try_from(text: String) -> Result<Self, WishError> {
        text.parse()
    }
}

impl From<GpuWish> for String {
    fn from(wish: GpuWish) -> Self {
        wish.to_string()
    }
}

impl TryFrom<String> for DeviceWish {
    type Error = WishError;
    fn try_from(text: String) -> Result<Self, WishError> {
        text.parse()
    }
}

impl From<DeviceWish> for String {
    fn from(wish: DeviceWish) -> Self {
        wish.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_and_written() {
        for (text, again) in [
            ("auto", "auto"),
            ("none", "none"),
            ("all", "all"),
            ("0", "0"),
            ("0,2-4", "0,2,3,4"),
            ("nvidia.com/gpu=0,nvidia.com/gpu=1:0", "nvidia.com/gpu=0,nvidia.com/gpu=1:0"),
            ("caps=compute+utility", "auto,caps=compute+utility"),
            ("all,caps=video", "all,caps=video"),
            ("1,caps=all", "1,caps=compute+utility+video+graphics+display+ngx"),
        ] {
            let wish: GpuWish = text.parse().unwrap();
            assert_eq!(wish.to_string(), again, "{text}");
            assert_eq!(again.parse(), Ok(wish), "{text}");
        }
        for text in [
            "",
            "a",
            "0,",
            "1-0",
            "0-1024",
            "0-1023,0",
            "0-600,0-600",
            "-1",
            "all,0",
            "none,caps=all",
            "caps=",
            "caps=x",
            "gpu=0",
            "+1",
            "all,all",
        ] {
            let error = text.parse::<GpuWish>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot read the GPUs `{text}`: ")), "{text}: {error}");
        }
    }

    #[test]
    fn devices_are_paths_or_names_of_cdi() {
        for text in ["/dev/fuse", "vendor.example/class=name", "a.b/c.d-e=f:0"] {
            assert_eq!(text.parse::<DeviceWish>().unwrap().to_string(), text);
        }
        for text in ["", "dev/fuse", "/", "/dev/../etc", "vendor/class=a", "v.x/=a", "v.x/c=", "v.x/c=a b", "-v.x/c=a"]
        {
            assert!(text.parse::<DeviceWish>().is_err(), "{text}");
        }
    }
}
