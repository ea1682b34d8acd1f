//! Trials of failovers in the books: a VM's copy is started where it is kept, for a while, and what
//! that takes is held like any other, so that no two have it. Whatever is real comes before: it is
//! placed as if there were no trials, and those that are in its way end with that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dwcp_types::{HostId, IdError, ReservationId, TenantId, Tier, VmId, VmShape};

use super::{
    Bounds, Change, Ledger, Place, Proposal, Reservation, Reserve, ReserveDenied,
};

/// What a trial is called in the books: this and its id. Ids are chosen by daemons at random, so no
/// VM that a user names is taken for one.
const PREFIX: &str = "trial-";

impl Reserve {
    /// The reservation for a trial. It bears a name that no VM has, because under the VM's own the
    /// storage of its copy is held here; it is the least urgent of all and ends by time.
    ///
    /// # Errors
    ///
    /// When the id is too long to name it.
    pub fn of_trial(
        id: ReservationId,
        (tenant, shape): (TenantId, VmShape),
        host: HostId,
        hold_for: Duration,
    ) -> Result<Self, IdError> {
        Ok(Self {
            vm: VmId::new(&format!("{PREFIX}{id}"))?,
            id,
            tenant,
            shape,
            proposal: Proposal::default(),
            bounds: Bounds { host: Some(host), ..Bounds::default() },
            rules: Vec::new(),
            hold_for,
            priority: 1,
            tier: Tier::Preemptible,
            victims: BTreeSet::new(),
            replaces: None,
        })
    }

    /// Whether it is one for a trial.
    #[must_use]
    pub fn is_trial(&self) -> bool {
        self.vm.as_str().strip_prefix(PREFIX) == Some(self.id.as_str())
    }
}

impl Ledger {
    /// Places a VM beside trials where there is room, and else as if there were none: before others
    /// are to make room for it, too. Says how the end of trials is stored.
    pub(super) fn place_whatever_is_tried(
        &mut self,
        ask: &Reserve,
    ) -> Result<(Place, Vec<Change>), ReserveDenied> {
        match self.place(ask) {
            Ok(place) if place.awaits.is_empty() => Ok((place, Vec::new())),
            Ok(place) => {
                let alone = Reserve { victims: BTreeSet::new(), ..ask.clone() };
                let full = ReserveDenied::RulesContradict { vm: ask.vm.clone() };
                let spared = self.place_before_trials(&alone, full);
                Ok(spared.unwrap_or_else(|_| (place, Vec::new())))
            }
            Err(denied) => self.place_before_trials(ask, denied),
        }
    }

    /// Places what was denied as if there were no trials. All those on its host end, those on others
    /// stay.
    fn place_before_trials(
        &mut self,
        ask: &Reserve,
        denied: ReserveDenied,
    ) -> Result<(Place, Vec<Change>), ReserveDenied> {
        if ask.is_trial() {
            return Err(denied);
        }
        let trials = self.take_trials();
        if trials.is_empty() {
            return Err(denied);
        }
        match self.place(ask) {
            Ok(place) => {
                let changes = self.put_back_but_on(&place.host, trials);
                Ok((place, changes))
            }
            Err(_) => {
                trials.into_iter().for_each(|row| self.insert(row));
                Err(denied)
            }
        }
    }

    /// Ends the trials on a host, and says how that is stored.
    pub(super) fn end_trials_on(&mut self, host: &HostId) -> Vec<Change> {
        let trials = self.take_trials();
        self.put_back_but_on(host, trials)
    }

    /// Takes all trials out of the books.
    fn take_trials(&mut self) -> Vec<Arc<Reservation>> {
        let held = self.deadlines.iter().filter_map(|(_, id)| self.get(id));
        let trials = held.filter(|row| row.ask.is_trial()).cloned();
        let trials: Vec<_> = trials.collect();
        for row in &trials {
            drop(self.take(&row.ask.id));
        }
        trials
    }

    /// Puts back those on other hosts; the rest is over.
    fn put_back_but_on(
        &mut self,
        host: &HostId,
        trials: Vec<Arc<Reservation>>,
    ) -> Vec<Change> {
        let (over, others): (Vec<_>, Vec<_>) =
            trials.into_iter().partition(|row| row.host == *host);
        others.into_iter().for_each(|row| self.insert(row));
        over.iter().map(|row| Change::delete(&row.ask.id)).collect()
    }
}
