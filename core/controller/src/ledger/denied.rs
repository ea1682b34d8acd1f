//! Why the ledger says no: one type an operation, each variant something the asker can act on.

use dwcp_types::{Capacity, HostId, ReservationId, VmId};

use crate::HostRefusal;

/// Why capacity is not held. `NoHost` and `Full` mean: try the next region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveDenied {
    /// The id was used for something else.
    #[error(
        "reservation {id} exists with other content; use a new id for another request"
    )]
    OtherContent {
        /// The id.
        id: ReservationId,
    },
    /// The VM has a reservation here that is past being replaced, or of another tenant.
    #[error(
        "VM {vm} is reserved here already by reservation {by}; ask for its VM record"
    )]
    VmReserved {
        /// The VM.
        vm: VmId,
        /// Its reservation.
        by: ReservationId,
    },
    /// No host can take it.
    #[error(
        "no host of this region takes it: {schedulable} hosts take VMs, none of them within the bounds has {need:?} free; try the next region"
    )]
    NoHost {
        /// What it needs.
        need: Box<Capacity>,
        /// How many hosts take new VMs at all.
        schedulable: usize,
        /// Why the proposed host does not take it, where one was proposed and known.
        proposed: Option<HostRefusal>,
    },
    /// Its rules cannot all hold with the members that are here.
    #[error(
        "the required affinity rules of VM {vm} contradict each other with the members placed here; relax one or try another region"
    )]
    RulesContradict {
        /// The VM.
        vm: VmId,
    },
    /// A VM that is to make room may not be stopped for this one.
    #[error(
        "VM {vm} need not make room: it is protected, or not less urgent; make another plan"
    )]
    VictimGuarded {
        /// The VM.
        vm: VmId,
    },
    /// A VM that is to make room makes it for another already.
    #[error("VM {vm} makes room for VM {to} already; make another plan")]
    VictimTaken {
        /// The VM.
        vm: VmId,
        /// For which.
        to: VmId,
    },
    /// The region's ledger has no room for another row.
    #[error("this region holds {max} reservations, its limit; try the next region")]
    Full {
        /// The limit.
        max: usize,
    },
    /// The request itself is out of range.
    #[error("{what} must be {range}")]
    OutOfRange {
        /// Which part.
        what: &'static str,
        /// What it may be.
        range: &'static str,
    },
}

/// Why a reservation cannot be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitDenied {
    /// Others have not made room for it yet.
    #[error(
        "reservation {id} waits for the room of {vms} VMs; commit it when they stopped"
    )]
    AwaitsRoom {
        /// The id.
        id: ReservationId,
        /// How many VMs have not given theirs yet.
        vms: usize,
    },
    /// There is none by that id: it lapsed, was cancelled or superseded, or never was.
    #[error("reservation {id} is not held any more; reserve again with a new id")]
    Unknown {
        /// The id.
        id: ReservationId,
    },
    /// The record is not what was reserved.
    #[error("the VM record differs from reservation {id} in its {what}")]
    OtherRecord {
        /// The id.
        id: ReservationId,
        /// In what.
        what: &'static str,
    },
}

/// Why a reservation cannot be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmDenied {
    /// There is none by that id.
    #[error("reservation {id} does not exist and cannot be confirmed")]
    Unknown {
        /// The id.
        id: ReservationId,
    },
    /// Its commit was never begun, so the engine cannot have it.
    #[error("reservation {id} is only held; begin its commit first")]
    StillHeld {
        /// The id.
        id: ReservationId,
    },
}

/// Why a coordinator cannot take a reservation back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelDenied {
    /// The engine may know its VM.
    #[error("reservation {id} is being committed; delete VM {vm} instead")]
    Committed {
        /// The id.
        id: ReservationId,
        /// Its VM.
        vm: VmId,
    },
}

/// Why a host is not taken into the ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostDenied {
    /// There are too many.
    #[error(
        "host {host} is one too many: a region has at most {max}; split the region or remove a host"
    )]
    TooMany {
        /// The host.
        host: HostId,
        /// The limit.
        max: usize,
    },
    /// It was never reported and holds nothing.
    #[error("host {host} is unknown in this region; `region capacity` lists its hosts")]
    Unknown {
        /// The host.
        host: HostId,
    },
    /// VMs are reserved on it.
    #[error(
        "host {host} still holds {reservations} reservations; move or delete its VMs first"
    )]
    InUse {
        /// The host.
        host: HostId,
        /// How many.
        reservations: usize,
    },
}

/// Why stored rows cannot be a ledger. The daemon must not start on them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// One VM twice: a batch of changes was stored in part, or two stores were mixed.
    #[error(
        "the stored ledger has reservations {first} and {second} for VM {vm}; restore the ledger from one source"
    )]
    VmTwice {
        /// The VM.
        vm: VmId,
        /// One.
        first: ReservationId,
        /// The other.
        second: ReservationId,
    },
}
