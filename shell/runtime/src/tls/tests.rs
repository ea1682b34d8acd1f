//! Keys and certificates on disk, and handshakes between raw rustls peers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use dwcp_types::{RegionId, Timestamp};
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::files::read_roots;
use super::{
    ADMIN_LIFETIME_MAX, ClientTls, Credentials, DevelopmentCa, ExpectedServer, Identity,
    NODE_LIFETIME, ServerTls, SubjectName, TlsError, provider,
};
use crate::clock::{Clock, SystemClock};

fn now() -> Timestamp {
    SystemClock::new().now()
}

fn names() -> [SubjectName; 1] {
    [SubjectName::Dns("localhost".to_owned())]
}

fn region() -> Identity {
    Identity::Region(RegionId::new("us-east-1").unwrap())
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_for_their_owner_only_and_refused_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("ca");
    let ca = DevelopmentCa::create(&home, now()).unwrap();
    let issued = ca.issue(&region(), &names(), NODE_LIFETIME, now()).unwrap();
    let node = issued.write(&directory.path().join("node"), "node").unwrap();
    for key in [&node.key, &home.join("ca.key")] {
        assert_eq!(mode(key), 0o600);
        assert_eq!(mode(key.parent().unwrap()), 0o700);
    }
    ServerTls::load(node.clone()).unwrap();
    for exposed in [0o640, 0o604, 0o660] {
        fs::set_permissions(&node.key, fs::Permissions::from_mode(exposed)).unwrap();
        let error = ServerTls::load(node.clone()).unwrap_err();
        assert!(matches!(error, TlsError::KeyExposed { mode, .. } if mode == exposed));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    fs::set_permissions(home.join("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(DevelopmentCa::load(&home), Err(TlsError::KeyExposed { .. })));
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let directory = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::create(directory.path(), now()).unwrap();
    let issued = ca.issue(&region(), &names(), NODE_LIFETIME, now()).unwrap();
    let credentials = issued.write(directory.path(), "node").unwrap();
    let key = fs::read_to_string(&credentials.key).unwrap();
    let secret: String = key.lines().skip(1).take(1).collect();
    let tls = ServerTls::load(credentials).unwrap();
    for shown in [format!("{issued:?}"), format!("{ca:?}"), format!("{tls:?}")] {
        assert!(!shown.contains(&secret) && !shown.contains("PRIVATE"), "{shown}");
    }
}

#[test]
fn the_development_ca_says_what_it_is_and_is_never_made_twice() {
    let directory = tempfile::tempdir().unwrap();
    let first = DevelopmentCa::load_or_create(directory.path(), now()).unwrap();
    let again = DevelopmentCa::create(directory.path(), now()).unwrap_err();
    assert!(matches!(again, TlsError::Exists { .. }));
    // The loaded one signs for those who trust the first.
    let loaded = DevelopmentCa::load_or_create(directory.path(), now()).unwrap();
    let issued = loaded.issue(&region(), &names(), NODE_LIFETIME, now()).unwrap();
    issued.write(directory.path(), "node").unwrap();
    drop(first);
    let chain = super::files::read_chain(&directory.path().join("ca.crt")).unwrap();
    let der = chain.first().unwrap();
    let text = String::from_utf8_lossy(der);
    assert!(text.contains("DWCP DEVELOPMENT CA - not for production"));
}

#[test]
fn a_person_gets_at_most_24_hours() {
    let directory = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::create(directory.path(), now()).unwrap();
    let alice = Identity::Admin("alice".to_owned());
    let long = ADMIN_LIFETIME_MAX + Duration::from_secs(1);
    let error = ca.issue(&alice, &[], long, now()).unwrap_err().to_string();
    assert!(error.contains("at most"), "{error}");
    let issued = ca.issue(&alice, &[], ADMIN_LIFETIME_MAX, now()).unwrap();
    let credentials = issued.write(directory.path(), "alice").unwrap();
    let peer = credentials.check_validity(now()).unwrap();
    assert_eq!(peer.identity, alice);
    assert!(peer.not_after <= now().plus(ADMIN_LIFETIME_MAX));
    let late = now().plus(ADMIN_LIFETIME_MAX);
    assert!(matches!(
        credentials.check_validity(late),
        Err(TlsError::NotValidNow { .. })
    ));
}

#[test]
fn files_that_are_missing_or_hold_something_else_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::create(directory.path(), now()).unwrap();
    let issued = ca.issue(&region(), &names(), NODE_LIFETIME, now()).unwrap();
    let good = issued.write(directory.path(), "node").unwrap();
    let missing = directory.path().join("none.crt");
    let garbage = directory.path().join("garbage.crt");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    let huge = directory.path().join("huge.crt");
    fs::write(&huge, vec![b'x'; 1 << 20]).unwrap();
    for path in [missing, garbage, huge] {
        let bad = Credentials { certificate: path.clone(), ..good.clone() };
        let error = ServerTls::load(bad).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
    // A key of another certificate.
    let other = ca.issue(&region(), &names(), NODE_LIFETIME, now()).unwrap();
    let other = other.write(directory.path(), "other").unwrap();
    let mixed = Credentials { key: other.key, ..good };
    ServerTls::load(mixed).unwrap_err();
}

/// What a handshake and one exchange end with, on the client's side.
async fn shake(server: &ServerTls, client: ClientConfig) -> Result<(), rustls::Error> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let acceptor = TlsAcceptor::from(server.current());
    let task = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await?;
        stream.write_all(b"k").await?;
        stream.shutdown().await
    });
    let name = ServerName::try_from("localhost").unwrap();
    let shaken = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await
    };
    let result = shaken.await.map(|_| ());
    task.await.unwrap().ok();
    result.map_err(|error| {
        let inner = error.into_inner().expect("rustls speaks");
        *inner.downcast::<rustls::Error>().expect("rustls speaks")
    })
}

struct Pair {
    _directory: tempfile::TempDir,
    ca: DevelopmentCa,
    node: Credentials,
}

fn pair() -> Pair {
    let directory = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::create(&directory.path().join("ca"), now()).unwrap();
    let issued = ca.issue(&region(), &names(), NODE_LIFETIME, now()).unwrap();
    let node = issued.write(&directory.path().join("node"), "node").unwrap();
    Pair { _directory: directory, ca, node }
}

fn own_config(tls: &ClientTls) -> ClientConfig {
    (*tls.current().0).clone()
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let pair = pair();
    let server = ServerTls::load(pair.node.clone()).unwrap();
    let anonymous = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(read_roots(&pair.node.ca).unwrap())
        .with_no_client_auth();
    let error = shake(&server, anonymous).await.unwrap_err();
    let required = AlertDescription::CertificateRequired;
    assert_eq!(error, rustls::Error::AlertReceived(required));
    let good = ClientTls::load(pair.node, ExpectedServer::Named).unwrap();
    shake(&server, own_config(&good)).await.unwrap();
}

#[tokio::test]
async fn a_person_cannot_serve() {
    let pair = pair();
    let alice = Identity::Admin("alice".to_owned());
    let issued = pair.ca.issue(&alice, &names(), ADMIN_LIFETIME_MAX, now()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let server =
        ServerTls::load(issued.write(directory.path(), "alice").unwrap()).unwrap();
    for expected in [ExpectedServer::Named, ExpectedServer::Identity(alice)] {
        let client = ClientTls::load(pair.node.clone(), expected).unwrap();
        let error = shake(&server, own_config(&client)).await.unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
    }
}

#[tokio::test]
async fn a_person_with_a_longer_life_than_allowed_is_refused_by_the_verifier() {
    let pair = pair();
    let server = ServerTls::load(pair.node.clone()).unwrap();
    // A CA that does not keep the limit: issued as two days by its own tools.
    let directory = tempfile::tempdir().unwrap();
    let alice = Identity::Admin("alice".to_owned());
    let days = Duration::from_hours(48);
    let issued = pair.ca.sign(&alice, &[], days, now()).unwrap();
    let mut credentials = issued.write(directory.path(), "alice").unwrap();
    credentials.ca = pair.node.ca;
    let client = ClientTls::load(credentials, ExpectedServer::Named).unwrap();
    let error = shake(&server, own_config(&client)).await.unwrap_err();
    assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error}");
}
