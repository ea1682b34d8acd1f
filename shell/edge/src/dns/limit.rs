//! How many answers a network gets by UDP, so that nobody's address can be forged to flood it.
//!
//! A fixed number of slots, each with the time up to which its network has had its share
//! (GCRA), so that memory does not grow with the number of forged addresses. Networks that fall
//! into one slot share it; which do is drawn anew at each start, so that nobody can aim.
//! Of those over the limit every second is told to come by TCP, where addresses are not forged.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use dwcp_router::client_number;

/// Half a mebibyte.
const SLOTS: usize = 1 << 16;
/// What a network may have at once, when it was silent before: a second's share.
const BURST_NS: u64 = 1_000_000_000;

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is answered.
    Answer,
    /// It is told to come by TCP.
    Invite,
    /// It is not answered.
    Drop,
}

/// The limit.
#[derive(Debug)]
pub struct RateLimit {
    /// Times in nanoseconds, shifted by one; the lowest bit is whether the last that was refused
    /// was invited.
    slots: Box<[AtomicU64]>,
    keys: RandomState,
    interval_ns: u64,
}

impl RateLimit {
    /// So many answers a second to each network, at least one.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            keys: RandomState::new(),
            interval_ns: BURST_NS / u64::from(per_second.max(1)),
        }
    }

    /// Whether an address is answered now; `now_ns` is any clock that does not step back.
    #[must_use]
    pub fn admit(&self, source: IpAddr, now_ns: u64) -> Verdict {
        let key = self.keys.hash_one(client_number(source));
        let at = usize::try_from(key).unwrap_or_default() % SLOTS;
        let Some(slot) = self.slots.get(at) else { return Verdict::Drop };
        // The burst is on top: a clock that begins at 0 owes nobody.
        let now_ns = now_ns.saturating_add(BURST_NS);
        let mut verdict = Verdict::Drop;
        let next = |before: u64| {
            let (had, invited) = ((before >> 1).max(now_ns - BURST_NS), before & 1);
            let (after, mark) = if had + self.interval_ns <= now_ns {
                verdict = Verdict::Answer;
                (had + self.interval_ns, invited)
            } else {
                verdict = if invited == 0 { Verdict::Invite } else { Verdict::Drop };
                (had, invited ^ 1)
            };
            Some(after << 1 | mark)
        };
        let taken = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        // The closure always has a next value.
        if taken.is_ok() { verdict } else { Verdict::Drop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = BURST_NS;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_its_share_and_not_more_and_every_second_refusal_invites() {
        let limit = RateLimit::new(10);
        let asked = |address: &str, now| limit.admit(ip(address), now);
        for last in 0..10 {
            let address = format!("192.0.2.{last}");
            assert_eq!(asked(&address, 0), Verdict::Answer, "{last}");
        }
        assert_eq!(asked("192.0.2.1", 0), Verdict::Invite);
        assert_eq!(asked("192.0.2.2", 0), Verdict::Drop);
        assert_eq!(asked("192.0.2.3", 0), Verdict::Invite);
        // A tenth of a second later there is one more.
        assert_eq!(asked("192.0.2.4", SECOND / 10), Verdict::Answer);
        assert_eq!(asked("192.0.2.5", SECOND / 10), Verdict::Drop);
        // And after silence all, but never more.
        let later = 100 * SECOND;
        let answered = (0..50).filter(|_| asked("192.0.2.1", later) == Verdict::Answer);
        assert_eq!(answered.count(), 10);
    }

    #[test]
    fn whoever_floods_takes_nothing_from_nearly_all_others() {
        let limit = RateLimit::new(1);
        assert_eq!(limit.admit(ip("192.0.2.1"), 0), Verdict::Answer);
        let others = (0..=255_u8).map(|third| IpAddr::from([198, 51, third, 1]));
        let refused = others.filter(|other| limit.admit(*other, 0) != Verdict::Answer);
        // 257 networks in 65,536 slots: two of one slot are rare, ten are not to be seen.
        assert!(refused.count() < 10);
    }
}
