//! Where two persons must agree, an operator's failover waits for the second one (F17): nothing
//! begins before, and one approval begins one failover.

use dwcp_api::failover::{
    ApproveFailover, DenyFailover, FailoverDenial, FailoverReply, FailoverRequestItem,
    FailoverRequestParams, ListFailoverRequests, StartFailover,
};
use dwcp_api::{CallError, ErrorCode, NoParams};
use dwcp_controller::failover::{Phase, Request, Trigger};
use dwcp_controller::liveness::RegionState;
use dwcp_controller::ownership::Proof;
use dwcp_testbed::{Ask, Door, Federation, refusal, until};
use dwcp_types::VmPhase;

use crate::failover::{ask_for, command, is_elsewhere, is_over, lose, plan, status};

/// Longer than any test waits.
const WAITS_S: u64 = 900;

/// As the bed's administrator asks.
async fn asked(federation: &Federation) -> Request {
    until("it is asked for", || async {
        let reply = command(federation, ask_for("far")).await;
        let reply = reply.map_err(|error| error.to_string())?;
        assert_eq!(reply.log, None, "nothing begins");
        reply.request.ok_or_else(|| "it does not wait".to_owned())
    })
    .await
}

async fn approve(door: &Door, id: &str) -> Result<FailoverReply, CallError> {
    let of = FailoverRequestParams { request: id.to_owned() };
    door.call::<ApproveFailover>(&of, &()).await
}

async fn deny(door: &Door, id: &str) -> Result<FailoverRequestItem, CallError> {
    let of = FailoverRequestParams { request: id.to_owned() };
    let why = FailoverDenial { reason: "a rehearsal".to_owned() };
    door.call::<DenyFailover>(&of, &why).await
}

async fn waiting(door: &Door) -> Vec<String> {
    let list = door.call::<ListFailoverRequests>(&NoParams {}, &()).await.unwrap();
    list.items.into_iter().map(|item| item.request.id).collect()
}

/// A region is lost of a federation in which two must agree.
async fn lost() -> Federation {
    let mut federation = Federation::start(plan().agreed_by_two_within(WAITS_S)).await;
    federation.have_run().await;
    let asks = [Ask::new("vm-moves").protected(), Ask::new("vm-own")];
    federation.place_in("far", &asks).await;
    federation.in_phase("home", "vm-own", VmPhase::Running).await;
    lose(&mut federation, "far", false);
    federation.sees("middle", "far", RegionState::Dead).await;
    federation
}

/// A daemon's certificate opens this door, and is no second person.
async fn no_daemon_decides(federation: &Federation, request: &Request) {
    let daemon = federation.at_with("middle", federation.credentials("home"));
    for refused in [
        refusal(approve(&daemon, &request.id).await),
        refusal(deny(&daemon, &request.id).await),
    ] {
        assert_eq!(refused.code, ErrorCode::Forbidden, "{refused:?}");
    }
}

/// Nobody gets by without a second person, and nothing was begun by trying.
async fn nothing_begins(federation: &Federation, request: &Request) {
    let door = federation.at("middle");
    let alone = StartFailover { require_approval: Some(false), ..ask_for("far") };
    let alone = refusal(command(federation, alone).await);
    assert_eq!(alone.code, ErrorCode::Refused);
    assert!(alone.message.contains("failover.two_persons"), "{alone:?}");

    let own = refusal(approve(&door, &request.id).await);
    assert_eq!(own.code, ErrorCode::Refused);
    assert!(own.message.contains("nobody approves their own request"), "{own:?}");
    assert!(own.remedy.unwrap().contains("have another operator run"));
    no_daemon_decides(federation, request).await;

    let unknown = refusal(approve(&federation.at_as("home", "second"), "fr-0").await);
    assert_eq!(unknown.code, ErrorCode::NotFound);
    assert!(unknown.remedy.unwrap().contains("failover requests"));

    assert_eq!(waiting(&door).await, [request.id.as_str()]);
    assert_eq!(federation.newest_failover("middle").await, None);
    assert_eq!(status(federation, "home").await.unwrap().active, None);
}

/// Whoever is denied is not there to be approved.
async fn is_denied(federation: &Federation, request: &Request) {
    let second = federation.at_as("home", "second");
    let denied = deny(&second, &request.id).await.unwrap();
    assert_eq!(denied.request, *request);
    assert_eq!(waiting(&second).await, Vec::<String>::new());
    for gone in [
        approve(&second, &request.id).await.map(drop),
        deny(&second, &request.id).await.map(drop),
    ] {
        assert_eq!(refusal(gone).code, ErrorCode::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_begins_when_a_second_operator_approves_it_and_never_before() {
    let federation = lost().await;
    let denied = asked(&federation).await;
    nothing_begins(&federation, &denied).await;
    is_denied(&federation, &denied).await;

    let request = asked(&federation).await;
    let second = federation.at_as("home", "second");
    let begun = until("the second one's region sees that it may begin", || async {
        approve(&second, &request.id).await.map_err(|error| error.to_string())
    })
    .await;
    let log = begun.log.expect("it begins");
    let approved = Trigger::Operator {
        name: "spiffe://dwcp/admin/test".to_owned(),
        reason: request.reason.clone(),
        approved_by: Some("spiffe://dwcp/admin/second".to_owned()),
    };
    assert_eq!(log.trigger, approved);
    let again = refusal(approve(&second, &request.id).await);
    assert_eq!(again.code, ErrorCode::NotFound, "one approval begins one failover");
    is_elsewhere(&federation, "vm-moves").await;
    is_over(&federation).await;
    federation.in_phase("home", "vm-own", VmPhase::Unknown).await;
    let kept = federation.newest_failover("middle").await.expect("it is kept");
    assert_eq!((&kept.id, &kept.trigger), (&log.id, &approved));
    assert_eq!(waiting(&second).await, Vec::<String>::new());
    federation.end();
}

/// Two operators approve at the same moment, in two regions: the request is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_two_approve_at_once_begins_one_failover() {
    let federation = lost().await;
    federation.sees("home", "far", RegionState::Dead).await;
    let request = asked(&federation).await;
    let doors = [("home", "second"), ("middle", "third")];
    let doors = doors.map(|(region, name)| federation.at_as(region, name));
    let both = || async {
        tokio::join!(approve(&doors[0], &request.id), approve(&doors[1], &request.id))
    };
    let begun = until("one of them begins it", || async {
        let (one, other) = both().await;
        let begun = [one, other].into_iter().filter_map(Result::ok).count();
        if begun == 0 { Err("none did") } else { Ok(begun) }
    })
    .await;
    assert_eq!(begun, 1);
    is_elsewhere(&federation, "vm-moves").await;
    is_over(&federation).await;
    assert_eq!(waiting(&doors[0]).await, Vec::<String>::new());
    federation.end();
}

/// The hosts of a region are off while its daemon goes on holding its lease: two who say so have
/// its VMs start elsewhere without a wait, and each VM's record names them.
#[tokio::test(flavor = "multi_thread")]
async fn the_word_of_two_that_all_hosts_are_off_stands_in_place_of_the_lease() {
    let mut federation = Federation::start(plan()).await;
    federation.have_run().await;
    federation.place_in("far", &[Ask::new("vm-moves").protected()]).await;
    federation.process("far-h1").kill_9();
    let how = "the breaker is open";
    let word =
        |how: &str| StartFailover { hosts_off: Some(how.to_owned()), ..ask_for("far") };
    let nothing = refusal(command(&federation, word(" ")).await);
    assert_eq!(nothing.code, ErrorCode::Invalid, "{nothing:?}");
    let alone = StartFailover { require_approval: Some(false), ..word(how) };
    let alone = refusal(command(&federation, alone).await);
    assert_eq!(alone.code, ErrorCode::Refused);
    assert!(alone.message.contains("the word of two persons"), "{alone:?}");
    let request = until("it is asked for", || async {
        let reply = command(&federation, word(how)).await;
        let reply = reply.map_err(|error| error.to_string())?;
        assert_eq!(reply.log, None, "nothing begins on one word");
        reply.request.ok_or_else(|| "it does not wait".to_owned())
    })
    .await;
    assert_eq!(request.hosts_off.as_deref(), Some(how));
    let second = federation.at_as("home", "second");
    let begun = until("the second one's region sees that it may begin", || async {
        approve(&second, &request.id).await.map_err(|error| error.to_string())
    })
    .await;
    let log = begun.log.expect("it begins");
    let proof = Proof::Operator {
        name: "spiffe://dwcp/admin/test and spiffe://dwcp/admin/second".to_owned(),
        reason: how.to_owned(),
    };
    assert_eq!((&log.proof, log.phase), (&Some(proof.clone()), Phase::Recovering));
    is_elsewhere(&federation, "vm-moves").await;
    let moved = federation.at("home").vm("vm-moves").await.unwrap();
    assert_eq!(moved.recovered.map(|it| it.proof), Some(proof));
    is_over(&federation).await;
    federation.end();
}
