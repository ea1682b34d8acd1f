//! Why an automatic failover has not begun: every condition that it waits for, as a value.
//!
//! It begins when there is none. So "why has it not fired" is always answered by the same code
//! that would fire it.

use std::fmt;
use std::time::Duration;

use dwcp_types::RegionId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LeaseSight, Observer, RegionState};

/// What of the strong engine is left when a region is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineReach {
    /// Its members without that region's are still a majority.
    Survives,
    /// It is embedded in that region's daemon, or its members elsewhere are no majority.
    Lost,
}

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a configuration")]
pub struct Policy {
    /// Whether regions are failed over at all (C19).
    pub enabled: bool,
    /// Whether that needs no operator (C19).
    pub automatic: bool,
    /// Whether the strong engine has members in a majority of regions.
    pub spread: bool,
    /// Whether a person must agree first (F17).
    pub needs_approval: bool,
    /// How many other regions must live and hold their leases (C19 `MinHealthyRegions`).
    pub min_healthy: u32,
}

/// What holds for one region beside its verdict.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// What of the strong engine is left without it.
    pub engine: EngineReach,
    /// The region whose failover is under way.
    pub running: Option<&'a RegionId>,
}

/// A condition that an automatic failover waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "waits_for", rename_all = "snake_case")]
pub enum Blocked {
    /// `failover.enabled` is false.
    Disabled,
    /// `failover.auto_failover` is false.
    NotAutomatic,
    /// The strong engine is embedded, or its members are in a minority of regions: what decides
    /// would hang on too few of them.
    EngineNotSpread,
    /// `failover.require_manual_approval` is true.
    NeedsApproval,
    /// It is this very region.
    OwnRegion,
    /// It does not take part.
    NoSuchRegion,
    /// The strong engine is lost with it.
    EngineLost,
    /// Too few do not hear it.
    NotSilentEnough {
        /// How many do not.
        silent: u32,
        /// How many must not.
        needed: u32,
    },
    /// Its lease runs.
    LeaseHeld {
        /// For so many milliseconds, unless it is renewed.
        lapses_in_ms: u64,
    },
    /// The strong engine does not answer here.
    LeaseUnread,
    /// It never held a lease, so there is none that could have lapsed.
    NeverHeld,
    /// It was failed over already and has not come back.
    AlreadyFenced {
        /// By which failover.
        by: String,
    },
    /// It has not been dead for a whole heartbeat.
    TooFresh,
    /// Another failover is under way; there is never more than one.
    Running {
        /// Of which region.
        region: RegionId,
    },
    /// Too few other regions live and hold their leases.
    TooFewHealthy {
        /// How many do.
        healthy: u32,
        /// How many must.
        needed: u32,
    },
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("failover is off (`failover.enabled`)"),
            Self::NotAutomatic => {
                f.write_str("automatic failover is off (`failover.auto_failover`)")
            }
            Self::EngineNotSpread => f.write_str(
                "automatic failover needs members of etcd in a majority of regions \
                 (`engine.voters`)",
            ),
            Self::NeedsApproval => f.write_str(
                "an operator must agree (`failover.require_manual_approval`): \
                 run `dwcp-cli federation failover`",
            ),
            Self::OwnRegion => f.write_str("a region never fails itself over"),
            Self::NoSuchRegion => f.write_str("there is no such region"),
            Self::EngineLost => f.write_str(
                "the strong engine is lost with it: place members of etcd in a majority of \
                 the other regions",
            ),
            Self::NotSilentEnough { silent, needed } => {
                write!(f, "it is silent to {silent} regions, and must be to {needed}")
            }
            Self::LeaseHeld { lapses_in_ms } => {
                write!(f, "its lease runs for another {lapses_in_ms} ms")
            }
            Self::LeaseUnread => f.write_str("the strong engine does not answer here"),
            Self::NeverHeld => f.write_str("it never held a lease"),
            Self::AlreadyFenced { by } => {
                write!(f, "failover {by} took its lease already")
            }
            Self::TooFresh => f.write_str("it has been dead for less than a heartbeat"),
            Self::Running { region } => {
                write!(f, "the failover of {region} is under way")
            }
            Self::TooFewHealthy { healthy, needed } => {
                write!(f, "{healthy} other regions are healthy, and {needed} must be")
            }
        }
    }
}

impl Observer {
    /// Every condition that keeps a region from being failed over automatically; it is to be
    /// failed over when there is none.
    #[must_use]
    pub fn blocked(
        &self,
        region: &RegionId,
        now: Duration,
        policy: &Policy,
        around: Circumstances<'_>,
    ) -> Vec<Blocked> {
        if !self.regions().contains(region) {
            return vec![Blocked::NoSuchRegion];
        }
        let switches = [
            (!policy.enabled, Blocked::Disabled),
            (!policy.automatic, Blocked::NotAutomatic),
            (!policy.spread, Blocked::EngineNotSpread),
            (policy.needs_approval, Blocked::NeedsApproval),
            (region == self.own(), Blocked::OwnRegion),
            (around.engine == EngineReach::Lost, Blocked::EngineLost),
        ];
        let mut found: Vec<_> =
            switches.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
        found.extend(self.undecided(region, now));
        if let Some(running) = around.running {
            found.push(Blocked::Running { region: running.clone() });
        }
        let healthy = self.healthy_without(region, now);
        if healthy < policy.min_healthy {
            found.push(Blocked::TooFewHealthy { healthy, needed: policy.min_healthy });
        }
        found
    }

    /// What the verdict still lacks.
    fn undecided(&self, region: &RegionId, now: Duration) -> Vec<Blocked> {
        let verdict = self.verdict(region, now);
        let mut found = Vec::new();
        let silent = u32::try_from(verdict.silent_to.len()).unwrap_or(u32::MAX);
        let needed = verdict.silent_needed;
        if silent < needed {
            found.push(Blocked::NotSilentEnough { silent, needed });
        }
        match verdict.lease {
            LeaseSight::Unread => found.push(Blocked::LeaseUnread),
            LeaseSight::Never => found.push(Blocked::NeverHeld),
            LeaseSight::Held { lapses_in_ms } => {
                found.push(Blocked::LeaseHeld { lapses_in_ms });
            }
            LeaseSight::Fenced { by } => found.push(Blocked::AlreadyFenced { by }),
            LeaseSight::Lapsed => {}
        }
        let long_enough = |(state, since): (RegionState, Duration)| {
            state == RegionState::Dead && now.saturating_sub(since) >= self.interval()
        };
        if found.is_empty() && !self.state_since(region).is_some_and(long_enough) {
            found.push(Blocked::TooFresh);
        }
        found
    }

    /// How many other regions live and hold their leases.
    #[must_use]
    pub fn healthy_without(&self, region: &RegionId, now: Duration) -> u32 {
        let others = self.regions().iter().filter(|other| *other != region);
        let healthy = others.filter(|other| {
            let held = matches!(self.lease_sight(other, now), LeaseSight::Held { .. });
            // Nobody asks the own region whether it hears itself: others may not hear it.
            let state = self.verdict(other, now).state;
            held && (*other == self.own() || state == RegionState::Alive)
        });
        u32::try_from(healthy.count()).unwrap_or(u32::MAX)
    }
}
