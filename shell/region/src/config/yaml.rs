//! A YAML text as a tree in which every key and every value knows its place.
//!
//! The file is read in two steps: text to tree here, tree to typed values in [`super::section`]
//! and what stands on it. Deriving the typed values straight from the text was rejected: it
//! stops at the first mistake, and an operator wants them all.
//!
//! Everything is bounded: depth, nodes, aliases and what they unfold to. Booleans are `true`
//! and `false` only, so that the country `NO` stays a country.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy, Spanned};

use super::problem::{Position, Report};

/// Deepest nesting; the deepest key of a full file stands six levels down.
const DEPTH_MAX: usize = 24;
/// Most values and keys. 65,536 hosts have eleven keys and eleven values each at most, and as
/// much again is left for the regions with their round trips.
const NODES_MAX: usize = 3_000_000;
/// Most nodes that aliases may unfold to: enough to share a block among all regions.
const ALIASED_NODES_MAX: usize = 200_000;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) content: Content,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Nothing,
    Truth(bool),
    Whole(i128),
    Decimal(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands. A key that is no text is spelled out, and then unknown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) at: Position,
    pub(super) name: String,
}

/// Longest text that a message quotes, in characters.
const QUOTE_MAX: usize = 60;

/// A text in quotes, shortened where it is long.
pub(super) fn quote(text: &str) -> String {
    if text.chars().count() <= QUOTE_MAX {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(QUOTE_MAX).collect();
    format!("{head:?}...")
}

/// What a message calls this value: `the text "5"`.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Nothing => f.write_str("an empty value"),
            Content::Truth(truth) => write!(f, "{truth}"),
            Content::Whole(number) => write!(f, "{number}"),
            Content::Decimal(number) => write!(f, "{number}"),
            Content::Text(text) => f.write_str(&quote(text)),
            Content::List(_) => f.write_str("a list"),
            Content::Map(_) => f.write_str("a block of keys"),
        }
    }
}

fn position(location: serde_saphyr::Location) -> Position {
    Position { line: location.line().max(1), column: location.column().max(1) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(source)?;
        Ok(Self { at: position(spanned.referenced), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Nothing)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Nothing)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Content, E> {
        Ok(Content::Truth(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Content, E> {
        Ok(Content::Whole(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Content, E> {
        Ok(Content::Whole(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Content, E> {
        Ok(Content::Whole(number))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Content, E> {
        Ok(Content::Whole(i128::try_from(number).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Content, E> {
        Ok(Content::Decimal(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Content, E> {
        Ok(Content::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Node, Node>()? {
            let name = match key.content {
                Content::Text(name) => name,
                Content::Nothing
                | Content::Truth(_)
                | Content::Whole(_)
                | Content::Decimal(_)
                | Content::List(_)
                | Content::Map(_) => key.to_string(),
            };
            map.push((Key { at: key.at, name }, value));
        }
        Ok(Content::Map(map))
    }
}

fn options() -> serde_saphyr::Options {
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        max_nodes: NODES_MAX,
        max_events: 2 * NODES_MAX,
        max_documents: 1,
        enforce_alias_anchor_ratio: false,
    };
    let mut options = serde_saphyr::options! {
        budget: budget,
        emit_comments: false,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    options.alias_limits.max_total_replayed_events = ALIASED_NODES_MAX;
    options
}

/// The tree of a text, or nothing and a problem when it is not YAML.
pub(super) fn tree(text: &str, report: &mut Report<'_>) -> Option<Node> {
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(node) => Some(node),
        Err(error) => {
            let at = error.location().map_or(Position::START, position);
            let (reason, help) = refusal(&error);
            report.error(at, reason, help);
            None
        }
    }
}

/// What a bound of the reader, or the YAML itself, has against the text.
fn refusal(error: &serde_saphyr::Error) -> (String, &'static str) {
    use serde_saphyr::Error;
    use serde_saphyr::budget::BudgetBreach;

    let mut error = error;
    while let Error::AliasError { error: inner, .. } = error {
        error = inner;
    }
    let split = "split the federation, or write shared blocks out";
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of a hundred faults these four are about bounds; the rest speak for themselves"
    )]
    match error {
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            let reason = format!("blocks are nested deeper than {DEPTH_MAX} levels");
            (reason, "check the brackets: a federation needs six levels")
        }
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. }
        | Error::MultipleDocuments { .. } => (
            "a second document begins here".to_owned(),
            "put everything into one document and remove `---`",
        ),
        Error::Budget { .. } => {
            (format!("there are more than {NODES_MAX} values and keys"), split)
        }
        Error::AliasReplayLimitExceeded { .. } => {
            let reason =
                format!("aliases unfold to more than {ALIASED_NODES_MAX} values");
            (reason, split)
        }
        other => {
            let mut reason = other.without_snippet().to_string();
            if let Some(end) = reason.find(" at line ") {
                reason.truncate(end);
            }
            (
                format!("this is not YAML that can be read: {}", reason.trim()),
                "check the indentation, colons, quotes and brackets here and on the line \
                 before; tabs cannot indent",
            )
        }
    }
}
