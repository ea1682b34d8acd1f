//! A trace put together from its spans, in whatever order and however often they came.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::critical::{Node, critical};
use super::skew::offsets;
use super::{Kind, Lane, Offset, Span, SpanId, TraceId};

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// What was done.
    pub span: Span,
    /// Below how many others it stands.
    pub depth: u32,
    /// What it is part of is not known: it was lost, or did not end yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost_parent: bool,
    /// How much of what the trace waited for it is, by itself, in microseconds.
    pub critical_us: u64,
    /// For a call: how long it was under way, which is what the caller waited less what the
    /// other needed, each by its own clock, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_us: Option<u64>,
}

/// How a process's clock stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LaneClock {
    /// Whose.
    pub lane: Lane,
    /// Against the first span's.
    pub offset: Offset,
}

/// A trace put together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// Which.
    pub trace: TraceId,
    /// When it began, by the clock of its first span's process, in microseconds since 1970.
    pub start_us: u64,
    /// How long what was asked for took, in microseconds. What goes on after the answer is not
    /// part of it.
    pub took_us: u64,
    /// How much of that calls between regions were under way, as far as it was waited for, in
    /// microseconds.
    pub way_us: u64,
    /// All it is made of, from the top.
    pub rows: Vec<Row>,
    /// The clocks of those who took part.
    pub lanes: Vec<LaneClock>,
}

/// Spans by number, and who is part of whom.
struct Tree {
    spans: Vec<Span>,
    children: Vec<Vec<usize>>,
    roots: Vec<usize>,
    lost: BTreeSet<usize>,
}

impl Trace {
    /// Puts a trace together; nothing without spans. The same in whatever order they come, and
    /// however often.
    #[must_use]
    pub fn of(spans: Vec<Span>) -> Option<Self> {
        let tree = Tree::of(spans);
        let first = *tree.roots.iter().min_by_key(|at| tree.rank(**at))?;
        let lane = Lane::of(&tree.spans[first]);
        let clocks = offsets(Some(&lane), tree.spans.iter(), tree.calls());
        let starts: Vec<i128> =
            tree.spans.iter().map(|span| start(span, &clocks)).collect();
        let nodes = tree.nodes(&starts);
        let own = critical(&nodes, first);
        let rows = tree.rows(first, &starts, &own);
        let between = (0..own.len()).filter(|at| tree.leaves_region(*at));
        let way_us = between.map(|at| own[at]).sum();
        let head = &tree.spans[first];
        Some(Self {
            trace: head.trace,
            start_us: head.start_us,
            took_us: head.took_us,
            way_us,
            rows,
            lanes: clocks
                .into_iter()
                .map(|(lane, offset)| LaneClock { lane, offset })
                .collect(),
        })
    }

    /// Its first line.
    #[must_use]
    pub fn head(&self) -> Option<&Row> {
        self.rows.first()
    }

    /// Whether anything in it failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.rows.iter().any(|row| row.span.failed.is_some())
    }
}

/// When a span began by the first span's clock.
fn start(span: &Span, clocks: &BTreeMap<Lane, Offset>) -> i128 {
    let ahead = clocks.get(&Lane::of(span)).map_or(0, |offset| offset.ahead_us);
    i128::from(span.start_us) - i128::from(ahead)
}

impl Tree {
    fn of(spans: Vec<Span>) -> Self {
        let mut once: BTreeMap<SpanId, Span> = BTreeMap::new();
        for span in spans {
            let newer = once.get(&span.id).is_none_or(|kept| worth(&span) > worth(kept));
            if newer {
                once.insert(span.id, span);
            }
        }
        let number: BTreeMap<SpanId, usize> =
            once.keys().enumerate().map(|(at, id)| (*id, at)).collect();
        let spans: Vec<Span> = once.into_values().collect();
        let mut tree = Self {
            children: vec![Vec::new(); spans.len()],
            roots: Vec::new(),
            lost: BTreeSet::new(),
            spans,
        };
        for at in 0..tree.spans.len() {
            let span = &tree.spans[at];
            let parent = span.parent.map(|parent| number.get(&parent));
            match parent {
                Some(Some(parent)) => tree.children[*parent].push(at),
                // What an entry is part of is somebody else's, and mostly not told here.
                Some(None) if !span.entry => {
                    tree.lost.insert(at);
                    tree.roots.push(at);
                }
                Some(None) | None => tree.roots.push(at),
            }
        }
        tree.cut_circles();
        tree
    }

    /// Spans that are part of each other have no root: the smallest of each circle becomes one.
    fn cut_circles(&mut self) {
        let mut reached = vec![false; self.spans.len()];
        let mut next = self.roots.clone();
        loop {
            while let Some(at) = next.pop() {
                if !std::mem::replace(&mut reached[at], true) {
                    next.extend(&self.children[at]);
                }
            }
            let Some(at) = reached.iter().position(|reached| !reached) else { return };
            let at = self.on_circle(at);
            for children in &mut self.children {
                children.retain(|child| *child != at);
            }
            self.lost.insert(at);
            self.roots.push(at);
            next.push(at);
        }
    }

    /// The smallest span of the circle that one leads up to.
    fn on_circle(&self, from: usize) -> usize {
        let parent = |at: usize| {
            self.children.iter().position(|children| children.contains(&at)).unwrap_or(at)
        };
        let mut seen = BTreeSet::new();
        let mut at = from;
        while seen.insert(at) {
            at = parent(at);
        }
        let mut least = at;
        let mut next = parent(at);
        while next != at {
            least = least.min(next);
            next = parent(next);
        }
        least
    }

    /// The root that the trace is told by: an entry before others, then the longest.
    fn rank(&self, at: usize) -> (bool, std::cmp::Reverse<u64>, u64, SpanId) {
        let span = &self.spans[at];
        (!span.entry, std::cmp::Reverse(span.took_us), span.start_us, span.id)
    }

    /// Each call: who asks, and who is asked.
    fn calls(&self) -> impl Iterator<Item = (&Span, &Span)> {
        let pairs = self.children.iter().enumerate().flat_map(move |(at, children)| {
            children.iter().map(move |child| (&self.spans[at], &self.spans[*child]))
        });
        pairs.filter(|(a, b)| a.kind == Kind::Client && b.kind == Kind::Server)
    }

    fn nodes(&self, starts: &[i128]) -> Vec<Node> {
        let node = |(at, span): (usize, &Span)| Node {
            start: starts[at],
            end: starts[at] + i128::from(span.took_us),
            children: self.children[at].clone(),
        };
        self.spans.iter().enumerate().map(node).collect()
    }

    fn rows(&self, first: usize, starts: &[i128], own: &[u64]) -> Vec<Row> {
        let mut rows = Vec::with_capacity(self.spans.len());
        let mut roots = self.roots.clone();
        roots.sort_by_key(|at| (*at != first, starts[*at], *at));
        let mut next: Vec<(usize, u32)> = roots.iter().rev().map(|at| (*at, 0)).collect();
        while let Some((at, depth)) = next.pop() {
            rows.push(Row {
                span: self.spans[at].clone(),
                depth,
                lost_parent: self.lost.contains(&at),
                critical_us: own[at],
                way_us: self.way(at),
            });
            let mut children = self.children[at].clone();
            children.sort_by_key(|child| (starts[*child], *child));
            next.extend(children.iter().rev().map(|child| (*child, depth + 1)));
        }
        rows
    }

    /// Whether it is a call that another region answers.
    fn leaves_region(&self, at: usize) -> bool {
        let asked = &self.spans[at];
        let answers = |child: &usize| {
            let span = &self.spans[*child];
            span.kind == Kind::Server && span.region != asked.region
        };
        asked.kind == Kind::Client && self.children[at].iter().any(answers)
    }

    /// How long a call was under way.
    fn way(&self, at: usize) -> Option<u64> {
        let asked = &self.spans[at];
        let of = |child: &usize| {
            let span = &self.spans[*child];
            let is_other = span.kind == Kind::Server && Lane::of(span) != Lane::of(asked);
            is_other.then_some(span.took_us)
        };
        if asked.kind != Kind::Client {
            return None;
        }
        let needed = self.children[at].iter().filter_map(of).max()?;
        Some(asked.took_us.saturating_sub(needed))
    }
}

/// Which of two spans with one id says more: what lasted longer, then any order that is the
/// same for everybody.
fn worth(span: &Span) -> (u64, bool, u64, usize, String) {
    let text = format!("{span:?}");
    (span.took_us, span.failed.is_some(), span.start_us, span.tags.len(), text)
}
