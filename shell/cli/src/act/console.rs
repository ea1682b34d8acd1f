//! `vm console`: what a guest wrote to its serial port.
//!
//! A guest is a stranger: its escape sequences could rewrite what the terminal shows, so they
//! are left out unless `--raw` is said.

use std::time::Duration;

use dwcp_api::public::{ConsoleParams, ConsoleReply, GetConsole};

use super::show;
use crate::app::Run;
use crate::arguments::ConsoleArgs;
use crate::failure::Failure;
use crate::session::Session;

/// Parts that are read at most without --follow: a guest that prints without end must not
/// keep the tool for ever, and no host keeps more.
const PARTS_MAX: usize = 256;
/// How often in a row the federation may not answer before following ends: a daemon that
/// restarts is back within this many looks of half a second.
const MISSED_MAX: u32 = 60;

/// Prints a console.
pub(super) async fn console(run: &mut Run<'_>, args: ConsoleArgs) -> Result<(), Failure> {
    let session = run.session()?;
    let filter = Filter::new(args.raw);
    if args.follow {
        return follow(run, &session, args, filter).await;
    }
    let all = whole(&session, &args).await?;
    show(run, &all, |all, _| ended(Filter::new(args.raw).pass(&all.text)))
}

/// A last line without an end would run into the prompt.
fn ended(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

async fn whole(session: &Session, args: &ConsoleArgs) -> Result<ConsoleReply, Failure> {
    let mut params = ConsoleParams { vm: args.vm.clone(), offset: None };
    let mut all = session.call::<GetConsole>(&params, &()).await?;
    for _ in 1..PARTS_MAX {
        params.offset = Some(all.next);
        let part = session.call::<GetConsole>(&params, &()).await?;
        if part.next <= all.next {
            break;
        }
        all.text.push_str(&part.text);
        all.next = part.next;
    }
    Ok(all)
}

async fn follow(
    run: &mut Run<'_>,
    session: &Session,
    args: ConsoleArgs,
    mut filter: Filter,
) -> Result<(), Failure> {
    let mut interrupt = run.surroundings.take_interrupt();
    let mut params = ConsoleParams { vm: args.vm, offset: None };
    let mut missed = 0;
    let mut pause = Duration::ZERO;
    loop {
        let next = async {
            session.pause(pause).await;
            session.call::<GetConsole>(&params, &()).await
        };
        let part = tokio::select! {
            () = &mut interrupt => return Ok(()),
            part = next => part,
        };
        pause = session.pace.poll;
        match part {
            Ok(part) => {
                missed = 0;
                print(run, &mut filter, &part, params.offset)?;
                // Where there is more, it is read at once.
                if params.offset.is_none_or(|offset| part.next > offset) {
                    pause = Duration::ZERO;
                }
                params.offset = Some(part.next);
            }
            Err(failure) => {
                missed += 1;
                if !failure.may_pass() || params.offset.is_none() || missed >= MISSED_MAX
                {
                    return Err(failure);
                }
            }
        }
    }
}

fn print(
    run: &mut Run<'_>,
    filter: &mut Filter,
    part: &ConsoleReply,
    from: Option<u64>,
) -> Result<(), Failure> {
    if let Some(lost) = from.and_then(|from| part.offset.checked_sub(from))
        && lost > 0
    {
        run.terminal.note(&format!("{lost} bytes are no longer kept"));
    }
    if part.text.is_empty() {
        return Ok(());
    }
    if run.format().is_for_people() {
        return run.terminal.print(&filter.pass(&part.text));
    }
    show(run, part, |_, _| String::new())
}

/// Where in an escape sequence the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    Control,
    Text,
}

/// Leaves out what could steer a terminal; remembers a sequence that is cut in two.
#[derive(Debug)]
struct Filter {
    raw: bool,
    escape: Escape,
}

impl Filter {
    const fn new(raw: bool) -> Self {
        Self { raw, escape: Escape::None }
    }

    fn pass(&mut self, text: &str) -> String {
        if self.raw {
            return text.to_owned();
        }
        text.chars().filter(|c| self.keeps(*c)).collect()
    }

    fn keeps(&mut self, c: char) -> bool {
        match (self.escape, c) {
            (_, '\x1b') => self.escape = Escape::Begun,
            (Escape::Begun, '[') => self.escape = Escape::Control,
            (Escape::Begun, ']' | 'P' | '_' | '^' | 'X') => self.escape = Escape::Text,
            (Escape::Begun, ' '..='/') | (Escape::Control, ' '..='?') => {}
            (Escape::Text, '\x07' | '\n') => self.escape = Escape::None,
            (Escape::Text, _) => {}
            (Escape::Begun | Escape::Control, _) => self.escape = Escape::None,
            (Escape::None, _) => return !c.is_control() || c == '\n' || c == '\t',
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_are_left_out_also_when_they_are_cut_in_two() {
        let mut filter = Filter::new(false);
        assert_eq!(filter.pass("a\x1b[31;1mb\r\n\tc\x1b["), "ab\n\tc");
        assert_eq!(filter.pass("2Jd\x1b]0;title\x07e\x1b(Bf"), "def");
        assert_eq!(Filter::new(true).pass("a\x1b[31m"), "a\x1b[31m");
    }

    #[test]
    fn no_control_character_survives() {
        let all: String = (0_u8..=0x9f).map(char::from).collect();
        let kept = Filter::new(false).pass(&all);
        assert!(kept.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        assert_eq!(
            Filter::new(false).pass("plain text, ümlaut\n"),
            "plain text, ümlaut\n"
        );
    }

    proptest! {
        #[test]
        fn where_the_output_is_cut_makes_no_difference(
            text in "(\\x1b\\[[0-9;]{0,3}m|\\x1b\\][a-z]{0,3}\\x07|[\\x1b\\[\\]a-z\\n]|.){0,16}",
            cut in 0_usize..16,
        ) {
            let whole = Filter::new(false).pass(&text);
            let mut filter = Filter::new(false);
            let first: String = text.chars().take(cut).collect();
            let rest: String = text.chars().skip(cut).collect();
            prop_assert_eq!(filter.pass(&first) + &filter.pass(&rest), whole);
        }
    }
}
