//! What the agent holds of one VM beside its record: where its turn stands, what was last
//! seen, and what is told about it.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use dwcp_api::host::{CopyReport, InstanceEvent, InstanceReport, MoveStage};
use dwcp_types::{CopyId, Epoch, Generation, Power, Timestamp, VmId, VmPhase};
use dwcp_vm::migration::{MoveOrder, Moving};
use dwcp_vm::{CopyOrder, CopySeen, Given, Instance, Instruction, Process};
use tokio::sync::oneshot;

use crate::handle::{PutReply, Taken};
use crate::held::Held;
use crate::hypervisor::Sighting;

/// What is kept of what happened to a VM: enough for an hour of a guest that dies as often as
/// the backoff lets it, in a report of some kilobytes.
pub(crate) const EVENTS_MAX: usize = 32;

/// What is told of a guest that must not run without the copy of its disk.
const WITHOUT_COPY: &str =
    "its replica is relied on and does not follow, so it must not run";

/// Where a VM's turn stands. A VM is observed or acted on by one future at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    Idle,
    /// In the queue to be observed.
    Queued,
    /// Being observed, or an action is under way.
    Busy,
}

/// What an owner wants.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    Instruction(Instruction),
    Move(MoveOrder),
}

impl Want {
    /// Whether it has the VM's disk leave this host.
    pub(crate) const fn takes_disk_away(&self) -> bool {
        matches!(self, Self::Move(MoveOrder::Out(_)))
    }
}

/// What is wanted and waits until an earlier wish is on disk.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) want: Want,
    pub(crate) reply: oneshot::Sender<PutReply>,
}

impl Put {
    pub(crate) fn answer(self, answer: Result<Taken, crate::handle::PutError>) {
        // Whoever asked may have given up.
        drop(self.reply.send(answer));
    }
}

/// One VM.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Nothing until the first instruction is on disk.
    pub(crate) instance: Option<Instance>,
    /// Its move, until nothing is left of that.
    pub(crate) moving: Option<Moving>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) sighting: Sighting,
    pub(crate) stage: Stage,
    /// Something happened while it was busy: look again.
    pub(crate) again: bool,
    /// A write of its record is under way; nothing is decided meanwhile.
    pub(crate) saving: bool,
    /// The last write of its record failed: the next decision must write it.
    pub(crate) unsaved: bool,
    pub(crate) puts: VecDeque<Put>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) buried_at: Option<Timestamp>,
    /// Why it does not run though it is wanted.
    pub(crate) held: Option<Held>,
    /// The copy of its disk.
    pub(crate) copy: CopyState,
    /// The number of its last change in the news.
    pub(crate) seq: u64,
    events: VecDeque<InstanceEvent>,
    events_total: u64,
    shown: Option<Shown>,
    /// How far its move was when that was last told.
    stage_told: MoveStage,
}

/// What is known of the copy of a VM's disk; all of it may be lost with the agent.
#[derive(Debug, Default)]
pub(crate) struct CopyState {
    pub(crate) order: Option<CopyOrder>,
    pub(crate) seen: Option<CopySeen>,
    /// The last earlier round of which the host knows what changed since.
    pub(crate) since: Option<CopyId>,
    /// It is relied on and does not follow, so the guest must not run.
    pub(crate) held: bool,
    pub(crate) retry_at: Option<Timestamp>,
    /// Why it could not be begun or ended.
    pub(crate) error: Option<String>,
    /// The last that was begun; this one is on disk.
    pub(crate) begun: Option<CopyId>,
    /// It is being begun, and was not looked at since: over a long line that takes a while, in
    /// which it is not lost.
    pub(crate) beginning: bool,
}

impl CopyState {
    /// Whether it is to be copied in rounds, or may be.
    pub(crate) fn follows_later(&self) -> bool {
        self.order.as_ref().is_none_or(|order| order.round.is_some())
    }

    /// Whether the copy of the order was begun and does not come any further.
    pub(crate) fn is_lost(&self) -> bool {
        let ordered = self.order.as_ref().map(|order| order.copy);
        match &self.seen {
            Some(seen) if Some(seen.copy) == ordered => !seen.mirror.sound,
            Some(_) | None => {
                ordered.is_some() && self.begun == ordered && !self.beginning
            }
        }
    }
}

/// What makes a change worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    epoch: Epoch,
    generation: Generation,
    power: Power,
    phase: VmPhase,
    pid: Option<u32>,
    events_total: u64,
    buried: bool,
    lease_bound: bool,
    stage: MoveStage,
    /// Without its progress, which is no news.
    copy: Option<CopyReport>,
}

impl Entry {
    /// A VM from its record.
    pub(crate) fn restored(
        instance: Option<Instance>,
        moving: Option<Moving>,
        address: Option<Ipv4Addr>,
    ) -> Self {
        Self { instance, moving, address, ..Self::default() }
    }

    /// Whether it is a tombstone.
    pub(crate) fn is_buried(&self) -> bool {
        self.moving.is_none()
            && self.instance.as_ref().is_some_and(|instance| instance.record().buried)
    }

    /// Takes note of something; the same again only moves the time.
    pub(crate) fn note(&mut self, at: Timestamp, what: String) {
        self.events_total += 1;
        if let Some(last) = self.events.back_mut()
            && last.what == what
        {
            last.at = at;
            return;
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(InstanceEvent { at, what });
    }

    /// Holds it back, or does not any more, and takes note of a change.
    pub(crate) fn hold(&mut self, at: Timestamp, held: Option<Held>) {
        if self.held != held {
            self.held = held;
            let what = held.map_or("its region holds its lease", Held::note);
            self.note(at, what.to_owned());
        }
    }

    /// Says whether it differs from what was last told, and counts it as told.
    pub(crate) fn has_news(&mut self) -> bool {
        let Some(instance) = &self.instance else {
            // Only whoever waits for its move has something to hear.
            let stage = self.move_stage();
            return std::mem::replace(&mut self.stage_told, stage) != stage;
        };
        let record = instance.record();
        let now = Shown {
            epoch: record.instruction.epoch,
            generation: record.instruction.generation,
            power: record.instruction.power,
            phase: self.phase(instance),
            pid: self.sighting.pid,
            events_total: self.events_total,
            buried: record.buried,
            lease_bound: record.instruction.guest.lease_bound,
            stage: self.move_stage(),
            copy: self.copy_report().map(|it| CopyReport { done: 0, total: 0, ..it }),
        };
        let news = self.shown.as_ref() != Some(&now);
        self.shown = Some(now);
        news
    }

    /// What is seen of it; a guest that its lease holds back is never told as running.
    fn phase(&self, instance: &Instance) -> VmPhase {
        if let Some(held) = self.held {
            return held.phase();
        }
        let runs = self.sighting.observation.process != Process::Gone;
        if self.copy.held && runs { VmPhase::Paused } else { instance.phase() }
    }

    /// Whether there may be a copy of its disk to look at.
    pub(crate) fn may_have_copy(&self) -> bool {
        self.copy.order.is_some() || self.copy.seen.is_some() || self.is_copied()
    }

    /// A tombstone needs no more than its record.
    pub(crate) fn strip(&mut self) {
        self.address = None;
        self.sighting = Sighting::default();
        self.deadline = None;
        self.copy = CopyState::default();
        self.events = VecDeque::new();
    }

    /// What is told about it.
    pub(crate) fn report(&self, vm: &VmId, given: Given) -> Option<InstanceReport> {
        let instance = self.instance.as_ref().filter(|it| !it.record().buried)?;
        let instruction = &instance.record().instruction;
        let usage = self.sighting.usage;
        let millis = |span: std::time::Duration| {
            u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
        };
        Some(InstanceReport {
            vm: vm.clone(),
            epoch: instruction.epoch,
            generation: instruction.generation,
            power: instruction.power,
            phase: self.phase(instance),
            lease_bound: instruction.guest.lease_bound,
            asked: instruction.guest.shape,
            given_cpu: given.cpu,
            given_memory: given.memory,
            address: self.address,
            pid: self.sighting.pid,
            uptime_ms: millis(usage.uptime),
            cpu_ms: millis(usage.cpu),
            resident: usage.resident,
            restarts: instance.restarts(),
            error: self
                .held
                .map(Held::error)
                .or_else(|| self.copy.held.then_some(WITHOUT_COPY))
                .or_else(|| instance.error())
                .map(str::to_owned),
            copy: self.copy_report(),
            events: self.events.iter().cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bounded_and_repetitions_take_no_room() {
        let mut entry = Entry::default();
        for at in 0..100 {
            entry.note(Timestamp::from_millis(at), "the same".to_owned());
        }
        assert_eq!(entry.events.len(), 1);
        assert_eq!(entry.events[0].at, Timestamp::from_millis(99));
        for at in 0..100 {
            entry.note(Timestamp::from_millis(at), format!("event {at}"));
        }
        assert_eq!(entry.events.len(), EVENTS_MAX);
        assert_eq!(entry.events[EVENTS_MAX - 1].what, "event 99");
    }
}
