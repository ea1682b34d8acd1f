//! What a client asks: whether it may be served here, and whether now.

use std::time::Duration;

use crate::level::Level;
use crate::policy::{Plane, Policy};
use crate::replica::Replica;
use crate::replica::command::Answer;
use crate::replica::config::Sabotage;
use crate::replica::input::{KEY_LEN_MAX, Key, Op, Request, RequestId, WITHIN_MAX};
use crate::replica::life::Standing;
use crate::replica::refusal::{QuorumPhase, Refusal};
use crate::replica::store::Place;
use crate::replica::view::{ClassId, Mask};
use crate::replica::wait::{Pending, Scope, Ticket, Waiting};

/// A key of this replica and the level that it is asked for at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) place: Place,
    pub(crate) level: Level,
    pub(crate) floor: Level,
}

impl Replica {
    /// Serves a request, or says why not, now or later.
    pub(super) fn serve(&mut self, request: Request) {
        let id = request.id;
        if let Err(refusal) = self.try_serve(request) {
            self.reply(id, Err(refusal));
        }
    }

    fn try_serve(&mut self, request: Request) -> Result<(), Refusal> {
        if self.standing != Standing::Active {
            return Err(self.not_serving());
        }
        check(&request)?;
        let deadline = self.now.mono.saturating_add(request.within);
        self.attempt(request, deadline, None)
    }

    /// Serves a request that may have waited already.
    pub(super) fn attempt(
        &mut self,
        request: Request,
        deadline: Duration,
        ticket: Option<Ticket>,
    ) -> Result<(), Refusal> {
        if !self.is_ready(&request) {
            // Nothing is gained by waiting past the end of it.
            if deadline <= self.now.mono {
                return Err(self.too_stale(request.op.key()));
            }
            return match ticket {
                Some(_) => Ok(()),
                None => self.park(request, deadline),
            };
        }
        if let Some(ticket) = ticket {
            self.waits.remove(ticket);
        }
        match &request.op {
            Op::Get { .. } => self.get(&request, deadline),
            Op::Update { .. } => self.update(request, deadline),
            Op::List { .. } => self.list(&request),
            Op::CompareAndSet { key } => Err(self.no_compare(key)),
        }
    }

    fn no_compare(&self, key: &Key) -> Refusal {
        match self.target(key, None) {
            Ok(_) => Refusal::UseStrong { key: key.to_string() },
            Err(refusal) => refusal,
        }
    }

    /// Whether this replica has what the session has seen, and is as fresh as was asked.
    fn is_ready(&self, request: &Request) -> bool {
        let key = request.op.key();
        if let Some(token) = &request.session
            && !self.config.breaks(Sabotage::IgnoresSession)
            && !self.applied.covers(&token.0)
            && !self.seen_with(self.store.get(key)).covers(&token.0)
        {
            return false;
        }
        match &request.op {
            Op::Get { max_staleness: Some(max), .. } => self.staleness(key) <= *max,
            Op::Get { .. }
            | Op::Update { .. }
            | Op::List { .. }
            | Op::CompareAndSet { .. } => true,
        }
    }

    pub(super) fn too_stale(&self, key: &Key) -> Refusal {
        Refusal::TooStale { actual: self.staleness(key) }
    }

    fn park(&mut self, request: Request, deadline: Duration) -> Result<(), Refusal> {
        self.room_to_wait()?;
        let id = request.id;
        let waiting = Waiting::Parked { request: Box::new(request) };
        self.waits.add(Pending { request: id, deadline, waiting });
        Ok(())
    }

    pub(super) fn room_to_wait(&self) -> Result<(), Refusal> {
        let max = self.config.waiting_max;
        if self.waits.len() >= max {
            return Err(Refusal::Busy { what: "the requests that wait", max });
        }
        Ok(())
    }

    /// Serves what was parked, where that is possible now.
    pub(super) fn retry_parked(&mut self) {
        if !self.waits.any_parked() || self.standing != Standing::Active {
            return;
        }
        for ticket in self.waits.parked() {
            let Some((request, deadline)) = self.parked(ticket) else { continue };
            let id = request.id;
            if let Err(refusal) = self.attempt(request, deadline, Some(ticket)) {
                self.waits.remove(ticket);
                self.reply(id, Err(refusal));
            }
        }
    }

    fn parked(&self, ticket: Ticket) -> Option<(Request, Duration)> {
        let pending = self.waits.get(ticket)?;
        match &pending.waiting {
            Waiting::Parked { request } => {
                Some((Request::clone(request), pending.deadline))
            }
            Waiting::Acks { .. } | Waiting::Call { .. } => None,
        }
    }

    /// The key as this replica has it, and the level.
    pub(super) fn target(
        &self,
        key: &Key,
        asked: Option<Level>,
    ) -> Result<Target, Refusal> {
        let named = || key.to_string();
        let no_policy = || Refusal::NoPolicy { key: named() };
        let (place, policy) = self.view.policy(key).ok_or_else(no_policy)?;
        let level = asked.unwrap_or(policy.floor);
        if policy.plane == Plane::Engine || level == Level::Strong {
            return Err(Refusal::WrongPlane { key: named(), plane: policy.plane });
        }
        let class = self.view.class_of(key, place).ok_or_else(no_policy)?;
        // Learners do not serve: they may not have the past of their keys yet.
        let own = self.own_bit();
        if self.view.at(class).is_none_or(|class| class.voters() & own == 0) {
            let placement = self.view.at(class).map(|class| &class.placement);
            let holders = placement.into_iter().flat_map(|placement| &placement.voters);
            return Err(Refusal::NotHeld {
                key: named(),
                holders: holders.cloned().collect(),
            });
        }
        let Policy { kind, floor, .. } = *policy;
        Ok(Target { place: Place { kind, class, policy: place }, level, floor })
    }

    /// This replica and the peers that answer at present.
    pub(super) fn reachable(&self) -> Mask {
        let own = self.view.bit(self.me.replica).unwrap_or(0);
        let peers = self.peers.iter().filter(|(_, peer)| peer.reachable(self.now.mono));
        peers.filter_map(|(id, _)| self.view.bit(*id)).fold(own, |mask, bit| mask | bit)
    }

    /// Whether a set of replicas is a majority of a scope.
    pub(super) fn is_majority(
        &self,
        class: ClassId,
        scope: Scope,
        replicas: Mask,
    ) -> bool {
        match (scope, self.view.at(class)) {
            (Scope::Region, _) => self.view.home().reached(replicas),
            (Scope::Regions, Some(class))
                if self.config.breaks(Sabotage::CountsReplicas) =>
            {
                let voters = class.voters();
                (voters & replicas).count_ones() > voters.count_ones() / 2
            }
            (Scope::Regions, Some(class)) => class.reached(replicas),
            (Scope::Regions, None) => false,
        }
    }

    /// Refuses what cannot reach a majority, before anything is done.
    pub(super) fn check_reachable(
        &self,
        class: ClassId,
        scope: Scope,
    ) -> Result<(), Refusal> {
        let reachable = self.reachable();
        if self.is_majority(class, scope, reachable) {
            return Ok(());
        }
        Err(self.unavailable(class, scope, reachable, QuorumPhase::Before))
    }

    /// Too few of a scope have answered.
    pub(super) fn unavailable(
        &self,
        class: ClassId,
        scope: Scope,
        answered: Mask,
        phase: QuorumPhase,
    ) -> Refusal {
        let home = self.view.home();
        match (scope, self.view.at(class)) {
            (Scope::Region, _) => Refusal::RegionUnavailable {
                have: home.have(answered),
                need: home.need(),
            },
            (Scope::Regions, Some(class)) => Refusal::QuorumUnavailable {
                reachable: class.have(answered),
                need: class.need(),
                phase,
            },
            (Scope::Regions, None) => {
                Refusal::QuorumUnavailable { reachable: 0, need: 1, phase }
            }
        }
    }

    pub(super) fn answer(&mut self, request: RequestId, answer: Answer) {
        self.reply(request, Ok(answer));
    }
}

fn check(request: &Request) -> Result<(), Refusal> {
    let key = request.op.key();
    let is_list = matches!(request.op, Op::List { .. });
    if key.len() > KEY_LEN_MAX || (key.is_empty() && !is_list) {
        return Err(Refusal::OutOfRange { what: "a key", range: "1 to 512 bytes" });
    }
    if request.within > WITHIN_MAX {
        return Err(Refusal::OutOfRange {
            what: "the time to wait",
            range: "at most 60 s",
        });
    }
    Ok(())
}
