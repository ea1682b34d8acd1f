//! One session: what was heard, what is to be said, and until when the silence is no failure.
//!
//! ```text
//!   Down ──▶ Init ──▶ Up        each on hearing that the other is down, or hears;
//!     ▲       │       │         while not up a second goes by between two packets
//!     └───────┴───────┘         silence, or the other says that it is down
//! ```

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use super::packet::{Diagnostic, Discarded, Packet, State};
use crate::rendezvous::mix;

/// How often is sent while a session is not up, at most (RFC 5880, 6.8.3).
pub const IDLE: Duration = Duration::from_secs(1);
/// Waits are shortened by chance, so that sessions do not keep step: to so many thousandths, and
/// at most so many when a single packet that is late is a failure (RFC 5880, 6.8.7).
const SPREAD_MIN: u32 = 750;
const SPREAD_MAX: u32 = 1_000;
const SPREAD_MAX_SINGLE: u32 = 900;

/// What one wants of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often to send and to hear: what is agreed on is no shorter. In whole microseconds.
    pub interval: Duration,
    /// Intervals of silence after which the other side takes this one as gone.
    pub multiplier: NonZeroU8,
}

impl Settings {
    /// The shortest time within which the other side finds out.
    #[must_use]
    pub fn detection(&self) -> Duration {
        self.interval.saturating_mul(self.multiplier.get().into())
    }
}

/// How a session stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Here.
    pub state: State,
    /// There, if it is heard.
    pub remote: Option<State>,
    /// Why it was down the last time that it was.
    pub diagnostic: Diagnostic,
    /// What the other side says of its last change, if it is heard.
    pub remote_diagnostic: Option<Diagnostic>,
    /// The longest pause between two packets of this side.
    pub transmit: Duration,
    /// The silence after which the other side is taken as gone, if it is heard.
    pub detection: Option<Duration>,
    /// How often it failed: by silence, or because the other side heard nothing.
    pub failures: u64,
}

/// What is known of the other side; forgotten when it was silent for too long.
#[derive(Clone, Copy, Debug)]
struct Remote {
    own: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    demand: bool,
    multiplier: NonZeroU8,
    tx_min: Duration,
    rx_min: Duration,
    heard_at: Duration,
}

/// Whether the other side has to say that it knows of this side's times (RFC 5880, 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    Idle,
    Wanted,
    Asked,
    /// They changed again since it was asked.
    AskedAndWanted,
}

/// A session with one neighbour, from its first packet on.
///
/// Whoever has it hands it what comes ([`Session::hear`]), asks what to send ([`Session::due`]) after
/// that and at the time it names ([`Session::wake_at`]), until there is nothing more. `now` is of a
/// clock that only goes forward.
#[derive(Clone, Debug)]
pub struct Session {
    settings: Settings,
    own: NonZeroU32,
    chance: u64,
    state: State,
    /// Of the last change.
    diagnostic: Diagnostic,
    /// Of the last change for the worse.
    down_by: Diagnostic,
    /// How often this side wants to be heard now.
    tx_min: Duration,
    remote: Option<Remote>,
    poll: Poll,
    /// Whether an answer to a poll is owed.
    owes: bool,
    /// Whether something changed that the other side was not told.
    changed: bool,
    sent_at: Option<Duration>,
    /// How much of the interval is waited until the next packet, in thousandths.
    spread: u32,
    failures: u64,
}

impl Session {
    /// A new one. `own` is its number, which no other session of this side has, and no earlier one
    /// should have had; `seed` shortens its waits.
    #[must_use]
    pub const fn new(settings: Settings, own: NonZeroU32, seed: u64) -> Self {
        Self {
            settings,
            own,
            chance: seed,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            down_by: Diagnostic::NONE,
            tx_min: at_least(settings.interval, IDLE),
            remote: None,
            poll: Poll::Idle,
            owes: false,
            changed: false,
            sent_at: None,
            spread: SPREAD_MAX,
            failures: 0,
        }
    }

    /// Takes in a packet that came from the neighbour (RFC 5880, 6.8.6). What has waited while the
    /// caller was busy counts before the silence that it fell into.
    ///
    /// # Errors
    ///
    /// When it does not count.
    pub fn hear(&mut self, packet: &Packet, now: Duration) -> Result<(), Discarded> {
        if packet.other.is_some_and(|other| other != self.own) {
            return Err(Discarded::Stranger);
        }
        self.remote = Some(Remote {
            own: packet.own,
            state: packet.state,
            diagnostic: packet.diagnostic,
            demand: packet.demand,
            multiplier: packet.multiplier,
            tx_min: packet.tx_min,
            rx_min: packet.rx_min,
            heard_at: now,
        });
        if packet.is_final {
            self.poll = match self.poll {
                Poll::Asked | Poll::Idle => Poll::Idle,
                Poll::AskedAndWanted | Poll::Wanted => Poll::Wanted,
            };
        }
        if self.state == State::AdminDown {
            return Err(Discarded::Shut);
        }
        match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) => {
                // The other side was shut down: that is no failure (RFC 5882, 4.2).
                self.become_so(State::Down, Diagnostic::NEIGHBOR_DOWN);
            }
            (State::Up, State::Down) => self.fail(Diagnostic::NEIGHBOR_DOWN),
            (State::Down, State::Down) => self.become_so(State::Init, Diagnostic::NONE),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.become_so(State::Up, Diagnostic::NONE);
            }
            (State::AdminDown, _)
            | (State::Down, State::AdminDown | State::Up)
            | (State::Init, State::Down)
            | (State::Up, State::Init | State::Up) => {}
        }
        self.owes |= packet.poll;
        Ok(())
    }

    /// What is to be sent now; asked until it is nothing.
    pub fn due(&mut self, now: Duration) -> Option<Packet> {
        self.expire(now);
        if std::mem::take(&mut self.owes) {
            self.changed = false;
            return Some(self.packet(false, true));
        }
        if self.send_at().is_none_or(|at| at > now) {
            return None;
        }
        self.changed = false;
        self.sent_at = Some(now);
        let most = if self.settings.multiplier.get() == 1 {
            SPREAD_MAX_SINGLE
        } else {
            SPREAD_MAX
        };
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let drawn = mix(self.chance) % u64::from(most - SPREAD_MIN + 1);
        self.spread = SPREAD_MIN + u32::try_from(drawn).unwrap_or_default();
        let poll = self.remote.is_some() && self.poll != Poll::Idle;
        if poll && self.poll == Poll::Wanted {
            self.poll = Poll::Asked;
        }
        Some(self.packet(poll, false))
    }

    /// When to look again, if nothing comes before.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        if self.owes {
            return Some(Duration::ZERO);
        }
        let ends = self.remote.map(|remote| self.silent_at(&remote));
        match (self.send_at(), ends) {
            (Some(send), Some(ends)) => Some(send.min(ends)),
            (one, None) | (None, one) => one,
        }
    }

    /// Shuts it down in order: the other side is told, and takes it as no failure. It is over when
    /// [`Session::is_released`] says so.
    pub fn shut_down(&mut self) {
        if self.state != State::AdminDown {
            self.become_so(State::AdminDown, Diagnostic::ADMIN_DOWN);
        }
    }

    /// Whether the other side knows that this one is shut down, or is not there.
    #[must_use]
    pub fn is_released(&self) -> bool {
        let knows =
            |remote: Remote| matches!(remote.state, State::AdminDown | State::Down);
        self.state == State::AdminDown && self.remote.is_none_or(knows)
    }

    /// How it stands.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            state: self.state,
            remote: self.remote.map(|remote| remote.state),
            diagnostic: self.down_by,
            remote_diagnostic: self.remote.map(|remote| remote.diagnostic),
            transmit: self.interval(),
            detection: self.remote.map(|remote| self.detection(&remote)),
            failures: self.failures,
        }
    }

    /// How often is sent at least (RFC 5880, 6.8.7).
    fn interval(&self) -> Duration {
        at_least(self.tx_min, self.remote.map_or(Duration::ZERO, |it| it.rx_min))
    }

    /// How long the other side may be silent (RFC 5880, 6.8.4).
    fn detection(&self, remote: &Remote) -> Duration {
        let interval = at_least(self.settings.interval, remote.tx_min);
        interval.saturating_mul(remote.multiplier.get().into())
    }

    fn silent_at(&self, remote: &Remote) -> Duration {
        remote.heard_at.saturating_add(self.detection(remote))
    }

    /// When the next packet is to be sent unasked.
    fn send_at(&self) -> Option<Duration> {
        if let Some(remote) = self.remote {
            let both_up = self.state == State::Up && remote.state == State::Up;
            let unwanted = remote.demand && both_up && self.poll == Poll::Idle;
            if remote.rx_min.is_zero() || (unwanted && !self.changed) {
                return None;
            }
        }
        let (Some(sent_at), false) = (self.sent_at, self.changed) else {
            return Some(Duration::ZERO);
        };
        let wait = self.interval().saturating_mul(self.spread) / SPREAD_MAX;
        Some(sent_at.saturating_add(wait))
    }

    /// Takes a silence that lasted too long for what it is.
    fn expire(&mut self, now: Duration) {
        if self.remote.is_none_or(|remote| now < self.silent_at(&remote)) {
            return;
        }
        self.remote = None;
        match self.state {
            State::Up => self.fail(Diagnostic::EXPIRED),
            State::Init => self.become_so(State::Down, Diagnostic::EXPIRED),
            State::Down | State::AdminDown => {}
        }
    }

    fn fail(&mut self, why: Diagnostic) {
        self.failures = self.failures.saturating_add(1);
        self.become_so(State::Down, why);
    }

    fn become_so(&mut self, state: State, why: Diagnostic) {
        (self.state, self.diagnostic, self.changed) = (state, why, true);
        if matches!(state, State::Down | State::AdminDown) {
            self.down_by = why;
        }
        let interval = self.settings.interval;
        let tx_min = if state == State::Up { interval } else { at_least(interval, IDLE) };
        if tx_min != self.tx_min {
            self.tx_min = tx_min;
            self.poll = match self.poll {
                Poll::Idle | Poll::Wanted => Poll::Wanted,
                Poll::Asked | Poll::AskedAndWanted => Poll::AskedAndWanted,
            };
        }
    }

    fn packet(&self, poll: bool, is_final: bool) -> Packet {
        Packet {
            state: self.state,
            diagnostic: self.diagnostic,
            poll,
            is_final,
            demand: false,
            multiplier: self.settings.multiplier,
            own: self.own,
            other: self.remote.map(|remote| remote.own),
            tx_min: self.tx_min,
            rx_min: self.settings.interval,
        }
    }
}

const fn at_least(one: Duration, least: Duration) -> Duration {
    if one.as_nanos() < least.as_nanos() { least } else { one }
}
