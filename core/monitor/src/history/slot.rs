//! One place: what was measured in one step.

use super::Window;
use super::window::Figures;
use crate::digest::Sketch;
use crate::varint::{put, take};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    figures: Figures,
    latency: Box<[u8]>,
}

impl Slot {
    /// What a time of several places has, its sketch within so many buckets.
    pub(super) fn of(window: Window, buckets_max: usize) -> Self {
        let Window { figures, mut latency } = window;
        latency.fit(buckets_max);
        Self { figures, latency: latency.pack() }
    }

    pub(super) fn add(&mut self, figures: &Figures, latency: &Sketch) {
        self.figures.merge(figures);
        if latency.buckets() > 0 {
            let mut sketch = Sketch::unpack(&self.latency);
            sketch.merge(latency);
            self.latency = sketch.pack();
        }
    }

    pub(super) fn add_to(&self, window: &mut Window) {
        window.figures.merge(&self.figures);
        if !self.latency.is_empty() {
            window.latency.merge(&Sketch::unpack(&self.latency));
        }
    }

    /// Writes it behind what is there.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        self.figures.write(bytes);
        put(bytes, u64::try_from(self.latency.len()).unwrap_or(u64::MAX));
        bytes.extend_from_slice(&self.latency);
    }

    /// Reads one from the front; nothing when there is none.
    pub(super) fn read(bytes: &mut &[u8]) -> Option<Self> {
        let figures = Figures::read(bytes)?;
        let len = usize::try_from(take(bytes)?).ok()?;
        let (latency, rest) = bytes.split_at_checked(len)?;
        *bytes = rest;
        Sketch::is_packed(latency).then(|| Self { figures, latency: latency.into() })
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.latency.len()
    }
}
