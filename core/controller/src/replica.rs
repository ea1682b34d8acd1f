//! What the owner of a VM does next about the copy of its disk in another region (D2, F2).
//!
//! ```text
//!                   record        the host's order        the guest
//!   begin           Copying       write it                runs, with or without it
//!   both equal      Copying       it is relied on         waits for the copy from now on
//!   trust           InSync        it is relied on         waits for the copy
//!   it is lost      Copying (n+1) write the next one      runs again without it
//! ```
//!
//! The order of these two is what RPO 0 rests on: the host holds the guest back before the
//! record says "in sync", and the record has taken that back before the host lets it go.
//! [`crate::ownership::Replica`] is the record's part, `dwcp_vm::decide_copy` the host's. Replicas
//! that follow later have rules of their own: [`round`].

pub mod round;

use std::time::Duration;

use dwcp_types::{CopyId, Power, Timestamp};

use crate::ownership::{Replica, VmRecord};

/// After how long a standby that does not answer is written without, when it was in sync: the
/// guest's writes may have waited as long.
pub const PART_AFTER: Duration = Duration::from_secs(10);

/// After how long another place is looked for.
pub const MOVE_AFTER: Duration = Duration::from_mins(5);

/// What the owner sees of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What the guest's host says; nothing when it was not heard from, or obeys another owner.
    pub host: Option<HostSeen>,
    /// For how long the standby has not answered; nothing when it does.
    pub standby_silent_for: Option<Duration>,
    /// The VM moves to another region: its disk goes there, and a disk has one mirror at a time.
    pub moves: bool,
}

/// What the guest's host says of the copy.
#[expect(clippy::struct_excessive_bools, reason = "facts that do not exclude each other")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostSeen {
    /// The copy of the order in force.
    pub ordered: Option<CopyId>,
    /// The host holds the guest back where that one does not follow.
    pub relied_on: bool,
    /// The copy that is written.
    pub written: Option<CopyId>,
    /// Both disks hold the same, and each write goes to both.
    pub equal: bool,
    /// It was begun and is not written any more, or a write of it failed.
    pub lost: bool,
    /// The guest is held back.
    pub held: bool,
    /// What a round that is written is as of, by the host's clock.
    pub as_of: Option<Timestamp>,
    /// The last earlier round of which the host knows what changed since.
    pub since: Option<CopyId>,
}

impl HostSeen {
    /// Whether this very copy has every write, or all of its round.
    fn follows(&self, copy: CopyId) -> bool {
        self.written == Some(copy) && self.equal && !self.lost
    }

    /// Whether the host holds the guest to this very copy.
    fn relies_on(&self, copy: CopyId) -> bool {
        self.ordered == Some(copy) && self.relied_on
    }
}

/// What to do next about a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing but to go on telling both hosts.
    Keep,
    /// Write into the record that the copy has every write.
    Trust,
    /// Write into the record that the copy is not relied on, and begin the next.
    Part(Parted),
    /// Write into the record that this round is all there, as of this moment, and begin the next.
    Seal(Timestamp),
    /// Look for another place.
    Replace,
}

/// Why a copy is parted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parted {
    /// Another owner began it.
    OtherOwner,
    /// It is not written any more.
    Lost,
    /// The standby does not answer.
    StandbySilent,
    /// The VM moves.
    Moves,
}

impl Parted {
    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::OtherOwner => "its VM has another owner",
            Self::Lost => "it is not written any more",
            Self::StandbySilent => "the host that keeps it does not answer",
            Self::Moves => "its VM moves",
        }
    }
}

/// Says what to do next about the replica of a VM.
#[must_use]
pub fn next(record: &VmRecord, replica: &Replica, seen: &Seen) -> Next {
    if record.request.replica_age_max().is_some() {
        return round::next(record, replica, seen);
    }
    let copy = replica.copy;
    if copy.epoch != record.owner.epoch {
        return Next::Part(Parted::OtherOwner);
    }
    let silent_for = seen.standby_silent_for.unwrap_or_default();
    let host = seen.host.unwrap_or_default();
    if seen.moves {
        let held_to = replica.is_in_sync() || host.relies_on(copy);
        return if held_to { Next::Part(Parted::Moves) } else { Next::Keep };
    }
    // A guest that is off by its owner's wish has written nothing since.
    let stopped = record.power == Power::Stopped && host.ordered == Some(copy);
    if replica.is_in_sync() {
        if host.relies_on(copy) && host.held && !stopped {
            return Next::Part(Parted::Lost);
        }
        let silent = silent_for >= PART_AFTER;
        return if silent { Next::Part(Parted::StandbySilent) } else { Next::Keep };
    }
    if silent_for >= MOVE_AFTER {
        return Next::Replace;
    }
    if host.relies_on(copy) {
        // It is held to the copy already, and can be let go only by the next one.
        return match (host.follows(copy), silent_for >= PART_AFTER) {
            (true, false) => Next::Trust,
            (true, true) => Next::Part(Parted::StandbySilent),
            (false, _) => Next::Part(Parted::Lost),
        };
    }
    let lost = host.ordered == Some(copy) && host.lost;
    if lost { Next::Part(Parted::Lost) } else { Next::Keep }
}

/// Whether the host is to hold the guest to the copy: while the record relies on it, and from
/// when it is equal, so that the record may. Never to one that follows later.
#[must_use]
pub fn is_relied_on(record: &VmRecord, replica: &Replica, seen: &Seen) -> bool {
    if record.request.replica_age_max().is_some() {
        return false;
    }
    let host = seen.host.unwrap_or_default();
    let (copy, silent) = (replica.copy, seen.standby_silent_for.is_some());
    let may_be = host.follows(copy) && !silent && !seen.moves;
    replica.is_in_sync() || host.relies_on(copy) || may_be
}

#[cfg(test)]
mod tests {
    use dwcp_types::{
        Epoch, HostId, OnRegionLoss, RegionId, ReservationId, Tier, Timestamp, ZoneId,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::ownership::tests::record;
    use crate::ownership::{Place, begin_replica, part, trust};

    const NOW: Timestamp = Timestamp::from_millis(7_000);

    fn begun() -> VmRecord {
        let mut vm = record("vm", "r-1");
        vm.request.tier = Tier::Protected;
        vm.request.on_region_loss = OnRegionLoss::SyncReplica;
        let at = Place {
            region: RegionId::new("eu-north-1").unwrap(),
            zone: ZoneId::new("a").unwrap(),
            host: HostId::new("h").unwrap(),
        };
        begin_replica(&vm, at, ReservationId::new("r-2").unwrap(), NOW)
    }

    fn copy(record: &VmRecord) -> CopyId {
        record.replica.as_ref().unwrap().copy
    }

    fn in_sync() -> VmRecord {
        let begun = begun();
        trust(&begun, copy(&begun), NOW).unwrap()
    }

    fn judged(record: &VmRecord, seen: &Seen) -> Next {
        next(record, record.replica.as_deref().unwrap(), seen)
    }

    fn relied(record: &VmRecord, seen: &Seen) -> bool {
        is_relied_on(record, record.replica.as_deref().unwrap(), seen)
    }

    fn following(record: &VmRecord) -> HostSeen {
        let copy = Some(copy(record));
        HostSeen { ordered: copy, written: copy, equal: true, ..HostSeen::default() }
    }

    fn host(host: HostSeen) -> Seen {
        Seen { host: Some(host), ..Seen::default() }
    }

    #[test]
    fn the_host_holds_the_guest_to_its_copy_before_the_record_relies_on_it() {
        let begun = begun();
        assert!(!relied(&begun, &Seen::default()));
        let equal = host(following(&begun));
        assert_eq!(judged(&begun, &equal), Next::Keep);
        assert!(relied(&begun, &equal));
        let held_to = host(HostSeen { relied_on: true, ..following(&begun) });
        assert_eq!(judged(&begun, &held_to), Next::Trust);
        assert_eq!(judged(&in_sync(), &held_to), Next::Keep);
    }

    #[test]
    fn a_guest_that_is_held_back_is_let_go_by_the_record_first() {
        let vm = in_sync();
        let lost = HostSeen { written: None, equal: false, lost: true, ..following(&vm) };
        let held = host(HostSeen { relied_on: true, held: true, ..lost });
        assert_eq!(judged(&vm, &held), Next::Part(Parted::Lost));
        assert!(relied(&vm, &held), "until that is written");
        let parted = part(&vm, NOW).unwrap();
        assert!(!relied(&parted, &held));
        assert_eq!(judged(&parted, &held), Next::Keep, "what is said of the one before");
        let off = VmRecord { power: Power::Stopped, ..vm };
        assert_eq!(judged(&off, &held), Next::Keep, "it is off as it is wanted");
    }

    #[test]
    fn a_copy_that_was_lost_while_it_was_made_is_begun_anew_under_another_name() {
        let begun = begun();
        let lost =
            HostSeen { written: None, equal: false, lost: true, ..following(&begun) };
        assert_eq!(judged(&begun, &host(lost)), Next::Part(Parted::Lost));
        let held = HostSeen { relied_on: true, held: true, ..lost };
        assert_eq!(judged(&begun, &host(held)), Next::Part(Parted::Lost));
    }

    #[test]
    fn a_standby_that_is_silent_is_parted_from_and_later_replaced() {
        let vm = in_sync();
        let silent = |record: &VmRecord, seconds| Seen {
            host: Some(HostSeen { relied_on: true, ..following(record) }),
            standby_silent_for: Some(Duration::from_secs(seconds)),
            moves: false,
        };
        assert_eq!(judged(&vm, &silent(&vm, 9)), Next::Keep);
        assert_eq!(judged(&vm, &silent(&vm, 10)), Next::Part(Parted::StandbySilent));
        let parted = part(&vm, NOW).unwrap();
        let waits = |seconds| Seen {
            host: None,
            standby_silent_for: Some(Duration::from_secs(seconds)),
            moves: false,
        };
        assert_eq!(judged(&parted, &waits(299)), Next::Keep);
        assert_eq!(judged(&parted, &waits(300)), Next::Replace);
    }

    #[test]
    fn a_copy_rests_while_its_vm_moves_and_the_record_lets_go_of_it_first() {
        let vm = in_sync();
        let moves = |host| Seen { host: Some(host), moves: true, ..Seen::default() };
        let held_to = moves(HostSeen { relied_on: true, ..following(&vm) });
        assert_eq!(judged(&vm, &held_to), Next::Part(Parted::Moves));
        assert!(relied(&vm, &held_to), "until that is written");
        let parted = part(&vm, NOW).unwrap();
        assert_eq!(judged(&parted, &held_to), Next::Keep);
        assert!(!relied(&parted, &held_to));
        // One that is just being made is never relied on before the VM has moved.
        let begun = begun();
        let equal = moves(following(&begun));
        assert_eq!(judged(&begun, &equal), Next::Keep);
        assert!(!relied(&begun, &equal));
        let held_to = moves(HostSeen { relied_on: true, ..following(&begun) });
        assert_eq!(judged(&begun, &held_to), Next::Part(Parted::Moves));
        // It stayed where it was: what was ended is begun under the next name.
        let ended =
            HostSeen { written: None, equal: false, lost: true, ..following(&begun) };
        assert_eq!(judged(&begun, &host(ended)), Next::Part(Parted::Lost));
    }

    #[test]
    fn another_owners_copy_is_parted_from() {
        let mut moved = in_sync();
        moved.owner.epoch = moved.owner.epoch.next();
        let seen = host(HostSeen { relied_on: true, ..following(&moved) });
        assert_eq!(judged(&moved, &seen), Next::Part(Parted::OtherOwner));
        let parted = part(&moved, NOW).unwrap();
        assert_eq!(copy(&parted), CopyId::first_of(Epoch::new(2)));
    }

    /// The whole of it against a model: a record, a host and a disk that go their ways in any
    /// order. What a failover would start from must have every write that was acknowledged.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Decide,
        Tell,
        Copied,
        GuestWrites,
        ConnectionBreaks,
        ProcessDies,
        StandbySilent(bool),
        Moves(bool),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Decide),
            4 => Just(Event::Tell),
            2 => Just(Event::Copied),
            4 => Just(Event::GuestWrites),
            1 => Just(Event::ConnectionBreaks),
            1 => Just(Event::ProcessDies),
            1 => any::<bool>().prop_map(Event::StandbySilent),
            1 => any::<bool>().prop_map(Event::Moves),
        ]
    }

    /// The host as `dwcp_vm::decide_copy` says, in short.
    #[derive(Debug, Default)]
    struct Host {
        order: Option<(CopyId, bool)>,
        begun: Option<CopyId>,
        /// The copy that is written, and whether it is whole.
        written: Option<(CopyId, bool)>,
    }

    impl Host {
        fn seen(&self) -> HostSeen {
            let ordered = self.order.map(|(copy, _)| copy);
            let written = self.written.map(|(copy, _)| copy);
            HostSeen {
                ordered,
                relied_on: self.order.is_some_and(|(_, relied)| relied),
                as_of: None,
                since: None,
                written,
                equal: self.written.is_some_and(|(_, whole)| whole),
                lost: ordered.is_some() && self.begun == ordered && written != ordered,
                held: self.is_held(),
            }
        }

        fn is_held(&self) -> bool {
            let Some((copy, relied)) = self.order else { return true };
            relied && self.written != Some((copy, true))
        }

        fn take(&mut self, order: (CopyId, bool), placed: bool) {
            let withdrawn = |old: (CopyId, bool)| order.0 == old.0 && old.1 && !order.1;
            if self.order.is_some_and(|old| order.0 < old.0 || withdrawn(old)) {
                return;
            }
            self.order = Some(order);
            let rests = !placed && !order.1;
            if self.written.is_some_and(|(copy, _)| copy != order.0 || rests) {
                self.written = None;
            }
            if placed && self.written.is_none() && !order.1 && self.begun != Some(order.0)
            {
                self.begun = Some(order.0);
                self.written = Some((order.0, false));
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_in_sync_has_every_write_that_was_acknowledged(
            events in prop::collection::vec(event(), 1..80),
        ) {
            let (mut vm, mut host) = (begun(), Host::default());
            let (mut silent, mut moves) = (None, false);
            // Writes acknowledged to the guest, and how many of them each copy has.
            let (mut writes, mut has) = (0_u32, std::collections::BTreeMap::new());
            for event in events {
                let seen = Seen {
                    host: Some(host.seen()),
                    standby_silent_for: silent,
                    moves,
                };
                let replica = vm.replica.as_deref().unwrap();
                match event {
                    Event::Decide => match next(&vm, replica, &seen) {
                        Next::Trust => vm = trust(&vm, replica.copy, NOW).unwrap(),
                        Next::Part(_) => vm = part(&vm, NOW).unwrap(),
                        Next::Seal(_) => unreachable!("it is no round"),
                        Next::Keep | Next::Replace => {}
                    },
                    Event::Tell => {
                        let relied = is_relied_on(&vm, replica, &seen);
                        host.take((replica.copy, relied), !moves);
                    }
                    Event::Copied => {
                        if let Some((copy, whole)) = &mut host.written {
                            *whole = true;
                            has.insert(*copy, writes);
                        }
                    }
                    Event::GuestWrites if !host.is_held() => {
                        writes += 1;
                        if let Some((copy, true)) = host.written {
                            has.insert(copy, writes);
                        }
                    }
                    Event::GuestWrites => {}
                    Event::ConnectionBreaks | Event::ProcessDies => host.written = None,
                    Event::StandbySilent(is) => {
                        silent = is.then_some(PART_AFTER);
                    }
                    Event::Moves(is) => moves = is,
                }
                let replica = vm.replica.as_deref().unwrap();
                if replica.is_in_sync() {
                    prop_assert_eq!(has.get(&replica.copy), Some(&writes), "{:?}", host);
                }
            }
        }
    }
}
