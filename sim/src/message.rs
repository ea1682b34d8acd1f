//! Who talks to whom, and what they say.
//!
//! Every question carries a number that its answer repeats, so that an answer that comes late
//! or twice is recognised.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dwcp_controller::ledger::{HostReport, Proposal, Reserve};
use dwcp_controller::liveness;
use dwcp_controller::ownership::{ClientToken, Instruction, Recovered, VmRecord};
use dwcp_types::{
    Epoch, Generation, HostView, PlacedVm, PlacementRequest, Power, ReservationId, VmId,
};
use dwcp_vm::Grant;

use crate::engine::{EngineReply, EngineRequest};

/// Someone who gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Engine,
    Region(usize),
    Agent(usize),
    Coordinator(usize),
    Client(usize),
}

/// What a client wants.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Place {
        token: ClientToken,
        request: Box<PlacementRequest>,
        /// Less urgent VMs may be stopped for it.
        preempt: bool,
    },
    /// Of this incarnation of the VM: a duplicate that comes late must not delete the next.
    Power { vm: VmId, reservation: ReservationId, wanted: Power },
}

/// What a client is told.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Placed(ReservationId),
    /// The name belongs to this reservation of someone, maybe of an earlier token of its own.
    NameTaken(ReservationId),
    Refused,
    Done,
    /// There is no such incarnation any more.
    Gone,
    /// It may or may not have been done; the same wish may be sent again.
    Unsure,
}

/// What came of a commit.
#[derive(Clone, Debug)]
pub(crate) enum CommitReply {
    Done,
    /// The reservation is gone: look at the token again.
    Lapsed,
    NameTaken(ReservationId),
    TokenUsed,
}

/// What an agent holds for one VM.
#[derive(Clone, Debug)]
pub(crate) struct SeenVm {
    pub(crate) vm: VmId,
    pub(crate) version: (Epoch, Generation),
    /// Nothing of it is left on the host.
    pub(crate) gone: bool,
    /// It is there without a process.
    pub(crate) stopped: bool,
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Ask {
        op: u64,
        wish: Box<Wish>,
    },
    Answer {
        op: u64,
        answer: Answer,
    },
    Reserve {
        call: u64,
        ask: Box<Reserve>,
    },
    Reserved {
        call: u64,
        /// Who makes room before it can be committed; nothing when nothing is held.
        held: Option<Vec<VmId>>,
    },
    Commit {
        call: u64,
        id: ReservationId,
        request: Box<PlacementRequest>,
        token: ClientToken,
    },
    Committed {
        call: u64,
        reply: CommitReply,
    },
    ToEngine {
        call: u64,
        request: EngineRequest,
    },
    FromEngine {
        call: u64,
        reply: EngineReply,
    },
    Instruct(Box<Instruction>),
    Report {
        host: Box<HostReport>,
        vms: Vec<SeenVm>,
        /// What the host's clock showed when it was sent.
        clock: Duration,
    },
    /// What a host's guests that are bound to their region's lease may do.
    Grant(Box<Grant>),
    /// A region asks another whether it lives.
    Beat {
        /// By the asker's clock; the answer repeats it.
        sent: Duration,
    },
    /// It lives, and hears others so.
    Beaten {
        sent: Duration,
        view: Box<liveness::View>,
    },
    /// Take a VM of a lost region over.
    Recover {
        vm: Box<VmRecord>,
        place: Proposal,
        recovered: Box<Recovered>,
    },
    /// There is no room for it.
    NoRoom {
        vm: VmId,
    },
    View {
        hosts: Vec<HostView>,
        vms: Vec<Arc<PlacedVm>>,
    },
}

impl fmt::Display for Body {
    /// One short line for the trace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask { op, wish } => match wish.as_ref() {
                Wish::Place { token, request, preempt } => {
                    let urgent = if *preempt { " or displace" } else { "" };
                    write!(f, "ask {op} place{urgent} {} as {token}", request.id)
                }
                Wish::Power { vm, reservation, wanted } => {
                    write!(f, "ask {op} {wanted:?} {vm} of {reservation}")
                }
            },
            Self::Answer { op, answer } => write!(f, "answer {op} {answer:?}"),
            Self::Reserve { call, ask } => {
                write!(f, "reserve {call} {} {}", ask.id, ask.vm)
            }
            Self::Reserved { call, held } => write!(f, "reserved {call} {held:?}"),
            Self::Commit { call, id, token, .. } => {
                write!(f, "commit {call} {id} {token}")
            }
            Self::Committed { call, reply } => write!(f, "committed {call} {reply:?}"),
            Self::ToEngine { call, request } => write!(f, "engine {call} {request}"),
            Self::FromEngine { call, reply } => write!(f, "engine {call} {reply}"),
            Self::Instruct(it) => {
                write!(
                    f,
                    "instruct {} {}.{} {:?}",
                    it.vm, it.epoch, it.generation, it.power
                )
            }
            Self::Grant(grant) => {
                write!(f, "grant from {:?} of {} VMs", grant.from, grant.vms.len())
            }
            Self::Beat { sent } => write!(f, "beat {sent:?}"),
            Self::Beaten { sent, view } => {
                write!(f, "beaten {sent:?}")?;
                for (region, sight) in &view.sees {
                    write!(f, " {region}:{sight:?}")?;
                }
                Ok(())
            }
            Self::Recover { vm, place, recovered } => {
                write!(f, "recover {} for {}", vm.request.id, recovered.failover)?;
                write!(f, " at {:?}", place.host)
            }
            Self::NoRoom { vm } => write!(f, "no room for {vm}"),
            Self::Report { vms, .. } => {
                write!(f, "report")?;
                for it in vms {
                    let gone = if it.gone { "-" } else { "" };
                    write!(f, " {gone}{}@{}.{}", it.vm, it.version.0, it.version.1)?;
                }
                Ok(())
            }
            Self::View { hosts, vms } => {
                write!(f, "view of {} hosts and {} VMs", hosts.len(), vms.len())
            }
        }
    }
}
