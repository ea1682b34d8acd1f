//! What changed, in order, for whoever watches: a bounded memory of keys, not of values.
//!
//! A watcher is told of each changed key once, with its value as it is when it asks; a key that
//! changed ten times is one line. Whoever was away for longer than the memory reaches, or asks
//! with the token of an earlier life of the daemon, is told to read everything again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use dwcp_state::Key;
use tokio::sync::watch;

/// Changes that are remembered: a minute of a busy replica.
const CHANGES_MAX: usize = 65_536;

/// The memory of changes.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Tells this life of the daemon from others.
    life: u64,
    changes: Mutex<Changes>,
    latest: watch::Sender<u64>,
}

/// Each key is remembered by its latest change only.
#[derive(Debug, Default)]
struct Changes {
    order: VecDeque<(u64, Key)>,
    last: BTreeMap<Key, u64>,
    next: u64,
    /// Everything after this number is remembered.
    begun: u64,
}

/// Changed keys, or that they are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) keys: BTreeSet<Key>,
    pub(crate) reset: bool,
    pub(crate) token: String,
}

impl Feed {
    /// An empty memory of a new life.
    pub(crate) fn new(life: u64) -> Self {
        let (latest, _) = watch::channel(0);
        Self { life, changes: Mutex::default(), latest }
    }

    /// Remembers changed keys.
    pub(crate) fn note(&self, keys: impl IntoIterator<Item = Key>) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            changes.next += 1;
            let number = changes.next;
            changes.order.push_back((number, key.clone()));
            changes.last.insert(key, number);
            changes.shrink();
        }
        self.latest.send_replace(changes.next);
    }

    /// The keys below a prefix that changed after a token; from now on without one. At most
    /// `most` of them.
    pub(crate) fn since(&self, prefix: &str, token: Option<&str>, most: usize) -> Page {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = token.and_then(|token| self.number(token));
        let known =
            known.filter(|number| (changes.begun..=changes.next).contains(number));
        let Some(after) = known else {
            let (reset, token) = (token.is_some(), self.token(changes.next));
            return Page { keys: BTreeSet::new(), reset, token };
        };
        let mut keys = BTreeSet::new();
        let mut reached = changes.next;
        let begin = changes.order.partition_point(|(number, _)| *number <= after);
        for (number, key) in changes.order.iter().skip(begin) {
            if keys.len() == most {
                reached = number - 1;
                break;
            }
            if changes.last.get(key) == Some(number) && key.starts_with(prefix) {
                keys.insert(key.clone());
            }
        }
        Page { keys, reset: false, token: self.token(reached) }
    }

    /// Tells of every change that is noted from now on.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    fn token(&self, number: u64) -> String {
        format!("{:x}.{number}", self.life)
    }

    fn number(&self, token: &str) -> Option<u64> {
        let (life, number) = token.split_once('.')?;
        let same = u64::from_str_radix(life, 16).ok()? == self.life;
        same.then(|| number.parse().ok()).flatten()
    }
}

impl Changes {
    fn shrink(&mut self) {
        while self.order.len() > CHANGES_MAX {
            let Some((number, key)) = self.order.pop_front() else { return };
            self.begun = number;
            if self.last.get(&key) == Some(&number) {
                self.last.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(page: &Page) -> Vec<&str> {
        page.keys.iter().map(AsRef::as_ref).collect()
    }

    #[test]
    fn each_changed_key_is_told_once_from_the_token_on() {
        let feed = Feed::new(7);
        let start = feed.since("", None, 10);
        assert!(!start.reset && start.keys.is_empty());
        feed.note(["a/1".into(), "b".into(), "a/1".into(), "a/2".into()]);
        let page = feed.since("a/", Some(&start.token), 10);
        assert_eq!(keys(&page), ["a/1", "a/2"]);
        let rest = feed.since("a/", Some(&page.token), 10);
        assert!(rest.keys.is_empty() && !rest.reset);
    }

    #[test]
    fn a_page_that_is_full_is_gone_on_with() {
        let feed = Feed::new(7);
        let mut token = feed.since("", None, 10).token;
        feed.note(["a".into(), "b".into(), "c".into()]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let page = feed.since("", Some(&token), 1);
            seen.extend(page.keys);
            token = page.token;
        }
        assert_eq!(
            seen.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn what_is_forgotten_or_of_another_life_is_a_reset() {
        let feed = Feed::new(7);
        let old = feed.since("", None, 1).token;
        let many = (0..=CHANGES_MAX).map(|n| Key::from(n.to_string()));
        feed.note(many);
        assert!(feed.since("", Some(&old), 1).reset);
        assert!(feed.since("", Some("8.0"), 1).reset);
        assert!(feed.since("", Some("nonsense"), 1).reset);
    }
}
