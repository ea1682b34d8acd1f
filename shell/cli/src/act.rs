//! Commands: ask the federation, show the answer.

mod console;
mod controller;
mod dashboard;
mod drill;
mod evacuate;
mod failover;
mod migrate;
mod monitoring;
mod outside;
mod overview;
mod place;
mod promql;
mod region;
mod request;
mod routing;
mod silence;
mod state;
mod status;
mod trace;
mod trial;
mod vm;
mod wait;
mod who;

use std::collections::BTreeSet;
use std::io::Read;

use dwcp_types::RegionId;
use serde::Serialize;

use crate::app::{Run, tell};
use crate::arguments::{FederationCommand, Format, RegionCommand, VmCommand, WatchArgs};
use crate::failure::{Failure, Kind};
use crate::view::Look;

pub(crate) use dashboard::{Imported, Listed};
pub(crate) use promql::{Series, Vector};
pub(crate) use trial::Trials;
pub(crate) use who::who;

/// Carries a federation command out.
///
/// # Errors
///
/// What became of it instead.
pub(crate) async fn act(
    run: &mut Run<'_>,
    command: FederationCommand,
) -> Result<(), Failure> {
    match command {
        FederationCommand::Region(command) => region_command(run, command).await,
        FederationCommand::PlaceVm(args) => place::place(run, *args).await,
        FederationCommand::Vm(command) => vm_command(run, command).await,
        FederationCommand::Migrate(args) => Box::pin(migrate::migrate(run, *args)).await,
        FederationCommand::Explain(args) => place::explain(run, *args).await,
        FederationCommand::Events(args) => status::events(run, args).await,
        FederationCommand::Status(args) => status::status(run, args).await,
        FederationCommand::Top => Box::pin(crate::top::top(run)).await,
        FederationCommand::Failover(args) => failover::failover(run, *args).await,
        FederationCommand::Evacuate(args) => evacuate::evacuate(run, *args).await,
        FederationCommand::Failback(args) => {
            Box::pin(evacuate::failback(run, args)).await
        }
        FederationCommand::Drill(args) => drill::drill(&args),
        FederationCommand::State(args) => Box::pin(state::state(run, *args)).await,
        FederationCommand::Monitoring(command) => {
            Box::pin(monitoring::monitoring(run, *command)).await
        }
        FederationCommand::Controller(command) => {
            Box::pin(controller::controller(run, *command)).await
        }
        FederationCommand::Routing(command) => {
            Box::pin(routing::routing(run, *command)).await
        }
    }
}

async fn region_command(
    run: &mut Run<'_>,
    command: RegionCommand,
) -> Result<(), Failure> {
    match command {
        RegionCommand::Add(args) => region::add(run, *args).await,
        RegionCommand::List(watch) => region::list(run, watch).await,
        RegionCommand::Describe(name) => region::describe(run, name).await,
        RegionCommand::Enable(name) => region::set_enabled(run, name, true).await,
        RegionCommand::Disable(name) => region::set_enabled(run, name, false).await,
        RegionCommand::Capacity(name) => region::capacity(run, name).await,
    }
}

async fn vm_command(run: &mut Run<'_>, command: VmCommand) -> Result<(), Failure> {
    use dwcp_types::Power::{Paused, Running, Stopped};
    match command {
        VmCommand::List(args) => vm::list(run, args).await,
        VmCommand::Describe(name) => vm::describe(run, name).await,
        VmCommand::Start(args) | VmCommand::Resume(args) => {
            vm::set_power(run, args, Running).await
        }
        VmCommand::Stop(args) => vm::set_power(run, args, Stopped).await,
        VmCommand::Pause(args) => vm::set_power(run, args, Paused).await,
        VmCommand::Delete(args) => vm::delete(run, args).await,
        VmCommand::Console(args) => console::console(run, args).await,
        VmCommand::Events(args) => status::vm_events(run, args).await,
    }
}

/// A view: a reply as people read it.
type View<T> = fn(&T, Look) -> String;

/// Writes a reply in the format that was asked for.
fn written<T: Serialize>(
    run: &Run<'_>,
    reply: &T,
    view: impl FnOnce(&T, Look) -> String,
) -> Result<String, Failure> {
    let look = run.look();
    let unwritable = |error: String| {
        Failure::new(Kind::Failed, format!("the reply cannot be written: {error}"))
    };
    match run.format() {
        Format::Table | Format::Wide => Ok(view(reply, look)),
        Format::Json => serde_json::to_string_pretty(reply)
            .map(|text| text + "\n")
            .map_err(|error| unwritable(error.to_string())),
        Format::Yaml => serde_saphyr::to_string(reply)
            .map(|text| text.trim_end().to_owned() + "\n")
            .map_err(|error| unwritable(error.to_string())),
    }
}

/// Prints a reply in the format that was asked for.
fn show<T: Serialize>(
    run: &mut Run<'_>,
    reply: &T,
    view: impl FnOnce(&T, Look) -> String,
) -> Result<(), Failure> {
    let text = written(run, reply, view)?;
    run.terminal.print(&text)
}

/// Longest answer to a question: a word.
const ANSWER_LEN_MAX: u64 = 64;

/// Whether the person at the terminal answers yes. Only for [`Surroundings::interactive`].
///
/// [`Surroundings::interactive`]: crate::surroundings::Surroundings
fn answers_yes(run: &mut Run<'_>, question: &str) -> bool {
    run.terminal.tell(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let mut byte = [0];
    let mut input = run.surroundings.input.by_ref().take(ANSWER_LEN_MAX);
    while matches!(input.read(&mut byte), Ok(1)) && byte[0] != b'\n' {
        answer.push(char::from(byte[0]));
    }
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Why something is done, in the words of who wants it; only a rehearsal needs none.
fn reason(said: Option<String>, dry_run: bool, needs: &str) -> Result<String, Failure> {
    let missing =
        || Failure::usage(needs).with_remedy("or `--dry-run` to see who would go where");
    said.or_else(|| dry_run.then(String::new)).ok_or_else(missing)
}

/// The regions that were named; any when none was.
fn some(regions: Vec<RegionId>) -> Option<BTreeSet<RegionId>> {
    (!regions.is_empty()).then(|| regions.into_iter().collect())
}

/// Asks and shows once, or again and again until Ctrl-C.
///
/// Only the first failure ends it: whoever watches wants to see a federation come back.
async fn show_or_watch<T: Serialize>(
    run: &mut Run<'_>,
    watch: WatchArgs,
    ask: impl AsyncFn(&Run<'_>) -> Result<T, Failure>,
    view: View<T>,
) -> Result<(), Failure> {
    let reply = ask(run).await?;
    let Some(every) = watch.watch else { return show(run, &reply, view) };
    let mut interrupt = run.surroundings.take_interrupt();
    let mut text = written(run, &reply, view)?;
    loop {
        redraw(run, &text)?;
        let clock = std::sync::Arc::clone(&run.surroundings.clock);
        let next = clock.monotonic().saturating_add(every.0);
        let again = async {
            clock.sleep_until(next).await;
            ask(run).await
        };
        // Also a question that hangs is given up at Ctrl-C.
        let reply = tokio::select! {
            () = &mut interrupt => return Ok(()),
            reply = again => reply,
        };
        match reply {
            Ok(reply) => text = written(run, &reply, view)?,
            Err(Failure::Closed) => return Err(Failure::Closed),
            Err(failure) => tell(&failure, run.format(), run.terminal),
        }
    }
}

/// A person sees one picture that changes; a file or a program gets one after the other.
fn redraw(run: &mut Run<'_>, text: &str) -> Result<(), Failure> {
    if !run.format().is_for_people() {
        return run.terminal.print(text);
    }
    let at = crate::text::moment(run.look().now);
    let clear = if run.terminal.is_terminal() { "\x1b[2J\x1b[H" } else { "" };
    run.terminal.print(&format!("{clear}{at} (Ctrl-C ends)\n\n{text}\n"))
}
