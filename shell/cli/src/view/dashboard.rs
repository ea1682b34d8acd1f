//! Dashboards as people read them.

use super::Look;
use crate::act::{Imported, Listed};
use crate::table::{Table, row};

/// Those that come with the tool.
pub(crate) fn dashboards(all: &Vec<Listed>, look: Look) -> String {
    let mut table = Table::new(&["NAME", "UID", "TITLE"]);
    for it in all {
        table.push(row![it.name, &it.uid, &it.title]);
    }
    table.render(look.colored)
}

/// What became of those that were to be put into a Grafana.
pub(crate) fn dashboards_imported(all: &Vec<Imported>, look: Look) -> String {
    let mut table = Table::new(&["UID", "TITLE", ">BYTES", ">VERSION", "WHERE"]);
    for it in all {
        table.push(row![
            &it.uid,
            &it.title,
            it.bytes,
            it.version.map_or_else(|| "-".to_owned(), |version| version.to_string()),
            it.url.as_deref().unwrap_or("not sent"),
        ]);
    }
    table.render(look.colored)
}
