//! Which of a region's servers of one service have requests: probes, passive evidence, ejection
//! (F5, F89).
//!
//! Two judgements that know nothing of each other. Whether a server is *there* is what probes say:
//! three failures in a row take it out, two successes bring it back. A request that finds nobody
//! is as good as a probe, and comes sooner. Whether it *works* is what requests say: errors in a
//! row eject it for a time that doubles with each ejection that follows soon, because a server
//! that answers probes may do nothing else. A server has requests when neither is against it.
//!
//! Never more than half of what probes say is there is ejected: what makes most servers fail is
//! not the servers, and the rest would fall under the load of all. Whether a whole region is up
//! is another's word ([`crate::Standing`]).
//!
//! Rejected: shares of errors over a window (they need as many requests as a quiet service never
//! has), a probe that ends an ejection (then only servers whose probes fail would ever be out).

use std::time::Duration;

/// Most servers of one service in one region: one word of bits.
pub const UPSTREAMS_MAX: usize = 64;
/// Probes or connections in a row that must fail; what they may take is the prober's (F89).
pub const PROBES_DOWN: u8 = 3;
/// Probes in a row that must be answered.
pub const PROBES_UP: u8 = 2;
/// Errors in a row (5xx) that must be answered: Envoy's `consecutive_5xx`.
pub const ERRORS_MAX: u8 = 5;
/// How long the first ejection lasts: ten probes, longer than a process takes to start again.
pub const EJECTION: Duration = Duration::from_secs(10);
/// How long one lasts at most: Envoy's `max_ejection_time`.
pub const EJECTION_MAX: Duration = Duration::from_secs(300);

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It was answered, with whatever but an error of the server.
    Answered,
    /// It was answered with an error of the server (5xx), or not in time, or broke off.
    Failed,
    /// No connection was made.
    Unreached,
}

/// What is known of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Upstream {
    /// What probes say.
    there: bool,
    /// Probes in a row that said the contrary.
    contrary: u8,
    /// Of requests in a row.
    errors: u8,
    /// Ejections that followed each other.
    ejections: u8,
    /// Until when it is ejected; a time that has passed is none.
    out_until: Duration,
}

/// All servers of one service in one region. `now` is any clock that does not step back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams {
    all: Vec<Upstream>,
}

impl Upstreams {
    /// So many servers, 64 at most, all thought to be there: at a start nobody was probed yet,
    /// and requests find out.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let new = Upstream {
            there: true,
            contrary: 0,
            errors: 0,
            ejections: 0,
            out_until: Duration::ZERO,
        };
        Self { all: vec![new; count.min(UPSTREAMS_MAX)] }
    }

    /// A probe of one was answered, or not. Says whether it changed who has requests.
    pub fn probed(&mut self, at: usize, answered: bool) -> bool {
        let Some(one) = self.all.get_mut(at) else { return false };
        if answered == one.there {
            one.contrary = 0;
            return false;
        }
        one.contrary += 1;
        if one.contrary < if answered { PROBES_UP } else { PROBES_DOWN } {
            return false;
        }
        (one.there, one.contrary) = (answered, 0);
        // What requests met before says nothing of a server that was started again.
        one.errors = 0;
        true
    }

    /// A request to one ended. Says whether that took it out.
    pub fn served(&mut self, at: usize, evidence: Evidence, now: Duration) -> bool {
        let Some(one) = self.all.get_mut(at) else { return false };
        match evidence {
            Evidence::Answered => {
                one.errors = 0;
                // What was under way says nothing of a server that is out.
                one.there && self.probed(at, true)
            }
            Evidence::Unreached => one.there && self.probed(at, false),
            Evidence::Failed => {
                one.errors = one.errors.saturating_add(1);
                one.errors >= ERRORS_MAX && self.eject(at, now)
            }
        }
    }

    fn eject(&mut self, at: usize, now: Duration) -> bool {
        let there = self.all.iter().filter(|one| one.there).count();
        let out = self.all.iter().filter(|one| one.there && one.out_until > now).count();
        let Some(one) = self.all.get_mut(at) else { return false };
        if !one.there || one.out_until > now || (out + 1) * 2 > there {
            return false;
        }
        // Good for as long as it was out: the next ejection is a first one again.
        if now.saturating_sub(one.out_until) >= span(one.ejections) {
            one.ejections = 0;
        }
        one.ejections = one.ejections.saturating_add(1);
        one.out_until = now.saturating_add(span(one.ejections));
        one.errors = 0;
        true
    }

    /// Who has requests, a bit for each. When probes have taken so many out that more than half
    /// of the rest is ejected, the rest has requests again: better poor servers than none.
    #[must_use]
    pub fn usable(&self, now: Duration) -> u64 {
        let there = self.bits(|one| one.there);
        let good = self.bits(|one| one.there && one.out_until <= now);
        if good.count_ones() * 2 < there.count_ones() { there } else { good }
    }

    /// Who has been amiss of late: only of these a request that was answered is news.
    #[must_use]
    pub fn suspects(&self) -> u64 {
        self.bits(|one| one.errors > 0 || (one.there && one.contrary > 0))
    }

    /// When the next ejection ends; nothing when nobody is out.
    #[must_use]
    pub fn next_return(&self, now: Duration) -> Option<Duration> {
        self.all.iter().map(|one| one.out_until).filter(|until| *until > now).min()
    }

    fn bits(&self, has: impl Fn(&Upstream) -> bool) -> u64 {
        let bit = |(at, one): (usize, &Upstream)| u64::from(has(one)) << at;
        self.all.iter().enumerate().map(bit).fold(0, |all, one| all | one)
    }
}

/// How long the n-th ejection lasts; the time before any is none.
fn span(ejections: u8) -> Duration {
    let Some(doublings) = ejections.checked_sub(1) else { return Duration::ZERO };
    let factor = 1_u32.checked_shl(doublings.into()).unwrap_or(u32::MAX);
    EJECTION.saturating_mul(factor).min(EJECTION_MAX)
}

/// Picks one of a set of bits: of two that are drawn the one with less to do, so that nobody
/// herds to whoever was idle a moment ago (F53). Nothing when the set is empty.
#[inline]
#[must_use]
pub fn pick(usable: u64, draw: u64, busy: impl Fn(usize) -> usize) -> Option<usize> {
    let count = usable.count_ones();
    match count {
        0 => return None,
        1 => return nth(usable, 0),
        _ => {}
    }
    let drawn = crate::rendezvous::mix(draw);
    let (first, second) = (drawn >> 32, drawn & u64::from(u32::MAX));
    let first = first % u64::from(count);
    // Another than the first.
    let second = (first + 1 + second % u64::from(count - 1)) % u64::from(count);
    let (first, second) = (nth(usable, first)?, nth(usable, second)?);
    Some(if busy(second) < busy(first) { second } else { first })
}

/// The place of the n-th bit that is set.
fn nth(mut bits: u64, n: u64) -> Option<usize> {
    for _ in 0..n {
        bits &= bits.wrapping_sub(1);
    }
    (bits != 0).then(|| bits.trailing_zeros()).and_then(|at| usize::try_from(at).ok())
}
