//! Who may let a failover begin that another operator asked for, and until when (F17: an approval
//! is a record of two persons that expires).
//!
//! A request says all that was asked for, so that what is approved is what was read. It lies in
//! the strong engine until somebody approves or denies it, and is deleted by the transaction
//! that writes the failover's log: one approval begins one failover at most.
//!
//! Rejected: an approval that stands and is used by a later command. Who approves would not know
//! what it comes to be used for.

use std::collections::BTreeSet;
use std::fmt;

use dwcp_types::{RegionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where requests lie in the strong engine.
pub const REQUESTS_PREFIX: &str = "/failover/requests/";

/// Changed by whoever writes a request, so that two who count the open ones at the same time do
/// not both find room for the last.
pub const REQUESTS_TURN_KEY: &str = "/failover/requests-turn";

/// Most requests that are open at once: more regions than are ever lost at a time, and few enough
/// to be read before one is approved.
pub const REQUESTS_MAX: usize = 16;

/// Where a request lies.
#[must_use]
pub fn request_key(id: &str) -> String {
    format!("{REQUESTS_PREFIX}{id}")
}

/// A failover that an operator asked for and that waits for a second person. What this version
/// does not know could be a restriction, so a record that has it is not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FailoverRequest")]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Names it.
    pub id: String,
    /// The lost region.
    pub from_region: RegionId,
    /// The only regions that its VMs may go to; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_regions: Option<BTreeSet<RegionId>>,
    /// Start VMs also from a replica that lacks what they wrote last.
    pub accept_data_loss: bool,
    /// Also when the region lives.
    pub even_if_alive: bool,
    /// How it is known that all hosts of the region are off: whoever approves gives this word too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts_off: Option<String>,
    /// Why; kept with the failover's log.
    pub reason: String,
    /// Who asked.
    pub asked_by: String,
    /// When, by the clock of the daemon that was asked.
    pub asked_at: Timestamp,
    /// From when on it can no longer be approved, by the clock of whoever is asked to.
    pub until: Timestamp,
}

impl Request {
    /// Whether its time is over.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        now >= self.until
    }
}

/// Who approves, as the certificate says.
#[derive(Clone, Copy, Debug)]
pub struct Approver<'a> {
    /// The name.
    pub name: &'a str,
    /// Whether it is a person's: daemons have certificates too, and none of them agrees to
    /// anything.
    pub is_person: bool,
}

/// What an approval comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// The failover may begin, if nothing else stops it now.
    Given,
    /// Whoever approves is no person.
    NoPerson {
        /// Who.
        name: String,
    },
    /// Whoever approves is the one who asked.
    SamePerson {
        /// Who.
        name: String,
    },
    /// It comes too late.
    Expired {
        /// Since when it does.
        at: Timestamp,
    },
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("it is approved"),
            Self::NoPerson { name } => write!(f, "{name} is no person"),
            Self::SamePerson { name } => {
                write!(f, "{name} asked for it, and nobody approves their own request")
            }
            Self::Expired { .. } => f.write_str("it has expired"),
        }
    }
}

/// What comes of a request when somebody approves it. Who may not is told that before when: to
/// ask anew would not help them.
#[must_use]
pub fn judge_approval(
    request: &Request,
    approver: Approver<'_>,
    now: Timestamp,
) -> Approval {
    let name = || approver.name.to_owned();
    if !approver.is_person {
        return Approval::NoPerson { name: name() };
    }
    if approver.name == request.asked_by {
        return Approval::SamePerson { name: name() };
    }
    if request.has_expired(now) {
        return Approval::Expired { at: request.until };
    }
    Approval::Given
}

/// Somebody wants to do without a second person where there must be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWaived {
    /// The configuration has two.
    #[error(
        "a failover needs two persons here (`failover.two_persons`), and nobody can do without \
         the second"
    )]
    Configured,
    /// It rests on a word and not on a lease.
    #[error("that all hosts of a region are off is the word of two persons, always")]
    Word,
}

/// Whether a failover that an operator asks for waits for a second person: where the
/// configuration says so, where whoever asks does, and where it rests on an operator's word.
///
/// # Errors
///
/// When whoever asks wants none where there must be one.
pub const fn needs_approval(
    configured: bool,
    asked: Option<bool>,
    by_word: bool,
) -> Result<bool, NotWaived> {
    match (configured, by_word, asked) {
        (true, _, Some(false)) => Err(NotWaived::Configured),
        (false, true, Some(false)) => Err(NotWaived::Word),
        (false, false, Some(false) | None) => Ok(false),
        (true, _, _) | (_, true, _) | (_, _, Some(true)) => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::Trigger;
    use proptest::prelude::*;

    const UNTIL: u64 = 1_000;

    fn request(asked_by: &str) -> Request {
        Request {
            id: "fr-1".to_owned(),
            from_region: RegionId::new("eu-west-1").unwrap(),
            to_regions: None,
            accept_data_loss: false,
            even_if_alive: true,
            hosts_off: None,
            reason: "the building burns".to_owned(),
            asked_by: asked_by.to_owned(),
            asked_at: Timestamp::from_millis(100),
            until: Timestamp::from_millis(UNTIL),
        }
    }

    fn judged(name: &str, is_person: bool, now: u64) -> Approval {
        let approver = Approver { name, is_person };
        judge_approval(&request("alice"), approver, Timestamp::from_millis(now))
    }

    #[test]
    fn another_person_approves_in_time_and_nobody_else() {
        let name = || "alice".to_owned();
        assert_eq!(judged("bob", true, 100), Approval::Given);
        assert_eq!(judged("bob", true, UNTIL - 1), Approval::Given);
        let at = Timestamp::from_millis(UNTIL);
        assert_eq!(judged("bob", true, UNTIL), Approval::Expired { at });
        assert_eq!(judged("alice", true, 100), Approval::SamePerson { name: name() });
        assert_eq!(judged("alice", true, UNTIL), Approval::SamePerson { name: name() });
        let daemon = Approval::NoPerson { name: "region".to_owned() };
        assert_eq!(judged("region", false, 100), daemon);
    }

    #[test]
    fn nobody_does_without_a_second_person_where_there_must_be_one() {
        for (configured, asked, plain, by_word) in [
            (false, None, Ok(false), Ok(true)),
            (false, Some(false), Ok(false), Err(NotWaived::Word)),
            (false, Some(true), Ok(true), Ok(true)),
            (true, None, Ok(true), Ok(true)),
            (true, Some(true), Ok(true), Ok(true)),
            (true, Some(false), Err(NotWaived::Configured), Err(NotWaived::Configured)),
        ] {
            for (word, needed) in [(false, plain), (true, by_word)] {
                let judged = needs_approval(configured, asked, word);
                assert_eq!(judged, needed, "{configured} {asked:?} {word}");
            }
        }
    }

    #[test]
    fn a_request_has_one_spelling_and_what_it_does_not_know_is_not_passed_over() {
        let request = request("alice");
        let mut json = serde_json::to_value(&request).unwrap();
        assert_eq!((json.get("to_regions"), json.get("hosts_off")), (None, None));
        let read = serde_json::from_value::<Request>(json.clone());
        assert_eq!(read.unwrap(), request);
        json["only_vms"] = serde_json::json!(["vm-1"]);
        assert!(serde_json::from_value::<Request>(json).is_err());
    }

    #[test]
    fn a_log_of_before_there_were_approvals_is_read_and_written_as_it_was() {
        let before = r#"{"trigger":"operator","name":"alice","reason":"fire"}"#;
        let trigger: Trigger = serde_json::from_str(before).unwrap();
        assert!(matches!(trigger, Trigger::Operator { approved_by: None, .. }));
        assert_eq!(serde_json::to_string(&trigger).unwrap(), before);
    }

    proptest! {
        /// Against the rule said the other way round: every reason that speaks against it.
        #[test]
        fn it_is_given_exactly_when_nothing_speaks_against_it(
            asked_by in "[ab]",
            name in "[abc]",
            is_person in any::<bool>(),
            asked_at in 0_u64..50,
            life in 0_u64..50,
            now in 0_u64..120,
        ) {
            let until = Timestamp::from_millis(asked_at + life);
            let asked_at = Timestamp::from_millis(asked_at);
            let request = Request { asked_at, until, ..request(&asked_by) };
            let mut against = Vec::new();
            if asked_by == name {
                against.push(Approval::SamePerson { name: name.clone() });
            }
            if until.as_millis() <= now {
                against.push(Approval::Expired { at: until });
            }
            if !is_person {
                against.push(Approval::NoPerson { name: name.clone() });
            }
            let approver = Approver { name: &name, is_person };
            let judged = judge_approval(&request, approver, Timestamp::from_millis(now));
            if against.is_empty() {
                prop_assert_eq!(judged, Approval::Given);
            } else {
                prop_assert!(against.contains(&judged), "{judged:?} of {against:?}");
            }
        }
    }
}
