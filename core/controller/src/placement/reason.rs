//! Why a region refuses a VM: a name for each hard filter, with the limit and the actual
//! value (F22). Every reason says place, reason and remedy when it is printed.

use std::fmt;

use dwcp_types::{
    Affinity, AffinityMode, ComplianceZone, Health, HealthState, HostId, MicroUsd,
    Micros, RegionKind, Scope, UserZoneId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Resource;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The name of a reason, without its numbers; in the order in which they are told.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
            JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum ReasonKind {
            $($(#[$doc])* $name,)*
        }

        impl ReasonKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

kinds! {
    /// The operator disabled the region.
    Disabled,
    /// The region is unhealthy, in maintenance, or nothing was heard from it (F6).
    Health,
    /// It is not among the allowed regions (C8.1).
    NotAllowed,
    /// It is among the forbidden regions (C8.2).
    Forbidden,
    /// It is no edge region (C8.3, F24).
    NotEdge,
    /// It does not stand under a law that is required (C8.4).
    Compliance,
    /// The data may not go there (C8.5, F31).
    DataLocality,
    /// Its latency to the users is not known, and there is a limit (F52).
    LatencyUnknown,
    /// It is too far from the users (C8.6, F25).
    Latency,
    /// Its health score is too low (C8.7).
    MinHealth,
    /// It is too dear (C8.9).
    Cost,
    /// A required rule about other VMs cannot be kept there (C8.11, C8.12, F30).
    Affinity,
    /// No host has that much bandwidth free (C8.8).
    Bandwidth,
    /// No host has that many GPUs free.
    Gpu,
    /// No host has enough of everything else free.
    Capacity,
    /// No host takes VMs.
    NoHost,
}

/// A resource that falls short on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shortage {
    /// Which.
    pub resource: Resource,
    /// How much the VM needs.
    pub need: u64,
    /// How much is free.
    pub free: u64,
}

/// Why a region refuses a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// See [`ReasonKind::Disabled`].
    Disabled,
    /// See [`ReasonKind::Health`].
    Health {
        /// The state and score.
        health: Health,
    },
    /// See [`ReasonKind::NotAllowed`].
    NotAllowed,
    /// See [`ReasonKind::Forbidden`].
    Forbidden,
    /// See [`ReasonKind::NotEdge`].
    NotEdge {
        /// What it is instead.
        kind: RegionKind,
    },
    /// See [`ReasonKind::Compliance`].
    Compliance {
        /// The laws that it does not stand under.
        missing: Vec<ComplianceZone>,
    },
    /// See [`ReasonKind::DataLocality`].
    DataLocality {
        /// Where the data must stay.
        limit: String,
        /// The region's country.
        country: String,
        /// The region's continent.
        continent: String,
    },
    /// See [`ReasonKind::LatencyUnknown`].
    LatencyUnknown {
        /// The limit in milliseconds.
        limit_ms: u32,
        /// The first place that users come from with no known latency; nothing when no such
        /// place is known at all.
        user_zone: Option<UserZoneId>,
    },
    /// See [`ReasonKind::Latency`].
    Latency {
        /// The limit in milliseconds.
        limit_ms: u32,
        /// The mean round trip, weighted by users.
        actual: Micros,
    },
    /// See [`ReasonKind::MinHealth`].
    MinHealth {
        /// The least score.
        limit: u8,
        /// The region's score.
        actual: u8,
    },
    /// See [`ReasonKind::Cost`].
    Cost {
        /// The most that an hour may cost.
        limit: MicroUsd,
        /// What an hour costs.
        actual: MicroUsd,
    },
    /// See [`ReasonKind::Affinity`]: one rule that no host keeps.
    Affinity {
        /// The rule.
        rule: Affinity,
        /// The group's members that are placed.
        members: u32,
        /// Those of them in this region.
        here: u32,
    },
    /// See [`ReasonKind::Affinity`]: some host keeps each rule, and none keeps all.
    AffinityTogether {
        /// The rules.
        rules: Vec<Affinity>,
    },
    /// See [`ReasonKind::Bandwidth`].
    Bandwidth {
        /// What is needed, in Mbit/s.
        need: u64,
        /// The most that is free on one host.
        free: u64,
    },
    /// See [`ReasonKind::Gpu`].
    Gpu {
        /// What is needed.
        need: u64,
        /// The most that is free on one host.
        free: u64,
    },
    /// See [`ReasonKind::Capacity`].
    Capacity {
        /// The host that comes nearest.
        host: HostId,
        /// What falls short there.
        short: Vec<Shortage>,
        /// Whether the region's hosts together have enough, and only no single one has.
        fragmented: bool,
    },
    /// See [`ReasonKind::NoHost`].
    NoHost {
        /// Hosts that the region has, none of which takes VMs.
        hosts: u64,
    },
}

impl Reason {
    /// Its name.
    #[must_use]
    pub const fn kind(&self) -> ReasonKind {
        match self {
            Self::Disabled => ReasonKind::Disabled,
            Self::Health { .. } => ReasonKind::Health,
            Self::NotAllowed => ReasonKind::NotAllowed,
            Self::Forbidden => ReasonKind::Forbidden,
            Self::NotEdge { .. } => ReasonKind::NotEdge,
            Self::Compliance { .. } => ReasonKind::Compliance,
            Self::DataLocality { .. } => ReasonKind::DataLocality,
            Self::LatencyUnknown { .. } => ReasonKind::LatencyUnknown,
            Self::Latency { .. } => ReasonKind::Latency,
            Self::MinHealth { .. } => ReasonKind::MinHealth,
            Self::Cost { .. } => ReasonKind::Cost,
            Self::Affinity { .. } | Self::AffinityTogether { .. } => ReasonKind::Affinity,
            Self::Bandwidth { .. } => ReasonKind::Bandwidth,
            Self::Gpu { .. } => ReasonKind::Gpu,
            Self::Capacity { .. } => ReasonKind::Capacity,
            Self::NoHost { .. } => ReasonKind::NoHost,
        }
    }

    /// Whether it may be gone in a moment with nobody doing anything: a region or its hosts that
    /// are not heard from yet, as after a restart, or not well.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        if let Self::Health { health } = self {
            return matches!(health.state, HealthState::Unknown | HealthState::Unhealthy);
        }
        matches!(self, Self::NoHost { .. })
    }
}

const fn state_name(state: HealthState) -> &'static str {
    match state {
        HealthState::Unknown => "not heard from",
        HealthState::Unhealthy => "unhealthy",
        HealthState::Degraded => "degraded",
        HealthState::Healthy => "healthy",
        HealthState::Maintenance => "in maintenance",
    }
}

const fn kind_name(kind: RegionKind) -> &'static str {
    match kind {
        RegionKind::Cloud => "a cloud region",
        RegionKind::Edge => "an edge region",
        RegionKind::Hybrid => "a hybrid region",
    }
}

/// How a resource is written before its amount.
pub(crate) const fn resource_name(resource: Resource) -> &'static str {
    match resource {
        Resource::Cpu => "CPUs",
        Resource::Memory => "MiB of memory",
        Resource::Storage => "GiB of storage",
        Resource::Bandwidth => "Mbit/s of bandwidth",
        Resource::Gpus => "GPUs",
        Resource::Vms => "VM slots",
    }
}

/// How a rule is written: `apart from group web by zone`.
pub(crate) fn rule_text(rule: &Affinity) -> String {
    let mode = match rule.mode {
        AffinityMode::Together => "together with",
        AffinityMode::Apart => "apart from",
    };
    let scope = match rule.scope {
        Scope::Host => "host",
        Scope::Zone => "zone",
        Scope::Region => "region",
    };
    format!("{mode} group {} by {scope}", rule.group)
}

/// Joins words with commas.
fn joined<T: ToString>(parts: impl IntoIterator<Item = T>) -> String {
    parts.into_iter().map(|part| part.to_string()).collect::<Vec<_>>().join(", ")
}

/// A latency as milliseconds with one decimal, rounded up so that it never looks within a
/// limit that it breaks.
pub(crate) fn in_ms(latency: Micros) -> String {
    let tenths = latency.get().div_ceil(100);
    format!("{}.{} ms", tenths / 10, tenths % 10)
}

/// Money as dollars with six decimals.
pub(crate) fn in_usd(amount: MicroUsd) -> String {
    format!("{}.{:06} USD/h", amount.get() / 1_000_000, amount.get() % 1_000_000)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("the region is disabled for new VMs"),
            Self::Health { health } => {
                write!(
                    f,
                    "the region is {} (score {})",
                    state_name(health.state),
                    health.score
                )
            }
            Self::NotAllowed => f.write_str("it is not in allowed_regions"),
            Self::Forbidden => f.write_str("it is in forbidden_regions"),
            Self::NotEdge { kind } => {
                write!(f, "require_edge is set and it is {}", kind_name(*kind))
            }
            Self::Compliance { missing } => {
                write!(f, "it does not stand under {}", joined(missing))
            }
            Self::DataLocality { limit, country, continent } => {
                write!(
                    f,
                    "data_locality is {limit} and it lies in {country}, {continent}"
                )
            }
            Self::LatencyUnknown { limit_ms, user_zone } => {
                let from =
                    user_zone.as_ref().map_or("any user zone", |zone| zone.as_str());
                write!(
                    f,
                    "the latency from {from} is not known and max_latency_ms is {limit_ms}"
                )
            }
            Self::Latency { limit_ms, actual } => {
                write!(
                    f,
                    "the users are {} away and max_latency_ms is {limit_ms}",
                    in_ms(*actual)
                )
            }
            Self::MinHealth { limit, actual } => {
                write!(f, "its health score is {actual} and min_health_score is {limit}")
            }
            Self::Cost { limit, actual } => {
                write!(
                    f,
                    "it costs {} and cost_limit is {}",
                    in_usd(*actual),
                    in_usd(*limit)
                )
            }
            Self::Affinity { .. }
            | Self::AffinityTogether { .. }
            | Self::Bandwidth { .. }
            | Self::Gpu { .. }
            | Self::Capacity { .. }
            | Self::NoHost { .. } => self.fmt_host(f),
        }
    }
}

impl Reason {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other half is in fmt")]
    fn fmt_host(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Affinity { rule, members, here } => write!(
                f,
                "no host keeps it {}: {here} of {members} members are in this region",
                rule_text(rule)
            ),
            Self::AffinityTogether { rules } => write!(
                f,
                "no one host with room keeps all of: {}",
                joined(rules.iter().map(rule_text))
            ),
            Self::Bandwidth { need, free } => {
                write!(
                    f,
                    "{need} Mbit/s are needed and no host has more than {free} free"
                )
            }
            Self::Gpu { need, free } => {
                write!(f, "{need} GPUs are needed and no host has more than {free} free")
            }
            Self::Capacity { host, short, fragmented } => {
                let short = joined(short.iter().map(|short| {
                    let Shortage { resource, need, free } = short;
                    format!("{free} of {need} {}", resource_name(*resource))
                }));
                write!(f, "no host has room; the nearest, {host}, has {short}")?;
                if *fragmented {
                    f.write_str(" (fragmented: the hosts together would have enough)")?;
                }
                Ok(())
            }
            Self::NoHost { hosts } => write!(f, "none of its {hosts} hosts takes VMs"),
            _ => Ok(()),
        }
    }
}
