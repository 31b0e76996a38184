//! Sizes as they are written in `site.toml`.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use udocker_core::run::parse_size;

/// Bytes: a number, or a text with K, M, G or T.
#[derive(Clone, Copy)]
pub(crate) struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size above 0, as 1048576 or \"512G\"")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Size, E> {
                let size = u64::try_from(value).ok().filter(|size| *size > 0);
                size.map(Size).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Size, E> {
                parse_size(value).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
