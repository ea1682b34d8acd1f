//! The order in which VMs last changed: what a reader that comes back with a number has not
//! seen yet. Pure.
//!
//! Each VM appears once, at its last change, so the log is as long as the inventory and never
//! longer; a reader that was away for a year reads each VM once.

use std::collections::BTreeMap;
use std::ops::Bound;

use dwcp_types::VmId;

/// VMs by their last change.
#[derive(Debug, Default)]
pub(crate) struct News {
    seq: u64,
    by_seq: BTreeMap<u64, VmId>,
    /// A reader that has not read this far missed the end of a VM that is forgotten by now.
    forgotten: u64,
}

/// Where a reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The `begun` of the page that it read last.
    pub begun: u64,
    /// The `seq` of that page.
    pub after: u64,
}

/// A part of the news.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// It begins anew.
    pub(crate) complete: bool,
    /// The VMs, oldest change first.
    pub(crate) vms: Vec<VmId>,
    /// Where to go on.
    pub(crate) seq: u64,
    /// From when on the reader hears of every end, once it has read to the end of this.
    pub(crate) begun: u64,
    /// There is more.
    pub(crate) more: bool,
}

impl News {
    /// A VM changed; `last` is the number of its change before, zero for none. Returns the
    /// new number.
    pub(crate) fn changed(&mut self, vm: VmId, last: u64) -> u64 {
        self.by_seq.remove(&last);
        self.seq += 1;
        self.by_seq.insert(self.seq, vm);
        self.seq
    }

    /// A tombstone is given up.
    pub(crate) fn forget(&mut self, last: u64) {
        self.by_seq.remove(&last);
        self.forgotten = self.forgotten.max(last);
    }

    /// What changed after a cursor, at most `limit` VMs; everything when there is none, or it
    /// cannot be continued from.
    ///
    /// A reader that reads everything page by page passes old changes on the way, so what it
    /// may have missed is judged by when it began, not by where it stands.
    pub(crate) fn page(&self, cursor: Option<Cursor>, limit: usize) -> Page {
        let known = cursor
            .filter(|at| at.begun >= self.forgotten && at.after <= self.seq)
            .filter(|at| at.begun <= self.seq);
        let from = known.map_or(0, |at| at.after);
        let began = known.map_or(self.seq, |at| at.begun);
        let mut rest = self.by_seq.range((Bound::Excluded(from), Bound::Unbounded));
        let page: Vec<(&u64, &VmId)> = rest.by_ref().take(limit).collect();
        let more = rest.next().is_some();
        let last = page.last().map_or(self.seq, |(seq, _)| **seq);
        Page {
            complete: known.is_none(),
            vms: page.into_iter().map(|(_, vm)| vm.clone()).collect(),
            seq: if more { last } else { self.seq },
            begun: if more { began } else { self.seq },
            more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn vm(number: u8) -> VmId {
        VmId::new(&format!("vm-{number}")).unwrap()
    }

    proptest! {
        /// The oracle is a reader that notes the moment of each VM's last change.
        #[test]
        fn a_reader_that_pages_on_misses_no_change(
            changes in prop::collection::vec((0..6u8, any::<bool>()), 0..40),
            limit in 1..4usize,
        ) {
            let mut news = News::default();
            let mut last = [0u64; 6];
            let mut unread = BTreeSet::new();
            let mut cursor = None;
            for (number, reads) in changes {
                let at = usize::from(number);
                last[at] = news.changed(vm(number), last[at]);
                unread.insert(vm(number));
                if reads {
                    loop {
                        let page = news.page(cursor, limit);
                        prop_assert!(page.vms.len() <= limit);
                        prop_assert_eq!(page.complete, cursor.is_none());
                        for vm in &page.vms {
                            unread.remove(vm);
                        }
                        cursor = Some(Cursor { begun: page.begun, after: page.seq });
                        if !page.more { break; }
                    }
                    prop_assert!(unread.is_empty(), "{:?}", unread);
                }
            }
        }
    }

    #[test]
    fn a_reader_that_missed_an_end_for_ever_begins_anew() {
        let mut news = News::default();
        let first = news.changed(vm(1), 0);
        let gone = news.changed(vm(2), 0);
        news.forget(gone);
        let at = |number| Some(Cursor { begun: number, after: number });
        assert!(news.page(at(first), 10).complete);
        assert!(!news.page(at(gone), 10).complete);
        assert!(news.page(at(99), 10).complete, "a number of the future");
    }

    #[test]
    fn a_reader_that_reads_all_page_by_page_gets_past_what_was_forgotten_before() {
        let mut news = News::default();
        for number in 1..=3 {
            news.changed(vm(number), 0);
        }
        let gone = news.changed(vm(9), 0);
        news.forget(gone);
        let first = news.page(None, 1);
        assert!(first.complete && first.more);
        let at = Cursor { begun: first.begun, after: first.seq };
        let second = news.page(Some(at), 10);
        assert!(!second.complete);
        assert_eq!(second.vms, vec![vm(2), vm(3)]);
    }
}
