//! What the name server did, as counts that only rise.

use std::sync::atomic::{AtomicU64, Ordering};

use super::answer::{Outcome, Transport};

/// Response codes that it gives, with their names in lists of metrics.
pub const RCODES: [(u16, &str); 7] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (16, "BADVERS"),
];

type ByRcode = [AtomicU64; RCODES.len()];

/// Counts.
#[derive(Debug, Default)]
pub struct Counters {
    udp: ByRcode,
    tcp: ByRcode,
    truncated: AtomicU64,
    ignored: AtomicU64,
    invited: AtomicU64,
    dropped: AtomicU64,
    unsent: AtomicU64,
    refused_connections: AtomicU64,
}

/// One count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// By what it was answered.
    pub transport: &'static str,
    /// With what.
    pub rcode: &'static str,
    /// How often.
    pub count: u64,
}

impl Counters {
    /// Answers by transport and response code.
    pub fn answers(&self) -> impl Iterator<Item = Counted> + '_ {
        let all = [("udp", &self.udp), ("tcp", &self.tcp)];
        all.into_iter().flat_map(|(transport, by)| {
            by.iter().zip(RCODES).map(move |(count, (_, rcode))| Counted {
                transport,
                rcode,
                count: count.load(Ordering::Relaxed),
            })
        })
    }

    /// Everything else that is worth knowing, by name.
    #[must_use]
    pub fn events(&self) -> [(&'static str, u64); 6] {
        [
            ("truncated", &self.truncated),
            ("ignored", &self.ignored),
            ("invited_to_tcp", &self.invited),
            ("dropped_by_limit", &self.dropped),
            ("not_sent", &self.unsent),
            ("connections_refused", &self.refused_connections),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }

    pub(crate) fn answered(&self, transport: Transport, outcome: Outcome) {
        let Outcome::Answered { rcode, truncated } = outcome else {
            add(&self.ignored);
            return;
        };
        let by = match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        };
        let at = RCODES.iter().position(|(known, _)| *known == rcode);
        if let Some(count) = at.and_then(|at| by.get(at)) {
            add(count);
        }
        if truncated {
            add(&self.truncated);
        }
    }

    pub(crate) fn invited(&self) {
        add(&self.invited);
    }

    pub(crate) fn dropped(&self) {
        add(&self.dropped);
    }

    pub(crate) fn not_sent(&self) {
        add(&self.unsent);
    }

    pub(crate) fn connection_refused(&self) {
        add(&self.refused_connections);
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
