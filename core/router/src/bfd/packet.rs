//! A control packet (RFC 5880, 4.1): 24 bytes, of which whatever is not exactly right is discarded.

use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

/// Bytes of a packet; one that is authenticated has more, and is discarded.
pub const PACKET_LEN: usize = LEN as usize;
const LEN: u8 = 24;
const VERSION: u8 = 1;
/// Bits of the second byte, below the state.
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const AUTHENTICATED: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// How a session stands (RFC 5880, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Shut down by an operator: nothing failed.
    AdminDown,
    /// Nothing was heard, or not that the other side hears.
    Down,
    /// The other side is heard, and does not know yet.
    Init,
    /// Both hear each other.
    Up,
}

impl State {
    const fn of(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AdminDown => "admin_down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

/// Why a session changed last (RFC 5880, 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// There is nothing to say.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for the time of detection.
    pub const EXPIRED: Self = Self(1);
    /// The other side says that it is down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// An operator shut it down.
    pub const ADMIN_DOWN: Self = Self(7);

    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self.0 {
            0 => "none",
            1 => "nothing was heard for the detection time",
            2 => "its echo failed",
            3 => "the neighbour says that it is down",
            4 => "its forwarding was reset",
            5 => "the path is down",
            6 => "a path behind it is down",
            7 => "it was shut down",
            8 => "a path back to it is down",
            _ => "a reason that is not known here",
        }
    }
}

/// A packet, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// How the sender's session stands.
    pub state: State,
    /// Why it changed last.
    pub diagnostic: Diagnostic,
    /// Whether an answer is wanted at once.
    pub poll: bool,
    /// Whether it is that answer.
    pub is_final: bool,
    /// Whether the sender wants to hear no more while both are up.
    pub demand: bool,
    /// Intervals of silence after which the sender is to be taken as gone.
    pub multiplier: NonZeroU8,
    /// The sender's number of the session.
    pub own: NonZeroU32,
    /// The receiver's number of it, if the sender knows one.
    pub other: Option<NonZeroU32>,
    /// How often the sender wants to be heard: an interval in whole microseconds.
    pub tx_min: Duration,
    /// How often it can hear; zero when it wants to hear nothing unasked.
    pub rx_min: Duration,
}

/// Why a packet does not count (RFC 5880, 6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Discarded {
    /// Fewer bytes than a packet has, or than it says that it has.
    #[error("it is cut off")]
    Short,
    /// Another version.
    #[error("it is of another version")]
    Version,
    /// No interval of silence is too long.
    #[error("its multiplier is 0")]
    Multiplier,
    /// Several receivers, which no version has yet.
    #[error("it is for several receivers")]
    Multipoint,
    /// The sender has no number for the session.
    #[error("it has no discriminator")]
    Nameless,
    /// It knows no session of this side's, and is not down.
    #[error("it is up with nobody")]
    Sessionless,
    /// It is authenticated, and nothing was agreed on for that.
    #[error("it is authenticated")]
    Authenticated,
    /// It is for a session that is not there.
    #[error("it is for another session")]
    Stranger,
    /// This side is shut down: only how the other stands was noted.
    #[error("this side is shut down")]
    Shut,
}

impl Packet {
    /// Reads what came, by the rules that need no session (RFC 5880, 6.8.6).
    ///
    /// # Errors
    ///
    /// With the first rule that discards it.
    pub fn read(bytes: &[u8]) -> Result<Self, Discarded> {
        let head: &[u8; PACKET_LEN] = bytes.first_chunk().ok_or(Discarded::Short)?;
        let [first, second, multiplier, len, ..] = *head;
        if first >> 5 != VERSION {
            return Err(Discarded::Version);
        }
        let is_authenticated = second & AUTHENTICATED != 0;
        let len_min = PACKET_LEN + if is_authenticated { 2 } else { 0 };
        if !(len_min..=bytes.len()).contains(&usize::from(len)) {
            return Err(Discarded::Short);
        }
        let multiplier = NonZeroU8::new(multiplier).ok_or(Discarded::Multiplier)?;
        if second & MULTIPOINT != 0 {
            return Err(Discarded::Multipoint);
        }
        let own = NonZeroU32::new(word(head, 1)).ok_or(Discarded::Nameless)?;
        let (other, state) = (NonZeroU32::new(word(head, 2)), State::of(second >> 6));
        if other.is_none() && matches!(state, State::Init | State::Up) {
            return Err(Discarded::Sessionless);
        }
        if is_authenticated {
            return Err(Discarded::Authenticated);
        }
        Ok(Self {
            state,
            diagnostic: Diagnostic(first & 0x1F),
            poll: second & POLL != 0,
            is_final: second & FINAL != 0,
            demand: second & DEMAND != 0,
            multiplier,
            own,
            other,
            tx_min: Duration::from_micros(word(head, 3).into()),
            rx_min: Duration::from_micros(word(head, 4).into()),
        })
    }

    /// The bytes to send. An interval of more than an hour is written as the longest there is.
    #[must_use]
    pub fn write(&self) -> [u8; PACKET_LEN] {
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        let flags = flag(self.poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.demand, DEMAND);
        let micros = |of: Duration| u32::try_from(of.as_micros()).unwrap_or(u32::MAX);
        let words = [
            self.own.get(),
            self.other.map_or(0, NonZeroU32::get),
            micros(self.tx_min),
            micros(self.rx_min),
            // No echo.
            0,
        ];
        let mut bytes = [0; PACKET_LEN];
        let (head, rest) = bytes.split_at_mut(4);
        head.copy_from_slice(&[
            VERSION << 5 | self.diagnostic.0,
            self.state.bits() << 6 | flags,
            self.multiplier.get(),
            LEN,
        ]);
        for (place, word) in rest.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

/// The word of four bytes at this place, counted in words.
fn word(bytes: &[u8; PACKET_LEN], at: usize) -> u32 {
    let word = bytes.chunks_exact(4).nth(at).and_then(<[u8]>::first_chunk);
    word.map_or(0, |word| u32::from_be_bytes(*word))
}
