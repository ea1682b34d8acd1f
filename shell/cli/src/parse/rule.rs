//! Rules about other VMs, origins of users, labels, and latencies between regions.

use dwcp_types::{Affinity, AffinityMode, Hardness, Micros, Origin, RegionId, Scope};

/// Reads `GROUP:together|apart:host|zone|region[:required|preferred]` (F30).
///
/// # Errors
///
/// Which part is wrong and how to write it.
pub(crate) fn affinity(text: &str) -> Result<Affinity, String> {
    let how = "write GROUP:together|apart:host|zone|region[:required|preferred]";
    let parts: Vec<&str> = text.split(':').collect();
    let (group, mode, scope, hardness) = match parts.as_slice() {
        [group, mode, scope] => (group, mode, scope, "required"),
        [group, mode, scope, hardness] => (group, mode, scope, *hardness),
        _ => return Err(format!("it has {} parts; {how}", parts.len())),
    };
    let wrong = |what: &str, part: &str| format!("{part:?} is no {what}; {how}");
    Ok(Affinity {
        group: group.parse().map_err(|error| format!("{error}"))?,
        mode: match *mode {
            "together" => AffinityMode::Together,
            "apart" => AffinityMode::Apart,
            other => return Err(wrong("mode", other)),
        },
        scope: match *scope {
            "host" => Scope::Host,
            "zone" => Scope::Zone,
            "region" => Scope::Region,
            other => return Err(wrong("scope", other)),
        },
        hardness: match hardness {
            "required" => Hardness::Required,
            "preferred" => Hardness::Preferred,
            other => return Err(wrong("hardness", other)),
        },
    })
}

/// Reads `ZONE[:WEIGHT]` (F25).
///
/// # Errors
///
/// Which part is wrong.
pub(crate) fn origin(text: &str) -> Result<Origin, String> {
    let (zone, weight) = text.split_once(':').unwrap_or((text, "1"));
    let weight = weight.parse().ok().filter(|weight| *weight > 0);
    Ok(Origin {
        user_zone: zone.parse().map_err(|error| format!("{error}"))?,
        weight: weight.ok_or_else(|| {
            format!("the weight in {text:?} is not a whole number of 1 or more")
        })?,
    })
}

/// Reads `KEY=VALUE`.
///
/// # Errors
///
/// When there is no `=` or no key.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("{text:?} is no label; write KEY=VALUE")),
    }
}

/// Reads the filter language of O38: `tag:KEY=VALUE`. Gives `KEY=VALUE`.
///
/// # Errors
///
/// How to write it.
pub(crate) fn label_filter(text: &str) -> Result<String, String> {
    let how = || format!("{text:?} is no filter; write tag:KEY=VALUE");
    let (key, value) = label(text.strip_prefix("tag:").ok_or_else(how)?)?;
    Ok(format!("{key}={value}"))
}

/// Reads `REGION=MS`: a round trip to another region.
///
/// # Errors
///
/// Which part is wrong.
pub(crate) fn latency_entry(text: &str) -> Result<(RegionId, Micros), String> {
    let (region, latency) = label(text)?;
    let region = region.parse().map_err(|error| format!("{error}"))?;
    Ok((region, Micros::from_millis(super::milliseconds(&latency)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_are_read_with_their_defaults() {
        let rule = affinity("web:apart:zone").unwrap();
        assert_eq!(rule.hardness, Hardness::Required);
        assert_eq!((rule.mode, rule.scope), (AffinityMode::Apart, Scope::Zone));
        assert_eq!(
            affinity("w:together:host:preferred").unwrap().hardness,
            Hardness::Preferred
        );
        assert_eq!(origin("london").unwrap().weight, 1);
        assert_eq!(origin("london:3").unwrap().weight, 3);
        assert_eq!(label_filter("tag:env=prod"), Ok("env=prod".to_owned()));
        assert_eq!(latency_entry("eu-west-1=75").unwrap().1, Micros::from_millis(75));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("web", "1 parts"),
            ("web:near:zone", "\"near\" is no mode"),
            ("web:apart:rack", "\"rack\" is no scope"),
            ("web:apart:zone:maybe", "\"maybe\" is no hardness"),
            (":apart:zone", "is not a group id"),
        ] {
            let error = affinity(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(origin("london:0").is_err() && origin(":1").is_err());
        assert!(label("=x").is_err() && label("x").is_err());
        assert!(label_filter("env=prod").is_err() && latency_entry("a=b").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z:=]{0,20}|.{0,20}") {
            drop((affinity(&text), origin(&text), label(&text), label_filter(&text)));
            drop(latency_entry(&text));
        }
    }
}
