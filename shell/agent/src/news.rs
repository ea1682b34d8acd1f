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

/// A part of the news.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// It begins anew.
    pub(crate) complete: bool,
    /// The VMs, oldest change first.
    pub(crate) vms: Vec<VmId>,
    /// Where to go on.
    pub(crate) seq: u64,
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

    /// What changed after `after`, at most `limit` VMs; everything when there is no `after`,
    /// or it cannot be continued from.
    pub(crate) fn page(&self, after: Option<u64>, limit: usize) -> Page {
        let known = after.filter(|after| (self.forgotten..=self.seq).contains(after));
        let from = known.unwrap_or(0);
        let mut rest = self.by_seq.range((Bound::Excluded(from), Bound::Unbounded));
        let page: Vec<(&u64, &VmId)> = rest.by_ref().take(limit).collect();
        let more = rest.next().is_some();
        let last = page.last().map_or(self.seq, |(seq, _)| **seq);
        Page {
            complete: known.is_none(),
            vms: page.into_iter().map(|(_, vm)| vm.clone()).collect(),
            seq: if more { last } else { self.seq },
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
            let mut after = None;
            for (number, reads) in changes {
                let at = usize::from(number);
                last[at] = news.changed(vm(number), last[at]);
                unread.insert(vm(number));
                if reads {
                    loop {
                        let page = news.page(after, limit);
                        prop_assert!(page.vms.len() <= limit);
                        prop_assert_eq!(page.complete, after.is_none());
                        for vm in &page.vms {
                            unread.remove(vm);
                        }
                        after = Some(page.seq);
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
        assert!(news.page(Some(first), 10).complete);
        assert!(!news.page(Some(gone), 10).complete);
        assert!(news.page(Some(99), 10).complete, "a number of the future");
    }
}
