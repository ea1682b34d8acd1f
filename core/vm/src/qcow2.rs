//! The first bytes of an empty, thin qcow2 image of any size.
//!
//! An empty image is a header, one refcount table, one refcount block and a table of zeros,
//! so it is written here instead of starting `qemu-img` for each VM: no other package, no
//! process, 256 KiB whatever the size. The layout is that of version 3 of the format
//! (docs/interop/qcow2.txt of QEMU); a booting guest proves it in tests.

/// Clusters of 64 KiB, the format's default.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// What one entry of the first-level table maps: a cluster of 8-byte entries, each a cluster.
const L1_SPAN: u64 = CLUSTER / 8 * CLUSTER;
/// QEMU refuses a first-level table over 32 MiB (`QCOW_MAX_L1_SIZE`).
const L1_ENTRIES_MAX: u64 = 32 * 1024 * 1024 / 8;
const HEADER_LEN: u32 = 104;

/// The largest image: 2 PiB.
pub const SIZE_MAX: u64 = L1_ENTRIES_MAX * L1_SPAN;

/// Why there is no such image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a disk of {size} bytes cannot be made: qcow2 holds 1 byte to {SIZE_MAX} bytes (2 PiB)"
)]
pub struct SizeError {
    size: u64,
}

/// An empty image: these bytes, then zeros up to `file_len`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Empty {
    /// What the file begins with.
    pub head: Vec<u8>,
    /// The length of the file; what lies behind the head is a hole.
    pub file_len: u64,
}

/// An empty image of this many bytes.
///
/// # Errors
///
/// When the size is zero or over [`SIZE_MAX`].
pub fn empty(size: u64) -> Result<Empty, SizeError> {
    if size == 0 || size > SIZE_MAX {
        return Err(SizeError { size });
    }
    let l1_entries = size.div_ceil(L1_SPAN);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    // Cluster 0 is the header, 1 the refcount table, 2 its one block, 3 and on the L1 table.
    // One block counts 32,768 clusters; the largest L1 table has 512.
    let clusters = 3 + l1_clusters;
    let l1_size = u32::try_from(l1_entries).map_err(|_| SizeError { size })?;
    let mut head = Vec::new();
    head.extend_from_slice(b"QFI\xfb");
    head.extend_from_slice(&3u32.to_be_bytes());
    head.extend_from_slice(&[0; 12]); // no backing file
    head.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
    head.extend_from_slice(&size.to_be_bytes());
    head.extend_from_slice(&0u32.to_be_bytes()); // not encrypted
    head.extend_from_slice(&l1_size.to_be_bytes());
    head.extend_from_slice(&(3 * CLUSTER).to_be_bytes());
    head.extend_from_slice(&CLUSTER.to_be_bytes());
    head.extend_from_slice(&1u32.to_be_bytes());
    head.extend_from_slice(&[0; 12]); // no snapshots
    head.extend_from_slice(&[0; 24]); // no feature bits
    head.extend_from_slice(&4u32.to_be_bytes()); // refcounts of 2^4 bits
    head.extend_from_slice(&HEADER_LEN.to_be_bytes());
    put(&mut head, CLUSTER, &(2 * CLUSTER).to_be_bytes());
    let counts: Vec<u8> = (0..clusters).flat_map(|_| 1u16.to_be_bytes()).collect();
    put(&mut head, 2 * CLUSTER, &counts);
    Ok(Empty { head, file_len: clusters * CLUSTER })
}

/// Writes `bytes` at an offset behind the present end.
fn put(image: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = usize::try_from(offset).expect("offsets of the head are under 256 KiB");
    image.resize(offset, 0);
    image.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn be64(image: &[u8], at: usize) -> u64 {
        u64::from_be_bytes(image[at..at + 8].try_into().unwrap())
    }

    proptest! {
        /// Reads the image as the format's document says and checks that it is consistent.
        #[test]
        fn every_cluster_is_counted_once_and_every_byte_is_mapped(size in 1..=SIZE_MAX) {
            let Empty { mut head, file_len } = empty(size).unwrap();
            prop_assert!(head.len() as u64 <= file_len && file_len % CLUSTER == 0);
            head.resize(3 << 16, 0);
            prop_assert_eq!(&head[..8], b"QFI\xfb\x00\x00\x00\x03");
            prop_assert_eq!(be64(&head, 24), size);
            let l1_size = u64::from(u32::from_be_bytes(head[36..40].try_into().unwrap()));
            prop_assert!(u128::from(l1_size) << 29 >= u128::from(size));
            let l1_offset = be64(&head, 40);
            prop_assert!(l1_offset + l1_size * 8 <= file_len);
            let block = usize::try_from(be64(&head, usize::try_from(be64(&head, 48)).unwrap()));
            let counts = &head[block.unwrap()..];
            for cluster in 0..32_768u64 {
                let at = usize::try_from(cluster * 2).unwrap();
                let expected = u16::from(cluster < file_len / CLUSTER);
                prop_assert_eq!(&counts[at..at + 2], expected.to_be_bytes());
            }
        }
    }

    #[test]
    fn a_thin_terabyte_takes_little() {
        let image = empty(1 << 40).unwrap();
        assert!(image.head.len() < 132_000 && image.file_len == 4 * CLUSTER);
    }

    #[test]
    fn impossible_sizes_are_refused_with_the_limits() {
        assert!(empty(0).is_err());
        let error = empty(SIZE_MAX + 1).unwrap_err().to_string();
        assert!(error.contains("2 PiB"), "{error}");
    }
}
