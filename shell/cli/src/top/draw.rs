//! The picture: an overview, what is looked at, and a size in; cells out. Pure.

use dwcp_api::overview::{Link, Overview};
use dwcp_types::{RegionId, Timestamp};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table};

use super::ui::{Tab, Ui};
use crate::glance;
use crate::terminal::Tone;
use crate::{text, view};

/// Widest name of a region that is shown whole; the end of a longer one says more.
const NAME_WIDTH: usize = 18;
/// Width of a cell of the matrix, and of the blank before it.
const CELL_WIDTH: usize = 6;
/// What the keys do.
const HELP: [&str; 8] = [
    "Tab, Shift-Tab   the next view, the one before",
    "1 2 3 4 5        regions, links, incidents, moves, levels",
    "Up, Down         the next row; its details are below the table",
    "Left, Right      the next column of links",
    "PgUp, PgDn       ten rows on; Home, End: the first and last",
    "?                this",
    "q, Ctrl-C        quit",
    "41.2? is stale, cut has no line, - was never measured (ms, p95)",
];

/// What is drawn.
#[derive(Debug)]
pub(super) struct Screen<'a> {
    pub(super) overview: &'a Overview,
    /// Why nothing new comes; nothing while it does.
    pub(super) trouble: Option<&'a str>,
    pub(super) colored: bool,
    pub(super) now: Timestamp,
}

/// A table: heads, rows, and which columns are of numbers.
struct Sheet {
    heads: Vec<(String, bool)>,
    rows: Vec<Vec<(String, Tone)>>,
    /// What is said when there is no row.
    empty: String,
    /// About the row that is looked at.
    detail: String,
}

impl Screen<'_> {
    /// Draws everything.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, ui: &Ui) {
        let head = self.head(usize::from(frame.area().width));
        let lines = u16::try_from(head.len()).unwrap_or(0);
        let [top, tabs, body, detail, foot] = Layout::vertical([
            Constraint::Length(lines),
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(head), top);
        frame.render_widget(self.tabs(ui), tabs);
        let sheet = self.sheet(ui, body);
        let shown = text::plain(&sheet.detail);
        frame.render_widget(Line::styled(shown, self.style(Tone::Strong)), detail);
        self.table(frame, sheet, ui, body);
        frame.render_widget(self.foot(), foot);
        if ui.help {
            Self::help(frame);
        }
    }

    fn style(&self, tone: Tone) -> Style {
        let style = Style::new();
        let color = match tone {
            Tone::Plain => return style,
            Tone::Strong => return style.add_modifier(Modifier::BOLD),
            Tone::Good => Color::Green,
            Tone::Warn => Color::Yellow,
            Tone::Bad => Color::Red,
        };
        if self.colored { style.fg(color) } else { style }
    }

    fn head(&self, width: usize) -> Vec<Line<'static>> {
        let of = self.overview;
        let by = of.answered_by.as_ref().map_or("?", RegionId::as_str);
        let engine = if of.engine.reachable && of.engine.on_duty.is_some() {
            Tone::Plain
        } else {
            Tone::Bad
        };
        let mut lines = vec![
            (format!("{} (as seen from {by})", glance::summary(of)), Tone::Strong),
            (glance::engine(&of.engine), engine),
            (glance::traffic(&of.traffic), Tone::Plain),
        ];
        lines.extend(of.failover.as_ref().map(|it| (glance::failover(it), Tone::Bad)));
        let line = |(text, tone): (String, Tone)| {
            let style = self.style(tone);
            folded(&text, width).into_iter().map(move |part| Line::styled(part, style))
        };
        lines.into_iter().flat_map(line).collect()
    }

    fn tabs(&self, ui: &Ui) -> Line<'static> {
        let of = self.overview;
        let mut spans = Vec::new();
        for (at, tab) in Tab::ALL.into_iter().enumerate() {
            let name = match tab {
                Tab::Regions => format!(" {} Regions {} ", at + 1, of.regions.len()),
                Tab::Links => format!(" {} Links ", at + 1),
                Tab::Incidents => format!(" {} Incidents {} ", at + 1, of.incidents.open),
                Tab::Moves => {
                    format!(" {} Moves {} ", at + 1, of.moves.running + of.moves.waiting)
                }
                Tab::Levels => format!(" {} Levels {} ", at + 1, of.levels.promised),
            };
            let style = if tab == ui.tab {
                Style::new().add_modifier(Modifier::REVERSED)
            } else {
                Style::new()
            };
            spans.push(Span::styled(name, style));
            spans.push(Span::raw(" "));
        }
        Line::from(spans)
    }

    fn foot(&self) -> Line<'static> {
        match self.trouble {
            None => Line::from("live   q quit  Tab next  arrows move  ? help"),
            Some(why) => {
                let why = format!("NOT LIVE, trying again: {}", text::plain(why));
                Line::styled(why, self.style(Tone::Bad))
            }
        }
    }

    fn table(&self, frame: &mut Frame<'_>, sheet: Sheet, ui: &Ui, area: Rect) {
        if sheet.rows.is_empty() {
            frame.render_widget(Line::from(sheet.empty), area);
            return;
        }
        let widths = widths(&sheet);
        let cell = |(text, tone): &(String, Tone), right: bool| {
            let line = Line::styled(text::plain(text), self.style(*tone));
            Cell::from(if right { line.right_aligned() } else { line })
        };
        let row = |cells: &[(String, Tone)]| {
            let cells = cells.iter().zip(&sheet.heads);
            Row::new(cells.map(|(it, (_, right))| cell(it, *right)).collect::<Vec<_>>())
        };
        let heads: Vec<_> =
            sheet.heads.iter().map(|(head, _)| (head.clone(), Tone::Strong)).collect();
        let shown = usize::from(area.height).saturating_sub(1).max(1);
        let from = (ui.row + 1).saturating_sub(shown);
        let rows = sheet.rows.iter().enumerate().skip(from).take(shown);
        let rows = rows.map(|(at, cells)| {
            if at == ui.row {
                row(cells).style(Style::new().add_modifier(Modifier::REVERSED))
            } else {
                row(cells)
            }
        });
        let table = Table::new(rows.collect::<Vec<_>>(), widths).header(row(&heads));
        frame.render_widget(table, area);
    }

    fn help(frame: &mut Frame<'_>) {
        let area = frame.area();
        let height = u16::try_from(HELP.len() + 2).unwrap_or(10).min(area.height);
        let width = 70.min(area.width);
        let at = Rect {
            x: (area.width - width) / 2,
            y: (area.height - height) / 2,
            width,
            height,
        };
        frame.render_widget(Clear, at);
        let lines: Vec<_> = HELP.iter().map(|line| Line::from(*line)).collect();
        let block = Block::bordered().title(" Keys ");
        frame.render_widget(Paragraph::new(lines).block(block), at);
    }

    fn sheet(&self, ui: &Ui, area: Rect) -> Sheet {
        match ui.tab {
            Tab::Regions => self.regions(ui),
            Tab::Links => self.links(ui, area),
            Tab::Incidents => self.incidents(ui),
            Tab::Moves => self.moves(ui),
            Tab::Levels => self.levels(ui),
        }
    }

    fn regions(&self, ui: &Ui) -> Sheet {
        let regions = glance::worst_first(self.overview);
        let row = |(id, it): &(&RegionId, &dwcp_api::overview::RegionGlance)| {
            let plain = |text: String| (text, Tone::Plain);
            let hosts = if it.up < it.hosts { Tone::Warn } else { Tone::Plain };
            vec![
                plain(ending(id.as_str(), NAME_WIDTH)),
                (glance::health(it), glance::tone(it.health.state)),
                plain(glance::age(it.age_s)),
                (format!("{}/{}", it.up, it.hosts), hosts),
                plain(format!("{}/{}", it.running, it.vms)),
                plain(glance::share(it.cpu)),
                plain(glance::share(it.memory)),
                plain(glance::notes(it)),
            ]
        };
        let of_row = |(id, it): &(&RegionId, &_)| format!("{id}: {}", glance::notes(it));
        Sheet {
            heads: heads(&[
                "REGION", "HEALTH", ">AGE", ">HOSTS", ">VMS", ">CPU", ">MEMORY", "NOTES",
            ]),
            detail: regions.get(ui.row).map(of_row).unwrap_or_default(),
            rows: regions.iter().map(row).collect(),
            empty: "no regions".to_owned(),
        }
    }

    fn links(&self, ui: &Ui, area: Rect) -> Sheet {
        let names: Vec<&RegionId> = self.overview.regions.keys().collect();
        let left = usize::from(area.width).saturating_sub(NAME_WIDTH);
        let columns = (left / (CELL_WIDTH + 1)).max(1);
        // The column that is looked at is the last one, unless all before it fit.
        let from = (ui.column + 1).saturating_sub(columns);
        let across: Vec<_> = names.iter().enumerate().skip(from).take(columns).collect();
        let row = |one: &&RegionId| {
            let mut cells = vec![(ending(one.as_str(), NAME_WIDTH), Tone::Plain)];
            cells.extend(across.iter().map(|(_, other)| {
                if one == *other {
                    (".".to_owned(), Tone::Plain)
                } else {
                    glance::link(self.overview.link(one, other))
                }
            }));
            cells
        };
        let mut all = vec![("p95, ms".to_owned(), false)];
        all.extend(across.iter().map(|(at, other)| {
            // The one that is looked at is told by a sign too, not by colour alone.
            let room = if *at == ui.column { CELL_WIDTH - 1 } else { CELL_WIDTH };
            let name = ending(other.as_str(), room);
            (if *at == ui.column { format!(">{name}") } else { name }, true)
        }));
        let pair = names.get(ui.row).zip(names.get(ui.column));
        Sheet {
            heads: all,
            rows: names.iter().map(row).collect(),
            empty: "no regions".to_owned(),
            detail: pair.map(|(one, other)| self.pair(one, other)).unwrap_or_default(),
        }
    }

    fn pair(&self, one: &RegionId, other: &RegionId) -> String {
        if one == other {
            return one.to_string();
        }
        let is = match self.overview.link(one, other) {
            Link::Measured(tenths) => format!("{} ms", glance::rtt(tenths)),
            Link::Stale(tenths, age) => format!(
                "{} ms {} ago, nothing since",
                glance::rtt(tenths),
                glance::age(Some(u64::from(age)))
            ),
            Link::Cut(age) => {
                format!("no line, seen {} ago", glance::age(Some(u64::from(age))))
            }
            Link::Never => "never measured".to_owned(),
        };
        format!("{one} - {other}: {is}")
    }

    fn incidents(&self, ui: &Ui) -> Sheet {
        let of = &self.overview.incidents;
        let row = |it: &dwcp_api::overview::IncidentGlance| {
            let plain = |text: String| (text, Tone::Plain);
            vec![
                plain(it.id.to_string()),
                (it.severity.word().to_owned(), glance::severity_tone(it.severity)),
                plain(text::word(&it.status)),
                plain(it.region.as_ref().map_or("-", RegionId::as_str).to_owned()),
                plain(text::age(self.now.since(it.since))),
                plain(it.title.clone()),
            ]
        };
        let detail = |it: &dwcp_api::overview::IncidentGlance| {
            let back = match it.flaps {
                0 => String::new(),
                flaps => format!(" (came back {flaps} times)"),
            };
            format!("{}: {}{back}", it.id, it.title)
        };
        Sheet {
            heads: heads(&[
                "INCIDENT", "SEVERITY", "STATUS", "REGION", ">SINCE", "TITLE",
            ]),
            rows: of.shown.iter().map(row).collect(),
            empty: match of.age_s {
                None => "incidents were not read yet".to_owned(),
                Some(_) => "nothing is wrong".to_owned(),
            },
            detail: of.shown.get(ui.row).map(detail).unwrap_or_default(),
        }
    }

    fn moves(&self, ui: &Ui) -> Sheet {
        let of = &self.overview.moves;
        let row = |it: &dwcp_api::overview::MoveGlance| {
            let since = text::age(self.now.since(it.since));
            let step = text::word(&it.step);
            let words = [it.vm.to_string(), it.from.to_string(), it.to.to_string()];
            let mut cells: Vec<_> = words.into_iter().collect();
            cells.extend([step, since]);
            cells.into_iter().map(|text| (text, Tone::Plain)).collect()
        };
        let more = (of.running + of.waiting).saturating_sub(text::len(&of.shown));
        let detail = |it: &dwcp_api::overview::MoveGlance| {
            format!("move {}; {more} more are not shown", it.id)
        };
        Sheet {
            heads: heads(&["VM", "FROM", "TO", "STEP", ">SINCE"]),
            rows: of.shown.iter().map(row).collect(),
            empty: "nothing moves".to_owned(),
            detail: of.shown.get(ui.row).map(detail).unwrap_or_default(),
        }
    }

    fn levels(&self, ui: &Ui) -> Sheet {
        let of = &self.overview.levels;
        let row = |it: &dwcp_api::overview::LevelGlance| {
            let plain = |text: String| (text, Tone::Plain);
            let percent = |ppm: u32| text::percent_ppm(u64::from(ppm));
            vec![
                plain(it.id.clone()),
                (text::word(&it.standing), glance::standing_tone(it.standing)),
                plain(it.worst.to_string()),
                plain(it.compliance_ppm.map_or_else(|| "-".to_owned(), percent)),
                plain(percent(it.promised_ppm)),
                plain(view::left(it.standing, it.left_ppm)),
            ]
        };
        let detail = |it: &dwcp_api::overview::LevelGlance| {
            format!("{}: broken in {} of {} regions", it.id, it.broken, it.regions)
        };
        Sheet {
            heads: heads(&[
                "SERVICE LEVEL",
                "STANDS",
                "WORST IN",
                ">KEPT",
                ">PROMISED",
                ">LEFT",
            ]),
            rows: of.shown.iter().map(row).collect(),
            empty: "no service level is promised".to_owned(),
            detail: of.shown.get(ui.row).map(detail).unwrap_or_default(),
        }
    }
}

/// Heads; one that begins with `>` is of numbers, on the right.
fn heads(words: &[&str]) -> Vec<(String, bool)> {
    let head = |word: &&str| match word.strip_prefix('>') {
        Some(word) => (word.to_owned(), true),
        None => ((*word).to_owned(), false),
    };
    words.iter().map(head).collect()
}

/// As wide as what is widest; the last column takes what is left, so it is cut first.
fn widths(sheet: &Sheet) -> Vec<Constraint> {
    let last = sheet.heads.len().saturating_sub(1);
    let width = |at: usize| {
        let cells = sheet.rows.iter().filter_map(|row| row.get(at));
        let cells = cells.map(|(text, _)| text.chars().count());
        let head = sheet.heads.get(at).map_or(0, |(head, _)| head.chars().count());
        u16::try_from(cells.fold(head, usize::max)).unwrap_or(u16::MAX)
    };
    let of = |at: usize| {
        if at == last && sheet.heads.get(at).is_some_and(|(_, right)| !right) {
            Constraint::Fill(1)
        } else {
            Constraint::Length(width(at))
        }
    };
    (0..sheet.heads.len()).map(of).collect()
}

/// A text on two lines where it has no room on one, cut between words; the second may be cut.
fn folded(text: &str, width: usize) -> Vec<String> {
    if text.chars().count() <= width {
        return vec![text.to_owned()];
    }
    let mut first = String::new();
    let mut words = text.split(' ').peekable();
    while let Some(word) = words.peek() {
        if first.chars().count() + word.chars().count() + 1 > width && !first.is_empty() {
            break;
        }
        if !first.is_empty() {
            first.push(' ');
        }
        first.push_str(word);
        words.next();
    }
    let rest: Vec<&str> = words.collect();
    vec![first, format!("  {}", rest.join(" "))]
}

/// A text in so many characters: the end of it, because names of regions differ there.
fn ending(text: &str, room: usize) -> String {
    let len = text.chars().count();
    if len <= room {
        return text.to_owned();
    }
    let rest: String = text.chars().skip(len + 1 - room.max(1)).collect();
    format!("…{rest}")
}

#[cfg(test)]
mod tests;
