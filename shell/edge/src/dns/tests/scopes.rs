//! The scope of an answer, held to an oracle that looks at every network each time.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::View;
use super::ground::{Ask, spec, view_with};
use crate::{Clients, Network};

const ELSEWHERE: u32 = 0;

/// An address as bits from the top, and how many.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

fn address(bits: u128, six: bool) -> IpAddr {
    if six {
        IpAddr::V6(bits.into())
    } else {
        IpAddr::V4(u32::try_from(bits >> 96).unwrap().into())
    }
}

fn same_start(one: u128, other: u128, len: u32) -> bool {
    len == 0 || one >> (128 - len) == other >> (128 - len)
}

/// The cell of the longest network that has the address, the last of several.
fn naive(networks: &[Network], client: IpAddr) -> u32 {
    let mut best: Option<(u8, u32)> = None;
    for network in networks {
        let same = network.address.is_ipv6() == client.is_ipv6();
        let (base, client) = (bits(network.address).0, bits(client).0);
        if same
            && same_start(base, client, network.len.into())
            && best.is_none_or(|(len, _)| network.len >= len)
        {
            best = Some((network.len, network.cell));
        }
    }
    best.map_or(ELSEWHERE, |(_, cell)| cell)
}

/// Addresses at which the cell may change, within a prefix: its first and the first of and behind
/// each network.
fn turns(networks: &[Network], client: IpAddr, scope: u32) -> Vec<IpAddr> {
    let six = client.is_ipv6();
    let (client, most) = bits(client);
    let step = 1_u128 << (128 - most);
    let first = if scope == 0 { 0 } else { client >> (128 - scope) << (128 - scope) };
    let networks = networks.iter().filter(|network| network.address.is_ipv6() == six);
    let edges = networks.flat_map(|network| {
        let len = u32::from(network.len);
        let base = bits(network.address).0;
        let begin = if len == 0 { 0 } else { base >> (128 - len) << (128 - len) };
        let size = if len == 0 { None } else { Some(1_u128 << (128 - len)) };
        let behind = size.and_then(|size| begin.checked_add(size));
        [Some(begin), Some(begin.wrapping_sub(step)), behind].into_iter().flatten()
    });
    let within = edges.chain([first]).filter(|edge| same_start(*edge, client, scope));
    within.map(|edge| address(edge, six)).collect()
}

/// Networks that are close together, so that they nest and touch.
fn network() -> impl Strategy<Value = Network> {
    let four = (0_u32..64, 0_u8..=32, 0_u32..4).prop_map(|(bits, len, cell)| Network {
        // Few bits at the top and few at the bottom.
        address: IpAddr::V4(((bits >> 3) << 29 | (bits & 7)).into()),
        len,
        cell,
    });
    let six = (0_u128..64, 0_u8..=128, 0_u32..4).prop_map(|(bits, len, cell)| Network {
        address: IpAddr::V6(((bits >> 3) << 125 | (bits & 7) << 70).into()),
        len,
        cell,
    });
    prop_oneof![four, six]
}

fn client() -> impl Strategy<Value = IpAddr> {
    let four = (0_u32..64, any::<u32>(), 0_u32..32).prop_map(|(bits, low, cut)| {
        IpAddr::V4(((bits >> 3) << 29 | (bits & 7) | low >> cut >> 4).into())
    });
    let six = (0_u128..64, any::<u128>(), 0_u32..128).prop_map(|(bits, low, cut)| {
        IpAddr::V6(((bits >> 3) << 125 | (bits & 7) << 70 | low >> cut >> 4).into())
    });
    prop_oneof![four, six]
        .prop_filter("is itself", |client| client.to_canonical() == *client)
}

fn is_uniform(networks: &[Network]) -> bool {
    let first = |six| if six { "::" } else { "0.0.0.0" }.parse::<IpAddr>().unwrap();
    let all = [false, true].map(|six| turns(networks, first(six), 0));
    let cells = all.iter().flatten().map(|client| naive(networks, *client));
    let mut cells: Vec<_> = cells.collect();
    cells.dedup();
    cells.len() == 1
}

proptest! {
    #[test]
    fn everybody_in_the_scope_is_in_the_cell_and_no_wider_scope_would_do(
        networks in proptest::collection::vec(network(), 0..12),
        client in client(),
    ) {
        let clients = Clients::new(&networks, ELSEWHERE);
        let (cell, scope) = clients.find(client);
        prop_assert_eq!(cell, naive(&networks, client));
        for other in turns(&networks, client, scope.into()) {
            prop_assert_eq!(naive(&networks, other), cell, "{} in scope {}", other, scope);
            prop_assert_eq!(clients.find(other), (cell, scope), "{}", other);
        }
        if scope > 1 {
            let wider = turns(&networks, client, u32::from(scope) - 1);
            let differs = wider.iter().any(|other| naive(&networks, *other) != cell);
            prop_assert!(differs, "a scope of {} would do", scope - 1);
        }
        // Caches give an answer of scope 0 to both families.
        prop_assert_eq!(scope == 0, is_uniform(&networks));
    }

    #[test]
    fn whoever_a_cache_answers_is_told_what_the_server_would_tell(
        networks in proptest::collection::vec(network(), 0..8),
        client in client(),
        len in 1_u8..=128,
        others in proptest::collection::vec(any::<u128>(), 8),
        name in prop_oneof![Just("web"), Just("sticky"), Just("closed")],
    ) {
        let view = view(&networks);
        let six = client.is_ipv6();
        let len = if six { len } else { len.min(32) };
        let ask = |client: IpAddr, len| Ask::new(name).for_client(&client.to_string(), len);
        let told = ask(client, len).ask(&view);
        let scope = u32::from(told.scope.unwrap());
        // The address as it was sent: behind its length there are zeros.
        let (first, most) = bits(client);
        let first = first >> (128 - len) << (128 - len);
        for other in others {
            let other = if scope == 0 { other } else {
                first >> (128 - scope) << (128 - scope) | other.checked_shr(scope).unwrap_or(0)
            };
            let other = address(other, six);
            if other.to_canonical() != other {
                continue;
            }
            let whole = u8::try_from(most).unwrap();
            let again = ask(other, whole).ask(&view);
            prop_assert_eq!(&again.answer, &told.answer, "{} in scope {}", other, scope);
            prop_assert_eq!(again.scope, told.scope);
        }
    }
}

fn view(networks: &[Network]) -> View {
    let clients = Clients::new(networks, ELSEWHERE);
    view_with(spec(), |steering, _| {
        steering.clients = clients.into();
    })
}

#[test]
fn who_is_in_no_network_has_the_widest_scope_that_has_none() {
    let network =
        |text: &str, len, cell| Network { address: text.parse().unwrap(), len, cell };
    let clients =
        Clients::new(&[network("192.0.2.0", 24, 1), network("10.0.0.0", 8, 1)], 0);
    let find = |text: &str| clients.find(text.parse().unwrap());
    assert_eq!(find("192.0.2.7"), (1, 24));
    assert_eq!(find("192.0.3.7"), (0, 24));
    assert_eq!(find("128.0.0.1"), (0, 2));
    assert_eq!(find("64.0.0.1"), (0, 2));
    assert_eq!(find("::ffff:10.1.2.3"), (1, 8));
    // Nobody of IPv6 is told anything else, but of IPv4 some are.
    assert_eq!(find("2001:db8::1"), (0, 1));
    assert_eq!(Clients::new(&[], 0).find("2001:db8::1".parse().unwrap()), (0, 0));
    assert_eq!(Clients::default().find("192.0.2.1".parse().unwrap()), (0, 0));
}
