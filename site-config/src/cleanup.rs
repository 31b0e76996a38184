//! `[cleanup]`: when what nobody uses any more may be deleted.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use crate::Loaded;
use crate::place::Place;
use crate::time::Time;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cleanup {
    pub retire_after: Option<Spanned<Age>>,
}

/// A text as `30d`, or one that [`Time`] reads.
#[derive(Clone, Copy)]
pub(crate) struct Age(pub Duration);

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let days = text.strip_suffix('d').and_then(|digits| digits.parse::<u32>().ok()).filter(|days| *days > 0);
        match days {
            Some(days) => Ok(Self(Duration::from_secs(u64::from(days) * 24 * 3600))),
            None => Time::deserialize(de::value::StringDeserializer::<D::Error>::new(text)).map(|time| Self(time.0)),
        }
    }
}

/// Lays one file's keys over what is known so far.
pub(crate) fn merge(loaded: &mut Loaded, keys: &Cleanup, place: &Place<'_>) {
    if let Some(value) = &keys.retire_after {
        loaded.settings.limits.retire_after = value.get_ref().0;
        loaded.note("cleanup.retire_after", place.origin(value));
    }
}
