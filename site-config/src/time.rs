//! Spans of time as they are written in `site.toml`: as in the option `--timeout` of jobs, so that one text means one time.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use udocker_core::run::parse_time;

/// A text as `90s`, `15m` or `2h`.
#[derive(Clone, Copy)]
pub(crate) struct Time(pub Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Time;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time above 0, as \"90s\", \"15m\" or \"2h\"")
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Time, E> {
                let seconds = parse_time(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))?;
                Ok(Time(Duration::from_secs(seconds.into())))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
