//! Silences of real daemons: what is silenced is shown and told to nobody, and told once when the
//! silence is over while it stands.

use dwcp_api::monitoring::{GetIncident, IncidentFilter, IncidentParams, ListIncidents};
use dwcp_api::silence::{
    CreateSilence, EndSilence, GetSilence, ListSilences, NewSilence, SilenceEnd,
    SilenceFilter, SilenceItem, SilenceParams, SilenceReply,
};
use dwcp_api::{ErrorCode, NoParams};
use dwcp_monitor::incident::{
    Cause, CauseKind, Change, Incident, Message, SilenceId, SilenceKind, Status,
};
use dwcp_testbed::{
    Answers, Door, Federation, HostPlan, Plan, Receiver, RegionPlan, refusal, until,
};
use dwcp_types::{RegionId, Timestamp};
use tempfile::TempDir;

const REGIONS: [&str; 5] = ["one", "two", "three", "four", "five"];

fn region(id: &str) -> RegionId {
    RegionId::new(id).unwrap()
}

fn of(id: &str, for_s: u64) -> NewSilence {
    NewSilence {
        kind: SilenceKind::Silence,
        region: region(id),
        cause: None,
        severity_below: None,
        from: None,
        until: None,
        for_s: Some(for_s),
        reason: "a new switch".to_owned(),
        dry_run: false,
    }
}

async fn make(door: &Door, body: &NewSilence) -> SilenceReply {
    door.call::<CreateSilence>(&NoParams {}, body).await.unwrap()
}

async fn all(door: &Door) -> Vec<SilenceItem> {
    door.call::<ListSilences>(&SilenceFilter::default(), &()).await.unwrap().items
}

async fn silent(door: &Door, lost: &str) -> Incident {
    until(&format!("the silence of {lost} is an incident"), || async {
        let filter = IncidentFilter { status: None, region: Some(region(lost)) };
        let list = door.call::<ListIncidents>(&filter, &()).await;
        let list = list.map_err(|error| error.to_string())?;
        let found = list.items.iter().find(|it| it.cause == Cause::Silent);
        found.cloned().ok_or_else(|| format!("{list:?}"))
    })
    .await
}

/// What was told of an incident, in order.
fn told(receiver: &Receiver, of: &Incident) -> Vec<Change> {
    let all = receiver.received();
    let read = all.iter().map(|it| serde_json::from_slice::<Message>(&it.body).unwrap());
    read.filter(|it| it.incident.id == of.id).map(|it| it.event).collect()
}

async fn hears(receiver: &Receiver, of: &Incident, expected: &[Change]) {
    until(&format!("the receiver hears {expected:?} of {}", of.id), || async {
        let heard = told(receiver, of);
        if heard == expected { Ok(()) } else { Err(heard) }
    })
    .await;
}

/// What makes no sense is refused, and what is only tried changes nothing.
async fn refuses(door: &Door) {
    let call = |body: NewSilence| async move {
        refusal(door.call::<CreateSilence>(&NoParams {}, &body).await)
    };
    let past = Some(Timestamp::from_millis(1_000));
    let codes = [
        (call(of("nowhere", 60)).await, ErrorCode::NotFound, "nowhere"),
        (call(of("two", 31 * 86_400)).await, ErrorCode::Invalid, "30 days"),
        (
            call(NewSilence { from: past, until: past, for_s: None, ..of("two", 0) })
                .await,
            ErrorCode::Invalid,
            "before it begins",
        ),
        (
            call(NewSilence { from: past, for_s: Some(5), ..of("two", 0) }).await,
            ErrorCode::Invalid,
            "over already",
        ),
        (
            call(NewSilence { until: past, ..of("two", 5) }).await,
            ErrorCode::Invalid,
            "either until when",
        ),
        (
            call(NewSilence { reason: String::new(), ..of("two", 5) }).await,
            ErrorCode::Invalid,
            "the reason is empty",
        ),
    ];
    for (error, code, message) in codes {
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.message.contains(message), "{error:?}");
    }
    let none = SilenceParams { silence: SilenceId::new(9) };
    let error = refusal(door.call::<EndSilence>(&none, &SilenceEnd::default()).await);
    assert_eq!(error.code, ErrorCode::NotFound, "{error:?}");
    let tried = make(door, &NewSilence { dry_run: true, ..of("two", 60) }).await;
    assert!(tried.dry_run && all(door).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silenced_incident_is_shown_and_told_once_when_the_silence_is_over() {
    let receiver = Receiver::start(Answers::Status(204)).await;
    let folder = TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    let of_all = REGIONS.map(|id| RegionPlan::new(id).host(HostPlan::of_slots(2)));
    let plan = Plan::simulated(of_all.to_vec()).telling(&receiver.url(), &secret);
    let mut federation = Federation::start(plan).await;
    federation.have_run().await;
    federation.healthy().await;
    let (one, two) = (federation.at("one"), federation.at("two"));
    refuses(&one).await;

    // Of one region by an operator's word, of another for some seconds of maintenance.
    let known =
        make(&one, &NewSilence { cause: Some(CauseKind::Silent), ..of("three", 3_600) })
            .await;
    let window = NewSilence { kind: SilenceKind::Maintenance, ..of("four", 15) };
    let works = make(&two, &window).await;
    let ids = [&known, &works].map(|it| it.item.silence.id);
    assert_eq!(ids.map(|id| id.to_string()), ["SIL-001", "SIL-002"]);
    federation.lose("three");
    federation.lose("four");
    let three = silent(&two, "three").await;
    assert_eq!((three.silenced, three.status), (Some(ids[0]), Status::Open), "{three:?}");
    let params = SilenceParams { silence: ids[0] };
    until("every daemon shows what it silences", || async {
        let shown = two.call::<GetSilence>(&params, &()).await;
        let item = shown.map_err(|error| error.to_string())?.item;
        if item.silences == [three.id] { Ok(()) } else { Err(format!("{item:?}")) }
    })
    .await;

    // The maintenance ends by itself, and the region is still lost: told once.
    let four = silent(&one, "four").await;
    hears(&receiver, &four, &[Change::Opened]).await;
    until("the silence that is over is gone", || async {
        let left: Vec<_> = all(&one).await.iter().map(|it| it.silence.id).collect();
        if left == [ids[0]] { Ok(()) } else { Err(left) }
    })
    .await;
    assert_eq!(told(&receiver, &three), []);

    // The other one is ended, from another daemon.
    let tried = SilenceEnd { dry_run: true };
    two.call::<EndSilence>(&params, &tried).await.unwrap();
    assert_eq!(all(&two).await.len(), 1);
    let ended = two.call::<EndSilence>(&params, &SilenceEnd::default()).await.unwrap();
    assert_eq!(ended.item.silences, [three.id]);
    hears(&receiver, &three, &[Change::Opened]).await;
    let seen = one.call::<GetIncident>(&IncidentParams { incident: three.id }, &()).await;
    let words: Vec<_> =
        seen.unwrap().incident.timeline.into_iter().map(|it| it.what).collect();
    assert!(words.iter().any(|it| it.contains("SIL-001")), "{words:?}");
    assert_eq!(told(&receiver, &four), [Change::Opened], "once");
    federation.end();
}
