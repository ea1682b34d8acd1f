//! Regions and their capacity for people.

use dwcp_api::public::{RegionCapacityReply, RegionItem, RegionList};
use dwcp_types::{Bps, Capacity};

use super::{Look, health};
use crate::table::{Cell, Sheet, Table, row};
use crate::text;

/// All regions, one a line.
pub(crate) fn regions(list: &RegionList, look: Look) -> String {
    let mut heads = vec![
        "REGION",
        "NAME",
        "PROVIDER",
        "KIND",
        "ENABLED",
        "HEALTH",
        ">AGE",
        ">HOSTS",
        ">VMS",
        ">FREE CPU",
        ">FREE MEMORY",
        ">FREE STORAGE",
    ];
    if look.wide {
        heads.extend([">PRIORITY", "ZONES", "COMPLIANCE", ">CPU $/H", "ENDPOINT"]);
    }
    let mut table = Table::new(&heads);
    for item in &list.items {
        let at = &item.region;
        let up = item.hosts.iter().filter(|host| host.answers).count();
        let mut row = row![
            &at.id,
            &at.name,
            &at.cloud_provider,
            text::word(&at.kind),
            open(item),
            health(item.health),
            text::age_ms(item.age_ms),
            format!("{up}/{}", item.hosts.len()),
            text::count(item.vms),
            text::count(item.free.cpu),
            text::memory(item.free.memory),
            text::storage(item.free.storage),
        ];
        if look.wide {
            row.extend(row![
                at.priority,
                text::listed(&at.availability_zones),
                text::listed(&at.compliance_zones),
                text::money(at.cost.cpu_hour),
                &item.endpoint,
            ]);
        }
        table.push(row);
    }
    table.render(look.colored)
}

/// One region in full.
pub(crate) fn region(item: &RegionItem, look: Look) -> String {
    let at = &item.region;
    let cost = &at.cost;
    let mut sheet = Sheet::default();
    sheet
        .line("region", &at.id)
        .line("name", &at.name)
        .line("provider", &at.cloud_provider)
        .line("kind", text::word(&at.kind))
        .line("location", location(item))
        .line("zones", text::listed(&at.availability_zones))
        .line("compliance", text::listed(&at.compliance_zones))
        .line("enabled", open(item))
        .line("priority", at.priority)
        .line("health", health(item.health))
        .line("last heard", heard(item.age_ms))
        .line("endpoint", &item.endpoint)
        .line("CPU overcommit", format!("{}x", at.overcommit.cpu))
        .line("CPU price", text::money_per_hour(cost.cpu_hour))
        .line(
            "memory price",
            format!("{} per GiB", text::money_per_hour(cost.memory_gib_hour)),
        )
        .line(
            "storage price",
            format!("{}/month per GiB", text::money(cost.storage_gib_month)),
        )
        .line("egress price", format!("{} per GB", text::money(cost.egress_gb)))
        .line("VMs", text::count(item.vms));
    if !at.network_latency.is_empty() {
        let others = at.network_latency.iter();
        let others =
            others.map(|(to, micros)| format!("{to} {}", text::latency(*micros)));
        sheet.line("latency to", text::listed(others));
    }
    format!("{}\n{}", sheet.render(look.colored), hosts(item, look))
}

/// Whether it takes new VMs.
fn open(item: &RegionItem) -> &'static str {
    match &item.evacuation {
        Some(_) => "no, is being emptied",
        None => text::yes(item.region.enabled),
    }
}

fn location(item: &RegionItem) -> String {
    let place = &item.region.location;
    format!(
        "{}, {} ({:.4}, {:.4})",
        place.country, place.continent, place.latitude, place.longitude
    )
}

fn heard(age_ms: Option<u64>) -> String {
    age_ms.map_or_else(|| "never".to_owned(), |_| format!("{} ago", text::age_ms(age_ms)))
}

fn hosts(item: &RegionItem, look: Look) -> String {
    if item.hosts.is_empty() {
        return "no hosts\n".to_owned();
    }
    let mut table = Table::new(&[
        "HOST",
        "ZONE",
        "DRIVER",
        "ANSWERS",
        "SCHEDULABLE",
        ">FREE CPU",
        ">FREE MEMORY",
        ">FREE STORAGE",
        ">FREE SLOTS",
    ]);
    for host in &item.hosts {
        table.push(row![
            &host.id,
            &host.zone,
            format!("{}/{}", host.driver, host.accel),
            text::yes(host.answers),
            text::yes(host.schedulable),
            of(&text::count(host.free.cpu), &text::count(host.total.cpu)),
            of(&text::memory(host.free.memory), &text::memory(host.total.memory)),
            of(&text::storage(host.free.storage), &text::storage(host.total.storage)),
            of(&text::count(host.free.vms), &text::count(host.total.vms)),
        ]);
    }
    table.render(look.colored)
}

fn of(part: &str, whole: &str) -> String {
    format!("{part} of {whole}")
}

/// What a region can still take (O17, F12).
pub(crate) fn capacity(reply: &RegionCapacityReply, look: Look) -> String {
    let mut table = Table::new(&["RESOURCE", ">TOTAL", ">RESERVED", ">FREE", ">USED"]);
    for line in resources(&reply.total, &reply.reserved, &reply.free) {
        table.push(line);
    }
    let mut flavours = Table::new(&["FLAVOUR", ">FITS", "SIZE"]);
    for flavour in &reply.flavours {
        flavours.push(row![
            &flavour.name,
            text::count(flavour.fits),
            text::shape(&flavour.shape)
        ]);
    }
    let mut shown =
        format!("capacity of {}\n\n{}", reply.region, table.render(look.colored));
    if !reply.flavours.is_empty() {
        shown.push_str("\nmore VMs that fit on its hosts as they are\n");
        shown.push_str(&flavours.render(look.colored));
    }
    shown.push('\n');
    shown.push_str(&were_it_lost(reply));
    shown
}

fn resources(total: &Capacity, reserved: &Capacity, free: &Capacity) -> Vec<Vec<Cell>> {
    let plain = [
        ("CPU", total.cpu, reserved.cpu, free.cpu),
        ("Mbit/s", total.bandwidth.get(), reserved.bandwidth.get(), free.bandwidth.get()),
        ("GPU", total.gpus, reserved.gpus, free.gpus),
        ("VM slots", total.vms, reserved.vms, free.vms),
    ];
    let counted = |(name, total, reserved, free): (&str, u64, u64, u64)| {
        let [shown_total, shown_reserved, shown_free] =
            [total, reserved, free].map(text::count);
        row![name, shown_total, shown_reserved, shown_free, Bps::ratio(reserved, total)]
    };
    let memory = row![
        "memory",
        text::memory(total.memory),
        text::memory(reserved.memory),
        text::memory(free.memory),
        Bps::ratio(reserved.memory.get(), total.memory.get()),
    ];
    let storage = row![
        "storage",
        text::storage(total.storage),
        text::storage(reserved.storage),
        text::storage(free.storage),
        Bps::ratio(reserved.storage.get(), total.storage.get()),
    ];
    let mut lines: Vec<_> = plain.into_iter().map(counted).collect();
    lines.splice(1..1, [memory, storage]);
    lines
}

fn were_it_lost(reply: &RegionCapacityReply) -> String {
    let lost = &reply.n_minus_1;
    let (protected, fit) = (text::count(lost.protected), text::count(lost.fit_elsewhere));
    let slack = &lost.slack;
    let slack = format!(
        "{} CPU, {}, {} disk",
        text::count(slack.cpu),
        text::memory(slack.memory),
        text::storage(slack.storage)
    );
    let mut shown = format!(
        "were {} lost now: {fit} of its {protected} protected VMs fit elsewhere, and {slack} would still be free there\n",
        reply.region
    );
    if !lost.stranded.is_empty() {
        shown.push_str(&format!("without a place: {}\n", text::listed(&lost.stranded)));
    }
    shown
}
