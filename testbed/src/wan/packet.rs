//! What the emulator reads of a packet: where to, and how many bytes it is on a wire.
//!
//! A device with offload hands out up to 64 KiB at once with a header that says how the kernel
//! would cut it (`virtio_net_hdr`, in the machine's byte order). Such a packet is passed whole,
//! which is what makes the emulator fast, and counted with the headers that its parts would have.

use std::net::Ipv4Addr;

/// Length of `virtio_net_hdr`, before each packet of a device with offload.
pub(crate) const OFFLOAD_HEADER: usize = 10;
/// The largest packet with its header, in bytes.
pub(crate) const PACKET_MAX: usize = 65_536 + OFFLOAD_HEADER;

const HEADER_MIN: usize = 20;

/// What decides about a packet: its target and its length in bytes. None: not IPv4.
pub(crate) fn read(buffer: &[u8], offload: bool) -> Option<(Ipv4Addr, u64)> {
    let (header, packet) = if offload {
        buffer.split_at_checked(OFFLOAD_HEADER)?
    } else {
        (&[][..], buffer)
    };
    if packet.len() < HEADER_MIN || packet[0] >> 4 != 4 {
        return None;
    }
    let target = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    let bytes = u64::try_from(packet.len()).ok()?;
    Some((target, bytes + headers_of_parts(header, bytes)))
}

/// The headers of all parts but the first, in bytes.
fn headers_of_parts(header: &[u8], bytes: u64) -> u64 {
    let word = |at: usize| {
        let bytes = header.get(at..at + 2).and_then(|word| word.try_into().ok());
        u64::from(bytes.map_or(0, u16::from_ne_bytes))
    };
    let (header_bytes, part_bytes) = (word(2), word(4));
    let parts = bytes.saturating_sub(header_bytes).div_ceil(part_bytes.max(1));
    if part_bytes == 0 { 0 } else { header_bytes * parts.saturating_sub(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&[10, 77, 3, 1]);
        packet
    }

    #[test]
    fn the_target_is_read_and_what_is_not_ipv4_is_left() {
        let target = Ipv4Addr::new(10, 77, 3, 1);
        assert_eq!(read(&packet(20), false), Some((target, 20)));
        assert_eq!(read(&packet(20)[..19], false), None);
        assert_eq!(read(&[0x60; 60], false), None);
        assert_eq!(read(&[], true), None);
    }

    #[test]
    fn a_packet_that_stands_for_many_counts_the_headers_of_all() {
        let mut with_header = vec![0; OFFLOAD_HEADER];
        with_header[2..4].copy_from_slice(&52_u16.to_ne_bytes());
        with_header[4..6].copy_from_slice(&1_448_u16.to_ne_bytes());
        with_header.extend(packet(52 + 10 * 1_448));
        let (_, bytes) = read(&with_header, true).unwrap();
        assert_eq!(bytes, 10 * 1_500);
    }
}
