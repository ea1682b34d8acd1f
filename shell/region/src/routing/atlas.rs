//! Where clients are, from a file of places in MaxMind's format (mmdb): GeoLite2, DB-IP, IPinfo
//! and whatever has their keys.
//!
//! A file is read once and whole, and becomes ranges of addresses and as many cells as its places
//! need; after that it is not looked at. A cell is a square of 5 degrees, told by the middle of
//! what lies in it, or a country where the file says no more. So a table has a few hundred cells
//! and not a million places, and a newer file of the same kind has nearly the same.
//!
//! A file that cannot be used stops the start. While the daemon runs, one that changed is read
//! anew, and one that cannot be used leaves the last good one where it is, and is told of.
//!
//! Rejected: looking each client up in the file (0.8 us, and a page of a file in a request's
//! way); a cell for each place (a table of a million); the mapped file (one that is written over
//! while it is mapped ends the daemon).

mod record;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod written;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dwcp_edge::{Clients, InOrder, Network, OutOfOrder};
use dwcp_router::{Spot, country_spot};
use dwcp_runtime::stamp::Stamp;
use dwcp_types::Timestamp;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};

use self::record::{Place, Record};

/// Largest file: twice the largest that is sold.
const FILE_LEN_MAX: u64 = 1 << 30;
/// Ranges of addresses, 20 bytes each: GeoIP2 City has 5 million networks, many in one cell.
const RANGES_MAX: usize = 16 << 20;
/// How often a tree is met: by itself, and where IPv6 has the networks of IPv4 once more.
const ALIASES_MAX: u64 = 8;
/// Those places, which say nothing new: IPv4 in IPv6 form, Teredo and 6to4.
const ALIASES: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];
/// Degrees that a square measures.
const SQUARE: f64 = 5.0;
/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// Why a file of places cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AtlasError {
    /// It cannot be read.
    #[error(
        "cannot read the places of clients in {path}: {source}; put the file there, or take `mmdb` out of `routing.clients`"
    )]
    Read { path: PathBuf, source: io::Error },
    /// It is too large.
    #[error(
        "{path} has {len} bytes, more than the {FILE_LEN_MAX} of any file of places; is it the right file?"
    )]
    Large { path: PathBuf, len: u64 },
    /// It is no such file, or damaged.
    #[error(
        "{path} is no sound file of places (mmdb): {reason}; copy it again, whole, and rename it into place"
    )]
    Unsound { path: PathBuf, reason: String },
    /// It says something else of addresses.
    #[error(
        "{path} is of the type {kind:?} and says of no network where it is; use a file of cities or countries"
    )]
    Placeless { path: PathBuf, kind: String },
}

/// What a file says.
#[derive(Debug)]
pub(crate) struct Atlas {
    path: PathBuf,
    /// What it calls itself: `GeoLite2-City`.
    kind: String,
    built: Timestamp,
    /// Where each cell is.
    spots: Vec<Spot>,
    /// Which cell an address is in.
    clients: Clients,
}

/// What a cell is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Square {
    /// By its southern and western side, in squares.
    Of(i16, i16),
    Country(String),
}

/// A cell while a file is read: the sum of its places' degrees, and how many they are.
#[derive(Clone, Copy, Debug)]
struct Sum {
    number: u32,
    latitude: f64,
    longitude: f64,
    places: f64,
}

impl Atlas {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, AtlasError> {
        let read = |source| AtlasError::Read { path: path.to_owned(), source };
        let len = fs::metadata(path).map_err(read)?.len();
        if len > FILE_LEN_MAX {
            return Err(AtlasError::Large { path: path.to_owned(), len });
        }
        Self::of(path, fs::read(path).map_err(read)?)
    }

    fn of(path: &Path, bytes: Vec<u8>) -> Result<Self, AtlasError> {
        let unsound = |error: MaxMindDbError| AtlasError::Unsound {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let reader = Reader::from_source(bytes).map_err(unsound)?;
        let metadata = reader.metadata();
        let (kind, built) = (metadata.database_type.clone(), metadata.build_epoch);
        let mut drawing = Drawing::default();
        // A sound tree has one end more than nodes, and is met a few times more by its aliases; a
        // damaged one may never end, which is seen only when every end is shown.
        let all = WithinOptions::default()
            .include_aliased_networks()
            .include_networks_without_data();
        let nodes = u64::from(metadata.node_count);
        let mut left = nodes.saturating_add(1).saturating_mul(ALIASES_MAX);
        for found in reader.networks(all).map_err(unsound)? {
            let found = found.map_err(unsound)?;
            left = left.checked_sub(1).ok_or_else(|| AtlasError::Unsound {
                path: path.to_owned(),
                reason: "its tree has more networks than nodes".to_owned(),
            })?;
            drawing.draw(&found).map_err(|reason| AtlasError::Unsound {
                path: path.to_owned(),
                reason,
            })?;
        }
        if drawing.cells.is_empty() {
            return Err(AtlasError::Placeless { path: path.to_owned(), kind });
        }
        let built = Timestamp::from_millis(built.saturating_mul(1_000));
        let (spots, clients) = drawing.done();
        Ok(Self { path: path.to_owned(), kind, built, spots, clients })
    }

    /// Where its cells are, in the order of their numbers.
    pub(super) fn spots(&self) -> &[Spot] {
        &self.spots
    }

    /// Its networks, numbered from the first cell's number, with others over them.
    pub(super) fn under(
        &self,
        networks: &[Network],
        first: u32,
        elsewhere: u32,
    ) -> Clients {
        self.clients.under(networks, |cell| match cell {
            Clients::NOWHERE => elsewhere,
            cell => first.saturating_add(cell),
        })
    }

    /// Its cell of an address, where the file knows it, and what is told of that.
    pub(super) fn find(&self, address: IpAddr, now: Timestamp) -> Option<(u32, String)> {
        let (cell, bits) = self.clients.find(address);
        let spot = usize::try_from(cell).ok().and_then(|at| self.spots.get(at))?;
        let Spot { latitude, longitude } = spot;
        let told = format!(
            "{address} in its /{bits} near {latitude:.0},{longitude:.0} by {}",
            self.told(now)
        );
        Some((cell, told))
    }

    /// Which file it is, and how old.
    pub(super) fn told(&self, now: Timestamp) -> String {
        let days = now.as_millis().saturating_sub(self.built.as_millis()) / DAY_MS;
        let (path, kind) = (self.path.display(), &self.kind);
        format!("{path} ({kind}, built {days} days ago)")
    }

    /// How much it is.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.spots.len(), self.clients.ranges())
    }
}

/// What is put together while a file is read.
#[derive(Debug, Default)]
struct Drawing {
    cells: BTreeMap<Square, Sum>,
    /// Cells of records that were read already, by where they lie in the file.
    known: HashMap<usize, Option<u32>>,
    clients: InOrder,
}

impl Drawing {
    fn draw<S: AsRef<[u8]>>(
        &mut self,
        found: &maxminddb::LookupResult<'_, S>,
    ) -> Result<(), String> {
        let Some(offset) = found.offset() else { return Ok(()) };
        let cell = match self.known.get(&offset) {
            Some(cell) => *cell,
            None => {
                let record = found.decode::<Record>().map_err(|e| e.to_string())?;
                let cell = record.and_then(|record| self.place(&record.place()?));
                self.known.insert(offset, cell);
                cell
            }
        };
        let Some(cell) = cell else { return Ok(()) };
        let network = found.network().map_err(|error| error.to_string())?;
        if is_alias(network.ip()) {
            return Ok(());
        }
        let network = Network { address: network.ip(), len: network.prefix(), cell };
        self.clients.push(network).map_err(|error: OutOfOrder| error.to_string())?;
        if self.clients.ranges() > RANGES_MAX {
            return Err(format!("it has more than {RANGES_MAX} ranges of addresses"));
        }
        Ok(())
    }

    /// The number of the cell of a place, which then counts for where the cell is.
    fn place(&mut self, place: &Place) -> Option<u32> {
        let (square, spot) = match place {
            Place::Spot(spot) => (square(*spot), *spot),
            Place::Country(code) => {
                (Square::Country(code.to_ascii_uppercase()), country_spot(code)?)
            }
        };
        let number = u32::try_from(self.cells.len()).ok()?;
        let sum = self.cells.entry(square).or_insert(Sum {
            number,
            latitude: 0.0,
            longitude: 0.0,
            places: 0.0,
        });
        sum.latitude += spot.latitude;
        sum.longitude += spot.longitude;
        sum.places += 1.0;
        Some(sum.number)
    }

    /// Cells in the order of their numbers, told by whole degrees, so that the next file of the
    /// same kind has the same.
    fn done(self) -> (Vec<Spot>, Clients) {
        let mut sums: Vec<Sum> = self.cells.into_values().collect();
        sums.sort_unstable_by_key(|sum| sum.number);
        let spot = |sum: &Sum| Spot {
            latitude: (sum.latitude / sum.places).round(),
            longitude: (sum.longitude / sum.places).round(),
        };
        (sums.iter().map(spot).collect(), self.clients.done())
    }
}

fn is_alias(address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else { return false };
    ALIASES.iter().any(|(base, bits)| {
        (address.to_bits() ^ base.to_bits()).checked_shr(128 - bits) == Some(0)
    })
}

fn square(spot: Spot) -> Square {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within 180 degrees, which whoever read it has looked at"
    )]
    let side = |degrees: f64| (degrees / SQUARE).floor() as i16;
    Square::Of(side(spot.latitude), side(spot.longitude))
}

/// A file of places that is followed while it changes.
#[derive(Debug)]
pub(crate) struct AtlasFile {
    path: PathBuf,
    now: Mutex<Followed>,
}

#[derive(Clone, Debug)]
struct Followed {
    stamp: Option<Stamp>,
    atlas: Arc<Atlas>,
    /// Why the file as it is now cannot be used.
    refused: Option<String>,
}

/// What came of a look at the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Same,
    Taken,
    Refused(String),
}

impl AtlasFile {
    /// Reads it for the first time.
    pub(crate) fn open(path: &Path) -> Result<Self, AtlasError> {
        // Before reading: a change while reading is seen next time.
        let stamp = Stamp::of(path);
        let atlas = Arc::new(Atlas::read(path)?);
        let now = Mutex::new(Followed { stamp, atlas, refused: None });
        Ok(Self { path: path.to_owned(), now })
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Followed> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last good one.
    pub(crate) fn atlas(&self) -> Arc<Atlas> {
        self.now().atlas.clone()
    }

    /// What to know of it.
    pub(super) fn note(&self, now: Timestamp) -> String {
        let Followed { atlas, refused, .. } = self.now().clone();
        let (cells, ranges) = atlas.size();
        let told = atlas.told(now);
        let note = format!(
            "clients that are in no network of `routing.clients` are where {told} says: \
             {ranges} ranges of addresses in {cells} cells"
        );
        match refused {
            Some(reason) => {
                format!("{note}; the file has changed and was not taken: {reason}")
            }
            None => note,
        }
    }

    /// Reads it again if it has changed. Takes seconds of CPU for a large file.
    pub(super) fn look(&self) -> Look {
        let stamp = Stamp::of(&self.path);
        if self.now().stamp == stamp {
            return Look::Same;
        }
        let read = Atlas::read(&self.path);
        let mut now = self.now();
        now.stamp = stamp;
        match read {
            Ok(atlas) => {
                (now.atlas, now.refused) = (Arc::new(atlas), None);
                Look::Taken
            }
            Err(error) => {
                let reason = error.to_string();
                now.refused = Some(reason.clone());
                Look::Refused(reason)
            }
        }
    }
}
