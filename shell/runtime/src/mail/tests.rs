//! Letters handed over to a server that is scripted line by line.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::provider;
use dwcp_types::Timestamp;

const GREETING: &str = "220 here";
const ENOUGH: &[&str] =
    &["250-here\r\n250 8BITMIME", "235 ok", "250 ok", "250 ok", "354 go on", "250 taken"];

fn letter() -> Letter {
    Letter {
        key: "INC-001.1".to_owned(),
        thread: "INC-001".to_owned(),
        subject: "Region two is silent".to_owned(),
        text: "silent to one".to_owned(),
        at: Timestamp::from_millis(0),
    }
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// Greets, answers what it hears with the next of its answers, and gives all that it heard.
async fn scripted<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    greeting: Option<&str>,
    answers: &[&str],
) -> (Vec<String>, S) {
    let mut talk = Talk::new(stream);
    if let Some(greeting) = greeting {
        talk.say(greeting).await.unwrap();
    }
    let mut heard = Vec::new();
    for answer in answers {
        let Ok(mut line) = talk.line().await else { break };
        while heard.last().is_some_and(|last| last == "DATA") && !line.ends_with("\n.") {
            let Ok(more) = talk.line().await else { break };
            line = format!("{line}\n{more}");
        }
        heard.push(line);
        talk.say(answer).await.unwrap();
    }
    (heard, talk.stream)
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn mailer(port: u16, security: Security, ca: Option<&Path>) -> Mailer {
    let host = "localhost".to_owned();
    Mailer::new(Server { host, port, security }, ca).unwrap()
}

async fn send(mailer: &Mailer, login: Option<Login<'_>>) -> Result<(), String> {
    let (from, to) = (address("dwcp@example.com"), address("ops@example.org"));
    mailer.send(&letter(), (&from, &to), login).await
}

/// Sends in the clear, to a server that answers so.
async fn told(answers: &'static [&'static str]) -> (Result<(), String>, Vec<String>) {
    let (listener, port) = listener().await;
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        scripted(stream, Some(GREETING), answers).await.0
    });
    let login = Some(Login { username: "me", password: b"secret" });
    let sent = send(&mailer(port, Security::None, None), login).await;
    (sent, served.await.unwrap())
}

#[tokio::test]
async fn a_letter_is_handed_over_to_whom_it_is_for() {
    let (sent, heard) = told(ENOUGH).await;
    assert_eq!(sent, Ok(()));
    let plain = STANDARD.encode("\0me\0secret");
    let expected = [
        "EHLO [127.0.0.1]".to_owned(),
        format!("AUTH PLAIN {plain}"),
        "MAIL FROM:<dwcp@example.com>".to_owned(),
        "RCPT TO:<ops@example.org>".to_owned(),
        "DATA".to_owned(),
    ];
    assert_eq!(heard[..5], expected);
    assert!(heard[5].contains("Subject: Region two is silent"), "{heard:?}");
    assert!(heard[5].ends_with("\n."), "{heard:?}");
}

#[tokio::test]
async fn what_a_server_refuses_is_told_in_its_words() {
    let refused: &[&str] = &["250 ok", "235 ok", "250 ok", "550 5.1.1 nobody\u{7} here"];
    let (sent, _) = told(refused).await;
    assert_eq!(sent, Err("it answered 550 5.1.1 nobody  here".to_owned()));
    let (sent, _) = told(&["250 ok", "235 ok", "250 ok", "250 ok", "250 no"]).await;
    assert_eq!(sent, Err("it answered 250 no".to_owned()), "DATA wants 354");
    let (sent, _) = told(&["HTTP/1.1 400 Bad Request"]).await;
    assert_eq!(sent, Err("its answer is none of SMTP".to_owned()));
    let (sent, _) = told(&[]).await;
    assert!(sent.is_err(), "it closed the connection");
}

#[tokio::test]
async fn a_server_that_does_not_go_over_to_tls_hears_no_secret() {
    let says: [&[&str]; 3] = [
        &["250 here"],
        &["250 STARTTLS", "454 not now"],
        // Somebody on the way says more than was asked for.
        &["250 STARTTLS", "220 go on\r\n250 and take this"],
    ];
    let reasons = [
        "it does not offer STARTTLS",
        "it answered 454 not now",
        "it said more in the clear",
    ];
    for (answers, reason) in says.into_iter().zip(reasons) {
        let (listener, port) = listener().await;
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            scripted(stream, Some(GREETING), answers).await.0
        });
        let login = Some(Login { username: "me", password: b"secret" });
        let sent = send(&mailer(port, Security::StartTls, None), login).await;
        assert!(sent.as_ref().is_err_and(|it| it.starts_with(reason)), "{sent:?}");
        let heard = served.await.unwrap();
        assert!(heard.iter().all(|line| !line.contains("AUTH")), "{heard:?}");
    }
}

/// A server's certificate for `localhost`, and the file that clients trust it by.
fn certified(folder: &Path) -> (TlsAcceptor, std::path::PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = folder.join("ca.pem");
    std::fs::write(&file, certificate.pem()).unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}

#[tokio::test]
async fn a_letter_goes_over_tls_in_both_ways_and_to_nobody_who_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    for security in [Security::StartTls, Security::Tls] {
        for trusted in [true, false] {
            let (acceptor, ca) = certified(folder.path());
            let (listener, port) = listener().await;
            let served = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                if security == Security::StartTls {
                    let both = ["250-here\r\n250 STARTTLS", "220 go on"];
                    stream = scripted(stream, Some(GREETING), &both).await.1;
                }
                let stream = acceptor.accept(stream).await.ok()?;
                let greeting = (security == Security::Tls).then_some(GREETING);
                Some(scripted(stream, greeting, ENOUGH).await.0)
            });
            let mailer = mailer(port, security, trusted.then_some(&ca));
            let login = Some(Login { username: "me", password: b"secret" });
            let sent = send(&mailer, login).await;
            assert_eq!(sent.is_ok(), trusted, "{security:?}: {sent:?}");
            let heard = served.await.unwrap();
            assert_eq!(heard.map(|heard| heard.len()), trusted.then_some(6));
        }
    }
}

/// A server that says each of these lines when it may, and then nothing.
async fn sent_within(limits: Limits, answers: &'static [&'static str]) -> String {
    let (listener, port) = listener().await;
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (heard, stream) = scripted(stream, Some(GREETING), answers).await;
        std::future::pending::<()>().await;
        drop((heard, stream));
    });
    // An address is there at once; a name takes as long as whoever is asked for it.
    let server = Server { host: "127.0.0.1".to_owned(), port, security: Security::None };
    let mailer = Mailer { limits, ..Mailer::new(server, None).unwrap() };
    let login = Some(Login { username: "me", password: b"secret" });
    let sent = send(&mailer, login).await;
    served.abort();
    sent.unwrap_err()
}

#[tokio::test]
async fn who_has_the_letter_may_take_longer_than_who_has_it_not() {
    let [no, hour] = [Duration::ZERO, Duration::from_hours(1)];
    let (without_last, _) = ENOUGH.split_at(5);
    let limits = Limits { connect: hour, hand_over: hour, taken: no };
    assert_eq!(
        sent_within(limits, without_last).await,
        "it has the letter and says nothing for 0ns"
    );
    let limits = Limits { connect: hour, hand_over: no, taken: hour };
    assert_eq!(sent_within(limits, &[]).await, "no answer within 0ns");
}

#[tokio::test]
async fn an_address_that_drops_everything_is_given_up_for_the_next() {
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let (good, port) = listener().await;
    let [full, good] = [full.local_addr().unwrap(), good.local_addr().unwrap()];
    let second = Duration::from_secs(1);
    let mut waiting = Vec::new();
    // Nobody accepts: what the queue does not hold is dropped.
    while let Ok(stream) = connect([full].into_iter(), second).await {
        waiting.push(stream);
    }
    let reached = connect([full, good].into_iter(), second).await.unwrap();
    assert_eq!(reached.peer_addr().unwrap().port(), port);
    assert!(connect([].into_iter(), second).await.is_err());
}

#[test]
fn addresses_hold_nothing_that_ends_a_command() {
    for right in ["ops@example.com", "a.b+c@x", "o'neil@mail.example.org"] {
        assert_eq!(address(right).as_str(), right);
    }
    let long = format!("{}@example.com", "a".repeat(250));
    for wrong in [
        "",
        "ops",
        "@x",
        "a@",
        "a@b@c",
        "a b@c",
        "a@b>\r\nRCPT TO:<x@y",
        "<a@b>",
        "A <a@b>",
        "a@b\n",
        "ä@b.de",
        "a@b,c@d",
        long.as_str(),
    ] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong:?}");
    }
}

/// Some servers say again what they do not know.
#[test]
fn why_a_login_is_refused_has_no_password() {
    let echoed = "it answered 500 5.5.1 Command unrecognized: \"AUTH PLAIN AGFsaWNl\"";
    assert_eq!(login_refused(echoed), "it answered 500 to the login");
    assert_eq!(login_refused("its answer has no end"), "its answer has no end");
}
