//! A QMP client of our own: ids, out-of-band commands, events to whoever listens, and a time
//! limit for every command.
//!
//! `qapi` was rejected: its types come from one release of QEMU and refuse the replies of
//! another, it has no out-of-band commands and no time limits (HYPERVISOR.md section 7). A
//! command that timed out may still be carried out: callers look again instead of assuming.
//! A peer that sends more than [`GARBAGE_MAX`] lines that are no QMP, or an endless line, is
//! dropped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dwcp_vm::qmp::{Message, Mode, capabilities, decode, encode};
use dwcp_vm::{RunState, launch};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest line that is read: `query-qmp-schema`, the longest answer of QEMU 7.2, has 200 KiB.
const LINE_LEN_MAX: u64 = 1024 * 1024;
/// Lines in a row that may be no QMP before the peer is dropped.
pub const GARBAGE_MAX: u32 = 16;
/// Events that may wait for a slow listener.
const EVENTS_MAX: usize = 64;
/// The commands in use take milliseconds; a guest under emulation on a busy host has been
/// seen to take a second. After five the monitor counts as silent.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(5);
/// Time for what prepares and halts nothing, such as reading keys in a process that has just
/// started: where all cores were taken that took over five seconds.
const PREPARE_LIMIT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket.
    #[error("the monitor's socket: {0}")]
    Socket(#[from] io::Error),
    /// QEMU refused.
    #[error("{command} was refused: {reason} ({class})")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's class of error.
        class: String,
        /// QEMU's reason.
        reason: String,
    },
    /// No answer in time; it may still be carried out.
    #[error("{command} was not answered within {seconds} s")]
    Late {
        /// The command.
        command: String,
        /// The limit.
        seconds: u64,
    },
    /// The connection is gone.
    #[error("the monitor closed the connection")]
    Closed,
    /// What answers is no QEMU.
    #[error("what answers on the monitor's socket is not QEMU: {reason}")]
    NotQemu {
        /// Why.
        reason: String,
    },
    /// The answer has another form than expected.
    #[error("{command} was answered in a form that is not known: {reason}")]
    Form {
        /// The command.
        command: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Something that QEMU announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name, such as `SHUTDOWN`; empty when the connection closed.
    pub name: String,
    /// What belongs to it.
    pub payload: Value,
}

type Answer = Result<Value, (String, String)>;

/// What the reader shares with callers.
#[derive(Debug)]
struct Shared {
    /// `None` once the connection is gone.
    waiting: Mutex<Option<BTreeMap<u64, oneshot::Sender<Answer>>>>,
    events: broadcast::Sender<Event>,
}

/// A connection to one monitor. Dropping it closes it.
#[derive(Debug)]
pub struct Client {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    shared: Arc<Shared>,
    next_id: AtomicU64,
    oob: bool,
    version: (u64, u64, u64),
    limit: Duration,
    reader: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Client {
    /// Connects to the monitor of the guest whose folder this is.
    ///
    /// # Errors
    ///
    /// When nobody listens, or it is no QEMU, or it does not answer within `limit`.
    pub async fn connect(folder: &Path, limit: Duration) -> Result<Self, QmpError> {
        Self::connect_at(folder, launch::file::MONITOR, limit).await
    }

    /// The same at a socket of another name.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub async fn connect_at(
        folder: &Path,
        socket: &str,
        limit: Duration,
    ) -> Result<Self, QmpError> {
        // A socket's address has 107 bytes at most, a folder may be deeper: go through the
        // open folder's own entry under /proc.
        let open = File::open(folder)?;
        let path = format!("/proc/self/fd/{}/{socket}", open.as_raw_fd());
        let stream = UnixStream::connect(path).await?;
        timeout(limit, Self::greet(stream, limit)).await.unwrap_or_else(|_| {
            let command = "the greeting".to_owned();
            Err(QmpError::Late { command, seconds: limit.as_secs() })
        })
    }

    async fn greet(stream: UnixStream, limit: Duration) -> Result<Self, QmpError> {
        let (reader, writer) = stream.into_split();
        let mut lines = Lines::new(reader);
        let first = lines.next().await?.ok_or(QmpError::Closed)?;
        let (version, oob) = match decode(&first) {
            Ok(Message::Greeting { version, oob }) => (version, oob),
            Ok(_) => {
                return Err(QmpError::NotQemu { reason: "it does not greet".to_owned() });
            }
            Err(garbage) => {
                return Err(QmpError::NotQemu { reason: garbage.to_string() });
            }
        };
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let shared =
            Arc::new(Shared { waiting: Mutex::new(Some(BTreeMap::new())), events });
        let reader = tokio::spawn(read(lines, Arc::clone(&shared)));
        let client = Self {
            writer: tokio::sync::Mutex::new(writer),
            shared,
            next_id: AtomicU64::new(1),
            oob,
            version,
            limit,
            reader,
        };
        client.send("qmp_capabilities", capabilities(oob), Mode::InBand, limit).await?;
        Ok(client)
    }

    /// QEMU's version.
    #[must_use]
    pub const fn version(&self) -> (u64, u64, u64) {
        self.version
    }

    /// Whether the connection is still there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What QEMU announces from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Runs a command in its turn.
    ///
    /// # Errors
    ///
    /// When it is refused, late, or answered in another form than `T`.
    pub async fn execute<T: DeserializeOwned>(
        &self,
        command: &str,
        arguments: Value,
    ) -> Result<T, QmpError> {
        let value = self.send(command, arguments, Mode::InBand, self.limit).await?;
        form(command, value)
    }

    /// Runs a command that prepares something while nothing waits for it, with patience.
    ///
    /// # Errors
    ///
    /// As [`Client::execute`].
    pub async fn prepare(&self, command: &str, arguments: Value) -> Result<(), QmpError> {
        let limit = self.limit.max(PREPARE_LIMIT);
        self.send(command, arguments, Mode::InBand, limit).await?;
        Ok(())
    }

    /// Runs a command at once, also while an ordinary one hangs; in its turn where QEMU does
    /// not offer this.
    ///
    /// # Errors
    ///
    /// As [`Client::execute`].
    pub async fn execute_now<T: DeserializeOwned>(
        &self,
        command: &str,
        arguments: Value,
    ) -> Result<T, QmpError> {
        let mode = if self.oob { Mode::OutOfBand } else { Mode::InBand };
        form(command, self.send(command, arguments, mode, self.limit).await?)
    }

    /// What QEMU says of its guest.
    ///
    /// # Errors
    ///
    /// As [`Client::execute`].
    pub async fn status(&self) -> Result<RunState, QmpError> {
        #[derive(serde::Deserialize)]
        struct Status {
            status: RunState,
        }
        let answer: Status = self.execute("query-status", Value::Null).await?;
        Ok(answer.status)
    }

    async fn send(
        &self,
        command: &str,
        arguments: Value,
        mode: Mode,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        let mut ticket = Ticket { shared: &self.shared, id, open: false };
        ticket.open = ticket.with(|waiting| waiting.insert(id, tell)).is_some();
        if !ticket.open {
            return Err(QmpError::Closed);
        }
        let line = encode(id, command, arguments, mode);
        let exchange = async {
            self.writer.lock().await.write_all(&line).await?;
            told.await.map_err(|_| QmpError::Closed)
        };
        match timeout(limit, exchange).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err((class, reason)))) => {
                Err(QmpError::Refused { command: command.to_owned(), class, reason })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let seconds = limit.as_secs();
                Err(QmpError::Late { command: command.to_owned(), seconds })
            }
        }
    }
}

fn form<T: DeserializeOwned>(command: &str, value: Value) -> Result<T, QmpError> {
    serde_json::from_value(value).map_err(|error| QmpError::Form {
        command: command.to_owned(),
        reason: error.to_string(),
    })
}

/// A place among those who wait; given back however the wait ends, so that commands that
/// time out do not pile up.
struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
    open: bool,
}

impl Ticket<'_> {
    fn with<R>(
        &self,
        act: impl FnOnce(&mut BTreeMap<u64, oneshot::Sender<Answer>>) -> R,
    ) -> Option<R> {
        let mut waiting =
            self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut().map(act)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.open {
            self.with(|waiting| waiting.remove(&self.id));
        }
    }
}

/// Lines of bounded length.
struct Lines {
    reader: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl Lines {
    fn new(reader: OwnedReadHalf) -> Self {
        Self { reader: BufReader::new(reader), line: Vec::new() }
    }

    /// The next line; nothing at the end of the stream.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.line.clear();
        let mut bounded = (&mut self.reader).take(LINE_LEN_MAX);
        let length = bounded.read_until(b'\n', &mut self.line).await?;
        if length == 0 {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') && length as u64 == LINE_LEN_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a line of QMP is longer than 1 MiB",
            ));
        }
        Ok(Some(std::mem::take(&mut self.line)))
    }
}

async fn read(mut lines: Lines, shared: Arc<Shared>) {
    let mut garbage = 0;
    while let Ok(Some(line)) = lines.next().await {
        match decode(&line) {
            Ok(message) => {
                garbage = 0;
                deliver(message, &shared);
            }
            Err(_) => garbage += 1,
        }
        if garbage > GARBAGE_MAX {
            break;
        }
    }
    // Dropping the senders wakes everyone who waits with `Closed`.
    drop(shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).take());
    let closed = Event { name: String::new(), payload: Value::Null };
    drop(shared.events.send(closed));
}

fn deliver(message: Message, shared: &Shared) {
    let (id, answer) = match message {
        Message::Return { id, value } => (id, Ok(value)),
        Message::Error { id: Some(id), class, reason } => (id, Err((class, reason))),
        Message::Event { name, payload } => {
            // Nobody need listen.
            drop(shared.events.send(Event { name, payload }));
            return;
        }
        Message::Greeting { .. } | Message::Error { id: None, .. } => return,
    };
    let mut waiting = shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(tell) = waiting.as_mut().and_then(|waiting| waiting.remove(&id)) {
        // Whoever asked may have given up.
        drop(tell.send(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::net::UnixListener;

    const SHORT: Duration = Duration::from_millis(200);
    const GREETING: &str = r#"{"QMP":{"version":{"qemu":{"major":7,"minor":2,"micro":22}},"capabilities":["oob"]}}"#;

    /// A peer that answers each command by a script.
    async fn peer(
        script: impl Fn(&Value) -> Vec<String> + Send + 'static,
        greeting: &'static str,
    ) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let listener =
            UnixListener::bind(folder.path().join(launch::file::MONITOR)).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            writer.write_all(format!("{greeting}\n").as_bytes()).await.unwrap();
            let mut lines = Lines::new(reader);
            while let Ok(Some(line)) = lines.next().await {
                let command: Value = serde_json::from_slice(&line).unwrap();
                let mut answers = script(&command);
                if command["execute"] == "qmp_capabilities" {
                    answers =
                        vec![json!({"return": {}, "id": command["id"]}).to_string()];
                }
                for answer in answers {
                    if answer == "hang up" {
                        return;
                    }
                    if writer.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        });
        folder
    }

    fn status(command: &Value, status: &str) -> String {
        json!({"return": {"status": status, "new": [1]}, "id": command["id"]}).to_string()
    }

    #[tokio::test]
    async fn answers_find_their_questions_through_events_and_some_garbage() {
        let folder = peer(
            |command| {
                let event = json!({"event": "STOP", "timestamp": {}, "data": {}});
                let mut lines = vec!["garbage".to_owned(), event.to_string()];
                lines.push(status(command, "paused"));
                lines
            },
            GREETING,
        )
        .await;
        let client = Client::connect(folder.path(), COMMAND_LIMIT).await.unwrap();
        let mut events = client.events();
        assert_eq!(client.version(), (7, 2, 22));
        for _ in 0..40 {
            assert_eq!(client.status().await.unwrap(), RunState::Paused);
            assert_eq!(events.recv().await.unwrap().name, "STOP");
        }
    }

    #[tokio::test]
    async fn a_peer_of_garbage_is_dropped() {
        let garbage = |_: &Value| vec!["\u{7f}garbage".to_owned(); 100];
        let folder = peer(garbage, GREETING).await;
        let client = Client::connect(folder.path(), COMMAND_LIMIT).await.unwrap();
        assert!(matches!(client.status().await, Err(QmpError::Closed)));
        assert!(!client.is_open());
        assert!(matches!(client.status().await, Err(QmpError::Closed)));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_greet_like_qemu_is_not_qemu() {
        let folder = peer(|_| Vec::new(), "220 mail.example ESMTP").await;
        let refused = Client::connect(folder.path(), COMMAND_LIMIT).await.unwrap_err();
        assert!(matches!(refused, QmpError::NotQemu { .. }), "{refused}");
    }

    /// Greeted in time, however long that takes; then it waits for [`SHORT`] only.
    async fn impatient(folder: &tempfile::TempDir) -> Client {
        let mut client = Client::connect(folder.path(), COMMAND_LIMIT).await.unwrap();
        client.limit = SHORT;
        client
    }

    #[tokio::test]
    async fn a_hanging_peer_is_waited_for_only_so_long_and_leaves_nothing_behind() {
        let folder = peer(|_| Vec::new(), GREETING).await;
        let client = impatient(&folder).await;
        for _ in 0..3 {
            assert!(matches!(client.status().await, Err(QmpError::Late { .. })));
        }
        let waiting = client.shared.waiting.lock().unwrap();
        assert_eq!(waiting.as_ref().map(BTreeMap::len), Some(0));
    }

    #[tokio::test]
    async fn what_prepares_is_waited_for_longer_than_other_commands() {
        // Answers what prepares only with the third command.
        let seen = Mutex::new(Vec::new());
        let script = move |command: &Value| {
            let mut seen = seen.lock().unwrap();
            seen.push(command["id"].clone());
            let done = |id: &Value| json!({"return": {}, "id": id}).to_string();
            // The first is `qmp_capabilities`.
            if seen.len() < 4 {
                Vec::new()
            } else {
                vec![done(&seen[1]), status(command, "running")]
            }
        };
        let folder = peer(script, GREETING).await;
        let client = impatient(&folder).await;
        let others = async {
            assert!(matches!(client.status().await, Err(QmpError::Late { .. })));
            // Whether it is answered in time is the machine's business.
            drop(client.status().await);
        };
        let (prepared, ()) =
            tokio::join!(client.prepare("object-add", json!({})), others);
        prepared.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_wakes_who_waits() {
        let folder = peer(|_| vec!["hang up".to_owned()], GREETING).await;
        let client = Client::connect(folder.path(), COMMAND_LIMIT).await.unwrap();
        let mut events = client.events();
        assert!(matches!(client.status().await, Err(QmpError::Closed)));
        assert_eq!(events.recv().await.unwrap().name, "");
    }

    #[tokio::test]
    async fn a_refusal_carries_qemus_reason() {
        let folder = peer(
            |command| {
                let error = json!({"class": "CommandNotFound", "desc": "no such thing"});
                vec![json!({"error": error, "id": command["id"]}).to_string()]
            },
            GREETING,
        )
        .await;
        let client = Client::connect(folder.path(), COMMAND_LIMIT).await.unwrap();
        let error = client.execute::<Value>("frob", Value::Null).await.unwrap_err();
        assert!(error.to_string().contains("no such thing"), "{error}");
    }

    #[tokio::test]
    async fn an_out_of_band_command_overtakes_one_that_hangs() {
        let folder = peer(
            |command| {
                let urgent = command.get("exec-oob").is_some();
                if urgent { vec![status(command, "running")] } else { Vec::new() }
            },
            GREETING,
        )
        .await;
        let client = Client::connect(folder.path(), COMMAND_LIMIT).await.unwrap();
        let hanging = client.status();
        let urgent = client.execute_now::<Value>("query-status", Value::Null);
        tokio::select! {
            answer = hanging => panic!("{answer:?}"),
            answer = urgent => assert!(answer.is_ok()),
        }
    }
}
