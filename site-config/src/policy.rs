//! Lays one file's registries, rules and modes over what is known so far. All add up but `policy.default` and the modes,
//! of which the last file's count: no later file makes an earlier one's rule unsaid.

use toml::Spanned;
use udocker_core::policy::{Action, ImageGlob, Pin, RegistryGlob, Rule};
use udocker_core::run::ExecMode;

use crate::place::{Keep, Place};
use crate::schema::{self, PinKey, RuleAction};
use crate::{ConfigError, Loaded};

type Texts = Vec<Spanned<String>>;
/// `registries.allow` and `registries.deny`.
pub(crate) fn merge_access(
    loaded: &mut Loaded,
    allow: Option<&Spanned<Texts>>,
    deny: &Texts,
    place: &Place<'_>,
    keep: Keep<'_>,
) {
    const EXPECTED: &str = "a registry as host[:port], in which `*` stands for a part of a label";
    let glob = |value: &Spanned<String>, key| {
        RegistryGlob::parse(value.get_ref()).ok_or_else(|| place.wrong(value, key, EXPECTED))
    };
    if let Some(list) = allow {
        let globs = list.get_ref().iter().map(|value| glob(value, "registries.allow"));
        let access = &mut loaded.settings.registries.access;
        let (all, origin) = access.allow.get_or_insert_default();
        globs.for_each(|glob| keep(glob.map(|glob| all.push(glob))));
        *origin = place.told(list);
        loaded.note("registries.allow", place.origin(list));
    }
    for value in deny {
        keep(glob(value, "registries.deny").map(|glob| {
            loaded.settings.registries.access.deny.push((glob, place.told(value)));
            loaded.note("registries.deny", place.origin(value));
        }));
    }
}

/// `[policy]`.
pub(crate) fn merge_policy(loaded: &mut Loaded, keys: schema::PolicyKeys, place: &Place<'_>, keep: Keep<'_>) {
    if let Some(value) = keys.default {
        loaded.settings.policy.default = action(*value.get_ref());
        loaded.settings.policy.default_origin = place.told(&value);
        loaded.note("policy.default", place.origin(&value));
    }
    if let Some(value) = keys.pin {
        loaded.settings.policy.pin = match value.get_ref() {
            PinKey::Require => Pin::Require,
            PinKey::Prefer => Pin::Prefer,
            PinKey::Off => Pin::Off,
        };
        loaded.note("policy.pin", place.origin(&value));
    }
    for value in keys.rule {
        loaded.note("policy.rule", place.origin(&value));
        let origin = place.told(&value);
        let rule = rule(value.into_inner(), origin, place);
        keep(rule.map(|rule| loaded.settings.policy.rules.push(rule)));
    }
}

fn action(action: RuleAction) -> Action {
    match action {
        RuleAction::Allow => Action::Allow,
        RuleAction::Deny => Action::Deny,
    }
}

fn rule(rule: schema::Rule, origin: String, place: &Place<'_>) -> Result<Rule, ConfigError> {
    const IMAGE: &str = "a glob as `registry.example/team/*` or `docker.io/**`, without a tag or a digest";
    let matching = rule.matching;
    let action = action(rule.action);
    if action == Action::Deny {
        const ALLOWS: &str = "nothing, as a rule that denies narrows nothing";
        let first = rule.modes.as_ref().and_then(|modes| modes.first());
        if let Some(mode) = first {
            return Err(place.wrong(mode, "policy.rule.modes", ALLOWS));
        }
        for (flag, key) in [(&rule.gpu, "policy.rule.gpu"), (&rule.writable, "policy.rule.writable")] {
            if let Some(flag) = flag {
                return Err(place.wrong(flag, key, ALLOWS));
            }
        }
    }
    let images = each(matching.image, |value| {
        ImageGlob::parse(value.get_ref()).ok_or_else(|| place.wrong(value, "policy.rule.match.image", IMAGE))
    })?;
    let digests = each(matching.digest, |value| {
        let digest = value.get_ref().parse();
        digest.map_err(|_| place.wrong(value, "policy.rule.match.digest", "a digest as sha256:HEX"))
    })?;
    let stores = each(matching.store, |value| Ok(value.get_ref().clone()))?;
    Ok(Rule {
        origin,
        action,
        images,
        digests,
        stores,
        accounts: matching.account,
        partitions: matching.partition,
        queues: matching.queue,
        groups: matching.group,
        modes: each(rule.modes, |value| mode(value, "policy.rule.modes", place))?,
        gpu: rule.gpu.is_none_or(Spanned::into_inner),
        writable: rule.writable.is_none_or(Spanned::into_inner),
        reason: rule.reason,
    })
}

/// `[modes]`.
pub(crate) fn merge_modes(loaded: &mut Loaded, keys: schema::Modes, place: &Place<'_>, keep: Keep<'_>) {
    let modes = |list: &Spanned<Texts>, key| {
        list.get_ref().iter().map(|value| mode(value, key, place)).collect::<Result<Vec<_>, _>>()
    };
    if let Some(list) = keys.allowed {
        keep(modes(&list, "modes.allowed").map(|modes| {
            loaded.settings.modes.allowed = Some((modes, place.told(&list)));
            loaded.note("modes.allowed", place.origin(&list));
        }));
    }
    if let Some(list) = keys.preference {
        keep(modes(&list, "modes.preference").map(|modes| {
            loaded.settings.modes.preference = modes;
            loaded.note("modes.preference", place.origin(&list));
        }));
    }
}

fn mode(value: &Spanned<String>, key: &'static str, place: &Place<'_>) -> Result<ExecMode, ConfigError> {
    value.get_ref().parse().map_err(|_| place.wrong(value, key, "modes as \"N1\" or \"P2\""))
}

fn each<T>(
    list: Option<Texts>,
    read: impl Fn(&Spanned<String>) -> Result<T, ConfigError>,
) -> Result<Option<Vec<T>>, ConfigError> {
    list.map(|list| list.iter().map(read).collect()).transpose()
}
