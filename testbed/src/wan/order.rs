//! What the emulator can be told while it runs, the same in process and over its socket.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::lateness::LatenessReport;
use super::line::LineReport;
use super::shape::Shape;

/// One order. Each takes effect at once, for packets that come from then on; a cut also loses
/// what is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Gives the line from one region to another a shape.
    Shape {
        /// Where it begins.
        from: String,
        /// Where it ends.
        to: String,
        /// What it is like from now on.
        shape: Shape,
    },
    /// Cuts the line from one region to another; the way back stays.
    Cut {
        /// Where it begins.
        from: String,
        /// Where it ends.
        to: String,
    },
    /// Heals the line from one region to another.
    Heal {
        /// Where it begins.
        from: String,
        /// Where it ends.
        to: String,
    },
    /// Cuts every line between these regions and all others, both ways; an observer stays
    /// connected to all.
    Part {
        /// The regions of one side.
        side: Vec<String>,
    },
    /// Heals every line.
    HealAll,
    /// Sends packets for one address to a region, whatever its prefix says.
    Route {
        /// The address.
        address: Ipv4Addr,
        /// Where it is now.
        region: String,
    },
    /// Says what passed and what was lost. Lateness begins anew.
    Report,
}

/// Why an order was not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum OrderError {
    /// A region that the emulator does not know.
    #[error("there is no region {name}; there are {}", known.join(", "))]
    UnknownRegion {
        /// The name asked for.
        name: String,
        /// All names.
        known: Vec<String>,
    },
    /// A region has no line to itself.
    #[error("{name} has no line to itself; name two regions")]
    SameRegion {
        /// The name given twice.
        name: String,
    },
    /// It has ended.
    #[error("the emulator has ended")]
    Ended,
    /// Only over the socket: the line is no order.
    #[error("not an order: {reason}")]
    Unreadable {
        /// What the reader says.
        reason: String,
    },
}

/// What passed and what was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Each line that carried anything.
    pub lines: Vec<NamedLine>,
    /// How late packets left since the last report.
    pub lateness: LatenessReport,
    /// Packets for an address of no region, or of the region they came from.
    pub unroutable: u64,
    /// Packets that a region's device did not take.
    pub refused: u64,
    /// Packets under way.
    pub under_way: u64,
    /// What the emulator's thread has used of a core, in microseconds.
    pub cpu_us: u64,
}

/// A line's report with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLine {
    /// Where it begins.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// What it did.
    #[serde(flatten)]
    pub line: LineReport,
}

impl Report {
    /// The line from one region to another; all zero when it carried nothing.
    #[must_use]
    pub fn line(&self, from: &str, to: &str) -> LineReport {
        let mut lines = self.lines.iter();
        let found = lines.find(|line| line.from == from && line.to == to);
        found.map(|found| found.line).unwrap_or_default()
    }
}
