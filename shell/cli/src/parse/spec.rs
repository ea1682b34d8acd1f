//! `--spec "cpu:4,memory:8192,storage:100"` (DETAILS 2.1), and the same sizes in a file, where
//! a unit may be written as well.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::list::{ListError, Part, parts};
use super::{Quantity, Unit};

const KEYS: &[&str] = &["cpu", "memory", "storage", "bandwidth", "gpus"];

/// The sizes that were said; the others are for a file or another flag to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SpecPatch {
    /// Virtual CPUs.
    #[serde(deserialize_with = "cpu")]
    pub(crate) cpu: Option<Quantity>,
    /// Memory in MiB.
    #[serde(deserialize_with = "memory")]
    pub(crate) memory: Option<Quantity>,
    /// Storage in GiB.
    #[serde(deserialize_with = "storage")]
    pub(crate) storage: Option<Quantity>,
    /// Bandwidth in Mbit/s.
    #[serde(deserialize_with = "bandwidth")]
    pub(crate) bandwidth: Option<Quantity>,
    /// GPUs.
    #[serde(deserialize_with = "gpus")]
    pub(crate) gpus: Option<Quantity>,
}

/// Reads a size of a file: a number, or a text as a flag would have it.
struct SizeVisitor {
    name: &'static str,
    unit: Unit,
}

impl SizeVisitor {
    fn read<E: Error>(&self, text: &str) -> Result<Option<Quantity>, E> {
        let quantity = Quantity::parse(text, self.unit);
        quantity.map(Some).map_err(|reason| E::custom(format!("{}: {reason}", self.name)))
    }
}

impl Visitor<'_> for SizeVisitor {
    type Value = Option<Quantity>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.unit.how())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.read(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.read(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        self.read(&number.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        self.read(text)
    }
}

macro_rules! sizes {
    ($($name:ident: $unit:ident,)*) => {$(
        fn $name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Quantity>, D::Error> {
            let visitor = SizeVisitor { name: stringify!($name), unit: Unit::$unit };
            from.deserialize_any(visitor)
        }
    )*};
}

sizes! {
    cpu: Cpus,
    memory: Mib,
    storage: Gib,
    bandwidth: Mbps,
    gpus: Gpus,
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
