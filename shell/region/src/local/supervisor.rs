//! Keeps the local federation's programs running until told to stop.
//!
//! One task a program: start, wait, start again after a pause when it died. All of them end
//! when the stop signal comes, and stop their processes side by side.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::process::{Program, Started, record};

/// Pause before a program that died is started again: long enough not to spin, short enough
/// to be back within the failover budget.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// What a supervisor tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A program runs.
    Up(Started),
    /// A program ended although nobody asked it to.
    Died {
        /// Which.
        name: String,
        /// How, in words.
        how: String,
    },
    /// A program could not be started at all.
    Failed {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
}

/// Runs one program until `stop` turns true.
pub(super) async fn keep(
    program: Program,
    notices: mpsc::Sender<Notice>,
    mut stop: watch::Receiver<bool>,
) {
    let name = program.name.clone();
    loop {
        let notice = match program.start() {
            Err(error) => Notice::Failed { name: name.clone(), why: error.to_string() },
            Ok(mut child) => {
                let started = child
                    .id()
                    .and_then(|pid| i32::try_from(pid).ok())
                    .and_then(|pid| Started::of(&name, pid));
                if let Some(started) = &started
                    && notices.send(Notice::Up(started.clone())).await.is_err()
                {
                    return;
                }
                tokio::select! {
                    ended = child.wait() => Notice::Died {
                        name: name.clone(),
                        how: ended.map_or_else(|error| error.to_string(), |s| s.to_string()),
                    },
                    () = told(&mut stop) => {
                        if let Some(started) = started {
                            // Reaps the child while it is being stopped.
                            tokio::join!(started.stop(), async { child.wait().await.ok() });
                        }
                        return;
                    }
                }
            }
        };
        if notices.send(notice).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(RESTART_PAUSE) => {}
            () = told(&mut stop) => return,
        }
    }
}

/// Waits until told to stop; an owner that is gone has no more use for the program either.
async fn told(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
}

/// Keeps the record of running processes true while notices come in.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    running: Vec<Started>,
}

impl Book {
    /// Begins an empty record.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, running: Vec::new() }
    }

    /// Takes a notice into the record.
    ///
    /// # Errors
    ///
    /// When the record cannot be written.
    pub(super) fn take(&mut self, notice: &Notice) -> std::io::Result<()> {
        match notice {
            Notice::Up(started) => {
                self.running.retain(|other| other.name != started.name);
                self.running.push(started.clone());
            }
            Notice::Died { name, .. } | Notice::Failed { name, .. } => {
                self.running.retain(|other| &other.name != name);
            }
        }
        record(&self.path, &self.running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::process::recorded;

    #[tokio::test]
    async fn a_program_that_dies_is_started_again_and_stops_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let program = Program {
            name: "short".to_owned(),
            path: "/bin/sh".into(),
            args: vec!["-c".to_owned(), "exit 3".to_owned()],
            log: folder.path().join("log"),
        };
        let (notices, mut seen) = mpsc::channel(16);
        let (stop, stopped) = watch::channel(false);
        let keeper = tokio::spawn(keep(program, notices, stopped));
        let mut deaths = 0;
        while deaths < 2 {
            if let Some(Notice::Died { how, .. }) = seen.recv().await {
                assert!(how.contains('3'), "{how}");
                deaths += 1;
            }
        }
        stop.send(true).unwrap();
        keeper.await.unwrap();
    }

    #[test]
    fn the_record_holds_only_what_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("processes.json");
        let mut book = Book::new(path.clone());
        let started = Started { name: "a".to_owned(), pid: 7, start_ticks: 1 };
        book.take(&Notice::Up(started.clone())).unwrap();
        assert_eq!(recorded(&path).unwrap(), vec![started]);
        book.take(&Notice::Died { name: "a".to_owned(), how: String::new() }).unwrap();
        assert_eq!(recorded(&path).unwrap(), Vec::new());
    }
}
