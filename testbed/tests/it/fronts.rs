//! The proxy's TLS front as real clients meet it: names, protocols, nonsense, and a certificate that is
//! renewed on disk while the daemon runs.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::tls::{DevelopmentCa, Identity, SubjectName};
use dwcp_testbed::{Federation, HostPlan, Plan, RegionPlan, until};
use dwcp_types::RegionId;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const HOST: &str = "www.example.com";

/// A server that answers every request of a connection.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 4_096];
                while stream.read(&mut asked).await.unwrap_or(0) > 0 {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
                    stream.write_all(answer).await.unwrap_or_default();
                }
            });
        }
    });
    address
}

/// A federation of one region whose proxy has a certificate.
struct Ground {
    federation: Federation,
    ca: DevelopmentCa,
    roots: RootCertStore,
    folder: tempfile::TempDir,
}

impl Ground {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca");
        let ca = DevelopmentCa::create(&ca, SystemClock::new().now()).unwrap();
        let (certificate, key) = files(folder.path());
        issue(&ca, folder.path());
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(folder.path().join("ca.crt")).unwrap();
        roots.add(root).unwrap();
        let routing = json!({
            "proxy": { "tls": { "certificate": certificate, "key": key } },
            "services": [{
                "id": "web",
                "domains": [HOST],
                "upstreams": [{ "region": "one", "servers": [origin().await.to_string()] }],
            }],
        });
        let plan =
            Plan::simulated(vec![RegionPlan::new("one").host(HostPlan::of_slots(4))])
                .taking_requests(routing);
        Self { federation: Federation::start(plan).await, ca, roots, folder }
    }

    fn proxy(&self) -> SocketAddr {
        self.federation.socket("one/proxy")
    }

    /// A client that offers these protocols and asks for this name.
    async fn connect(
        &self,
        name: &'static str,
        protocols: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        let stream = TcpStream::connect(self.proxy()).await?;
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// The certificate that a new client is shown, with which it is answered.
    async fn shown(&self) -> CertificateDer<'static> {
        let stream = self.connect(HOST, &[b"http/1.1"]).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert_eq!(ask_1(stream).await, "hi");
        shown.into_owned()
    }
}

fn files(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("front.crt"), folder.join("front.key"))
}

/// Puts a new certificate, and its key, into place.
fn issue(ca: &DevelopmentCa, folder: &Path) -> CertificateDer<'static> {
    let who = Identity::Region(RegionId::new("front").unwrap());
    let names = [SubjectName::Dns(HOST.to_owned())];
    let now = SystemClock::new().now();
    let issued = ca.issue(&who, &names, Duration::from_hours(1), now).unwrap();
    issued.write(folder, "front").unwrap();
    CertificateDer::from_pem_slice(issued.certificate_pem().as_bytes()).unwrap()
}

/// Puts a file into place, as whoever renews certificates does: readable by its owner only.
fn put(path: &Path, bytes: &[u8]) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, bytes).unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(draft, path).unwrap();
}

fn request() -> Request<Empty<Bytes>> {
    let uri = format!("https://{HOST}/");
    Request::builder().uri(uri).header("host", HOST).body(Empty::new()).unwrap()
}

async fn ask_1(stream: TlsStream<TcpStream>) -> String {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = request();
    *request.uri_mut() = "/".parse().unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_11));
    text(answer.into_body()).await
}

async fn text(body: hyper::body::Incoming) -> String {
    let bytes = body.collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_answered_by_the_protocol_that_they_choose() {
    let ground = Ground::start().await;
    until("the server has requests", || async {
        let stream = ground.connect(HOST, &[]).await.map_err(|e| e.to_string())?;
        if ask_1(stream).await == "hi" { Ok(()) } else { Err("no".to_owned()) }
    })
    .await;
    for (offered, chosen) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = ground.connect(HOST, offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
        if chosen != Some(b"h2") {
            assert_eq!(ask_1(stream).await, "hi");
            continue;
        }
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        // Two at once on one connection.
        let both = [sender.send_request(request()), sender.send_request(request())];
        for answer in both {
            let answer = answer.await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), answer.version()),
                (200, Version::HTTP_2)
            );
            assert_eq!(text(answer.into_body()).await, "hi");
        }
    }
    // A name that the certificate does not have is the client's to refuse.
    let error = ground.connect("elsewhere.example.com", &[b"h2"]).await.unwrap_err();
    assert!(error.to_string().contains("certificate not valid for name"), "{error}");
    // A protocol that nobody speaks here is refused in the handshake.
    let error = ground.connect(HOST, &[b"spdy/3"]).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    ground.federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_instead_of_a_handshake_ends_its_own_connection_only() {
    let ground = Ground::start().await;
    let held = ground.connect(HOST, &[b"http/1.1"]).await.unwrap();
    let hello = [22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
    for bytes in [
        &[22][..],
        &[22, 3, 1, 255, 255],
        &[22; 600],
        &hello,
        &[&hello[..], &[255; 189]].concat(),
        &[22, 3, 3, 0, 5, 1, 0, 0, 1, 0],
    ] {
        let mut stream = TcpStream::connect(ground.proxy()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        // An alert, or nothing; and then its end.
        stream.read_to_end(&mut Vec::new()).await.unwrap_or_default();
    }
    // Regions' own protocol needs a region's certificate.
    for protocol in [&b"dwcp-proxy/1"[..], b"dwcp-stream/1"] {
        let refused = match ground.connect(HOST, &[protocol]).await {
            Err(_) => true,
            // By TLS 1.3 the client has ended its handshake before it is refused.
            Ok(mut stream) => stream.read_u8().await.is_err(),
        };
        assert!(refused, "{}", String::from_utf8_lossy(protocol));
    }
    assert_eq!(ask_1(held).await, "hi");
    ground.shown().await;
    ground.federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_and_a_broken_one_is_not() {
    let mut ground = Ground::start().await;
    let first = ground.shown().await;
    let held = ground.connect(HOST, &[b"http/1.1"]).await.unwrap();
    let renewed = issue(&ground.ca, ground.folder.path());
    assert_ne!(first, renewed);
    assert_eq!(ground.shown().await, renewed);
    // Who is connected stays so.
    assert_eq!(ask_1(held).await, "hi");

    let (certificate, key) = files(ground.folder.path());
    let told =
        |log: String| log.matches("changed certificate files cannot be used").count();
    let log = |ground: &mut Ground| ground.federation.process("one").log();
    let sound = std::fs::read(&certificate).unwrap();
    // Half of one, and then one whose key is another's.
    put(&certificate, &sound[..sound.len() / 2]);
    assert_eq!(ground.shown().await, renewed);
    assert_eq!(told(log(&mut ground)), 1);
    let other = tempfile::tempdir().unwrap();
    issue(&ground.ca, other.path());
    put(&certificate, &std::fs::read(files(other.path()).0).unwrap());
    assert_eq!(ground.shown().await, renewed);
    assert_eq!(told(log(&mut ground)), 2);
    // Its own key makes it whole.
    put(&key, &std::fs::read(files(other.path()).1).unwrap());
    assert_ne!(ground.shown().await, renewed);
    assert_eq!(told(log(&mut ground)), 2);
    ground.federation.end();
}
