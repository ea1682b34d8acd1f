//! Where in the region a VM may go: its bounds, and its required rules read against the
//! reservations that are live now.
//!
//! The chooser knows the members of a group as of its late view. Two members that are placed
//! at the same time are both unknown to each other there, and only here they meet (F21).
//! Of the rules of scope region only `apart` can be judged within one region: a member here
//! closes it. Whether there are members elsewhere is known to the chooser alone.
//!
//! `apart` is kept from both sides: a member that asked to be alone stays alone when a later
//! member of its group did not ask.

use std::collections::BTreeSet;

use dwcp_types::{Affinity, AffinityMode, Hardness, HostId, Scope, ZoneId};

use super::{Bounds, Ledger, Reserve};

/// The hosts and zones that are open to one VM.
#[derive(Debug, Default)]
pub(super) struct Reach {
    pub(super) host: Option<HostId>,
    pub(super) zone: Option<ZoneId>,
    not_hosts: BTreeSet<HostId>,
    not_zones: BTreeSet<ZoneId>,
}

impl Reach {
    /// Nothing when two rules ask for different places, or one for another region.
    pub(super) fn of(ledger: &Ledger, ask: &Reserve) -> Option<Self> {
        let Bounds { zone, host, apart_hosts, apart_zones } = ask.bounds.clone();
        let mut reach =
            Self { host, zone, not_hosts: apart_hosts, not_zones: apart_zones };
        for rule in ask.rules.iter().filter(|rule| rule.hardness == Hardness::Required) {
            for member in ledger.members(ask, &rule.group) {
                reach.keep(rule.mode, rule.scope, &member.zone, &member.host)?;
            }
        }
        for rule in &ask.rules {
            for member in ledger.members(ask, &rule.group) {
                for theirs in wants_apart(&member.ask.rules, rule) {
                    reach.keep(theirs.mode, theirs.scope, &member.zone, &member.host)?;
                }
            }
        }
        Some(reach)
    }

    pub(super) fn allows(&self, zone: &ZoneId, host: &HostId) -> bool {
        self.zone.as_ref().is_none_or(|only| only == zone)
            && self.host.as_ref().is_none_or(|only| only == host)
            && !self.not_hosts.contains(host)
            && !self.not_zones.contains(zone)
    }

    fn keep(
        &mut self,
        mode: AffinityMode,
        scope: Scope,
        zone: &ZoneId,
        host: &HostId,
    ) -> Option<()> {
        match (mode, scope) {
            (AffinityMode::Together, Scope::Region) => Some(()),
            (AffinityMode::Apart, Scope::Region) => None,
            (AffinityMode::Apart, Scope::Host) => {
                self.not_hosts.insert(host.clone());
                Some(())
            }
            (AffinityMode::Apart, Scope::Zone) => {
                self.not_zones.insert(zone.clone());
                Some(())
            }
            (AffinityMode::Together, Scope::Host) => only(&mut self.host, host),
            (AffinityMode::Together, Scope::Zone) => only(&mut self.zone, zone),
        }
    }
}

fn wants_apart<'a>(
    rules: &'a [Affinity],
    of: &'a Affinity,
) -> impl Iterator<Item = &'a Affinity> {
    rules.iter().filter(move |rule| {
        rule.group == of.group
            && rule.hardness == Hardness::Required
            && rule.mode == AffinityMode::Apart
    })
}

fn only<T: Clone + PartialEq>(slot: &mut Option<T>, place: &T) -> Option<()> {
    match slot {
        Some(other) if other != place => None,
        _ => {
            *slot = Some(place.clone());
            Some(())
        }
    }
}
