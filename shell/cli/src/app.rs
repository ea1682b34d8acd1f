//! From a command line to an exit code.
//!
//! Order: parse, act, tell the failure, give back its code. Whatever goes wrong, what is
//! printed about it says what to do; with `-o json` it is one JSON object on standard error.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use clap_complete::shells;

use dwcp_monitor::trace::{Context, SpanId, TraceId};
use dwcp_runtime::strong::OpId;

use crate::act;
use crate::arguments::{Command, CommandLine, Format, GlobalArgs, Shell};
use crate::failure::{Failure, Kind, Told};
use crate::session::Session;
use crate::surroundings::Surroundings;
use crate::terminal::Terminal;
use crate::view::Look;

/// Width of `--help` where the terminal's is not known, and the most that reads well.
const HELP_WIDTH: usize = 100;

/// A command that is being carried out.
pub(crate) struct Run<'a> {
    pub(crate) global: &'a GlobalArgs,
    pub(crate) surroundings: Surroundings,
    pub(crate) terminal: &'a mut Terminal,
}

impl Run<'_> {
    /// The federation that is asked.
    pub(crate) fn session(&self) -> Result<Session, Failure> {
        Session::open(self.global, &self.surroundings)
    }

    /// The federation, asked at one address.
    pub(crate) fn session_at(&self, address: &str) -> Result<Session, Failure> {
        let mut global = self.global.clone();
        global.endpoint = vec![address.to_owned()];
        Session::open(&global, &self.surroundings)
    }

    /// How answers are printed.
    pub(crate) const fn format(&self) -> Format {
        self.global.output
    }

    /// How replies are looked at, now.
    pub(crate) fn look(&self) -> Look {
        Look {
            wide: self.global.output == Format::Wide,
            colored: self.terminal.colored(),
            now: self.surroundings.clock.now(),
        }
    }
}

/// The command line as clap knows it, for documentation and tests.
#[must_use]
pub fn command() -> clap::Command {
    CommandLine::command().max_term_width(HELP_WIDTH)
}

/// Carries a command line out, its first word being the program's name. Gives back the exit
/// code that `--help` documents.
pub async fn run(
    words: Vec<OsString>,
    mut surroundings: Surroundings,
    terminal: &mut Terminal,
) -> u8 {
    if surroundings.no_color {
        terminal.drop_colors();
    }
    let mut clap = command();
    if let Some(width) = surroundings.help_width {
        clap = clap.term_width(width);
    }
    let json = wants_json(&words);
    let matches = clap.try_get_matches_from(words);
    let line = match matches.and_then(|found| CommandLine::from_arg_matches(&found)) {
        Ok(line) => line,
        Err(error) => return tell_usage(&error, json, terminal),
    };
    if line.global.no_color {
        terminal.drop_colors();
    }
    let global = line.global;
    if global.trace {
        surroundings.part_of = Some(kept(surroundings.part_of));
    }
    let part_of = surroundings.part_of.filter(|_| global.trace);
    let mut run = Run { global: &global, surroundings, terminal };
    let done = Box::pin(dispatch(&mut run, line.command)).await;
    if let Some(part_of) = part_of {
        let trace = part_of.trace;
        terminal
            .note(&format!("trace: dwcp-cli federation monitoring trace show {trace}"));
    }
    match done {
        Ok(()) => 0,
        Err(failure) => {
            tell(&failure, global.output, terminal);
            failure.exit_code()
        }
    }
}

/// A trace that is kept: the one that the command is part of, or a new one.
fn kept(part_of: Option<Context>) -> Context {
    let name = OpId::random();
    let trace = TraceId::of("dwcp-cli", name.as_str());
    let span = SpanId::of(trace, "dwcp-cli");
    Context { keep: true, ..part_of.unwrap_or(Context { trace, span, keep: true }) }
}

async fn dispatch(run: &mut Run<'_>, command: Command) -> Result<(), Failure> {
    match command {
        Command::Federation(command) | Command::Direct(command) => {
            act::act(run, command).await
        }
        Command::Completion { shell } => completion(run, shell),
        Command::Credentials => act::who(run),
        Command::Version => version(run),
    }
}

fn version(run: &mut Run<'_>) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let text = match run.format() {
        Format::Table | Format::Wide => format!("dwcp-cli {version}\n"),
        Format::Json => format!("{{\"version\":\"{version}\"}}\n"),
        Format::Yaml => format!("version: {version}\n"),
    };
    run.terminal.print(&text)
}

fn completion(run: &mut Run<'_>, shell: Shell) -> Result<(), Failure> {
    let mut clap = command();
    let mut script = Vec::new();
    let name = "dwcp-cli";
    match shell {
        Shell::Bash => {
            clap_complete::generate(shells::Bash, &mut clap, name, &mut script);
        }
        Shell::Zsh => {
            clap_complete::generate(shells::Zsh, &mut clap, name, &mut script);
        }
        Shell::Fish => {
            clap_complete::generate(shells::Fish, &mut clap, name, &mut script);
        }
    }
    run.terminal.print(&String::from_utf8_lossy(&script))
}

/// Whether errors are for a program, told from the words because they could not be parsed.
fn wants_json(words: &[OsString]) -> bool {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let joined = ["-ojson", "-o=json", "--output=json"];
    words.iter().any(|word| joined.contains(&word.as_ref()))
        || words.windows(2).any(|pair| {
            matches!(pair[0].as_ref(), "-o" | "--output") && pair[1] == "json"
        })
}

fn tell_usage(error: &clap::Error, json: bool, terminal: &mut Terminal) -> u8 {
    let rendered = error.render();
    let text = if terminal.colored() {
        rendered.ansi().to_string()
    } else {
        rendered.to_string()
    };
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match terminal.print(&text) {
            Ok(()) => 0,
            Err(failure) => failure.exit_code(),
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        terminal.tell(&text);
        return Kind::Usage.exit_code();
    }
    let text = rendered.to_string();
    let text = text.trim().trim_start_matches("error: ");
    if json {
        let message = text.split_once("\n\nUsage").map_or(text, |(message, _)| message);
        let message = message.split_once("\n\nFor more").map_or(message, |(m, _)| m);
        let failure = Failure::usage(message.trim()).with_remedy("see --help");
        tell(&failure, Format::Json, terminal);
    } else if let Failure::Told(told) = &Failure::usage(text) {
        told.tell(terminal);
    }
    Kind::Usage.exit_code()
}

/// Tells a failure in the format of the answers.
pub(crate) fn tell(failure: &Failure, format: Format, terminal: &mut Terminal) {
    let Failure::Told(told) = failure else { return };
    let text = match format {
        Format::Table | Format::Wide => return told.tell(terminal),
        Format::Json => serde_json::to_string(&told).ok(),
        Format::Yaml => serde_saphyr::to_string(&told).ok(),
    };
    match text {
        Some(text) => terminal.tell(&(text.trim_end().to_owned() + "\n")),
        None => Told::tell(told, terminal),
    }
}
