//! Operations, client, server and the remote engine over real TLS on loopback: what a caller
//! sees when all is well, and in each way that it can go wrong.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "the operations macro makes public types")]

#[path = "wire/streams.rs"]
mod streams;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dwcp_api::engine::{RemoteEngine, engine_routes};
use dwcp_api::{
    ApiError, CallError, Caller, Client, ErrorCode, NoParams, Routes, operations,
};
use dwcp_runtime::clock::{Clock, ManualClock, SystemClock};
use dwcp_runtime::http::{BindError, BoundServer, HttpClient, Limits};
use dwcp_runtime::strong::conformance::Subject;
use dwcp_runtime::strong::{
    EmbeddedEngine, Op, StrongEngine, StrongError, Txn, TxnOutcome,
};
use dwcp_runtime::tls::{
    ClientTls, Credentials, DevelopmentCa, ExpectedServer, Identity, ServerTls,
    SubjectName, TlsError,
};
use dwcp_types::{RegionId, Timestamp};
use http::Request;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// What the operation under test is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Greeting {
    /// Who.
    pub name: String,
    /// How often.
    pub times: u32,
}

/// Whom to greet.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GreetParams {
    /// Whom.
    pub id: String,
    /// How.
    pub loud: Option<bool>,
}

operations! {
    /// For the tests.
    Greet = Post "/v1/greetings/{id}" "greet" "Greets.", GreetParams, Greeting => String;
    /// For the tests.
    Panic = Post "/v1/panic" "panic" "Panics.", NoParams, () => ();
    /// For the tests.
    Silent = Get "/v1/silent" "silent" "Never answers.", NoParams, () => ();
    /// For the tests: the same path with another reply.
    Mistyped = Post "/v1/greetings/{id}" "mistyped" "Greets.", GreetParams, Greeting => u64;
}

/// A CA and whoever needs a certificate of it.
struct World {
    directory: TempDir,
    ca: DevelopmentCa,
}

fn region(id: &str) -> Identity {
    Identity::Region(RegionId::new(id).unwrap())
}

fn loopback() -> Vec<SubjectName> {
    vec![SubjectName::Ip([127, 0, 0, 1].into()), SubjectName::Dns("localhost".to_owned())]
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

const DAY: Duration = Duration::from_hours(24);

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::create(&directory.path().join("ca"), now()).unwrap();
        Self { directory, ca }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn issue(&self, name: &str, identity: &Identity, at: Timestamp) -> Credentials {
        let issued = self.ca.issue(identity, &loopback(), DAY, at).unwrap();
        issued.write(&self.path().join(name), name).unwrap()
    }

    fn client_tls(&self, name: &str, identity: &Identity) -> ClientTls {
        let credentials = self.issue(name, identity, now());
        ClientTls::load(credentials, ExpectedServer::Named).unwrap()
    }

    async fn serve(&self, routes: Routes) -> Server {
        let credentials = self.issue("server", &region("server"), now());
        serve(credentials, routes, "127.0.0.1:0".parse().unwrap()).await
    }

    fn client(&self, server: &Server, identity: &Identity) -> Client {
        Client::new(&[server.url()], self.client_tls("client", identity)).unwrap()
    }
}

struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap();
    }
}

async fn serve(credentials: Credentials, routes: Routes, address: SocketAddr) -> Server {
    let tls = ServerTls::load(credentials).unwrap();
    let limits =
        Limits { drain_time_max: Duration::from_millis(200), ..Limits::default() };
    let bound = BoundServer::bind(address, tls, limits).await.unwrap();
    let address = bound.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = routes.into_router();
    let task = tokio::spawn(async move {
        let shutdown = async {
            stopped.await.ok();
        };
        bound.serve(router, Arc::new(SystemClock::new()), shutdown).await;
    });
    Server { address, stop: Some(stop), task }
}

fn greetings() -> Routes {
    Routes::new()
        .bind::<Greet, _, _>(|caller: Caller, params, body| async move {
            if body.times == 0 {
                return Err(ApiError::new(ErrorCode::Refused, "not even once"));
            }
            let mark = if params.loud == Some(true) { "!" } else { "" };
            Ok(format!(
                "{} greets {} as {} {} times{mark}",
                caller.identity, params.id, body.name, body.times
            ))
        })
        .bind::<Panic, _, _>(|_, NoParams {}, ()| async move { panic!("on purpose") })
        .bind::<Silent, _, _>(|_, NoParams {}, ()| std::future::pending())
}

fn greet(id: &str) -> GreetParams {
    GreetParams { id: id.to_owned(), loud: Some(true) }
}

fn ada() -> Greeting {
    Greeting { name: "Ada".to_owned(), times: 2 }
}

#[tokio::test]
async fn an_operation_goes_there_and_back_with_the_callers_identity() {
    let world = World::new();
    let server = world.serve(greetings()).await;
    let client = world.client(&server, &Identity::Admin("alice".to_owned()));
    let reply = client.call::<Greet>(&greet("a b/ü"), &ada()).await.unwrap();
    assert_eq!(reply, "spiffe://dwcp/admin/alice greets a b/ü as Ada 2 times!");
    let refused = Greeting { times: 0, ..ada() };
    let error = client.call::<Greet>(&greet("x"), &refused).await.unwrap_err();
    assert!(matches!(error, CallError::Api(ApiError { code: ErrorCode::Refused, .. })));
    server.stop().await;
}

/// Sends text as it is and returns the status and the error.
async fn raw(
    world: &World,
    server: &Server,
    method: &str,
    path: &str,
    body: impl Into<Vec<u8>>,
) -> (u16, ApiError) {
    let http =
        HttpClient::new(world.client_tls("raw", &Identity::Admin("eve".to_owned())));
    let request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", server.url()))
        .header("content-type", "application/json")
        .body(body.into().into())
        .unwrap();
    let reply = http.send(request, Duration::from_secs(30)).await.unwrap();
    assert_eq!(reply.headers()["content-type"], "application/json");
    (reply.status().as_u16(), serde_json::from_slice(reply.body()).unwrap())
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_with_its_place() {
    let world = World::new();
    let server = world.serve(greetings()).await;
    let large = vec![b' '; (1 << 20) + 1];
    let huge = vec![b' '; (8 << 20) + 1];
    let (path, good) = ("/v1/greetings/x", br#"{"name":"Ada","times":1}"#.to_vec());
    let cases: Vec<(&str, &str, Vec<u8>, u16, &str)> = vec![
        ("POST", path, b"{\"name\":\n\"Ada\",\"times\":".to_vec(), 400, "line 2 column"),
        (
            "POST",
            path,
            br#"{"name":"Ada","times":-1}"#.to_vec(),
            400,
            "at times: invalid value",
        ),
        ("POST", path, br#"{"name":"Ada"}"#.to_vec(), 400, "missing field `times`"),
        ("POST", path, b"".to_vec(), 400, "needs a body"),
        (
            "POST",
            path,
            [good.clone(), b" x".to_vec()].concat(),
            400,
            "goes on after its end",
        ),
        ("POST", path, vec![b'['; 100_000], 400, "the body is not what is expected"),
        ("POST", path, vec![0xff, 0xfe], 400, "the body is not what is expected"),
        ("POST", path, large, 413, "larger than the 1048576 bytes"),
        ("POST", path, huge, 413, "larger than the 1048576 bytes"),
        ("POST", "/v1/greetings/x?loud=7", good.clone(), 400, "parameter loud"),
        ("POST", "/v1/greetings/x?lout=true", good.clone(), 400, "there are id, loud"),
        ("POST", "/v1/greetings/x?id=y", good.clone(), 400, "given twice"),
        ("GET", path, b"".to_vec(), 405, "cannot be asked with GET"),
        ("GET", "/v2/none", b"".to_vec(), 404, "there is no operation GET /v2/none"),
        ("POST", "/v1/panic", b"".to_vec(), 500, "panic failed by a defect"),
    ];
    for (method, path, body, status, expected) in cases {
        let (got, error) = raw(&world, &server, method, path, body).await;
        assert_eq!(got, status, "{method} {path}: {error:?}");
        assert!(error.message.contains(expected), "{method} {path}: {error:?}");
        assert!(error.remedy.is_some(), "{error:?}");
    }
    // After all that it still serves.
    let client = world.client(&server, &region("r"));
    client.call::<Greet>(&greet("x"), &ada()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_declared_as_json_is_refused() {
    let world = World::new();
    let server = world.serve(greetings()).await;
    let http = HttpClient::new(world.client_tls("raw", &region("r")));
    let request = Request::post(format!("{}/v1/greetings/x", server.url()))
        .header("content-type", "text/plain")
        .body(br#"{"name":"Ada","times":1}"#.as_slice().into())
        .unwrap();
    let reply = http.send(request, Duration::from_secs(30)).await.unwrap();
    assert_eq!(reply.status().as_u16(), 400);
    server.stop().await;
}

#[tokio::test]
async fn the_client_tells_the_ways_of_failing_apart() {
    let world = World::new();
    let server = world.serve(greetings()).await;
    let client = world.client(&server, &region("r"));
    let error = client.call::<Mistyped>(&greet("x"), &ada()).await.unwrap_err();
    assert!(matches!(&error, CallError::Protocol { .. }), "{error:?}");
    let impatient = client.clone().with_call_time_max(Duration::from_millis(50));
    let error = impatient.call::<Silent>(&NoParams {}, &()).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
    let tls = world.client_tls("client", &region("r"));
    // Nothing listens there; the next address does.
    let closed = "https://127.0.0.1:1".to_owned();
    let both = Client::new(&[closed.clone(), server.url()], tls.clone()).unwrap();
    both.call::<Greet>(&greet("x"), &ada()).await.unwrap();
    let error = Client::new(&[closed], tls.clone())
        .unwrap()
        .call::<Greet>(&greet("x"), &ada())
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
    for address in ["http://127.0.0.1:1", "127.0.0.1:1", "https://h/p", "https://", ""] {
        assert!(Client::new(&[address], tls.clone()).is_err(), "{address}");
    }
    server.stop().await;
}

fn tls_reason(error: &CallError) -> &str {
    let CallError::Tls { reason } = error else {
        panic!("not a TLS error: {error:?}");
    };
    reason
}

#[tokio::test]
async fn an_expired_client_certificate_is_refused_with_advice() {
    let world = World::new();
    let server = world.serve(greetings()).await;
    let past = Timestamp::from_millis(now().as_millis() - 2 * 86_400_000);
    let old = world.issue("old", &region("r"), past);
    let error = old.check_validity(now()).unwrap_err();
    assert!(matches!(error, TlsError::NotValidNow { .. }), "{error}");
    let tls = ClientTls::load(old, ExpectedServer::Named).unwrap();
    let client = Client::new(&[server.url()], tls).unwrap();
    let error = client.call::<Greet>(&greet("x"), &ada()).await.unwrap_err();
    assert!(tls_reason(&error).contains("issue a new certificate"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_on_both_sides() {
    let (world, other) = (World::new(), World::new());
    let server = world.serve(greetings()).await;
    // The client does not trust the server.
    let client = other.client(&server, &region("r"));
    let error = client.call::<Greet>(&greet("x"), &ada()).await.unwrap_err();
    assert!(tls_reason(&error).contains("server's certificate"), "{error}");
    // The server does not trust the client.
    let mut mixed = other.issue("mixed", &region("r"), now());
    mixed.ca = world.issue("client", &region("r"), now()).ca;
    let tls = ClientTls::load(mixed, ExpectedServer::Named).unwrap();
    let client = Client::new(&[server.url()], tls).unwrap();
    let error = client.call::<Greet>(&greet("x"), &ada()).await.unwrap_err();
    assert!(tls_reason(&error).contains("use a client certificate"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_can_insist_on_who_the_server_is() {
    let world = World::new();
    let server = world.serve(greetings()).await;
    let credentials = world.issue("client", &region("r"), now());
    for (expected, good) in [(region("server"), true), (region("other"), false)] {
        let expected = ExpectedServer::Identity(expected);
        let tls = ClientTls::load(credentials.clone(), expected).unwrap();
        let client = Client::new(&[server.url()], tls).unwrap();
        let result = client.call::<Greet>(&greet("x"), &ada()).await;
        match result {
            Ok(_) => assert!(good),
            Err(error) => {
                assert!(!good, "{error}");
                assert!(tls_reason(&error).contains("another server"), "{error}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_without_a_restart() {
    let world = World::new();
    let credentials = world.issue("server", &region("first"), now());
    let server = serve(credentials, greetings(), "127.0.0.1:0".parse().unwrap()).await;
    let ask = async |name: &str| {
        let expected = ExpectedServer::Identity(region(name));
        let credentials = world.issue("client", &region("r"), now());
        let tls = ClientTls::load(credentials, expected).unwrap();
        let client = Client::new(&[server.url()], tls).unwrap();
        client.call::<Greet>(&greet("x"), &ada()).await
    };
    ask("first").await.unwrap();
    world.issue("server", &region("second"), now());
    ask("second").await.unwrap();
    // A broken renewal changes nothing.
    std::fs::write(world.path().join("server/server.crt"), "half").unwrap();
    ask("second").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let world = World::new();
    let server = world.serve(greetings()).await;
    let credentials = world.issue("again", &region("again"), now());
    let tls = ServerTls::load(credentials).unwrap();
    let error =
        BoundServer::bind(server.address, tls, Limits::default()).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { address } if address == server.address));
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn shutdown_ends_even_with_a_request_that_never_does() {
    let world = World::new();
    let server = world.serve(greetings()).await;
    let client = world.client(&server, &region("r"));
    client.call::<Greet>(&greet("x"), &ada()).await.unwrap();
    let silent =
        tokio::spawn(async move { client.call::<Silent>(&NoParams {}, &()).await });
    server.stop().await;
    assert!(silent.await.unwrap().is_err());
}

/// An embedded engine behind TLS, reached by the remote adapter.
async fn remote() -> Subject {
    let world = World::new();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let engine = embedded(&world, clock.clone());
    let server = world.serve(engine_routes(engine)).await;
    let client = world.client(&server, &region("us-east-1"));
    Subject {
        engine: Arc::new(RemoteEngine::new(client)),
        clock,
        keep: Box::new((world, server)),
    }
}

fn embedded(world: &World, clock: Arc<ManualClock>) -> Arc<dyn StrongEngine> {
    Arc::new(EmbeddedEngine::open(&world.path().join("engine.redb"), clock).unwrap())
}

mod remote_engine {
    use super::remote;

    dwcp_runtime::strong_conformance!(remote);
}

#[tokio::test]
async fn only_regions_may_use_the_engine() {
    let world = World::new();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let server = world.serve(engine_routes(embedded(&world, clock))).await;
    let host = Identity::Host {
        region: RegionId::new("r").unwrap(),
        host: dwcp_types::HostId::new("h").unwrap(),
    };
    for identity in [host, Identity::Admin("alice".to_owned())] {
        let engine = RemoteEngine::new(world.client(&server, &identity));
        let error = engine.get("k").await.unwrap_err().to_string();
        assert!(error.contains("only a region's daemon may"), "{error}");
        let txn = Txn { then: vec![Op::put("k", "v")], ..Txn::default() };
        engine.txn(txn).await.unwrap_err();
        engine.watch("", 0).await.unwrap_err();
    }
    server.stop().await;
}

#[tokio::test]
async fn an_engine_that_is_away_is_unavailable_and_the_watch_goes_on_after() {
    let world = World::new();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let local = embedded(&world, clock);
    let server = world.serve(engine_routes(Arc::clone(&local))).await;
    let address = server.address;
    let engine = RemoteEngine::new(world.client(&server, &region("r")));
    let put = |key: &str| Txn { then: vec![Op::put(key, "v")], ..Txn::default() };
    let first = engine.txn(put("a")).await.unwrap();
    assert_eq!(first, TxnOutcome::Committed { revision: 1 });
    server.stop().await;
    let error = engine.txn(put("b")).await.unwrap_err();
    assert!(
        matches!(
            error,
            StrongError::Unavailable { .. } | StrongError::Indeterminate { .. }
        ),
        "{error:?}"
    );
    assert!(local.get("b").await.unwrap().is_none());
    let credentials = world.issue("server", &region("server"), now());
    let server = serve(credentials, engine_routes(local), address).await;
    engine.txn(put("c")).await.unwrap();
    let mut watch = engine.watch("", 2).await.unwrap();
    let batch = watch.next().await.unwrap().unwrap();
    assert_eq!(batch.events.first().unwrap().key(), "c");
    server.stop().await;
}
