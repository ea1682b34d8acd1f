//! Rules for fields of VMs that several regions may have written (S14).
//!
//! Values are texts: numbers in decimal, states by their names, lists with one entry a line.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Resolver;
use crate::bytes::Bytes;

/// The greater number, as for CPUs and memory. What is no number comes before every number.
#[derive(Clone, Copy, Debug)]
pub struct Greatest;

impl Resolver for Greatest {
    fn name(&self) -> &'static str {
        "greatest"
    }

    fn resolve(&self, local: &[u8], remote: &[u8]) -> Bytes {
        local_or_remote(local, remote, |value| (number(value), value.to_vec()))
    }

    fn samples(&self) -> Vec<Bytes> {
        ["", "9", "10", "010", "x", "18446744073709551616"].map(Bytes::from).into()
    }
}

/// The one that comes first in a list, as running before paused before stopped. Others come after
/// all of them, the greatest first.
#[derive(Clone, Debug)]
pub struct Ranked {
    name: String,
    order: Vec<Bytes>,
}

impl Ranked {
    /// A rule with a name, and its values, the strongest first.
    #[must_use]
    pub fn new(name: &str, order: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            order: order.iter().map(|it| (*it).into()).collect(),
        }
    }

    /// The power states of a VM.
    #[must_use]
    pub fn power_state() -> Self {
        Self::new("power-state", &["running", "paused", "stopped"])
    }
}

impl Resolver for Ranked {
    fn name(&self) -> &str {
        &self.name
    }

    fn resolve(&self, local: &[u8], remote: &[u8]) -> Bytes {
        local_or_remote(local, remote, |value| {
            let rank = self.order.iter().position(|known| **known == *value);
            (Reverse(rank.unwrap_or(self.order.len())), value.to_vec())
        })
    }

    fn samples(&self) -> Vec<Bytes> {
        let others = ["", "unheard-of", "z"].map(Bytes::from);
        let own = self.order.iter().take(super::SAMPLES_MAX - others.len()).cloned();
        own.chain(others).collect()
    }
}

/// The entries of both, each once and sorted, as for disks.
#[derive(Clone, Copy, Debug)]
pub struct Lines;

impl Resolver for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn resolve(&self, local: &[u8], remote: &[u8]) -> Bytes {
        // A value is what its lines are: one that stands alone is left as it was written.
        if local == remote {
            return local.into();
        }
        let lines = |text| <[u8]>::split(text, |byte| *byte == b'\n');
        let lines = lines(local).chain(lines(remote)).filter(|line| !line.is_empty());
        let lines: Vec<_> = lines.collect::<BTreeSet<_>>().into_iter().collect();
        lines.join(&b'\n').into()
    }

    fn samples(&self) -> Vec<Bytes> {
        ["", "vda", "vda\nvdb", "vdc", "vdb\nvdc"].map(Bytes::from).into()
    }
}

fn local_or_remote<K: Ord>(
    local: &[u8],
    remote: &[u8],
    key: impl Fn(&[u8]) -> K,
) -> Bytes {
    if key(local) >= key(remote) { local.into() } else { remote.into() }
}

/// Its size as (digits, digits by value): numbers of any length compare.
fn number(value: &[u8]) -> Option<(usize, Vec<u8>)> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits: Vec<u8> =
        value.iter().copied().skip_while(|digit| *digit == b'0').collect();
    Some((digits.len(), digits))
}
