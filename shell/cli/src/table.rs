//! Aligned columns.
//!
//! Widths are counted in characters, which is exact for the alphabets that identifiers are
//! made of; a name in a wide script may shift its row. A crate for tables was rejected: this
//! is all that it would be used for.

use crate::terminal::Tone;
use crate::text;

/// Between two columns.
const GAP: usize = 2;

/// Which side a column's text is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: text::plain(text.as_ref()), tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Self {
        Self { text: text::plain(&value.to_string()), tone: Tone::Plain }
    }
}

/// A row, cell by cell.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($crate::table::Cell::from($cell)),*] };
}
pub(crate) use row;

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<(String, Side)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns; a head that begins with `>` is of numbers, on the right.
    pub(crate) fn new(heads: &[&str]) -> Self {
        let head = |head: &&str| match head.strip_prefix('>') {
            Some(head) => (head.to_owned(), Side::Right),
            None => ((*head).to_owned(), Side::Left),
        };
        Self { heads: heads.iter().map(head).collect(), rows: Vec::new() }
    }

    /// Adds a row. Cells that it lacks are empty.
    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The lines, each with its end.
    pub(crate) fn render(&self, colored: bool) -> String {
        let widths: Vec<usize> = (0..self.heads.len()).map(|at| self.width(at)).collect();
        let heads: Vec<_> =
            self.heads.iter().map(|(head, _)| Cell::toned(head, Tone::Strong)).collect();
        let mut lines = String::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            lines.push_str(&self.line(row, &widths, colored));
            lines.push('\n');
        }
        lines
    }

    fn width(&self, at: usize) -> usize {
        let head = self.heads.get(at).map_or(0, |(head, _)| head.chars().count());
        let cells = self.rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.text.chars().count()).fold(head, usize::max)
    }

    fn line(&self, row: &[Cell], widths: &[usize], colored: bool) -> String {
        let mut line = String::new();
        // Blanks wait until something follows, so that no line ends in them.
        let mut waiting = 0;
        for ((cell, width), (_, side)) in row.iter().zip(widths).zip(&self.heads) {
            let free = width.saturating_sub(cell.text.chars().count());
            let (before, after) = match side {
                Side::Left => (0, free),
                Side::Right => (free, 0),
            };
            waiting += before;
            if !cell.text.is_empty() {
                line.extend(std::iter::repeat_n(' ', waiting));
                line.push_str(&cell.tone.paint(&cell.text, colored));
                waiting = 0;
            }
            waiting += after + GAP;
        }
        line
    }
}

/// Names and values, one a line, the values aligned.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    lines: Vec<(String, Cell)>,
}

impl Sheet {
    /// Adds a line.
    pub(crate) fn line(&mut self, name: &str, value: impl Into<Cell>) -> &mut Self {
        self.lines.push((name.to_owned(), value.into()));
        self
    }

    /// The lines, each with its end.
    pub(crate) fn render(&self, colored: bool) -> String {
        let names = self.lines.iter().map(|(name, _)| name.chars().count());
        let width = names.max().unwrap_or(0) + 1;
        let mut text = String::new();
        for (name, value) in &self.lines {
            let value = value.tone.paint(&value.text, colored);
            let line = format!("{:<width$}  {value}", format!("{name}:"));
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_stand_on_the_right_and_no_line_ends_in_blanks() {
        let mut table = Table::new(&["NAME", ">COUNT", "NOTE"]);
        table.push(row!["a", 5, ""]);
        table.push(row!["longer", 12_345, "x"]);
        assert_eq!(
            table.render(false),
            "NAME    COUNT  NOTE\na           5\nlonger  12345  x\n"
        );
    }

    proptest! {
        #[test]
        fn every_cell_of_a_column_begins_at_the_same_place(
            cells in prop::collection::vec(("[a-z]{1,9}", "[a-z]{1,9}"), 1..8)
        ) {
            let mut table = Table::new(&["A", "B"]);
            for (a, b) in &cells {
                table.push(row![a, b]);
            }
            let at = cells.iter().map(|(a, _)| a.len()).max().unwrap() + GAP;
            for (line, (_, b)) in table.render(false).lines().skip(1).zip(&cells) {
                prop_assert_eq!(line.get(at..), Some(b.as_str()));
            }
        }

        #[test]
        fn colours_change_no_character(text in "[a-z ]{0,12}") {
            let mut table = Table::new(&["A", "B"]);
            table.push(vec![Cell::toned(&text, Tone::Bad), Cell::from("end")]);
            let colored = table.render(true);
            let stripped = ["\x1b[31m", "\x1b[1m", "\x1b[0m"]
                .iter()
                .fold(colored, |text, code| text.replace(code, ""));
            prop_assert_eq!(stripped, table.render(false));
        }
    }
}
