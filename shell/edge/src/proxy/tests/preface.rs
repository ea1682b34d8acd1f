//! PROXY headers, sound ones and others.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::super::preface::{Announce, Ends, binary, read, text};
use super::ground::{HOST, Origin, Running, status};
use crate::Network;

fn ends(source: &str, target: &str) -> Option<Ends> {
    Some(Ends { source: source.parse().unwrap(), target: target.parse().unwrap() })
}

#[test]
fn a_line_of_version_1_is_read_whole_or_not_at_all() {
    let sound = |line: &str| text(line.as_bytes()).unwrap();
    assert_eq!(
        sound("PROXY TCP4 192.0.2.7 10.0.0.1 5 443\r\n"),
        ends("192.0.2.7:5", "10.0.0.1:443")
    );
    assert_eq!(
        sound("PROXY TCP6 2001:db8::7 ::1 5 443\r\n"),
        ends("[2001:db8::7]:5", "[::1]:443")
    );
    assert_eq!(sound("PROXY UNKNOWN whatever\r\n"), None);
    for line in [
        "PROXY TCP4 192.0.2.7 10.0.0.1 5 443\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 5\r\n",
        "PROXY TCP4 2001:db8::7 ::1 5 443\r\n",
        "PROXY TCP6 192.0.2.7 10.0.0.1 5 443\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 5 65536\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 +5 443\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 5 443 6\r\n",
        "PROXY UDP4 192.0.2.7 10.0.0.1 5 443\r\n",
        "proxy TCP4 192.0.2.7 10.0.0.1 5 443\r\n",
    ] {
        assert!(text(line.as_bytes()).is_err(), "{line}");
    }
}

#[test]
fn version_2_is_read_by_its_length() {
    let four = [192, 0, 2, 7, 10, 0, 0, 1, 0, 5, 1, 187];
    let told = ends("192.0.2.7:5", "10.0.0.1:443");
    assert_eq!(binary(0x21, 0x11, &four), Ok(told));
    let with_more = [&four[..], &[4, 0, 1, 9]].concat();
    assert_eq!(binary(0x21, 0x11, &with_more), Ok(told));
    assert!(binary(0x21, 0x11, &four[..11]).is_err());
    assert!(
        binary(0x21, 0x21, &[0; 35]).is_err() && binary(0x21, 0x21, &[0; 36]).is_ok()
    );
    // The load balancer's own look.
    assert_eq!(binary(0x20, 0x11, &four), Ok(None));
    assert!(binary(0x11, 0x11, &four).is_err() && binary(0x22, 0x11, &four).is_err());
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic_and_never_too_far(
        first in prop_oneof![
            Just(b"PROXY TCP4 ".to_vec()),
            Just(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec()),
            Just(b"\r\n\r\n\0\r\nQUIT\n".to_vec()),
            Just(Vec::new()),
        ],
        rest in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let bytes = [first, rest].concat();
        let mut left = &bytes[..];
        if block_on(read(&mut left)).is_ok() {
            let taken = bytes.len() - left.len();
            prop_assert!(taken <= 16 + 536);
            if bytes.starts_with(b"PROXY ") {
                prop_assert!(bytes[..taken].ends_with(b"\r\n"));
            } else {
                let len = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
                prop_assert_eq!(taken, 16 + len);
            }
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_follows_is_left(
        source in any::<std::net::Ipv4Addr>(), to in any::<std::net::Ipv4Addr>(),
        ports in any::<(u16, u16)>(), old in any::<bool>(), rest in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut bytes = if old {
            format!("PROXY TCP4 {source} {to} {} {}\r\n", ports.0, ports.1).into_bytes()
        } else {
            let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
            bytes.extend(source.octets());
            bytes.extend(to.octets());
            bytes.extend(ports.0.to_be_bytes());
            bytes.extend(ports.1.to_be_bytes());
            bytes
        };
        bytes.extend(&rest);
        let mut left = &bytes[..];
        let ends = Ends { source: (source, ports.0).into(), target: (to, ports.1).into() };
        prop_assert_eq!(block_on(read(&mut left)).unwrap(), Some(ends));
        prop_assert_eq!(left, &rest[..]);
        // What this proxy writes itself is the same, to the byte.
        let how = if old { Announce::Text } else { Announce::Binary };
        prop_assert_eq!(ends.announced(how), &bytes[..bytes.len() - rest.len()]);
    }

    #[test]
    fn ends_of_two_families_are_told_as_one(
        source in any::<SocketAddr>(), target in any::<SocketAddr>(), old in any::<bool>(),
    ) {
        let how = if old { Announce::Text } else { Announce::Binary };
        let told = Ends { source, target }.announced(how);
        let read = block_on(read(&mut &told[..])).unwrap().unwrap();
        for (read, end) in [(read.source, source), (read.target, target)] {
            prop_assert_eq!(read.ip().to_canonical(), end.ip().to_canonical());
            prop_assert_eq!(read.port(), end.port());
        }
        prop_assert_eq!(read.source.is_ipv4(), read.target.is_ipv4());
    }
}

#[tokio::test]
async fn a_load_balancer_must_say_who_asks() {
    let origin = Origin::named("a").await;
    let proxy = Running::with(&[origin.address], |mut listening| {
        listening.preface =
            vec![Network { address: IpAddr::from([127, 0, 0, 0]), len: 8, cell: 0 }];
        listening
    })
    .await;
    let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    let line = "PROXY TCP4 192.0.2.7 10.0.0.1 5 443\r\n";
    let answer = proxy.tell(format!("{line}{request}").as_bytes()).await;
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(origin.heads().remove(0).contains("x-forwarded-for: 192.0.2.7\r\n"));
    assert_eq!(proxy.tell(request.as_bytes()).await, "");
    assert_eq!(origin.heads().len(), 1);
}
