//! Which region and server a client's session is at (R12): written down once, and carried by the client.
//!
//! Where requests of a client come in may change at any time, because a route flips, a name is asked
//! anew, or another region becomes the best. A session must not. Whoever answers for a service whose
//! sessions are sticky gives the client a token that says where; any region's proxy that is shown it
//! brings the request there, as long as that region is fit and the client was heard of late. So nobody
//! keeps a table of sessions, and none has to be told to other regions.
//!
//! A token counts when it is signed: who could write one would choose the server that it overwhelms.
//! The key and the clock are the caller's.
//!
//! Rejected: a table of flows (it must be replicated before the flip that it is for); the client's
//! address alone (it changes when a telephone leaves the house, and regions' shares change too). Where
//! a client keeps no token the address is what is left: [`keep`].

use std::time::Duration;

use dwcp_types::{RegionId, ServiceId};

use crate::rendezvous::{draw, salt};

/// How long a session is kept for a client that is not heard of (R12).
pub const SESSION_TIME: Duration = Duration::from_mins(30);
/// Bytes of a token's signature.
pub const TAG_LEN: usize = 32;
/// A token that is older is given anew, so that it stands for as long after the last request, less this.
const RENEWED_AFTER_S: u64 = 60;
/// How far clocks of regions may be apart: a token of a later time is none.
const AHEAD_MAX_S: u64 = 300;
/// Longest token that is looked at: the longest name of a region, and what is around it.
const TOKEN_LEN_MAX: usize = 256;

/// Where a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The region.
    pub region: RegionId,
    /// The server, as [`server_number`] numbers it.
    pub server: u32,
    /// When it was written, in seconds since 1970.
    pub at_s: u64,
}

impl Token {
    /// Reads a token and its signature, as [`Token::write`] writes them. Nothing that is wrong is a
    /// token: the client begins anew.
    #[must_use]
    pub fn read(text: &str) -> Option<(Self, [u8; TAG_LEN])> {
        if text.len() > TOKEN_LEN_MAX {
            return None;
        }
        let (rest, tag) = text.rsplit_once('.')?;
        let mut parts = rest.splitn(3, '.');
        let at_s = u64::from_str_radix(parts.next()?, 16).ok()?;
        let server = u32::from_str_radix(parts.next()?, 16).ok()?;
        let region = parts.next()?.parse().ok()?;
        let digits = tag.as_bytes();
        if digits.len() != TAG_LEN * 2 {
            return None;
        }
        let mut bytes = [0; TAG_LEN];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        let token = Self { region, server, at_s };
        // What a number may be written like besides is none of ours.
        (token.write(&bytes) == text).then_some((token, bytes))
    }

    /// What is signed: a token is of one service.
    #[must_use]
    pub fn claim(&self, service: &ServiceId) -> String {
        format!("{service} {}", self.words())
    }

    /// As the client has it.
    #[must_use]
    pub fn write(&self, tag: &[u8; TAG_LEN]) -> String {
        use std::fmt::Write as _;
        let mut text = self.words();
        text.push('.');
        for byte in tag {
            // Writing into a string cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
        }
        text
    }

    fn words(&self) -> String {
        format!("{:x}.{:x}.{}", self.at_s, self.server, self.region)
    }

    /// Whether it counts yet, for a service whose sessions last so long.
    #[must_use]
    pub fn stands(&self, now_s: u64, time_max: Duration) -> bool {
        self.at_s <= now_s.saturating_add(AHEAD_MAX_S)
            && now_s.saturating_sub(self.at_s) <= time_max.as_secs()
    }

    /// Whether the client is to have a new one for the same place.
    #[must_use]
    pub const fn is_old(&self, now_s: u64) -> bool {
        now_s.saturating_sub(self.at_s) >= RENEWED_AFTER_S
    }
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// A server's number, from its address (`host:port`): the same wherever and whenever it is asked,
/// whatever other servers come and go.
#[must_use]
pub fn server_number(address: &str) -> u32 {
    u32::try_from(salt(address) >> 32).unwrap_or_default()
}

/// The server of a set of bits that a client keeps while it can, by rendezvous: when one goes, only
/// its clients move. Nothing when the set is empty.
#[must_use]
pub fn keep(usable: u64, client: u64, number: impl Fn(usize) -> u32) -> Option<usize> {
    let places = (0..64_usize).filter(|at| usable >> at & 1 == 1);
    places.min_by_key(|at| (draw(client, u64::from(number(*at))), *at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(region: &str, server: u32, at_s: u64) -> Token {
        Token { region: region.parse().unwrap(), server, at_s }
    }

    proptest! {
        #[test]
        fn a_token_is_read_as_it_was_written(
            region in "[a-z][a-z0-9-]{0,20}[a-z0-9]", server: u32, at_s: u64, tag: [u8; TAG_LEN]
        ) {
            let token = token(&region, server, at_s);
            let text = token.write(&tag);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)));
            prop_assert_eq!(Token::read(&text), Some((token, tag)));
        }

        #[test]
        fn whatever_comes_is_a_token_or_none(text in "[0-9a-f.x-]{0,120}", any in ".{0,300}") {
            drop(Token::read(&text));
            drop(Token::read(&any));
        }

        /// Two tokens of one claim are the same, whatever their names look like.
        #[test]
        fn a_claim_is_of_one_token(
            one in ("[a-z]{1,3}", 0..40_u32, 0..40_u64), other in ("[a-z]{1,3}", 0..40_u32, 0..40_u64)
        ) {
            let service = ServiceId::new("web").unwrap();
            let [one, other] = [one, other].map(|(region, server, at)| token(&region, server, at));
            prop_assert_eq!(one.claim(&service) == other.claim(&service), one == other);
        }

        /// Who keeps a server loses it only when that goes, and gets it back.
        #[test]
        fn a_server_that_goes_takes_only_its_clients_along(
            usable in 1_u64.., clients in prop::collection::vec(any::<u64>(), 1..50)
        ) {
            let number = |at: usize| server_number(&format!("10.0.0.{at}:80"));
            for client in clients {
                let own = keep(usable, client, number).unwrap();
                prop_assert!(usable >> own & 1 == 1);
                for gone in 0..64_usize {
                    let left = usable & !(1 << gone);
                    let kept = keep(left, client, number);
                    prop_assert!(gone == own || kept == Some(own));
                    prop_assert!(kept.is_none_or(|at| left >> at & 1 == 1));
                    prop_assert_eq!(kept.is_none(), left == 0);
                }
            }
        }
    }

    #[test]
    fn what_is_written_otherwise_is_no_token() {
        let text = token("one", 7, 1_000).write(&[1; TAG_LEN]);
        assert!(Token::read(&text).is_some());
        for wrong in [
            text.to_uppercase(),
            text.replace("one", "no region"),
            text.replacen('.', "", 1),
            format!("{text}0"),
            format!("{text} "),
            text.replace("01", "0g"),
            format!("{}{text}", "0".repeat(300)),
        ] {
            assert_eq!(Token::read(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_session_lasts_while_its_client_is_heard_of() {
        let token = token("one", 7, 10_000);
        let lasts = |now_s| token.stands(now_s, SESSION_TIME);
        assert!(lasts(10_000) && lasts(11_800) && !lasts(11_801));
        assert!(lasts(9_700) && !lasts(9_699), "clocks are not so far apart");
        assert!(!token.is_old(10_059) && token.is_old(10_060));
    }

    /// Servers share clients evenly enough: none has a fifth more than its part.
    #[test]
    fn clients_are_spread_over_servers() {
        let number = |at: usize| server_number(&format!("10.0.0.{at}:80"));
        let mut counts = [0_u32; 8];
        for client in 0..80_000_u64 {
            counts[keep(0xFF, client, number).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (8_000..12_000).contains(count)), "{counts:?}");
    }
}
