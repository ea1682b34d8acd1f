//! What an overview tells of incidents and service levels.

use dwcp_api::overview::{IncidentsGlance, LevelsGlance};
use dwcp_types::RegionId;

use super::Incidents;
use crate::overview;

impl Incidents {
    /// What is wrong, the worst first.
    pub(crate) fn glance(&self) -> IncidentsGlance {
        let age = self.board.age();
        self.board.look(|book| overview::incidents(book, age))
    }

    /// Whose daemon evaluates and tells.
    pub(crate) fn on_duty(&self) -> Option<RegionId> {
        self.board.duty().map(|duty| duty.region)
    }

    /// What is promised, what has the least budget left first.
    pub(crate) fn levels_glance(&self) -> LevelsGlance {
        let promised = self.promised();
        let reports = promised.into_iter().map(|of| {
            let regions = self.regions_of(&of).into_iter();
            let reports = regions.map(|region| {
                let report = self.report(&of, &region);
                (region, report)
            });
            let reports = reports.collect();
            (of, reports)
        });
        overview::levels(&reports.collect::<Vec<_>>())
    }
}
