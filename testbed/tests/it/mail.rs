//! People who are told of incidents by mail: each gets each change once, in order; who is refused
//! keeps nobody waiting and is told later; nobody's words become headers.

use std::collections::BTreeSet;

use dwcp_api::NoParams;
use dwcp_api::monitoring::{
    CreateIncident, GetIncident, IncidentParams, ReportIncident, Resolve, ResolveIncident,
};
use dwcp_monitor::incident::{Category, Incident, Severity};
use dwcp_testbed::{Door, Federation, HostPlan, Mail, Mailbox, Plan, RegionPlan, until};

const OPS: &str = "ops@example.com";
const BOSS: &str = "boss@example.org";

async fn shown(door: &Door, of: &Incident) -> Result<Incident, String> {
    let params = IncidentParams { incident: of.id };
    let reply = door.call::<GetIncident>(&params, &()).await;
    Ok(reply.map_err(|error| error.to_string())?.incident)
}

/// The letters of one person, once there are so many.
async fn letters(mailbox: &Mailbox, to: &str, wanted: usize) -> Vec<Mail> {
    until(&format!("{to} has {wanted} letters"), || async {
        let all = mailbox.mails();
        let theirs: Vec<_> = all.into_iter().filter(|mail| mail.to == [to]).collect();
        if theirs.len() == wanted { Ok(theirs) } else { Err(theirs) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_told_of_each_change_once_and_who_is_refused_is_told_later() {
    let mailbox = Mailbox::start().await;
    mailbox.refuse(Some((BOSS, "550 5.1.1 unknown")));
    let region = |id| RegionPlan::new(id).host(HostPlan::of_slots(2));
    let plan = Plan::simulated(["one", "two", "three"].map(region).to_vec());
    let federation = Federation::start(plan.mailing(&mailbox, &[OPS, BOSS])).await;
    let door = federation.at("two");
    let body = ReportIncident {
        title: "odd log-ins\r\nBcc: all@example.net\r\n\r\n.".to_owned(),
        description: "from nowhere\r\n.\r\nMAIL FROM:<a@b>".to_owned(),
        severity: Severity::Medium,
        category: Category::Security,
        region: None,
    };
    let made = door.call::<CreateIncident>(&NoParams {}, &body).await.unwrap().incident;
    let first = letters(&mailbox, OPS, 1).await.remove(0);
    assert_eq!(first.from, "dwcp@example.com");
    let subject = "[medium] INC-001 opened: odd log-ins  Bcc: all@example.net    .";
    assert_eq!(first.header("Subject"), Some(subject));
    let head = first.lines.iter().take_while(|line| !line.is_empty());
    let names: BTreeSet<_> =
        head.filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    assert!(!names.contains("Bcc") && names.contains("Message-ID"), "{names:?}");
    assert!(first.body().len() > 100 && !first.lines.iter().any(|line| line == "."));

    let refused = until("it is shown why the other was not told", || async {
        let seen = shown(&door, &made).await?;
        let name = format!("mail to {BOSS}");
        let delivery = seen.notices.front().and_then(|it| it.to.get(&name));
        let error = delivery.and_then(|it| it.last_error.clone());
        error.ok_or_else(|| format!("{seen:?}"))
    })
    .await;
    assert_eq!(refused, "it answered 550 5.1.1 unknown");
    let params = IncidentParams { incident: made.id };
    let why = Resolve { root_cause: "a robot".to_owned(), resolution: "shut".to_owned() };
    door.call::<ResolveIncident>(&params, &why).await.unwrap();
    letters(&mailbox, OPS, 2).await;
    mailbox.refuse(None);
    let late = letters(&mailbox, BOSS, 2).await;
    let key = |mail: &Mail| mail.header("Message-ID").unwrap().to_owned();
    let keys =
        [format!("<{}.1@example.com>", made.id), format!("<{}.2@example.com>", made.id)];
    assert_eq!([key(&late[0]), key(&late[1])], keys, "in order");
    assert_eq!(late[0].header("References"), late[1].header("References"), "one thread");
    let whole = until("it is noted that all were told", || async {
        let seen = shown(&door, &made).await?;
        if seen.delivered == 4 { Ok(seen) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert!(
        whole
            .timeline
            .iter()
            .any(|it| it.what.contains(&format!("mail to {BOSS} was told")))
    );
    federation.end();
}
