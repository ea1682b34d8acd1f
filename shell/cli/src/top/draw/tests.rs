//! The picture at two sizes, of nothing and of 50 regions, compared with files.
//!
//! `DWCP_BLESS=1` writes them anew, as for the tool's other outputs.

use std::path::Path;

use dwcp_api::overview::{
    EngineGlance, FailoverGlance, IncidentGlance, IncidentsGlance, LevelGlance,
    LevelsGlance, LinkRow, MoveGlance, MovesGlance, RegionGlance, TrafficGlance,
};
use dwcp_controller::failover::Phase;
use dwcp_controller::migration::Step;
use dwcp_monitor::incident::{IncidentId, Severity, Status};
use dwcp_monitor::sla::Standing;
use dwcp_monitor::{Deduction, Reason};
use dwcp_types::{Bps, Health, HealthState};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

const NOW: u64 = 1_764_417_000_000;
const SIZES: [(u16, u16); 2] = [(80, 24), (140, 40)];

fn id(number: usize) -> RegionId {
    let areas = ["ap-southeast", "eu-central", "us-west", "sa-east", "me-south"];
    RegionId::new(&format!("{}-{}", areas[number % 5], number / 5 + 1)).unwrap()
}

fn region(number: usize) -> RegionGlance {
    let (state, score) = match number {
        3 => (HealthState::Unknown, 0),
        11 => (HealthState::Unhealthy, 50),
        12 => (HealthState::Degraded, 70),
        13 => (HealthState::Maintenance, 100),
        _ => (HealthState::Healthy, 100),
    };
    let reasons = match number {
        11 => vec![Reason::ErrorsHigh, Reason::LatencyHigh],
        12 => vec![Reason::ErrorsHigh],
        _ => Vec::new(),
    };
    let deduction = |reason: Reason| Deduction { reason, points: reason.points() };
    RegionGlance {
        health: Health { state, score },
        deductions: reasons.into_iter().map(deduction).collect(),
        age_s: Some(if number == 3 { 70 } else { 0 }),
        up: if number == 12 { 39 } else { 40 },
        hosts: 40,
        vms: 5_000,
        running: if number == 3 { 0 } else { 4_998 },
        cpu: Bps::new(5_498).ok(),
        memory: Bps::new(10_000).ok(),
        ..RegionGlance::default()
    }
}

fn links(of: &Overview) -> std::collections::BTreeMap<RegionId, LinkRow> {
    let names: Vec<_> = of.regions.keys().cloned().collect();
    let row = |at: usize| {
        let others = at + 1..names.len();
        let rtt = |other: usize| match (at + other) % 17 {
            16 => None,
            far => Some(u32::try_from(far * 150 + 12).unwrap()),
        };
        let age = |other: usize| match (at + other) % 13 {
            12 => Some(30),
            11 => None,
            _ => Some(0),
        };
        let (rtt, age_s) = (others.clone().map(rtt).collect(), others.map(age).collect());
        (names[at].clone(), LinkRow { rtt, age_s })
    };
    (0..names.len().saturating_sub(1)).map(row).collect()
}

fn incidents() -> IncidentsGlance {
    IncidentsGlance {
        open: 12,
        age_s: Some(0),
        shown: (1..9)
            .map(|number| IncidentGlance {
                id: IncidentId::new(number),
                region: Some(id(3)),
                severity: if number == 1 { Severity::Critical } else { Severity::High },
                status: Status::Open,
                title: "Region sa-east-1 is silent to 49 of the 49 regions that live"
                    .to_owned(),
                since: Timestamp::from_millis(NOW - u64::from(number) * 600_000),
                flaps: number % 2,
            })
            .collect(),
    }
}

fn fifty() -> Overview {
    let mut of = Overview {
        answered_by: Some(id(0)),
        regions: (0..50).map(|at| (id(at), region(at))).collect(),
        engine: EngineGlance {
            kind: "etcd".to_owned(),
            reachable: true,
            age_s: Some(0),
            leader: Some(id(1)),
            answering: 5,
            members: 5,
            on_duty: Some(id(2)),
        },
        traffic: TrafficGlance {
            over_s: 300,
            p50_us: Some(1_200),
            p95_us: Some(9_000),
            p99_us: Some(48_750),
            milli_rps: 125_000_000,
            errors_milli: Some(80),
            measured: 49,
            regions: 50,
            age_s: Some(10),
        },
        failover: Some(FailoverGlance {
            id: "fo-1".to_owned(),
            region: id(3),
            phase: Phase::Waiting,
            owned: 0,
            running: 0,
            down: 0,
            since: Timestamp::from_millis(NOW - 9_000),
        }),
        ..Overview::default()
    };
    of.links = links(&of);
    of.incidents = incidents();
    of.moves = MovesGlance {
        waiting: 20,
        running: 2,
        shown: vec![MoveGlance {
            id: "mig-0123456789".parse().unwrap(),
            vm: "customer-database-1".parse().unwrap(),
            from: id(5),
            to: id(6),
            step: Step::Moving,
            since: Timestamp::from_millis(NOW - 65_000),
        }],
    };
    of.levels = LevelsGlance {
        promised: 1,
        compliance: Bps::new(9_992).ok(),
        shown: vec![LevelGlance {
            id: "sla-latency-001".to_owned(),
            standing: Standing::Breach,
            worst: id(11),
            compliance_ppm: Some(998_263),
            promised_ppm: 999_000,
            left_ppm: 0,
            broken: 3,
            regions: 50,
        }],
    };
    of
}

fn picture(of: &Overview, ui: &Ui, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let now = Timestamp::from_millis(NOW);
    let trouble = ui.help.then_some("the daemon ended the stream of changes");
    let screen = Screen { overview: of, trouble, colored: true, now };
    terminal.draw(|frame| screen.draw(frame, ui)).unwrap();
    let cells = terminal.backend().buffer().content().chunks(usize::from(width));
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned() + "\n"
    };
    cells.map(line).collect()
}

/// As the tool's other outputs are compared.
fn check(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("DWCP_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{name} differs; DWCP_BLESS=1 writes it\n{text}");
}

fn ui(tab: Tab, row: usize, column: usize) -> Ui {
    Ui { tab, row, column, ..Ui::default() }
}

#[test]
fn fifty_regions_are_drawn_at_both_sizes() {
    let of = fifty();
    let views = [
        ("regions", ui(Tab::Regions, 1, 0)),
        ("regions-end", ui(Tab::Regions, 49, 0)),
        ("links", ui(Tab::Links, 3, 1)),
        ("links-end", ui(Tab::Links, 49, 49)),
        ("incidents", ui(Tab::Incidents, 0, 0)),
        ("moves", ui(Tab::Moves, 0, 0)),
        ("levels", ui(Tab::Levels, 0, 0)),
        ("help", Ui { help: true, ..Ui::default() }),
    ];
    for size in SIZES {
        for (name, ui) in views {
            let text = picture(&of, &ui, size);
            check(&format!("top-{name}-{}x{}", size.0, size.1), &text);
        }
    }
}

#[test]
fn nothing_is_drawn_as_nothing() {
    for size in SIZES {
        let of = Overview::default();
        let pictures = Tab::ALL.map(|tab| picture(&of, &ui(tab, 0, 0), size));
        check(&format!("top-empty-{}x{}", size.0, size.1), &pictures.concat());
    }
}

/// However small or strange a terminal is, drawing on it is no error.
#[test]
fn every_size_is_drawn() {
    let of = fifty();
    for width in [1, 2, 19, 40, 81, 300] {
        for height in [1, 2, 5, 7, 90] {
            for tab in Tab::ALL {
                let ui = Ui { help: true, ..ui(tab, 7, 30) };
                picture(&of, &ui, (width, height));
            }
        }
    }
}

#[test]
fn a_region_that_is_not_heard_is_first_and_never_looks_well() {
    let text = picture(&fifty(), &Ui::default(), (80, 24));
    let first = text.lines().position(|line| line.starts_with("REGION")).unwrap() + 1;
    let line = text.lines().nth(first).unwrap();
    assert!(line.starts_with("sa-east-1") && line.contains("unknown"), "{text}");
}

#[test]
fn without_colours_nothing_is_coloured() {
    let of = fifty();
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let now = Timestamp::from_millis(NOW);
    let screen = Screen { overview: &of, trouble: Some("x"), colored: false, now };
    terminal.draw(|frame| screen.draw(frame, &Ui::default())).unwrap();
    let cells = terminal.backend().buffer().content();
    assert!(cells.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
}
