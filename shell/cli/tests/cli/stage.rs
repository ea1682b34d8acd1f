//! A federation of fixed replies behind the real router and real mutual TLS, and the tool run
//! against it in the same process.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::future::pending;
use std::io::{self, Cursor, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dwcp_api::controller::GetController;
use dwcp_api::evacuation::{CancelEvacuation, ListEvacuations, PostEvacuation};
use dwcp_api::failover::{
    ApproveFailover, DenyFailover, EndVmTrial, GetFailover, GetVmTrial,
    ListFailoverRequests, ListFailovers, PostFailover, StartVmTrial,
};
use dwcp_api::measured::{GetHistory, GetMetrics};
use dwcp_api::migration::{
    CancelMigration, CreateMigration, GetMigration, ListMigrations,
};
use dwcp_api::monitoring::{
    AcknowledgeIncident, AssignIncident, CreateIncident, GetIncident, ListIncidents,
    ResolveIncident,
};
use dwcp_api::overview::WatchOverview;
use dwcp_api::public::{
    CreateRegion, CreateVm, DeleteVm, EnableRegion, ExplainPlacement, GetConsole,
    GetEvents, GetRegion, GetRegionCapacity, GetStatus, GetVm, GetVms, ListRegions,
    PutVmPower,
};
use dwcp_api::routing::{
    ExplainRouting, GetAnycast, GetRouting, GetRoutingLatency, PutRouting,
    PutRoutingEndpoint, ReplayRouting,
};
use dwcp_api::shards::{GetShards, PostShardMove};
use dwcp_api::silence::{CreateSilence, EndSilence, GetSilence, ListSilences};
use dwcp_api::sla::{CreateSla, GetSlaHistory, ListSlas};
use dwcp_api::sse::Event;
use dwcp_api::state::{
    ForceStateSync, GetReplicas, GetStateKey, GetStatePolicies, ListStateKeys,
    PostStateKey, PutStatePolicy, WatchStateKeys,
};
use dwcp_api::trace::{GetTrace, GetTracing, ListTraces, PutTracing};
use dwcp_api::{ApiError, ErrorCode, NoParams, Operation, Routes, Watcher, feed};
use dwcp_cli::{Pace, Surroundings, Terminal};
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::http::{BoundServer, Limits};
use dwcp_runtime::tls::{DevelopmentCa, Identity, NODE_LIFETIME, ServerTls, SubjectName};
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

/// What the federation answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Reply(Value),
    Error(ApiError),
    Silence,
    /// An event of a stream; any other answer after the first ends the stream.
    Event(Event),
}

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) operation: &'static str,
    pub(crate) params: Value,
    pub(crate) body: Value,
}

/// Answers by operation, in order; the last one stays.
#[derive(Debug, Default)]
struct Script {
    answers: BTreeMap<&'static str, VecDeque<Answer>>,
    asked: Vec<Asked>,
}

/// What the tool printed and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Everything, as a snapshot shows it.
    pub(crate) fn shown(&self) -> String {
        format!("{}--- stderr\n{}--- exit {}\n", self.out, self.err, self.code)
    }
}

/// A federation, and credentials for it.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    count: watch::Sender<usize>,
    _stop: oneshot::Sender<()>,
}

pub(crate) fn now() -> dwcp_types::Timestamp {
    SystemClock::new().now()
}

/// An administrator's credentials of a CA, issued at a moment.
pub(crate) fn issue_admin(ca: &Path, into: &Path, at: dwcp_types::Timestamp, hours: u64) {
    let ca = DevelopmentCa::load_or_create(ca, at).unwrap();
    let admin = Identity::Admin("alice".to_owned());
    let issued = ca.issue(&admin, &[], Duration::from_hours(hours), at).unwrap();
    issued.write(into, "admin").unwrap();
}

impl Stage {
    /// A federation that answers `answers`.
    pub(crate) async fn with(answers: Vec<(&'static str, Answer)>) -> Self {
        let folder = TempDir::new().unwrap();
        let ca_dir = folder.path().join("ca");
        let ca = DevelopmentCa::load_or_create(&ca_dir, now()).unwrap();
        let region = Identity::Region("us-east-1".parse().unwrap());
        let names = [SubjectName::Ip(Ipv4Addr::LOCALHOST.into())];
        let issued = ca.issue(&region, &names, NODE_LIFETIME, now()).unwrap();
        let node = issued.write(&folder.path().join("node"), "region").unwrap();
        let script = Arc::new(Mutex::new(Script::default()));
        let count = watch::Sender::new(0);
        let tls = ServerTls::load(node).unwrap();
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = BoundServer::bind(anywhere, tls, Limits::default()).await.unwrap();
        let address = server.address();
        let router = routes(&script, &count).into_router();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.serve(router, Arc::new(SystemClock::new()), stopped).await;
        });
        issue_admin(&ca_dir, &folder.path().join("admin"), now(), 12);
        let stage = Self { folder, address, script, count, _stop: stop };
        std::fs::write(
            stage.credentials().join("endpoints"),
            format!("# comment\n\nhttps://{address}\n"),
        )
        .unwrap();
        for (operation, answer) in answers {
            stage.then(operation, answer);
        }
        stage
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.folder.path().join("admin")
    }

    /// Adds an answer behind those that are there.
    pub(crate) fn then(&self, operation: &'static str, answer: Answer) {
        let mut script = self.script.lock().unwrap();
        script.answers.entry(operation).or_default().push_back(answer);
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.lock().unwrap().asked.clone()
    }

    /// The bodies that an operation was sent.
    pub(crate) fn sent(&self, operation: &str) -> Vec<Value> {
        let asked = self.asked().into_iter().filter(|asked| asked.operation == operation);
        asked.map(|asked| asked.body).collect()
    }

    /// Completes when so many questions were asked.
    pub(crate) fn asked_at_least(&self, most: usize) -> impl Future<Output = ()> + use<> {
        let mut count = self.count.subscribe();
        async move {
            count.wait_for(|count| *count >= most).await.unwrap();
        }
    }

    /// Runs the tool with these credentials.
    pub(crate) async fn run(&self, words: &[&str]) -> Ran {
        self.run_until(words, pending()).await
    }

    /// The same, with Ctrl-C when `interrupt` completes.
    pub(crate) async fn run_until(
        &self,
        words: &[&str],
        interrupt: impl Future<Output = ()> + Send + 'static,
    ) -> Ran {
        let mut surroundings = plain();
        surroundings.credentials = Some(self.credentials());
        surroundings.interrupt = Box::pin(interrupt);
        let mut ran = run_in(surroundings, words).await;
        for text in [&mut ran.out, &mut ran.err] {
            *text = text
                .replace(&self.folder.path().display().to_string(), "<dir>")
                .replace(&self.address.to_string(), "<address>");
        }
        ran
    }
}

/// Surroundings in which nothing is set and nothing is waited for long.
pub(crate) fn plain() -> Surroundings {
    Surroundings {
        home: None,
        credentials: None,
        no_color: false,
        part_of: None,
        help_width: Some(100),
        input: Box::new(io::empty()),
        interactive: false,
        clock: Arc::new(SystemClock::new()),
        pace: Pace { retry: Duration::from_millis(1), poll: Duration::from_millis(1) },
        interrupt: Box::pin(pending()),
    }
}

/// Surroundings with something at standard input.
pub(crate) fn with_input(text: &str) -> Surroundings {
    let input = Box::new(Cursor::new(text.as_bytes().to_vec()));
    Surroundings { input, ..plain() }
}

/// Runs the tool.
pub(crate) async fn run_in(surroundings: Surroundings, words: &[&str]) -> Ran {
    run_on(surroundings, words, false).await
}

/// Runs the tool, perhaps at a terminal.
pub(crate) async fn run_on(
    surroundings: Surroundings,
    words: &[&str],
    is_terminal: bool,
) -> Ran {
    let (out, err) = (Page::default(), Page::default());
    let mut terminal =
        Terminal::new(Box::new(out.clone()), Box::new(err.clone()), is_terminal);
    let words = std::iter::once("dwcp-cli").chain(words.iter().copied());
    let words: Vec<OsString> = words.map(OsString::from).collect();
    let code = dwcp_cli::run(words, surroundings, &mut terminal).await;
    Ran { code, out: out.text(), err: err.text() }
}

/// A place to print to that can be read.
#[derive(Clone, Debug, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reply.
pub(crate) fn reply(value: &impl Serialize) -> Answer {
    Answer::Reply(serde_json::to_value(value).unwrap())
}

/// An error.
pub(crate) fn error(code: ErrorCode, message: &str, remedy: &str) -> Answer {
    Answer::Error(ApiError::new(code, message).with_remedy(remedy))
}

fn routes(script: &Arc<Mutex<Script>>, count: &watch::Sender<usize>) -> Routes {
    let routes = Routes::new();
    let routes = bind::<GetStatus>(routes, script, count);
    let routes = bind::<ListRegions>(routes, script, count);
    let routes = bind::<CreateRegion>(routes, script, count);
    let routes = bind::<GetRegion>(routes, script, count);
    let routes = bind::<EnableRegion>(routes, script, count);
    let routes = bind::<GetRegionCapacity>(routes, script, count);
    let routes = bind::<CreateVm>(routes, script, count);
    let routes = bind::<ExplainPlacement>(routes, script, count);
    let routes = bind::<GetVms>(routes, script, count);
    let routes = bind::<GetVm>(routes, script, count);
    let routes = bind::<PutVmPower>(routes, script, count);
    let routes = bind::<DeleteVm>(routes, script, count);
    let routes = bind::<GetConsole>(routes, script, count);
    let routes = bind::<GetEvents>(routes, script, count);
    let routes = move_routes(state_routes(routes, script, count), script, count);
    let routes = level_routes(incident_routes(routes, script, count), script, count);
    let routes = failover_routes(routes, script, count);
    overview_routes(routing_routes(routes, script, count), script, count)
}

/// Events until another answer comes: an error first refuses the stream, later it ends it. A
/// stream that falls silent counts as asked.
fn overview_routes(
    routes: Routes,
    script: &Arc<Mutex<Script>>,
    count: &watch::Sender<usize>,
) -> Routes {
    let (script, count) = (Arc::clone(script), count.clone());
    routes.bind_stream::<WatchOverview, _, _>(move |watcher: Watcher, NoParams {}| {
        let (script, count) = (Arc::clone(&script), count.clone());
        let first = script.lock().unwrap().event(&watcher);
        let step = move |first: Option<Answer>| {
            let answer = first.or_else(|| script.lock().unwrap().next_event());
            let count = count.clone();
            async move {
                match answer {
                    Some(Answer::Event(event)) => Some((event, None)),
                    Some(Answer::Silence) => {
                        count.send_modify(|count| *count += 1);
                        pending().await
                    }
                    _ => None,
                }
            }
        };
        async move {
            match first {
                Some(Answer::Error(error)) => Err(error),
                first => Ok(feed(first, step)),
            }
        }
    })
}

impl Script {
    /// The first answer to whoever opens a stream.
    fn event(&mut self, watcher: &Watcher) -> Option<Answer> {
        self.asked.push(Asked {
            operation: WatchOverview::ID,
            params: serde_json::to_value(&watcher.last).unwrap(),
            body: Value::Null,
        });
        self.next_event()
    }

    fn next_event(&mut self) -> Option<Answer> {
        self.answers.get_mut(WatchOverview::ID)?.pop_front()
    }
}

fn incident_routes(
    routes: Routes,
    script: &Arc<Mutex<Script>>,
    count: &watch::Sender<usize>,
) -> Routes {
    let routes = bind::<ListSilences>(routes, script, count);
    let routes = bind::<GetSilence>(routes, script, count);
    let routes = bind::<CreateSilence>(routes, script, count);
    let routes = bind::<EndSilence>(routes, script, count);
    let routes = bind::<ListIncidents>(routes, script, count);
    let routes = bind::<GetIncident>(routes, script, count);
    let routes = bind::<CreateIncident>(routes, script, count);
    let routes = bind::<AcknowledgeIncident>(routes, script, count);
    let routes = bind::<AssignIncident>(routes, script, count);
    bind::<ResolveIncident>(routes, script, count)
}

fn level_routes(
    routes: Routes,
    script: &Arc<Mutex<Script>>,
    count: &watch::Sender<usize>,
) -> Routes {
    let routes = bind::<GetController>(routes, script, count);
    let routes = bind::<GetMetrics>(routes, script, count);
    let routes = bind::<ListTraces>(routes, script, count);
    let routes = bind::<GetTrace>(routes, script, count);
    let routes = bind::<GetTracing>(routes, script, count);
    let routes = bind::<PutTracing>(routes, script, count);
    let routes = bind::<GetHistory>(routes, script, count);
    let routes = bind::<ListSlas>(routes, script, count);
    let routes = bind::<CreateSla>(routes, script, count);
    bind::<GetSlaHistory>(routes, script, count)
}

fn routing_routes(
    routes: Routes,
    script: &Arc<Mutex<Script>>,
    count: &watch::Sender<usize>,
) -> Routes {
    let routes = bind::<GetRouting>(routes, script, count);
    let routes = bind::<PutRouting>(routes, script, count);
    let routes = bind::<PutRoutingEndpoint>(routes, script, count);
    let routes = bind::<ExplainRouting>(routes, script, count);
    let routes = bind::<ReplayRouting>(routes, script, count);
    let routes = bind::<GetAnycast>(routes, script, count);
    bind::<GetRoutingLatency>(routes, script, count)
}

fn failover_routes(
    routes: Routes,
    script: &Arc<Mutex<Script>>,
    count: &watch::Sender<usize>,
) -> Routes {
    let routes = bind::<GetFailover>(routes, script, count);
    let routes = bind::<PostFailover>(routes, script, count);
    let routes = bind::<ListFailovers>(routes, script, count);
    let routes = bind::<ListFailoverRequests>(routes, script, count);
    let routes = bind::<ApproveFailover>(routes, script, count);
    let routes = bind::<StartVmTrial>(routes, script, count);
    let routes = bind::<GetVmTrial>(routes, script, count);
    let routes = bind::<EndVmTrial>(routes, script, count);
    bind::<DenyFailover>(routes, script, count)
}

fn move_routes(
    routes: Routes,
    script: &Arc<Mutex<Script>>,
    count: &watch::Sender<usize>,
) -> Routes {
    let routes = bind::<CreateMigration>(routes, script, count);
    let routes = bind::<ListMigrations>(routes, script, count);
    let routes = bind::<GetMigration>(routes, script, count);
    let routes = bind::<CancelMigration>(routes, script, count);
    let routes = bind::<PostEvacuation>(routes, script, count);
    let routes = bind::<ListEvacuations>(routes, script, count);
    bind::<CancelEvacuation>(routes, script, count)
}

fn state_routes(
    routes: Routes,
    script: &Arc<Mutex<Script>>,
    count: &watch::Sender<usize>,
) -> Routes {
    let routes = bind::<GetStateKey>(routes, script, count);
    let routes = bind::<PostStateKey>(routes, script, count);
    let routes = bind::<ListStateKeys>(routes, script, count);
    let routes = bind::<WatchStateKeys>(routes, script, count);
    let routes = bind::<GetReplicas>(routes, script, count);
    let routes = bind::<ForceStateSync>(routes, script, count);
    let routes = bind::<GetStatePolicies>(routes, script, count);
    let routes = bind::<GetShards>(routes, script, count);
    let routes = bind::<PostShardMove>(routes, script, count);
    bind::<PutStatePolicy>(routes, script, count)
}

fn bind<O: Operation>(
    routes: Routes,
    script: &Arc<Mutex<Script>>,
    count: &watch::Sender<usize>,
) -> Routes {
    let (script, count) = (Arc::clone(script), count.clone());
    routes.bind::<O, _, _>(move |_, params, body| {
        let answer = next::<O>(&mut script.lock().unwrap(), &params, &body);
        count.send_modify(|count| *count += 1);
        async move {
            match answer {
                Answer::Reply(value) => Ok(serde_json::from_value(value).unwrap()),
                Answer::Error(error) => Err(error),
                Answer::Silence => pending().await,
                Answer::Event(_) => panic!("{} is no stream", O::ID),
            }
        }
    })
}

fn next<O: Operation>(script: &mut Script, params: &O::Params, body: &O::Body) -> Answer {
    script.asked.push(Asked {
        operation: O::ID,
        params: serde_json::to_value(params).unwrap(),
        body: serde_json::to_value(body).unwrap(),
    });
    let nothing = || {
        let message = format!("the stage has no answer for {}", O::ID);
        Answer::Error(ApiError::new(ErrorCode::Internal, message))
    };
    let Some(answers) = script.answers.get_mut(O::ID) else { return nothing() };
    if answers.len() > 1 {
        return answers.pop_front().unwrap_or_else(nothing);
    }
    answers.front().cloned().unwrap_or_else(nothing)
}
