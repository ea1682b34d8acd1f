//! What `dig` reads of the answers: an implementation that shares nothing with this one.

use std::net::SocketAddr;
use std::process::Command;

use super::sockets::running;

/// Runs `dig`; nothing, with the reason, where it is not installed.
async fn dig(server: SocketAddr, args: &str) -> Option<String> {
    let (ip, port) = (server.ip().to_string(), server.port().to_string());
    let mut command = Command::new("dig");
    command.arg(format!("@{ip}")).args(["-p", &port, "+norec", "+tries=2", "+time=10"]);
    command.args(args.split(' '));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: dig: {error}; apt-get install bind9-dnsutils");
            return None;
        }
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "dig {args}: {text}");
    Some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_reads_every_kind_of_answer() {
    let server = running(None).await;
    for (args, wanted) in [
        (
            "web.cdn.example.com A",
            &["status: NOERROR", "203.0.113.", "flags: qr aa;", "udp: 1232"][..],
        ),
        (
            "web.cdn.example.com A +subnet=198.51.100.0/24",
            &["203.0.113.5", "CLIENT-SUBNET: 198.51.100.0/24/24"],
        ),
        (
            "web.cdn.example.com AAAA +subnet=2001:db8:1:200::/56 +tcp",
            &["2001:db8::1", "CLIENT-SUBNET: 2001:db8:1:200::/56/48"],
        ),
        ("web.cdn.example.com A +subnet=0", &["NOERROR", "CLIENT-SUBNET", "/0/0"]),
        ("web.cdn.example.com A +noedns", &["NOERROR", "ADDITIONAL: 0"]),
        ("web.cdn.example.com A +nsid", &["NSID", "eu"]),
        (
            "cdn.example.com NS",
            &["ns1.cdn.example.com.", "203.0.113.53", "ns.example.net."],
        ),
        ("cdn.example.com SOA", &["hostmaster.example.com. 1 7200 3600 1209600 5"]),
        ("web.cdn.example.com ANY", &["HINFO", "RFC8482"]),
        ("mars.cdn.example.com A", &["NXDOMAIN", "SOA"]),
        ("web.cdn.example.com MX", &["NOERROR", "ANSWER: 0", "SOA"]),
        ("www.example.org A", &["REFUSED", "EDE: 20 (Not Authoritative)"]),
        (
            "closed.cdn.example.com A",
            &["SERVFAIL", "EDE: 0 (Other)", "keeps every limit"],
        ),
        ("web.cdn.example.com A +edns=1 +noednsneg", &["BADVERS", "version: 0"]),
        ("version.bind CH TXT", &["REFUSED"]),
        ("web.cdn.example.com A +opcode=notify +noedns", &["NOTIMP"]),
        ("cdn.example.com AXFR", &["Transfer failed"]),
    ] {
        let Some(text) = dig(server.address, args).await else { return };
        for wanted in wanted {
            assert!(text.contains(wanted), "dig {args}: no {wanted:?} in\n{text}");
        }
        assert!(!text.contains("WARNING"), "dig {args}:\n{text}");
    }
}
