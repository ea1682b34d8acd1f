//! What is told to whom.

use domain::base::iana::Rtype;
use dwcp_router::Standing;

use super::super::{Name, NameServer, Outcome, Transport, Zone, ZoneError, answer};
use super::ground::{Ask, Told, ZONE, name, spec, view, view_with};

const EU: &str = "203.0.113.2";
const US: &str = "203.0.113.5";
const AP: &str = "203.0.113.1";

fn told(ask: &Ask) -> Told {
    ask.ask(&view())
}

#[test]
fn a_client_is_told_the_nearest_region_by_its_own_network() {
    // By the resolver, while nobody says more.
    assert_eq!(told(&Ask::new("web").from("192.0.2.1")).addresses(), [EU]);
    assert_eq!(told(&Ask::new("web").from("198.51.100.1")).addresses(), [US]);
    assert_eq!(told(&Ask::new("web").from("::ffff:10.7.0.1")).addresses(), [AP]);
    // By the client's network where the resolver tells it.
    let far = Ask::new("web").from("192.0.2.1").for_client("198.51.100.0", 24);
    let far = told(&far);
    assert_eq!((far.addresses(), far.scope), (vec![US.to_owned()], Some(24)));
    let six = told(&Ask::new("web").of(Rtype::AAAA).for_client("2001:db8:1:2::", 56));
    assert_eq!(six.addresses(), ["2001:db8::1"]);
    assert_eq!(six.scope, Some(48));
    assert_eq!(six.answer, ["AAAA 30 2001:db8::1"]);
    assert!(six.authoritative && !six.truncated);
}

#[test]
fn who_does_not_say_for_whom_it_asks_is_told_for_itself() {
    for (address, len) in [("0.0.0.0", 0), ("::", 0)] {
        let ask = Ask::new("web").from("198.51.100.1").for_client(address, len);
        let told = told(&ask);
        assert_eq!((told.addresses(), told.scope), (vec![US.to_owned()], Some(0)));
    }
    // Without an option there is none in the answer, and without EDNS no EDNS.
    let plain = told(&Ask::new("web").with_edns());
    assert_eq!((plain.scope, plain.rcode.as_str()), (None, "NOERROR"));
}

#[test]
fn a_region_that_is_down_is_left_at_once_and_not_for_long() {
    let view = view_with(spec(), |steering, _| {
        let eu = dwcp_types::RegionId::new("eu").unwrap();
        let eu = steering.table.region_ix(&eu).unwrap();
        steering.standing = steering.standing.without(eu);
    });
    assert_eq!(Ask::new("web").ask(&view).answer, [format!("A 5 {US}")]);
    assert_eq!(told(&Ask::new("web")).answer, [format!("A 30 {EU}")]);
}

#[test]
fn both_families_are_told_the_same_region() {
    let ask = Ask::new("web").from("198.51.100.1");
    assert_eq!(told(&ask).addresses(), [US]);
    let six = told(&ask.of(Rtype::AAAA));
    // `us` has no IPv6, and is not left for that.
    assert_eq!((six.rcode.as_str(), six.answer.len()), ("NOERROR", 0));
    assert!(six.authority[0].starts_with("SOA 5 "), "{six:?}");
}

#[test]
fn several_answers_are_the_chosen_region_and_then_the_next() {
    let mut spec = spec();
    spec.answers = 3;
    let view = view_with(spec, |_, _| {});
    let told = Ask::new("web").from("198.51.100.1").ask(&view);
    assert_eq!(told.addresses(), [US, EU, AP]);
    let six = Ask::new("web").of(Rtype::AAAA).from("198.51.100.1").ask(&view);
    assert_eq!(six.addresses(), ["2001:db8::2", "2001:db8::1"]);
}

#[test]
fn a_region_without_any_address_is_passed_over() {
    let view = view_with(spec(), |_, addresses| {
        addresses.retain(|id, _| id.as_str() == "ap");
    });
    assert_eq!(Ask::new("web").ask(&view).addresses(), [AP]);
    let nobody = told(&Ask::new("nowhere").with_edns());
    assert_eq!((nobody.rcode.as_str(), nobody.answer.len()), ("SERVFAIL", 0));
    assert!(nobody.reason.unwrap().contains("no region can answer"));
}

#[test]
fn a_service_that_wants_no_answer_has_none_and_the_reason_is_told() {
    let closed = told(&Ask::new("closed").for_client("192.0.2.0", 24));
    assert_eq!(closed.rcode, "SERVFAIL");
    assert!(closed.reason.as_ref().unwrap().contains("keeps every limit"), "{closed:?}");
    assert_eq!(closed.scope, Some(24));
    assert_eq!(told(&Ask::new("closed")).rcode, "SERVFAIL");
}

#[test]
fn before_there_is_a_table_the_zone_itself_answers() {
    let view = super::super::View::new(Zone::new(spec()).unwrap().into(), None);
    let web = Ask::new("web").with_edns().ask(&view);
    assert_eq!(web.rcode, "SERVFAIL");
    assert!(web.reason.unwrap().contains("no routing table yet"));
    assert_eq!(Ask::new("@").of(Rtype::SOA).ask(&view).rcode, "NOERROR");
    assert_eq!(Ask::new("mars").ask(&view).rcode, "NXDOMAIN");
}

#[test]
fn who_shares_is_drawn_by_request_and_who_is_sticky_by_client() {
    let regions = |name: &str, vary: &dyn Fn(Ask, u8) -> Ask| {
        let mut all: Vec<_> =
            (0..100).flat_map(|n| told(&vary(Ask::new(name), n)).addresses()).collect();
        all.sort();
        all.dedup();
        all
    };
    let both = [EU, "203.0.113.3"];
    let by_request = |ask: Ask, n: u8| Ask { request: n.into(), ..ask };
    let by_host = |ask: Ask, n: u8| ask.from(&format!("192.0.2.{n}"));
    let by_network = |ask: Ask, n: u8| ask.from(&format!("10.0.{n}.1"));
    assert_eq!(regions("shared", &by_request), both);
    assert_eq!(regions("sticky", &by_request).len(), 1);
    assert_eq!(regions("sticky", &by_host).len(), 1);
    assert_eq!(regions("sticky", &by_network), both);
}

#[test]
fn the_apex_has_its_servers_with_their_addresses_and_its_authority() {
    let servers = told(&Ask::new("@").of(Rtype::NS).with_edns());
    let of = |first: &str| format!("NS 3600 {first}.");
    let names = ["ns1.cdn.example.com", "ns2.cdn.example.com", "ns.example.net"];
    assert_eq!(servers.answer, names.map(of));
    assert_eq!(servers.additional.len(), 4, "{servers:?}");
    let soa = told(&Ask::new("@").of(Rtype::SOA));
    assert_eq!(
        soa.answer,
        ["SOA 3600 ns1.cdn.example.com. hostmaster.example.com. 1 7200 3600 1209600 5"]
    );
    // An alias at the apex, where no CNAME may be.
    assert_eq!(told(&Ask::new("@")).addresses(), [EU]);
    assert_eq!(told(&Ask::new("ns2")).answer, ["A 3600 203.0.113.54"]);
    assert_eq!(told(&Ask::new("ns1").of(Rtype::AAAA)).answer, ["AAAA 3600 2001:db8::53"]);
    assert_eq!(told(&Ask::new("ns1").of(Rtype::SOA)).answer.len(), 0);
}

#[test]
fn what_is_not_there_says_so_and_for_how_long() {
    for (ask, rcode) in [
        (Ask::new("mars"), "NXDOMAIN"),
        (Ask::new("x.web"), "NXDOMAIN"),
        (Ask::new("web").of(Rtype::MX), "NOERROR"),
        (Ask::new("web").of(Rtype::NS), "NOERROR"),
        // There is something beneath it (RFC 8020).
        (Ask::new("deep"), "NOERROR"),
    ] {
        let told = told(&ask);
        assert_eq!((told.rcode.as_str(), told.answer.len()), (rcode, 0), "{ask:?}");
        assert!(
            told.authoritative && told.authority[0].starts_with("SOA 5 "),
            "{told:?}"
        );
    }
    assert_eq!(told(&Ask::new("a.deep")).addresses(), [EU]);
    let any = told(&Ask::new("web").of(Rtype::ANY));
    assert_eq!(any.answer, ["HINFO 3600 \"RFC8482\" \"\""]);
}

#[test]
fn another_zone_another_class_and_transfers_are_refused() {
    for other in ["example.com.", "www.example.org.", "xcdn.example.com.", "."] {
        let told = told(&Ask::new(other).with_edns());
        assert_eq!(
            (told.rcode.as_str(), told.authoritative),
            ("REFUSED", false),
            "{other}"
        );
        assert!(told.reason.unwrap().contains("another zone"), "{other}");
    }
    assert_eq!(told(&Ask::new("@").of(Rtype::AXFR)).rcode, "REFUSED");
    let mut chaos = Ask::new("web").packet();
    let last = chaos.len() - 1;
    chaos[last] = 3;
    assert_eq!(sent(&chaos).rcode, "REFUSED");
}

fn sent(packet: &[u8]) -> Told {
    let mut out = Vec::new();
    let outcome = answer(&view(), packet, &Ask::new("web").asker(), &mut out);
    Told::read(&out, outcome)
}

#[test]
fn what_is_no_question_is_told_so_or_not_answered_at_all() {
    let asker = Ask::new("web").asker();
    let mut out = vec![1];
    let mut response = Ask::new("web").packet();
    response[2] |= 0x80;
    for silent in [&response[..], &[], &[0; 11], &[0xff; 12]] {
        assert_eq!(answer(&view(), silent, &asker, &mut out), Outcome::Ignored);
        assert!(out.is_empty());
    }
    let mut notify = Ask::new("web").packet();
    notify[2] |= 0x20;
    assert_eq!(sent(&notify).rcode, "NOTIMP");
    let mut two = Ask::new("web").packet();
    two[5] = 2;
    assert_eq!(sent(&two).rcode, "FORMERR");
    assert_eq!(sent(&[0; 12]).rcode, "FORMERR");
    let whole = Ask::new("web").for_client("192.0.2.0", 24).packet();
    for len in 12..whole.len() {
        assert_eq!(sent(&whole[..len]).rcode, "FORMERR", "{len}");
    }
}

#[test]
fn a_later_edns_is_told_the_version_and_a_wrong_subnet_that_it_is_wrong() {
    let plain = Ask::new("web").with_edns().packet();
    let mut later = plain.clone();
    // The OPT record is the last 11 bytes; its sixth is the version.
    let version = later.len() - 5;
    later[version] = 1;
    let told = sent(&later);
    assert_eq!((told.rcode.as_str(), told.answer.len()), ("BADVERS", 0));
    let with = |data: &[u8]| {
        let mut packet = plain.clone();
        let at = packet.len() - 1;
        packet[at] = u8::try_from(data.len() + 4).unwrap();
        packet.extend([0, 8, 0, u8::try_from(data.len()).unwrap()]);
        packet.extend(data);
        sent(&packet)
    };
    assert_eq!(with(&[0, 1, 24, 0, 192, 0, 2]).scope, Some(24));
    assert_eq!(with(&[0, 0, 0, 0]).rcode, "NOERROR");
    for wrong in [
        &[0, 1, 24, 8, 192, 0, 2][..], // a scope, which only answers have
        &[0, 1, 23, 0, 192, 0, 3],     // a bit that the length does not fix
        &[0, 1, 24, 0, 192, 0],        // an address that is too short
        &[0, 1, 33, 0, 1, 2, 3, 4, 0], // a length that IPv4 has not
        &[0, 3, 8, 0, 1],              // a family that is not known
        &[0, 1],
    ] {
        assert_eq!(with(wrong).rcode, "FORMERR", "{wrong:?}");
    }
}

#[test]
fn letters_come_back_as_they_were_sent() {
    let ask = Ask::new("wEb.CdN.eXaMpLe.CoM.");
    let mut out = Vec::new();
    let packet = ask.packet();
    answer(&view(), &packet, &ask.asker(), &mut out);
    assert_eq!(out.get(12..packet.len()), packet.get(12..));
    assert_eq!(Told::read(&out, Outcome::Ignored).addresses(), [EU]);
}

#[test]
fn what_is_too_long_by_udp_is_to_be_asked_for_by_tcp() {
    let mut long = spec();
    let label = "n".repeat(60);
    let zone: Name = ZONE.parse().unwrap();
    let server = |n: usize| NameServer {
        name: zone.under(&format!("{label}{n}.{label}.{label}")).unwrap(),
        addresses: long.name_servers[0].addresses,
    };
    let servers: Vec<_> = (0..8).map(server).collect();
    long.name_servers = servers;
    let view = view_with(long, |_, _| {});
    let mut ask = Ask::new("@").of(Rtype::NS);
    let short = ask.ask(&view);
    assert!(short.truncated && short.answer.is_empty() && short.bytes <= 512);
    ask.transport = Transport::Tcp;
    let whole = ask.ask(&view);
    assert!(!whole.truncated);
    assert_eq!((whole.answer.len(), whole.additional.len()), (8, 16));
    assert!(whole.bytes > 512);
    ask.transport = Transport::Udp;
    // What is only an aside is left out without a word.
    let aside = Ask { edns: true, ..ask }.ask(&view);
    assert!(!aside.truncated && aside.answer.len() == 8 && aside.bytes <= 1_232);
}

#[test]
fn a_zone_that_nobody_could_use_is_refused() {
    let refused = |change: &dyn Fn(&mut super::super::ZoneSpec)| {
        let mut spec = spec();
        change(&mut spec);
        Zone::new(spec).unwrap_err()
    };
    let web = name("web.cdn.example.com");
    assert_eq!(refused(&|spec| spec.name_servers.clear()), ZoneError::NameServers(0));
    assert_eq!(
        refused(&|spec| spec.name_servers[0].addresses = Default::default()),
        ZoneError::Unreachable(name("ns1.cdn.example.com"))
    );
    assert_eq!(
        refused(&|spec| spec.name_servers[2].addresses.ipv4 = "192.0.2.1".parse().ok()),
        ZoneError::Foreign(name("ns.example.net"))
    );
    assert_eq!(
        refused(&|spec| spec.names.push(spec.names[0].clone())),
        ZoneError::Twice(web)
    );
    assert_eq!(
        refused(&|spec| spec.names[0].0 = name("www.example.org")),
        ZoneError::Outside(name("www.example.org"))
    );
    assert_eq!(refused(&|spec| spec.answers = 5), ZoneError::Bounds);
}

#[test]
fn when_all_are_down_at_once_nobody_is_told_an_address_for_long() {
    let nobody = view_with(spec(), |steering, _| {
        steering.standing = Standing(0);
    });
    // The service is open: the least of evils is told until there is better.
    let told = Ask::new("web").ask(&nobody);
    assert_eq!(
        (told.rcode.as_str(), told.answer),
        ("NOERROR", vec![format!("A 5 {EU}")])
    );
}
