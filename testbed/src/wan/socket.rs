//! The emulator's orders over a socket of the machine: a line of JSON each, answered by one.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::bed::Bed;
use super::order::{Order, OrderError, Report};

/// Longest order: a partition names every region once.
const LINE_MAX: u64 = 64 << 10;
/// Longest answer: the report of all lines between 50 regions, 200 bytes each.
const ANSWER_MAX: u64 = 1 << 20;
/// How long either end waits for the other's line; nobody else is heard meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// A place where a bed takes orders, one client after the other, until it is dropped. Only its
/// owner may connect.
#[derive(Debug)]
pub struct Door {
    path: PathBuf,
}

impl Door {
    /// Listens at this path.
    ///
    /// # Errors
    ///
    /// When the path is taken or cannot be made.
    pub fn open(path: &Path, bed: &Arc<Bed>) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let door = Self { path: path.to_owned() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        // It must not keep the bed: that ends with whoever made it.
        let bed = Arc::downgrade(bed);
        let thread = std::thread::Builder::new().name("wan-door".to_owned());
        thread.spawn(move || {
            // A client that breaks off harms only itself.
            while let Ok((client, _)) = listener.accept() {
                converse(&client, &bed).ok();
            }
        })?;
        Ok(door)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

fn converse(client: &UnixStream, bed: &Weak<Bed>) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(client);
    loop {
        let mut line = String::new();
        if (&mut lines).take(LINE_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str::<Order>(&line) {
            Ok(order) => {
                bed.upgrade().map_or(Err(OrderError::Ended), |bed| bed.give(order))
            }
            Err(error) => Err(OrderError::Unreadable { reason: error.to_string() }),
        };
        say(client, &answer)?;
    }
}

fn say<T: serde::Serialize>(mut to: &UnixStream, what: &T) -> io::Result<()> {
    let mut line = serde_json::to_string(what)?;
    line.push('\n');
    to.write_all(line.as_bytes())
}

/// Gives one order to the bed behind a socket: what came of it.
///
/// # Errors
///
/// When it cannot be reached or does not answer.
pub fn ask(path: &Path, order: &Order) -> io::Result<Result<Option<Report>, OrderError>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    say(&stream, order)?;
    let mut answer = String::new();
    BufReader::new(&stream).take(ANSWER_MAX).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
