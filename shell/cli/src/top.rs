//! `top`: the federation on the whole terminal, as it changes.
//!
//! ```text
//!   stream of changes ─▶ Follower (a task) ─▶┐
//!   keys (a thread; reading them blocks) ────▶ Ui ─▶ draw (pure) ─▶ terminal
//! ```
//!
//! The terminal is given back however it ends: by a key, Ctrl-C, an end that is asked for, an
//! error or a panic, whose text is then readable.

mod draw;
mod ui;

use std::io::{self, Write};
use std::time::Duration;

use dwcp_api::overview::Overview;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, poll, read,
};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::draw::Screen;
use self::ui::{Tab, Ui, Wish};
use crate::app::Run;
use crate::failure::{Failure, Kind};
use crate::follow::{Follower, News};

/// How often ages are drawn anew, and how often the thread of keys looks whether it is needed.
const TICK: Duration = Duration::from_secs(1);
const KEYS_EVERY: Duration = Duration::from_millis(100);
/// Keys that wait to be looked at.
const KEYS_MAX: usize = 16;

/// Shows the federation until a person has seen enough.
///
/// # Errors
///
/// When there is no terminal, or nothing to show at first.
pub(crate) async fn top(run: &mut Run<'_>) -> Result<(), Failure> {
    if !run.terminal.is_terminal() || !run.surroundings.interactive {
        return Err(Failure::usage("`top` draws on a terminal, and this is none")
            .with_remedy("use `dwcp-cli federation status --watch -o json`"));
    }
    let mut follower = Follower::new(run.session()?);
    let mut interrupt = run.surroundings.take_interrupt();
    // What cannot be reached is told on a terminal as it was.
    let first = tokio::select! {
        () = &mut interrupt => return Ok(()),
        first = follower.next() => first?,
    };
    let (colored, clock) = (run.terminal.colored(), run.surroundings.clock.clone());
    let (news, mut keys) = (follow(follower), keys());
    let mut shown = Shown { overview: first.overview, trouble: None, news };
    let mut ended = signal(SignalKind::terminate()).map_err(unusable)?;
    let mut ui = Ui::default();
    let _given_back = Taken::take(run.terminal.out())?;
    let mut terminal =
        Terminal::new(CrosstermBackend::new(run.terminal.out())).map_err(unusable)?;
    while !ui.quits {
        ui.fit(&shown.overview);
        let screen = Screen {
            overview: &shown.overview,
            trouble: shown.trouble.as_deref(),
            colored,
            now: clock.now(),
        };
        terminal.draw(|frame| screen.draw(frame, &ui)).map_err(unusable)?;
        tokio::select! {
            () = &mut interrupt => break,
            _ = ended.recv() => break,
            () = shown.take() => {}
            () = clock.sleep_until(clock.monotonic().saturating_add(TICK)) => {}
            event = keys.recv() => match event {
                Some(Event::Key(key)) => {
                    if let Some(wish) = wish(key) {
                        ui.press(wish, &shown.overview);
                    }
                }
                Some(_) => {}
                None => break,
            },
        }
    }
    Ok(())
}

/// What is drawn, and where the next comes from.
struct Shown {
    overview: Overview,
    trouble: Option<String>,
    news: mpsc::Receiver<Result<News, Failure>>,
}

impl Shown {
    async fn take(&mut self) {
        match self.news.recv().await {
            Some(Ok(news)) => {
                self.overview = news.overview;
                self.trouble = None;
            }
            Some(Err(Failure::Told(told))) => self.trouble = Some(told.message),
            Some(Err(Failure::Closed)) => {}
            None => std::future::pending().await,
        }
    }
}

/// Follows in a task of its own, so that a key does not cut a pause short. It ends with the
/// program.
fn follow(mut follower: Follower) -> mpsc::Receiver<Result<News, Failure>> {
    let (send, news) = mpsc::channel(1);
    tokio::spawn(async move { while send.send(follower.next().await).await.is_ok() {} });
    news
}

/// Keys as they come. The thread ends soon after nobody wants them.
fn keys() -> mpsc::Receiver<Event> {
    let (send, keys) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while !send.is_closed() {
            let event = match poll(KEYS_EVERY) {
                Ok(false) => continue,
                Ok(true) => read(),
                Err(error) => Err(error),
            };
            let Ok(event) = event else { return };
            if send.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}

/// What a key is for.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other keys are for nothing")]
fn wish(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Wish::Quit);
    }
    let wish = match key.code {
        KeyCode::Char('q') => Wish::Quit,
        KeyCode::Char('?') => Wish::Help,
        KeyCode::Esc => Wish::Close,
        KeyCode::Tab => Wish::Next,
        KeyCode::BackTab => Wish::Before,
        KeyCode::Up | KeyCode::Char('k') => Wish::Up,
        KeyCode::Down | KeyCode::Char('j') => Wish::Down,
        KeyCode::Left | KeyCode::Char('h') => Wish::Left,
        KeyCode::Right | KeyCode::Char('l') => Wish::Right,
        KeyCode::PageUp => Wish::PageUp,
        KeyCode::PageDown => Wish::PageDown,
        KeyCode::Home => Wish::First,
        KeyCode::End => Wish::Last,
        KeyCode::Char(digit @ '1'..='5') => {
            let at = digit.to_digit(10)?.checked_sub(1)?;
            Wish::Show(*Tab::ALL.get(usize::try_from(at).ok()?)?)
        }
        _ => return None,
    };
    Some(wish)
}

/// The terminal while it is ours.
struct Taken;

impl Taken {
    fn take(out: &mut (dyn Write + Send)) -> Result<Self, Failure> {
        enable_raw_mode().map_err(unusable)?;
        let taken = Self;
        // A panic's text must not be drawn on a screen that goes away.
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |what| {
            give_back();
            before(what);
        }));
        let mut out = out;
        execute!(&mut out, EnterAlternateScreen).map_err(unusable)?;
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// The terminal as it was. Doing it twice is doing it once.
fn give_back() {
    disable_raw_mode().ok();
    let shown = ratatui::crossterm::cursor::Show;
    execute!(io::stdout(), LeaveAlternateScreen, shown).ok();
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function of errors")]
fn unusable(error: io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("the terminal cannot be used: {error}"))
        .with_remedy("use `dwcp-cli federation status --watch -o json`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode, modifiers: KeyModifiers) -> Option<Wish> {
        wish(KeyEvent::new(code, modifiers))
    }

    #[test]
    fn keys_are_those_that_help_names() {
        let none = KeyModifiers::NONE;
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('c'), none), None);
        assert_eq!(key(KeyCode::Char('q'), none), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('2'), none), Some(Wish::Show(Tab::Links)));
        assert_eq!(key(KeyCode::Char('6'), none), None);
        assert_eq!(key(KeyCode::BackTab, KeyModifiers::SHIFT), Some(Wish::Before));
    }
}
