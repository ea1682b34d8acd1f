//! The development scale: what a guest really gets of what was asked.
//!
//! A host that rehearses large VMs on a small machine gives each guest a fixed small size.
//! Accounting never sees the given size (C10), reports show both. The disk is not scaled: a
//! thin image costs nothing until it is written.

use dwcp_types::{Mib, VmShape};
use serde::{Deserialize, Serialize};

/// Upper limits on what one guest is given; nothing means what was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// Most virtual CPUs that a guest is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_max: Option<u32>,
    /// Most memory that a guest is given, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<Mib>,
}

/// What a guest is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Virtual CPUs, at least 1.
    pub cpu: u32,
    /// Memory in MiB, at least 1.
    pub memory: Mib,
}

impl Scale {
    /// What a guest of this shape is given.
    #[must_use]
    pub fn give(&self, asked: &VmShape) -> Given {
        let cpu = self.cpu_max.map_or(asked.cpu, |most| asked.cpu.min(most));
        let memory = self.memory_max.map_or(asked.memory, |most| asked.memory.min(most));
        Given { cpu: cpu.max(1), memory: memory.max(Mib::new(1)) }
    }

    /// Whether any guest gets less than was asked.
    #[must_use]
    pub const fn is_reduced(&self) -> bool {
        self.cpu_max.is_some() || self.memory_max.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_four_gib_are_rehearsed_in_ninety_six_mib() {
        let scale = Scale { cpu_max: Some(1), memory_max: Some(Mib::new(96)) };
        let asked = VmShape { cpu: 16, memory: Mib::new(65_536), ..VmShape::default() };
        assert_eq!(scale.give(&asked), Given { cpu: 1, memory: Mib::new(96) });
        let small = VmShape { cpu: 1, memory: Mib::new(64), ..VmShape::default() };
        assert_eq!(scale.give(&small).memory, Mib::new(64));
        assert_eq!(
            Scale::default().give(&asked),
            Given { cpu: 16, memory: Mib::new(65_536) }
        );
    }
}
