//! What of the federation is looked at, and what keys do. Pure.

use dwcp_api::overview::Overview;

/// How far a page goes.
const PAGE: usize = 10;

/// What is shown below the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tab {
    #[default]
    Regions,
    Links,
    Incidents,
    Moves,
    Levels,
}

impl Tab {
    pub(super) const ALL: [Self; 5] =
        [Self::Regions, Self::Links, Self::Incidents, Self::Moves, Self::Levels];

    /// The tab so many further on, around the end.
    fn on(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }

    /// Rows that it has.
    pub(super) fn rows(self, of: &Overview) -> usize {
        match self {
            Self::Regions | Self::Links => of.regions.len(),
            Self::Incidents => of.incidents.shown.len(),
            Self::Moves => of.moves.shown.len(),
            Self::Levels => of.levels.shown.len(),
        }
    }
}

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Next,
    Before,
    Show(Tab),
    Up,
    Down,
    PageUp,
    PageDown,
    Left,
    Right,
    First,
    Last,
    Help,
    Close,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ui {
    pub(super) tab: Tab,
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) help: bool,
    pub(super) quits: bool,
}

impl Ui {
    /// Does what is wanted.
    pub(super) fn press(&mut self, wish: Wish, of: &Overview) {
        match wish {
            Wish::Quit => self.quits = true,
            Wish::Next => self.turn(self.tab.on(1)),
            Wish::Before => self.turn(self.tab.on(Tab::ALL.len() - 1)),
            Wish::Show(tab) => self.turn(tab),
            Wish::Up => self.row = self.row.saturating_sub(1),
            Wish::Down => self.row += 1,
            Wish::PageUp => self.row = self.row.saturating_sub(PAGE),
            Wish::PageDown => self.row += PAGE,
            Wish::Left => self.column = self.column.saturating_sub(1),
            Wish::Right => self.column += 1,
            Wish::First => self.row = 0,
            Wish::Last => self.row = usize::MAX,
            Wish::Help => self.help = !self.help,
            // What is open is closed first.
            Wish::Close => self.quits = !std::mem::take(&mut self.help),
        }
        self.fit(of);
    }

    /// Stays within what there is, which may have become less.
    pub(super) fn fit(&mut self, of: &Overview) {
        self.row = self.row.min(self.tab.rows(of).saturating_sub(1));
        self.column = self.column.min(of.regions.len().saturating_sub(1));
    }

    const fn turn(&mut self, tab: Tab) {
        *self = Self { tab, help: self.help, quits: self.quits, row: 0, column: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dwcp_api::overview::RegionGlance;
    use proptest::prelude::*;

    fn of(regions: usize) -> Overview {
        let region = |at| (format!("r{at}").parse().unwrap(), RegionGlance::default());
        Overview { regions: (0..regions).map(region).collect(), ..Overview::default() }
    }

    fn wish() -> impl Strategy<Value = Wish> {
        prop::sample::select(vec![
            Wish::Next,
            Wish::Before,
            Wish::Show(Tab::Links),
            Wish::Up,
            Wish::Down,
            Wish::PageUp,
            Wish::PageDown,
            Wish::Left,
            Wish::Right,
            Wish::First,
            Wish::Last,
            Wish::Help,
        ])
    }

    proptest! {
        #[test]
        fn no_keys_lead_out_of_what_there_is(
            wishes in prop::collection::vec((wish(), 0_usize..9), 0..40),
        ) {
            let mut ui = Ui::default();
            for (wish, regions) in wishes {
                let of = of(regions);
                ui.press(wish, &of);
                prop_assert!(ui.row == 0 || ui.row < ui.tab.rows(&of));
                prop_assert!(ui.column == 0 || ui.column < regions);
                prop_assert!(!ui.quits);
            }
        }
    }

    #[test]
    fn tabs_go_around_and_escape_closes_help_before_it_quits() {
        let (mut ui, of) = (Ui::default(), of(3));
        ui.press(Wish::Before, &of);
        assert_eq!(ui.tab, Tab::Levels);
        ui.press(Wish::Next, &of);
        assert_eq!(ui.tab, Tab::Regions);
        ui.press(Wish::Help, &of);
        ui.press(Wish::Close, &of);
        assert!(!ui.help && !ui.quits);
        ui.press(Wish::Close, &of);
        assert!(ui.quits);
    }
}
