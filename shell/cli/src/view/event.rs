//! Events for people.

use dwcp_api::public::EventList;

use super::Look;
use crate::table::{Table, row};
use crate::text;

/// Events, oldest first, and who did not answer.
pub(crate) fn events(list: &EventList, look: Look) -> String {
    let mut table = Table::new(&["AT", "REGION", "VM", "WHAT"]);
    for event in &list.items {
        let vm = event.vm.as_ref().map_or("-", |vm| vm.as_str());
        table.push(row![text::moment(event.at), &event.region, vm, &event.what]);
    }
    let mut shown = if list.items.is_empty() {
        "no events\n".to_owned()
    } else {
        table.render(look.colored)
    };
    if !list.missing.is_empty() {
        shown.push_str(&format!(
            "\nmissing, because they did not answer: {}\n",
            text::listed(&list.missing)
        ));
    }
    shown
}
