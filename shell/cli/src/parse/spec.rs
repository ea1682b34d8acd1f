//! `--spec "cpu:4,memory:8192,storage:100"` (DETAILS 2.1).

use std::str::FromStr;

use super::list::{ListError, Part, parts};
use super::{Quantity, Unit};

const KEYS: &[&str] = &["cpu", "memory", "storage", "bandwidth", "gpus"];

/// The sizes that were said; the others are for a file or another flag to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpecPatch {
    /// Virtual CPUs.
    pub(crate) cpu: Option<Quantity>,
    /// Memory in MiB.
    pub(crate) memory: Option<Quantity>,
    /// Storage in GiB.
    pub(crate) storage: Option<Quantity>,
    /// Bandwidth in Mbit/s.
    pub(crate) bandwidth: Option<Quantity>,
    /// GPUs.
    pub(crate) gpus: Option<Quantity>,
}

impl FromStr for SpecPatch {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let mut spec = Self::default();
        for part in parts(text, KEYS)? {
            spec.set(&part)?;
        }
        Ok(spec)
    }
}

impl SpecPatch {
    fn set(&mut self, part: &Part<'_>) -> Result<(), ListError> {
        let (slot, unit) = match part.key {
            "cpu" => (&mut self.cpu, Unit::Cpus),
            "memory" => (&mut self.memory, Unit::Mib),
            "storage" => (&mut self.storage, Unit::Gib),
            "bandwidth" => (&mut self.bandwidth, Unit::Mbps),
            _ => (&mut self.gpus, Unit::Gpus),
        };
        *slot = Some(part.read(|value| Quantity::parse(value, unit))?);
        Ok(())
    }

    /// This, with what it does not say taken from `under`.
    pub(crate) fn over(self, under: Self) -> Self {
        Self {
            cpu: self.cpu.or(under.cpu),
            memory: self.memory.or(under.memory),
            storage: self.storage.or(under.storage),
            bandwidth: self.bandwidth.or(under.bandwidth),
            gpus: self.gpus.or(under.gpus),
        }
    }

    /// What came of decimal units.
    pub(crate) fn notes(&self) -> impl Iterator<Item = String> + '_ {
        let sizes = [("memory", &self.memory), ("storage", &self.storage)];
        sizes.into_iter().filter_map(|(name, size)| {
            let note = size.as_ref()?.note.as_ref()?;
            Some(format!("{name}: {note}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_spec_of_the_source_is_read() {
        let spec: SpecPatch = "cpu:4,memory:8192,storage:100".parse().unwrap();
        let amount = |size: Option<Quantity>| size.map(|size| size.amount);
        assert_eq!(amount(spec.cpu), Some(4));
        assert_eq!(amount(spec.memory), Some(8_192));
        assert_eq!(amount(spec.storage), Some(100));
        assert_eq!((spec.bandwidth, spec.gpus), (None, None));
    }

    #[test]
    fn a_wrong_size_is_told_with_its_place() {
        let error = "cpu:4,memory:-1".parse::<SpecPatch>().unwrap_err().to_string();
        assert_eq!(error, "memory (character 7): -1 is negative; ask for at least 1");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_any_order(
            sizes in prop::collection::vec((0_usize..5, 1_u64..1 << 40), 1..5)
        ) {
            let mut sizes = sizes;
            let mut seen = std::collections::BTreeSet::new();
            sizes.retain(|(key, _)| seen.insert(*key));
            let written: Vec<_> =
                sizes.iter().map(|(key, amount)| format!("{}:{amount}", KEYS[*key])).collect();
            let spec: SpecPatch = written.join(" , ").parse().unwrap();
            let read = [spec.cpu, spec.memory, spec.storage, spec.bandwidth, spec.gpus];
            for (key, read) in read.into_iter().enumerate() {
                let asked = sizes.iter().find(|(at, _)| *at == key).map(|(_, amount)| *amount);
                prop_assert_eq!(read.map(|size| size.amount), asked);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "(cpu|memory|storage|gpus|[a-z:,0-9.-]|.){0,12}") {
            drop(text.parse::<SpecPatch>());
        }
    }
}
