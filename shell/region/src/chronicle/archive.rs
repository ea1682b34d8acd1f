//! The history of all regions on this daemon's disk: a folder a region, a file a segment.
//!
//! What is written is what the core hands out, each minute and when the daemon ends; nothing is
//! synced, so that a machine that loses its power loses the last minutes, and a daemon that is
//! killed the last minute. A file that is not as it was written is a gap: it is told once in the log,
//! counted, and read up to there. A file goes when there are more than its step keeps.
//!
//! Rejected: the region's store. All of it is read and verified when it is opened, and a disk that
//! fails ends the daemon: a history is worth neither.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use dwcp_monitor::history::{
    Cursor, Grain, History, Past, Piece, Query, Segment, SegmentId, restored,
};
use dwcp_types::{RegionId, Timestamp};
use tracing::{info, warn};

use crate::metrics::Metrics;

/// Longest file that is read. A segment whose places are written some times over has a tenth.
const FILE_LEN_MAX: u64 = 16 << 20;

/// See the module.
#[derive(Debug)]
pub struct Archive {
    folder: PathBuf,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How long the files are that this life wrote to.
    lens: BTreeMap<(RegionId, SegmentId), u64>,
    /// Files of which it was said that they are damaged.
    told: BTreeSet<(RegionId, SegmentId)>,
}

impl Archive {
    /// In this folder, made when it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(crate) fn open(folder: PathBuf, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let place = || format!("cannot keep the history in {}", folder.display());
        fs::create_dir_all(&folder).with_context(place)?;
        Ok(Self { folder, metrics, state: Mutex::default() })
    }

    /// What every region's history was, and up to which digest it reaches.
    pub(super) fn restore(
        &self,
        now: Timestamp,
    ) -> Vec<(RegionId, History, Option<Cursor>)> {
        let mut all = Vec::new();
        for name in names(&self.folder) {
            let Ok(region) = RegionId::new(&name) else { continue };
            let (mut history, mut reaches) = (History::default(), None);
            for id in restored(&self.segments(&region), now) {
                let segment = self.read(&region, id);
                reaches = history.restore(id, &segment).or(reaches);
            }
            all.push((region, history, reaches));
        }
        if !all.is_empty() {
            info!(regions = all.len(), "the history goes on where it was left");
        }
        all
    }

    /// What lies here of what is asked.
    pub(super) fn past(&self, region: &RegionId, query: &Query) -> Past {
        let mut past = Past::default();
        for id in query.segments() {
            past.take(query, id, self.read(region, id));
        }
        past
    }

    /// Writes pieces in their order; gives back what could not be written.
    pub(super) fn write(
        &self,
        region: &RegionId,
        pieces: Vec<Piece>,
        now: Timestamp,
    ) -> Vec<Piece> {
        let mut refused = Vec::new();
        let mut is_new = false;
        for piece in pieces {
            match self.append(region, &piece) {
                Ok(began) => is_new |= began,
                Err(reason) => {
                    warn!(%region, segment = %piece.segment, %reason, "a piece of the history is not written");
                    self.metrics.history("unwritten");
                    refused.push(piece);
                }
            }
        }
        if is_new {
            self.sweep(region, now);
        }
        refused
    }

    /// Writes one piece behind what is sound of its file; says whether the file is new.
    fn append(&self, region: &RegionId, piece: &Piece) -> io::Result<bool> {
        let id = piece.segment;
        let key = (region.clone(), id);
        // Held throughout: two that write at once would write at the same place.
        let mut state = self.state();
        let len = match state.lens.remove(&key) {
            Some(len) => len,
            // A file that cannot be read now is not written over.
            None => self.decoded(&mut state, region, id)?.sound_len,
        };
        let bytes = piece.encode(region, len);
        fs::create_dir_all(self.folder.join(region.as_str()))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let mut file = options.open(self.path(region, id))?;
        // What an attempt before left behind, or a crash.
        file.set_len(len)?;
        file.seek(SeekFrom::Start(len))?;
        file.write_all(&bytes)?;
        // Files of before are written to no more.
        state.lens.retain(|(of, other), _| {
            of != region
                || other.grain != id.grain
                || other.number.abs_diff(id.number) <= 1
        });
        let added = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        state.lens.insert(key, len.saturating_add(added));
        Ok(len == 0)
    }

    /// Deletes what is too much.
    fn sweep(&self, region: &RegionId, now: Timestamp) {
        let there = self.segments(region);
        for grain in Grain::ALL {
            let of = there.iter().filter(|id| id.grain == grain);
            for id in grain.surplus(of.map(|id| id.number).collect(), now) {
                let gone = fs::remove_file(self.path(region, id));
                if let Err(reason) = gone {
                    warn!(%region, segment = %id, %reason, "an old segment stays");
                }
                let mut state = self.state();
                state.told.remove(&(region.clone(), id));
                state.lens.remove(&(region.clone(), id));
            }
        }
    }

    fn segments(&self, region: &RegionId) -> Vec<SegmentId> {
        let names = names(&self.folder.join(region.as_str()));
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// Reads one; a file that is not there is empty.
    fn read(&self, region: &RegionId, id: SegmentId) -> Segment {
        // Nobody writes to it meanwhile: half a frame would look like damage.
        let read = self.decoded(&mut self.state(), region, id);
        read.unwrap_or_else(|reason| {
            warn!(%region, segment = %id, %reason, "a segment of the history is a gap");
            self.metrics.history("unreadable");
            Segment::default()
        })
    }

    fn decoded(
        &self,
        state: &mut State,
        region: &RegionId,
        id: SegmentId,
    ) -> io::Result<Segment> {
        let path = self.path(region, id);
        let bytes = match bytes(&path) {
            Ok(bytes) => bytes,
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(reason) => return Err(reason),
        };
        let segment = Segment::decode(region, id, &bytes);
        if segment.is_damaged && state.told.insert((region.clone(), id)) {
            let (sound, of) = (segment.sound_len, bytes.len());
            warn!(file = %path.display(), sound, of, "a segment of the history is damaged: the rest of it is a gap");
            self.metrics.history("damaged");
        }
        Ok(segment)
    }

    fn path(&self, region: &RegionId, id: SegmentId) -> PathBuf {
        self.folder.join(region.as_str()).join(id.to_string())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > FILE_LEN_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is longer than any is",
        ));
    }
    fs::read(path)
}

/// Names in a folder; none when it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use dwcp_monitor::digest::Digest;

    use super::*;

    const TEN_S: u64 = 10_000;

    fn region() -> RegionId {
        RegionId::new("one").unwrap()
    }

    fn at(step: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + step * TEN_S)
    }

    fn open(folder: &Path) -> Archive {
        let metrics = Arc::new(Metrics::new(region()));
        Archive::open(folder.join("history"), metrics).unwrap()
    }

    fn measured(history: &mut History, steps: std::ops::Range<u64>) {
        let digest = Digest { every_ms: TEN_S, ..Digest::default() };
        steps.for_each(|step| history.record(at(step), &digest));
    }

    fn digests(archive: &Archive, now: Timestamp) -> u32 {
        let [(_, history, _)] = &archive.restore(now)[..] else { return 0 };
        let query = Query::last(std::time::Duration::from_hours(2), now);
        history.window(&query, &Past::default()).digests()
    }

    #[test]
    fn another_life_has_what_was_written_and_goes_on_behind_what_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let archive = open(folder.path());
        let mut history = History::default();
        for step in 0..4 {
            measured(&mut history, step * 6..step * 6 + 6);
            let pieces = history.pieces(None, at(step * 6 + 5));
            assert!(archive.write(&region(), pieces, at(step * 6 + 5)).is_empty());
        }
        let archive = open(folder.path());
        assert_eq!(digests(&archive, at(24)), 24);
        // The last bytes of the file are lost in a crash.
        let file = archive.path(&region(), archive.segments(&region())[0]);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        let archive = open(folder.path());
        assert_eq!(digests(&archive, at(24)), 18, "the last minute is a gap");
        let (_, mut history, _) = archive.restore(at(24)).remove(0);
        measured(&mut history, 24..30);
        let pieces = history.pieces(None, at(30));
        assert!(archive.write(&region(), pieces, at(30)).is_empty());
        assert_eq!(digests(&open(folder.path()), at(30)), 24);
    }

    #[test]
    fn what_cannot_be_written_is_given_back_and_the_daemon_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let archive = open(folder.path());
        let mut history = History::default();
        measured(&mut history, 0..6);
        // Its folder is a file.
        let place = folder.path().join("history").join("one");
        fs::write(&place, "in the way").unwrap();
        let refused = archive.write(&region(), history.pieces(None, at(6)), at(6));
        assert_eq!(refused.len(), 1);
        refused.into_iter().for_each(|piece| history.take_back(piece));
        fs::remove_file(&place).unwrap();
        assert!(archive.write(&region(), history.pieces(None, at(6)), at(6)).is_empty());
        assert_eq!(digests(&archive, at(6)), 6);
    }

    #[test]
    fn what_is_too_much_goes_by_whole_files() {
        let folder = tempfile::tempdir().unwrap();
        let archive = open(folder.path());
        let mut history = History::default();
        for hour in 0..12_u64 {
            let steps = hour * 360..hour * 360 + 360;
            let now = at(steps.end - 1);
            measured(&mut history, steps);
            assert!(archive.write(&region(), history.pieces(None, now), now).is_empty());
        }
        let there = archive.segments(&region());
        let fine = there.iter().filter(|id| id.grain == Grain::TenSeconds);
        assert_eq!(fine.count(), 4);
    }
}
