//! A release of Slurm: what it says of itself, and what a plugin says that it was built for.

use std::fmt;

/// Major and minor number of a release: what a plugin must agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release(u32);

impl Release {
    /// Of SLURM_VERSION_NUMBER: a byte each for major, minor and micro.
    pub fn of_number(number: u32) -> Self {
        Self(number >> 8)
    }

    /// Of what `-V` prints: `slurm 24.11.5`, `slurm-wlm 22.05.8`.
    pub fn of_text(text: &str) -> Option<Self> {
        let mut parts = text.split_ascii_whitespace().nth(1)?.split('.').map_while(|part| part.parse::<u32>().ok());
        Some(Self(parts.next()? << 8 | parts.next()?))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 >> 8, self.0 & 0xff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_by_two_numbers() {
        for (text, number, shown) in [
            ("slurm-wlm 22.05.8\n", 0x0016_0508, "22.05"),
            ("slurm 24.11.5", 0x0018_0b05, "24.11"),
            ("slurm 26.05.0-rc1", 0x001a_0505, "26.05"),
        ] {
            let release = Release::of_text(text).unwrap();
            assert_eq!((release, release.to_string()), (Release::of_number(number), shown.to_owned()), "{text}");
        }
        assert_eq!(Release::of_text("nothing"), None);
    }
}
