//! Streams of events over real TLS: in order, refused, ended by either side.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dwcp_api::sse::Event;
use dwcp_api::{
    ApiError, CallError, Client, ErrorCode, Events, Method, NoParams, Operation, Routes,
    Watcher, feed,
};
use dwcp_runtime::clock::SystemClock;
use dwcp_runtime::http::{BoundServer, Limits};
use dwcp_runtime::tls::Identity;
use dwcp_runtime::tls::ServerTls;
use tokio::sync::{mpsc, oneshot};

use super::{Server, World, now, region};

/// For the tests: events that they send.
struct Told;

impl Operation for Told {
    const ID: &'static str = "told";
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/told";
    const SUMMARY: &'static str = "Tells.";
    const STREAMS: bool = true;
    type Params = NoParams;
    type Body = ();
    type Reply = String;
}

/// Says when it is dropped.
struct Place(
    #[expect(dead_code, reason = "dropping it is what it is for")] oneshot::Sender<()>,
);

/// One reader's stream: what is sent goes there. Later readers are refused.
struct Line {
    send: mpsc::Sender<Event>,
    gone: oneshot::Receiver<()>,
    last: Arc<Mutex<Option<String>>>,
    routes: Routes,
}

fn line() -> Line {
    let (send, receive) = mpsc::channel(1);
    let (place, gone) = oneshot::channel();
    let last: Arc<Mutex<Option<String>>> = Arc::default();
    let seat = Arc::new(Mutex::new(Some((receive, Place(place)))));
    let told = Arc::clone(&last);
    let routes = Routes::new().bind_stream::<Told, _, _>(move |watcher: Watcher, _| {
        let taken = seat.lock().unwrap().take();
        *told.lock().unwrap() = watcher.last;
        async move {
            let seat = taken.ok_or_else(|| ApiError::new(ErrorCode::Busy, "taken"))?;
            Ok(feed(seat, |(mut receive, place)| async {
                Some((receive.recv().await?, (receive, place)))
            }))
        }
    });
    Line { send, gone, last, routes }
}

fn event(id: &str) -> Event {
    let data = format!("{id} says\n\nso");
    Event { id: id.to_owned(), kind: "word".to_owned(), data }
}

fn alice(world: &World, server: &Server) -> Client {
    world.client(server, &Identity::Admin("alice".to_owned()))
}

async fn open(client: &Client, last: Option<&str>) -> Result<Events, CallError> {
    client.watch::<Told>(&NoParams {}, last).await
}

#[tokio::test]
async fn events_come_in_order_and_the_end_is_the_end() {
    let world = World::new();
    let Line { send, gone, last, routes } = line();
    let server = world.serve(routes).await;
    let client = alice(&world, &server);
    let mut events = open(&client, Some("41")).await.unwrap();
    assert_eq!(last.lock().unwrap().as_deref(), Some("41"));
    for id in ["42", "43"] {
        send.send(event(id)).await.unwrap();
        assert_eq!(events.next().await.unwrap(), Some(event(id)));
    }
    let busy = open(&client, None).await.unwrap_err();
    assert!(matches!(busy, CallError::Api(ApiError { code: ErrorCode::Busy, .. })));
    drop(send);
    assert_eq!(events.next().await.unwrap(), None);
    gone.await.unwrap_err();
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_goes_away_leaves_its_place() {
    let world = World::new();
    let Line { send, gone, routes, .. } = line();
    let server = world.serve(routes).await;
    let client = alice(&world, &server);
    let mut events = open(&client, None).await.unwrap();
    send.send(event("1")).await.unwrap();
    events.next().await.unwrap();
    drop(events);
    // Dropping the place drops the sender; nothing is ever sent.
    gone.await.unwrap_err();
    server.stop().await;
}

/// A stream has no end of its own, and must not make the daemon wait for the longest that requests
/// may take.
#[tokio::test]
async fn a_server_that_stops_ends_its_streams() {
    let world = World::new();
    let Line { send, routes, .. } = line();
    let credentials = world.issue("server", &region("server"), now());
    let tls = ServerTls::load(credentials).unwrap();
    let limits = Limits { drain_time_max: Duration::MAX, ..Limits::default() };
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let bound = BoundServer::bind(anywhere, tls, limits).await.unwrap();
    let address = bound.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        bound.serve(routes.into_router(), Arc::new(SystemClock::new()), stopped).await;
    });
    let server = Server { address, stop: Some(stop), task: served };
    let mut events = open(&alice(&world, &server), None).await.unwrap();
    send.send(event("1")).await.unwrap();
    events.next().await.unwrap();
    let (ended, ()) = tokio::join!(events.next(), server.stop());
    assert_eq!(ended.unwrap(), None);
}

#[tokio::test]
async fn what_is_no_stream_is_no_stream() {
    let world = World::new();
    let server = world.serve(super::greetings()).await;
    let error = open(&alice(&world, &server), None).await.unwrap_err();
    assert!(matches!(error, CallError::Api(ApiError { code: ErrorCode::NotFound, .. })));
    server.stop().await;
}
