//! The one way out: everything that the tool prints passes here.
//!
//! A reader that has gone away (`dwcp-cli vm list | head -1`) is no error: printing then says
//! [`Failure::Closed`], which ends the tool quietly.

use std::fmt;
use std::io::{self, Write};

use crate::failure::{Failure, Kind};

/// How a piece of text is coloured, where colours are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// Headings.
    Strong,
    /// In order.
    Good,
    /// To look at.
    Warn,
    /// Not in order.
    Bad,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        }
    }

    /// Text in this tone when `colored`, else the text alone.
    pub(crate) fn paint(self, text: &str, colored: bool) -> String {
        if !colored || self == Self::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", self.code())
    }
}

/// Where the tool prints.
pub struct Terminal {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    is_terminal: bool,
    colored: bool,
}

impl Terminal {
    /// A terminal that prints answers to `out` and everything else to `err`. `is_terminal`
    /// says whether a person looks at `out`; only then there are colours.
    #[must_use]
    pub fn new(
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        is_terminal: bool,
    ) -> Self {
        Self { out, err, is_terminal, colored: is_terminal }
    }

    /// Whether a person looks at the answers.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether there are colours.
    pub(crate) const fn colored(&self) -> bool {
        self.colored
    }

    /// No colours from now on.
    pub(crate) const fn drop_colors(&mut self) {
        self.colored = false;
    }

    /// Prints a part of the answer.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                return Failure::Closed;
            }
            Failure::new(Kind::Failed, format!("the output cannot be written: {error}"))
                .with_remedy("check the disk or the program that the output goes to")
        })
    }

    /// Where answers go, for what draws on the whole of it.
    pub(crate) fn out(&mut self) -> &mut (dyn Write + Send) {
        self.out.as_mut()
    }

    /// Tells something beside the answer. That nobody listens is no reason to stop.
    pub(crate) fn tell(&mut self, text: &str) {
        self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush()).ok();
    }

    /// Tells a note on a line of its own.
    pub(crate) fn note(&mut self, text: &str) {
        let note = Tone::Strong.paint("note:", self.colored);
        self.tell(&format!("{note} {text}\n"));
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal")
            .field("is_terminal", &self.is_terminal)
            .finish_non_exhaustive()
    }
}
