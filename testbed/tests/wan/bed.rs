//! Regions, lines and addresses, with sockets of the test's own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_testbed::until;
use dwcp_testbed::wan::{Bed, BedPlan, Links, OBSERVER, Shape};

/// A packet that does not come is missed after this long.
const SILENCE: Duration = Duration::from_secs(60);
const PORT: u16 = 9_000;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn two_regions(shape: Shape) -> Option<Bed> {
    Bed::new(&["one", "two"], &Links::wires().both("one", "two", shape))
}

/// A socket at a region's own address.
fn socket(bed: &Bed, region: &str) -> UdpSocket {
    socket_at(bed, region, bed.address(region))
}

fn socket_at(bed: &Bed, region: &str, address: Ipv4Addr) -> UdpSocket {
    let socket = bed.inside(region, || UdpSocket::bind((address, PORT))).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

fn say(from: &UdpSocket, to: impl Into<Ipv4Addr>, word: &str) {
    from.send_to(word.as_bytes(), (to.into(), PORT)).unwrap();
}

fn hear(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut word = [0; 64];
    let (length, from) = socket.recv_from(&mut word).unwrap();
    (String::from_utf8_lossy(&word[..length]).into_owned(), from)
}

#[test]
fn no_word_arrives_before_its_line_allows_and_both_ways_count() {
    let shape = Shape::delay(millis(30));
    let links = Links::wires().way("one", "two", shape);
    let links = links.way("two", "one", Shape::delay(millis(50)));
    let Some(bed) = Bed::new(&["one", "two"], &links) else { return };
    let (one, two) = (socket(&bed, "one"), socket(&bed, "two"));
    let clock = SystemClock::new();
    say(&one, bed.address("two"), "there");
    let (word, from) = hear(&two);
    let there = clock.monotonic();
    assert_eq!((word.as_str(), from.ip()), ("there", bed.address("one").into()));
    say(&two, bed.address("one"), "back");
    assert_eq!(hear(&one).0, "back");
    let back = clock.monotonic() - there;
    assert!(there >= millis(30), "{there:?}");
    assert!(back >= millis(50), "{back:?}");
    let report = bed.report();
    assert_eq!(report.line("one", "two").packets, 1);
    assert_eq!(report.lateness.packets, 2);
}

#[test]
fn a_cut_is_one_way_or_both_and_heals() {
    let Some(bed) = two_regions(Shape::delay(millis(5))) else { return };
    let (one, two) = (socket(&bed, "one"), socket(&bed, "two"));
    let eye = socket(&bed, OBSERVER);
    bed.cut_way("one", "two");
    say(&one, bed.address("two"), "lost");
    say(&two, bed.address("one"), "the way back is open");
    assert_eq!(hear(&one).0, "the way back is open");
    bed.isolate("two");
    say(&two, bed.address("one"), "lost too");
    // The observer is told of nothing and reaches all.
    say(&two, bed.address(OBSERVER), "for the observer");
    assert_eq!(hear(&eye).0, "for the observer");
    bed.heal_all();
    say(&one, bed.address("two"), "healed");
    assert_eq!(hear(&two).0, "healed");
    say(&two, bed.address("one"), "healed");
    assert_eq!(hear(&one).0, "healed");
    let report = bed.report();
    assert_eq!(report.line("one", "two").cut, 1);
    assert_eq!(report.line("two", "one").cut, 1);
}

#[test]
fn an_address_is_reached_where_it_is_and_after_a_move_where_it_went() {
    let regions = ["one", "two", "three"];
    let Some(bed) = Bed::new(&regions, &Links::wires()) else { return };
    let guest = Ipv4Addr::new(10, 99, 0, 5);
    let client = socket(&bed, "three");
    for region in ["one", "two", "one"] {
        bed.move_address(guest, region);
        // A guest has its address behind the region's bridge; here it is the region's own.
        let alias = |verb: &str| {
            let arguments = ["address", verb, "10.99.0.5/32", "dev", "lo"];
            let mut ip = Command::new("ip");
            let done = bed.run_in(region, ip.args(arguments)).unwrap().wait().unwrap();
            assert!(done.success(), "{verb} in {region}");
        };
        alias("add");
        let socket = socket_at(&bed, region, guest);
        say(&client, guest, region);
        assert_eq!(hear(&socket).0, region);
        say(&socket, bed.address("three"), "welcome");
        assert_eq!(hear(&client), ("welcome".to_owned(), (guest, PORT).into()));
        alias("delete");
    }
}

#[test]
fn what_is_sent_in_bulk_arrives_whole_with_and_without_large_packets() {
    let shape = Shape::delay(millis(2)).rate_mbps(400);
    let plan = BedPlan::new(Links::wires().both("one", "two", shape));
    let pattern: Vec<u8> =
        (0..8_000_000_u32).map(|n| n.to_be_bytes()[3] ^ 0x5A).collect();
    for plan in [plan.clone(), plan.packet_by_packet()] {
        let Some(bed) = Bed::of(&["one", "two"], &plan) else { return };
        let address = (bed.address("two"), PORT);
        let listener = bed.inside("two", || TcpListener::bind(address)).unwrap();
        let received = std::thread::scope(|scope| {
            scope.spawn(|| {
                bed.inside("one", || {
                    let stream = std::net::TcpStream::connect(address);
                    stream.unwrap().write_all(&pattern).unwrap();
                });
            });
            let mut received = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
            received
        });
        assert!(received == pattern, "{} bytes came", received.len());
        assert_eq!(bed.report().refused, 0, "{:?}", bed.report());
    }
}

#[tokio::test]
async fn a_program_runs_in_its_region_and_nothing_is_left_behind() {
    let Some(bed) = two_regions(Shape::default()) else { return };
    let mut show = Command::new("ip");
    show.args(["-brief", "address"]).stdout(Stdio::piped());
    let shown = bed.run_in("two", &mut show).unwrap().wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("10.77.2.1") && shown.contains("169.254.1.1"), "{shown}");
    let named = Path::new("/run/netns").join(bed.namespace("two"));
    assert!(named.exists());
    drop(bed);
    assert!(!named.exists());

    // As if a test had been killed: its namespace is there, and what it started there.
    let left = "dwcp-4194305-0-one";
    let ip = |arguments: &[&str]| Command::new("ip").args(arguments).status().unwrap();
    assert!(ip(&["netns", "add", left]).success());
    let mut sleeper = Command::new("ip");
    let mut sleeper =
        sleeper.args(["netns", "exec", left, "sleep", "1000"]).spawn().unwrap();
    until("the program is in the namespace", || async {
        let pids = Command::new("ip").args(["netns", "pids", left]).output().unwrap();
        let pids = String::from_utf8_lossy(&pids.stdout).into_owned();
        let is_there = pids.contains(&sleeper.id().to_string());
        if is_there { Ok(()) } else { Err(pids) }
    })
    .await;
    let _bed = two_regions(Shape::default()).unwrap();
    let ended = sleeper.wait().unwrap();
    assert!(!ended.success(), "{ended}");
    assert!(!Path::new("/run/netns").join(left).exists());
}
