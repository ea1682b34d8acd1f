//! Names that are derived from a VM's id, the same after every restart: its UUID and its MAC
//! address on every host, the name of its tap device on each host another, because a VM that
//! moves between two hosts of one machine has a tap of each at the same time.
//!
//! All three are cut from one 128-bit FNV-1a hash of the id. Two VMs share a UUID with a
//! chance of n^2 / 2^128, a tap name (52 bits) on one host of 1,000 VMs with about 1 in 10^10.
//! FNV is no defence against an id that is made to collide; the records are keyed by id, so
//! such an id could take another guest's tap name and would fail to start, nothing more.

use std::fmt::Write as _;

use dwcp_types::{HostId, RegionId, VmId};

const FNV_OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const FNV_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// The names of one VM's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestName(u128);

impl GuestName {
    /// The names of this VM's parts.
    #[must_use]
    pub fn of(vm: &VmId) -> Self {
        Self(FNV_OFFSET).followed_by(vm.as_str())
    }

    /// The hash of what was hashed so far and of this.
    fn followed_by(self, text: &str) -> Self {
        let hash = text
            .bytes()
            .fold(self.0, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(FNV_PRIME));
        Self(hash)
    }

    /// Its UUID, of version 8 (RFC 9562: contents of our own making).
    #[must_use]
    pub fn uuid(self) -> String {
        let mut bytes = self.0.to_be_bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let mut text = String::with_capacity(36);
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            push_hex(&mut text, *byte);
        }
        text
    }

    /// Its MAC address: `52:54:00`, the prefix that QEMU uses, and 24 bits of the hash.
    /// Unique enough for one host's bridge of some hundred guests.
    #[must_use]
    pub fn mac(self) -> String {
        let bytes = self.0.to_be_bytes();
        let mut text = String::from("52:54:00");
        for byte in &bytes[13..] {
            text.push(':');
            push_hex(&mut text, *byte);
        }
        text
    }

    /// The name of its tap device on a host: 15 bytes, the longest that Linux takes.
    #[must_use]
    pub fn tap(self, (region, host): (&RegionId, &HostId)) -> String {
        // The byte between is in no id: "a" and "bc" are not "ab" and "c".
        let name = [region.as_str(), host.as_str()];
        let name =
            name.iter().fold(self, |name, id| name.followed_by("/").followed_by(id));
        let bytes = name.0.to_be_bytes();
        let mut text = String::from("dw");
        for byte in &bytes[..7] {
            push_hex(&mut text, *byte);
        }
        text.truncate(15);
        text
    }

    /// A number to choose a free address with.
    #[must_use]
    pub const fn seed(self) -> u64 {
        let bytes = self.0.to_be_bytes();
        u64::from_be_bytes([
            bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14],
            bytes[15],
        ])
    }
}

fn push_hex(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ok = write!(text, "{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn tap(name: GuestName, region: &str, host: &str) -> String {
        name.tap((&RegionId::new(region).unwrap(), &HostId::new(host).unwrap()))
    }

    #[test]
    fn the_hash_is_fnv_1a_as_published() {
        // "foobar" of the reference vectors of FNV-1a 128.
        let id = VmId::new("foobar").unwrap();
        assert_eq!(GuestName::of(&id).0, 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }

    #[test]
    fn names_have_the_form_that_their_users_take() {
        let name = GuestName::of(&VmId::new("vm-web-001").unwrap());
        let tap = tap(name, "r1", "h1");
        let uuid = name.uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'8');
        assert!(name.mac().starts_with("52:54:00:") && name.mac().len() == 17);
        assert!(tap.len() == 15 && tap.starts_with("dw"));
    }

    /// Two hosts of one machine hold it while it moves from one to the other.
    #[test]
    fn a_tap_has_another_name_on_another_host() {
        let name = |vm| GuestName::of(&VmId::new(vm).unwrap());
        let here = tap(name("vm-1"), "r1", "h1");
        assert_ne!(here, tap(name("vm-1"), "r1", "h2"));
        assert_ne!(here, tap(name("vm-1"), "r2", "h1"));
        assert_ne!(here, tap(name("vm-1"), "r1h", "1"));
    }

    #[test]
    fn ten_thousand_vms_in_a_row_have_their_own_names() {
        let ids = (0..10_000).map(|n| VmId::new(&format!("vm-{n}")).unwrap());
        let names: Vec<GuestName> = ids.map(|id| GuestName::of(&id)).collect();
        let taps: BTreeSet<String> =
            names.iter().map(|name| tap(*name, "r1", "h1")).collect();
        let uuids: BTreeSet<String> = names.iter().map(|name| name.uuid()).collect();
        assert_eq!((taps.len(), uuids.len()), (10_000, 10_000));
    }
}
