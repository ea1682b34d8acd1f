//! Who may come in, and what is said to those who may not or who ask for nonsense.

use dwcp_api::ErrorCode;
use dwcp_api::public::{GetVms, ListVms};
use dwcp_controller::placement::{Explanation, Verdict};
use dwcp_runtime::clock::{Clock, SystemClock};
use dwcp_runtime::http::HttpError;
use dwcp_runtime::tls::{DevelopmentCa, Identity};
use dwcp_testbed::{
    Ask, Federation, HostPlan, Knock, Plan, RegionPlan, knock_without_certificate,
    refusal,
};
use dwcp_types::{Mib, RegionId, Timestamp, VmPhase};
use std::time::Duration;

const JSON: &str = "application/json";

fn plan() -> Plan {
    Plan::simulated(vec![
        RegionPlan::new("near").host(HostPlan::of_slots(4)).under("GDPR").latency_ms(5),
        RegionPlan::new("afar")
            .host(HostPlan::of_slots(4))
            .country("US", "North America")
            .latency_ms(90),
    ])
    .patient()
}

fn region(id: &str) -> Identity {
    Identity::Region(RegionId::new(id).unwrap())
}

/// Why TLS refuses; a panic when somebody comes in, or is not told.
fn refused_by_tls(
    answer: Result<(u16, dwcp_api::ApiError), HttpError>,
) -> (String, &'static str) {
    match answer {
        Err(HttpError::Tls { reason, remedy, .. }) => (reason, remedy),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_with_the_right_certificate_come_in() {
    let federation = Federation::start(plan()).await;
    let at = federation.socket("near");
    let folder = federation.folder();
    let ask = |credentials| async move {
        let knock = Knock::new(at, region("near"), credentials);
        knock.send("GET", "/v1/nothing", JSON, "").await
    };
    let now = SystemClock::new().now();
    let admin = Identity::Admin("test".to_owned());
    let hour = Duration::from_hours(1);

    let allowed = ask(federation.admin()).await.unwrap();
    assert_eq!(allowed.0, 404, "an administrator comes in: {allowed:?}");

    let long_ago = Timestamp::from_millis(now.as_millis() - 2 * 3_600_000);
    let expired = federation.ca().issue(&admin, &[], hour, long_ago).unwrap();
    let expired = expired.write(&folder.join("expired"), "admin").unwrap();
    let (reason, remedy) = refused_by_tls(ask(expired).await);
    assert!(reason.to_lowercase().contains("expired"), "{reason}");
    assert!(remedy.contains("new certificate"), "{remedy}");

    // It trusts the federation's CA, so that only the server has a reason to refuse.
    let foreign = DevelopmentCa::create(&folder.join("foreign-ca"), now).unwrap();
    let foreign = foreign.issue(&admin, &[], hour, now).unwrap();
    let mut foreign = foreign.write(&folder.join("foreign"), "admin").unwrap();
    foreign.ca = federation.admin().ca;
    let (_, remedy) = refused_by_tls(ask(foreign).await);
    assert!(remedy.contains("CA of this federation"), "{remedy}");

    let refused = knock_without_certificate(at, &federation.admin().ca).await;
    let refused = refused.expect_err("nobody comes in without a certificate");
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");

    let doors = [
        ("near-h1", "near", "/v1/status", "a host at the operators' door"),
        (
            "near-h1",
            "near",
            "/peer/v1/report?incarnation=1&begun=0&after=0&wait_ms=0",
            "a host at the peers' door",
        ),
        (
            "admin",
            "near",
            "/peer/v1/report?incarnation=1&begun=0&after=0&wait_ms=0",
            "an administrator at the peers' door",
        ),
        ("admin", "near-h1", "/host/v1/report", "an administrator at a host's door"),
        ("afar", "near-h1", "/host/v1/report", "another region at a host's door"),
    ];
    for (who, server, path, what) in doors {
        let credentials = match who {
            "admin" => federation.admin(),
            other => federation.credentials(other),
        };
        let identity = match server {
            "near-h1" => Identity::Host {
                region: RegionId::new("near").unwrap(),
                host: "near-h1".parse().unwrap(),
            },
            other => region(other),
        };
        let knock = Knock::new(federation.socket(server), identity, credentials);
        let (status, error) = knock.send("GET", path, JSON, "").await.unwrap();
        assert_eq!(
            (status, error.code),
            (403, ErrorCode::Forbidden),
            "{what}: {error:?}"
        );
        assert!(error.message.contains("spiffe://dwcp/"), "{what}: {error:?}");
    }
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_with_its_place_and_changes_nothing() {
    let federation = Federation::start(plan()).await;
    let door = federation.at("near");
    door.place(&Ask::new("bystander").only_in("near")).await.unwrap();
    let knock = Knock::new(federation.socket("near"), region("near"), federation.admin());
    let post =
        |kind: &'static str, body: Vec<u8>| knock.send("POST", "/v1/vms", kind, body);
    let good = serde_json::to_string(Ask::new("vm-1").body()).unwrap();

    let sizes = [
        (r#""cpu":1"#, r#""cpu":-1"#, "request.spec.cpu"),
        (r#""cpu":1"#, r#""cpu":1.5"#, "request.spec.cpu"),
        (r#""cpu":1"#, r#""cpu":"4 cores""#, "request.spec.cpu"),
        (r#""cpu":1"#, r#""cpu":99999999999"#, "request.spec.cpu"),
        (r#""cpu":1"#, r#""cpu":0"#, "0 CPU"),
        (r#""memory":1024"#, r#""memory":"8GB""#, "request.spec.memory"),
        (r#""memory":1024"#, r#""memory":18446744073709551615"#, "largest VM"),
        (r#""memory":1024"#, r#""memori":1024"#, "memori"),
        (r#""id":"vm-1""#, r#""id":"../vm""#, "request.id"),
        (r#""tenant":"acme""#, r#""tenant":"a b""#, "request.tenant"),
        (r#""priority":5"#, r#""priority":11"#, "1 to 10"),
    ];
    for (from, to, says) in sizes {
        assert!(good.contains(from), "{from} is in {good}");
        let (status, error) = post(JSON, good.replace(from, to).into()).await.unwrap();
        assert_eq!((status, error.code), (400, ErrorCode::Invalid), "{to}: {error:?}");
        let said = error.message.to_lowercase();
        assert!(said.contains(&says.to_lowercase()), "{to}: {error:?}");
    }
    for cut in [1, good.len() / 2, good.len() - 1] {
        let (status, error) = post(JSON, good.as_bytes()[..cut].to_vec()).await.unwrap();
        assert_eq!((status, error.code), (400, ErrorCode::Invalid), "{error:?}");
    }
    let (status, error) = post("text/plain", good.clone().into()).await.unwrap();
    assert_eq!(status, 400, "{error:?}");
    assert!(error.message.contains("content type"), "{error:?}");
    let huge = post(JSON, vec![b' '; 9 << 20]).await;
    match huge {
        Ok((status, error)) => {
            assert!(matches!(status, 400 | 413), "{error:?}");
            assert!(error.message.contains("bytes"), "{error:?}");
        }
        // The server need not read it to its end before it answers.
        Err(error) => assert!(error.may_have_arrived(), "{error}"),
    }

    let unknown = [
        refusal(door.vm("nobody").await),
        refusal(door.delete("nobody").await),
        refusal(door.console("nobody").await),
        refusal(door.region("nowhere").await),
        refusal(door.capacity("nowhere").await),
    ];
    for error in unknown {
        assert_eq!(error.code, ErrorCode::NotFound, "{error:?}");
        assert!(error.message.contains("no"), "{error:?}");
    }
    let tenant = Some("nobody".parse().unwrap());
    let of_nobody = ListVms { tenant, ..ListVms::default() };
    assert!(door.call::<GetVms>(&of_nobody, &()).await.unwrap().items.is_empty());
    let misspelt = refusal(door.place(&Ask::new("vm-1").only_in("nearr")).await);
    assert_eq!(misspelt.code, ErrorCode::Invalid);
    assert!(misspelt.message.contains("did you mean near?"), "{misspelt:?}");

    let list = door.vms().await.unwrap().items;
    assert_eq!(list.len(), 1, "only what was there before: {list:?}");
    federation.in_phase("afar", "bystander", VmPhase::Running).await;
    federation.reserved("near", 1).await;
    federation.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_region_meets_is_refused_with_every_reason_and_the_way_out() {
    let federation = Federation::start(plan()).await;
    let door = federation.at("afar");

    let mut ask = Ask::new("vm-1").under("GDPR");
    ask.request().constraints.max_latency_ms = Some(3);
    let refused = refusal(door.place(&ask).await);
    assert_eq!(refused.code, ErrorCode::Refused);
    for part in ["near:", "afar:", "GDPR"] {
        assert!(refused.message.contains(part), "{part}: {refused:?}");
    }
    let why: Explanation = serde_json::from_value(refused.details.unwrap()).unwrap();
    assert_eq!(why.regions.len(), 2);
    for verdict in &why.regions {
        let Verdict::Refused { reasons, .. } = &verdict.verdict else {
            panic!("{verdict:?} of a request that is refused");
        };
        assert!(!reasons.is_empty(), "{verdict:?}");
    }
    let relaxation = why.relaxation.unwrap();
    assert!(refused.remedy.unwrap().contains(&relaxation.to_string()));
    *ask.request() = relaxation.apply(ask.request());
    assert_eq!(ask.body().request.constraints.max_latency_ms, Some(5));
    let vm = door.place(&ask).await.unwrap().vm.unwrap();
    assert_eq!(vm.region.as_str(), "near");

    // Larger than what is left anywhere: the way out is to ask for less.
    let mut large = Ask::new("vm-2").cpu(64);
    large.request().shape.memory = Mib::new(64 << 10);
    let refused = refusal(door.place(&large).await);
    assert_eq!(refused.code, ErrorCode::Refused);
    let why: Explanation = serde_json::from_value(refused.details.unwrap()).unwrap();
    *large.request() = why.relaxation.unwrap().apply(large.request());
    door.place(&large).await.unwrap();

    let mut torn = Ask::new("vm-3").only_in("near");
    let forbidden = torn.body().request.constraints.allowed_regions.clone();
    torn.request().constraints.forbidden_regions = forbidden;
    let refused = refusal(door.place(&torn).await);
    assert_eq!(refused.code, ErrorCode::Invalid);
    assert!(refused.message.contains("forbidden_regions"), "{refused:?}");

    federation.in_phase("near", "vm-1", VmPhase::Running).await;
    federation.in_phase("near", "vm-2", VmPhase::Running).await;
    federation.end();
}
