//! The ways between regions when a bed begins: by hand, or as a federation's file states them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use dwcp_region::config::Federation;

use super::shape::Shape;

/// Regions and the shape of each way between two of them. A way that is not named is a wire.
#[derive(Clone, Debug, Default)]
pub struct Links {
    shapes: BTreeMap<(String, String), Shape>,
}

impl Links {
    /// Wires only.
    #[must_use]
    pub fn wires() -> Self {
        Self::default()
    }

    /// The same shape both ways between two regions.
    #[must_use]
    pub fn both(self, one: &str, other: &str, shape: Shape) -> Self {
        self.way(one, other, shape).way(other, one, shape)
    }

    /// A shape from one region to another.
    #[must_use]
    pub fn way(mut self, from: &str, to: &str, shape: Shape) -> Self {
        self.shapes.insert((from.to_owned(), to.to_owned()), shape);
        self
    }

    /// The round trips that a federation's file states, half of one each way. Where the file
    /// has two values for a pair, one measured from each end, it is their mean.
    ///
    /// # Panics
    ///
    /// When the file cannot be read.
    #[must_use]
    pub fn of_federation(file: &Path) -> Self {
        let (federation, _) =
            Federation::load(file).expect("the file states a federation");
        let mut stated = BTreeMap::new();
        for spec in &federation.regions {
            for (other, rtt) in &spec.region.network_latency {
                let pair = (spec.region.id.to_string(), other.to_string());
                stated.insert(pair, Duration::from_micros(rtt.get().into()));
            }
        }
        let mut links = Self::wires();
        for ((from, to), rtt) in &stated {
            let back = stated.get(&(to.clone(), from.clone())).unwrap_or(rtt);
            links = links.both(from, to, Shape::delay((*rtt + *back) / 4));
        }
        links
    }

    /// All ways that are more than wires.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Shape)> {
        let named = self.shapes.iter();
        named.map(|((from, to), shape)| (from.as_str(), to.as_str(), *shape))
    }

    /// The regions that are named, in the order of their names.
    #[must_use]
    pub fn regions(&self) -> Vec<String> {
        let names: BTreeSet<_> =
            self.shapes.keys().map(|(from, _)| from.clone()).collect();
        names.into_iter().collect()
    }

    /// The time to another region and back.
    #[must_use]
    pub fn rtt(&self, one: &str, other: &str) -> Duration {
        let way = |from: &str, to: &str| {
            let shape = self.shapes.get(&(from.to_owned(), to.to_owned()));
            Duration::from_micros(shape.map_or(0, |shape| shape.delay_us))
        };
        way(one, other) + way(other, one)
    }
}
