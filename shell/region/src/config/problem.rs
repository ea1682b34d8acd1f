//! What is wrong with a configuration file, told the way a compiler tells it: place, reason,
//! the line itself, and what to write instead.
//!
//! All problems of one reading are collected, so that an operator corrects a file once and not
//! once for each mistake. Past [`PROBLEMS_MAX`] they are only counted: whoever has that many
//! gave the wrong file.

use std::fmt;

use serde::Serialize;

/// Problems that are told one by one; the rest is counted. A screenful, several times over.
pub const PROBLEMS_MAX: usize = 100;

/// Longest part of a source line that is shown, in characters.
const EXCERPT_MAX: usize = 160;

/// A place in the text, both counted from 1 and in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl Position {
    /// Where a text begins.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// Whether the file is refused for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Refused.
    Error,
    /// Accepted, but not what its writer may think.
    Warning,
}

/// Another place that belongs to a problem, such as the first of two equal ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Where.
    #[serde(flatten)]
    pub at: Position,
    /// What is there.
    pub what: String,
}

/// One thing that is wrong with a file, or only odd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as its reader named it.
    pub file: String,
    /// Where it is.
    #[serde(flatten)]
    pub at: Position,
    /// What is wrong.
    pub reason: String,
    /// What to write instead.
    pub help: String,
    /// The other places that matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<Related>,
    /// The line of the file that it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub excerpt: String,
}

/// Something that is accepted and deserves a word; same shape, severity warning.
pub type Warning = Problem;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.at;
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{}:{line}:{column}: {severity}: {}", self.file, self.reason)?;
        if !self.excerpt.is_empty() {
            let before = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
            writeln!(f, "{line:>6} | {}", self.excerpt)?;
            if before < EXCERPT_MAX {
                writeln!(f, "       | {}^", " ".repeat(before))?;
            }
        }
        for Related { at, what } in &self.related {
            writeln!(f, "  note: {}:{}:{}: {what}", self.file, at.line, at.column)?;
        }
        write!(f, "  help: {}", self.help)
    }
}

/// Why a file is refused: at least one problem, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Problems {
    /// The problems, at most [`PROBLEMS_MAX`] of them.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub more: usize,
}

impl Problems {
    /// The same as a JSON object, for `-o json`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "problems": self.problems, "more": self.more })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}\n")?;
        }
        let count = self.problems.len().saturating_add(self.more);
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{count} {noun}")?;
        if self.more > 0 {
            write!(f, ", the first {} shown", self.problems.len())?;
        }
        write!(f, "; nothing was loaded")
    }
}

/// The lines of a text as YAML counts them: a carriage return alone ends one, too.
fn lines(text: &str) -> Vec<&str> {
    let fed = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    fed.flat_map(|line| line.split('\r')).collect()
}

/// Collects what is found while a text is read.
#[derive(Debug)]
pub(super) struct Report<'text> {
    file: &'text str,
    lines: Vec<&'text str>,
    errors: Vec<Problem>,
    more: usize,
    warnings: Vec<Warning>,
}

impl<'text> Report<'text> {
    pub(super) fn new(file: &'text str, text: &'text str) -> Self {
        let (errors, warnings) = (Vec::new(), Vec::new());
        Self { file, lines: lines(text), errors, more: 0, warnings }
    }

    fn problem(
        &self,
        severity: Severity,
        at: Position,
        reason: String,
        help: String,
    ) -> Problem {
        let index = usize::try_from(at.line).ok().and_then(|line| line.checked_sub(1));
        let line = index.and_then(|index| self.lines.get(index));
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let excerpt = line.map_or_else(String::new, |line| {
            line.chars().take(EXCERPT_MAX).map(printable).collect()
        });
        let file = self.file.to_owned();
        Problem { severity, file, at, reason, help, related: Vec::new(), excerpt }
    }

    /// Whether further errors are only counted, so that nobody need look for good advice.
    pub(super) fn is_full(&self) -> bool {
        self.errors.len() >= PROBLEMS_MAX
    }

    pub(super) fn error(
        &mut self,
        at: Position,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let problem = self.problem(Severity::Error, at, reason.into(), help.into());
        self.errors.push(problem);
    }

    /// An error about two places: the second is `at`, `first` says what the first is.
    pub(super) fn clash(
        &mut self,
        at: Position,
        first: Related,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let mut problem = self.problem(Severity::Error, at, reason.into(), help.into());
        problem.related.push(first);
        self.errors.push(problem);
    }

    pub(super) fn warn(
        &mut self,
        at: Position,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.warnings.len() < PROBLEMS_MAX {
            let warning = self.problem(Severity::Warning, at, reason.into(), help.into());
            self.warnings.push(warning);
        }
    }

    /// What was told so far, as a refusal.
    pub(super) fn refused(self) -> Problems {
        Problems { problems: self.errors, more: self.more }
    }

    /// The value when nothing is wrong with it. A reader that has none must have said why;
    /// should it not have, that is said, because a refusal without a reason helps nobody.
    pub(super) fn conclude<T>(
        mut self,
        value: Option<T>,
    ) -> Result<(T, Vec<Warning>), Problems> {
        self.errors.sort_by_key(|problem| problem.at);
        self.warnings.sort_by_key(|warning| warning.at);
        match value {
            Some(value) if self.errors.is_empty() => Ok((value, self.warnings)),
            None if self.errors.is_empty() => {
                self.error(
                    Position::START,
                    "this file cannot be read, and the reader does not know why",
                    "please report this file as a defect of its reader",
                );
                Err(self.refused())
            }
            Some(_) | None => Err(self.refused()),
        }
    }
}
