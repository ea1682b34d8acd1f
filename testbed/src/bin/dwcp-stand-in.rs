//! `dwcp-stand-in`: a process that stands in for QEMU, started by an agent like it, steered by
//! the same monitor, and ended like it by agents and watchdogs; no guest runs in it.
//!
//! So a test bed has guests that are real processes, at no cost, and knows of each whether it
//! runs: while its CPUs would run it holds a lock that is the VM's, in the folder that
//! [`GUESTS`] names. The kernel gives the lock up when the process ends, however that comes. So
//! two at once are seen without any clock and without looking at the right moment: the second
//! cannot have the lock, says so in the journal beside it, and runs on.
//!
//! Moves and copies are not stood in for: it knows of no such command.
#![expect(clippy::print_stdout, reason = "what it was asked for")]
#![expect(clippy::print_stderr, reason = "where a program complains")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use dwcp_testbed::stand_in::{GUESTS, JOURNAL, VERSION, lock_of};
use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Of a guest's folder, as the agent names them.
const MONITOR: &str = "qmp.sock";
const CONSOLE: &str = "console.log";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--version") {
        println!("QEMU emulator version {VERSION} (a stand-in of the test bed)");
        return ExitCode::SUCCESS;
    }
    match Guest::of(&args).and_then(|guest| guest.serve(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the stand-in for QEMU: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What QEMU says of its guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Prelaunch,
    Running,
    Paused,
    Shutdown,
}

impl Run {
    const fn name(self) -> &'static str {
        match self {
            Self::Prelaunch => "prelaunch",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Shutdown => "shutdown",
        }
    }
}

struct State {
    run: Run,
    /// Held while it runs.
    lock: Option<File>,
    monitors: Vec<UnixStream>,
}

struct Guest {
    vm: String,
    host: String,
    folder: PathBuf,
    /// Where locks and the journal are.
    watched_in: Option<PathBuf>,
    state: Mutex<State>,
    /// Locked for as long as the process lives, as QEMU has it.
    _pid: File,
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

fn after<'a>(args: &'a [String], flag: &str) -> Option<&'a str> {
    args.iter()
        .zip(args.iter().skip(1))
        .find(|(it, _)| *it == flag)
        .map(|(_, it)| it.as_str())
}

/// Waits for nobody: the lock, or that another has it.
fn locked(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn opened(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

impl Guest {
    fn of(args: &[String]) -> io::Result<Arc<Self>> {
        let pid_file =
            after(args, "-pidfile").ok_or_else(|| wrong("there is no -pidfile"))?;
        let pid_file = Path::new(pid_file);
        let name = after(args, "-name").and_then(|name| name.strip_prefix("guest="));
        let vm = name.ok_or_else(|| wrong("there is no -name guest=VM"))?.to_owned();
        // DATA/HOST/guests/VM/PID
        let folder =
            pid_file.parent().ok_or_else(|| wrong("the pid file has no folder"))?;
        let host =
            folder.ancestors().nth(2).and_then(Path::file_name).unwrap_or_default();
        let mut pid = opened(pid_file)?;
        if !locked(&pid)? {
            return Err(wrong("another process has the pid file"));
        }
        pid.set_len(0)?;
        writeln!(pid, "{}", std::process::id())?;
        let state = State { run: Run::Prelaunch, lock: None, monitors: Vec::new() };
        Ok(Arc::new(Self {
            vm,
            host: host.to_string_lossy().into_owned(),
            folder: folder.to_owned(),
            watched_in: std::env::var_os(GUESTS).map(PathBuf::from),
            state: Mutex::new(state),
            _pid: pid,
        }))
    }

    fn serve(self: &Arc<Self>, args: &[String]) -> io::Result<()> {
        // Its working folder is the guest's: a socket's whole path may be too long.
        let listener = UnixListener::bind(MONITOR)?;
        self.note("began")?;
        if !args.iter().any(|arg| arg == "-S") {
            self.go()?;
        }
        for stream in listener.incoming() {
            let (guest, stream) = (Arc::clone(self), stream?);
            std::thread::spawn(move || {
                // Whoever asked is gone, which is no matter of the guest.
                drop(guest.converse(&stream));
            });
        }
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One line, whole: of many processes that add lines none cuts another's.
    fn note(&self, what: &str) -> io::Result<()> {
        let Some(folder) = &self.watched_in else { return Ok(()) };
        let time = clock_gettime(ClockId::Boottime);
        let (vm, host, pid) = (&self.vm, &self.host, std::process::id());
        let ms = time.tv_sec * 1_000 + time.tv_nsec / 1_000_000;
        let line = format!("{ms} {vm} {host} {pid} {what}\n");
        let mut journal =
            OpenOptions::new().create(true).append(true).open(folder.join(JOURNAL))?;
        journal.write_all(line.as_bytes())
    }

    /// Its CPUs run from here on.
    fn go(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.run == Run::Running {
            return Ok(());
        }
        if let Some(folder) = &self.watched_in {
            let path = lock_of(folder, &self.vm);
            let mut lock = opened(&path)?;
            if locked(&lock)? {
                lock.set_len(0)?;
                write!(lock, "{} {}", self.host, std::process::id())?;
                state.lock = Some(lock);
                self.note("runs")?;
            } else {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                self.note(&format!("twice, beside {holder}"))?;
            }
        }
        if state.run == Run::Prelaunch {
            let path = self.folder.join(CONSOLE);
            let console = OpenOptions::new().create(true).append(true).open(path);
            // On a full disk a guest that runs is not heard.
            drop(console.and_then(|mut it| writeln!(it, "READY {} 0.00", self.vm)));
        }
        state.run = Run::Running;
        announce(&mut state, "RESUME");
        Ok(())
    }

    /// And no further.
    fn halt(&self, run: Run, event: &str) -> io::Result<()> {
        let mut state = self.state();
        state.run = run;
        if let Some(lock) = state.lock.take() {
            // Before the lock is given up: so the journal has the order of what happened.
            self.note("halts")?;
            drop(lock);
        }
        announce(&mut state, event);
        Ok(())
    }

    fn converse(&self, stream: &UnixStream) -> io::Result<()> {
        let version =
            json!({"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "stand-in"});
        say(stream, &json!({"QMP": {"version": version, "capabilities": ["oob"]}}))?;
        self.state().monitors.push(stream.try_clone()?);
        for line in BufReader::new(stream).lines() {
            let command: Value = serde_json::from_str(&line?)?;
            let word =
                ["execute", "exec-oob"].iter().find_map(|key| command[key].as_str());
            let answer = self.answer(word.unwrap_or_default())?;
            let (kind, answer) = answer.map_or_else(
                || ("error", json!({"class": "CommandNotFound", "desc": "a stand-in has it not"})),
                |answer| ("return", answer),
            );
            say(stream, &json!({kind: answer, "id": command["id"]}))?;
            if word == Some("quit") {
                self.halt(Run::Shutdown, "SHUTDOWN")?;
                drop(fs::remove_file(self.folder.join("qemu.pid")));
                std::process::exit(0);
            }
        }
        Ok(())
    }

    fn answer(&self, command: &str) -> io::Result<Option<Value>> {
        match command {
            "qmp_capabilities" | "quit" => {}
            "query-status" => {
                let run = self.state().run;
                let running = run == Run::Running;
                return Ok(Some(json!({"status": run.name(), "running": running})));
            }
            "cont" => self.go()?,
            "stop" => self.halt(Run::Paused, "STOP")?,
            "system_powerdown" => self.halt(Run::Shutdown, "SHUTDOWN")?,
            _ => return Ok(None),
        }
        Ok(Some(json!({})))
    }
}

fn say(mut stream: &UnixStream, value: &Value) -> io::Result<()> {
    stream.write_all(format!("{value}\n").as_bytes())
}

fn announce(state: &mut State, event: &str) {
    let event = json!({"event": event, "timestamp": {"seconds": 0, "microseconds": 0}, "data": {}});
    state.monitors.retain(|stream| say(stream, &event).is_ok());
}
