//! The faults, and how each strikes and heals.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::REGIONS;
use crate::Federation;
use crate::wan::{Bed, Links, Shape};

/// A clock that is wrong is wrong by so much, before or behind.
const STEP_S: i64 = 60 * 60;
/// What a slow way has beside its length: it is longer by this each way,
const SLOW_BY: Duration = Duration::from_millis(200);
/// loses so many packets of a million,
const SLOW_LOSS_PPM: u32 = 30_000;
/// and is so narrow, with a queue that takes half a second to pass.
const SLOW_MBPS: u32 = 2;
const SLOW_QUEUE_BYTES: u64 = 125_000;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process is killed, and started again when it heals.
    Kill,
    /// A process is stopped by a signal: its connections stay, and are silent.
    Freeze,
    /// A region hears all others and none hears it, or the other way round.
    OneWay,
    /// A region is cut off from all others.
    TwoWay,
    /// All ways to and from a region are slow, narrow and lossy.
    Slow,
    /// The disk of a process has no byte left.
    Disk,
    /// The clock of a process is an hour ahead, or behind.
    Clock,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 7] = [
        Self::Kill,
        Self::Freeze,
        Self::OneWay,
        Self::TwoWay,
        Self::Slow,
        Self::Disk,
        Self::Clock,
    ];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::OneWay => "one-way",
            Self::TwoWay => "two-way",
            Self::Slow => "slow",
            Self::Disk => "disk",
            Self::Clock => "clock",
        }
    }

    /// The processes that it strikes; none where it strikes a region's ways.
    #[must_use]
    pub const fn parts(self) -> &'static [Part] {
        match self {
            Self::Kill | Self::Freeze => &[Part::Daemon, Part::Agent, Part::Member],
            // The members of etcd ask the kernel for the time, and their disks are not small.
            Self::Disk | Self::Clock => &[Part::Daemon, Part::Agent],
            Self::OneWay | Self::TwoWay | Self::Slow => &[],
        }
    }

    /// Whether it cuts ways.
    #[must_use]
    pub const fn cuts(self) -> bool {
        matches!(self, Self::OneWay | Self::TwoWay)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            format!("there is no fault {text:?}; there are {}", names.join(", "))
        })
    }
}

/// A process of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its daemon.
    Daemon,
    /// The agent of its host.
    Agent,
    /// Its member of etcd.
    Member,
}

/// A fault with all that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// To which region, or in which.
    pub region: String,
    /// To which of its processes, where the kind strikes one.
    pub part: Part,
    /// The other way round: what it does not hear is lost; its clock is behind.
    pub turned: bool,
}

impl Fault {
    /// The process that is struck; none where a region's ways are.
    #[must_use]
    pub fn process(&self) -> Option<String> {
        if self.kind.parts().is_empty() {
            return None;
        }
        Some(match self.part {
            Part::Daemon => self.region.clone(),
            Part::Agent => format!("{}-h1", self.region),
            Part::Member => format!("etcd-{}", self.region),
        })
    }

    fn victim(&self) -> String {
        self.process().unwrap_or_default()
    }

    /// Lets it happen.
    pub(super) fn strike(&self, bed: &Bed, federation: &mut Federation, links: &Links) {
        let who = self.victim();
        match self.kind {
            Kind::Kill => {
                let process = federation.process(&who);
                if process.has_ended() {
                    process.forget_ended();
                } else if process.was_started() {
                    process.kill_9();
                }
            }
            Kind::Freeze => {
                let process = federation.process(&who);
                if process.was_started() && !process.has_ended() {
                    process.freeze();
                }
            }
            Kind::OneWay if self.turned => {
                self.others().for_each(|other| bed.cut_way(other, &self.region));
            }
            Kind::OneWay => {
                self.others().for_each(|other| bed.cut_way(&self.region, other));
            }
            Kind::TwoWay => self.others().for_each(|other| bed.cut(&self.region, other)),
            Kind::Slow => self.shape(bed, links, slow),
            Kind::Disk => federation.disk(&who).fill(),
            Kind::Clock => {
                step(federation, &who, if self.turned { -STEP_S } else { STEP_S });
            }
        }
    }

    /// Ends it.
    pub(super) fn heal(&self, bed: &Bed, federation: &mut Federation, links: &Links) {
        let who = self.victim();
        match self.kind {
            Kind::Kill => {
                let process = federation.process(&who);
                if !process.was_started() {
                    process.start();
                }
            }
            Kind::Freeze => {
                let process = federation.process(&who);
                if process.was_started() && !process.has_ended() {
                    process.thaw();
                }
            }
            Kind::OneWay | Kind::TwoWay => {
                self.others().for_each(|other| bed.heal(&self.region, other));
            }
            Kind::Slow => self.shape(bed, links, |shape| shape),
            Kind::Disk => federation.disk(&who).empty(),
            Kind::Clock => step(federation, &who, 0),
        }
    }

    /// Gives all ways to and from the region a shape that comes of the one they have else.
    fn shape(&self, bed: &Bed, links: &Links, of: fn(Shape) -> Shape) {
        let usual = |from: &str, to: &str| {
            let mut all = links.iter();
            let found = all.find(|(one, other, _)| (*one, *other) == (from, to));
            found.map_or_else(Shape::default, |(_, _, shape)| shape)
        };
        for other in self.others() {
            for (from, to) in [(other, &*self.region), (&*self.region, other)] {
                bed.shape(from, to, of(usual(from, to)));
            }
        }
    }

    fn others(&self) -> impl Iterator<Item = &'static str> {
        REGIONS.into_iter().filter(|other| *other != self.region)
    }
}

fn slow(shape: Shape) -> Shape {
    let delay_us = shape.delay_us + Shape::delay(SLOW_BY).delay_us;
    Shape { delay_us, ..shape }
        .loss_ppm(SLOW_LOSS_PPM)
        .rate_mbps(SLOW_MBPS)
        .queue_bytes(SLOW_QUEUE_BYTES)
}

fn step(federation: &Federation, who: &str, seconds: i64) {
    federation.clock(who).step(seconds).expect("the test's folder can be written");
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, region, turned, .. } = self;
        match (kind, self.process()) {
            (Kind::Clock, Some(who)) => {
                write!(f, "clock of {who} {}", if *turned { "-1 h" } else { "+1 h" })
            }
            (_, Some(who)) => write!(f, "{kind} {who}"),
            (Kind::OneWay, None) if *turned => write!(f, "{region} hears none"),
            (Kind::OneWay, None) => write!(f, "none hears {region}"),
            (_, None) => write!(f, "{kind} {region}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_by_its_name_and_a_wrong_one_lists_them() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("flood".parse::<Kind>().unwrap_err().contains("one-way, two-way"));
    }

    #[test]
    fn a_fault_says_whom_it_strikes_and_how() {
        let fault = |kind, turned| {
            let region = "eu-west-1".to_owned();
            Fault { kind, region, part: Part::Agent, turned }.to_string()
        };
        assert_eq!(fault(Kind::Freeze, false), "freeze eu-west-1-h1");
        assert_eq!(fault(Kind::Clock, true), "clock of eu-west-1-h1 -1 h");
        assert_eq!(fault(Kind::OneWay, true), "eu-west-1 hears none");
        assert_eq!(fault(Kind::TwoWay, false), "two-way eu-west-1");
    }
}
