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
/// The header's extension that says what format the backing file has.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Where the name of the backing file lies, behind the header and its extensions.
const BACKING_AT: u64 = 256;
/// The longest name of a backing file that the format holds.
pub const BACKING_LEN_MAX: usize = 1_023;

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
    image(size, "")
}

/// An empty image that reads as another one of the format, a file in the same folder, wherever
/// nothing was written to it. The name is cut at [`BACKING_LEN_MAX`] bytes.
///
/// # Errors
///
/// When the size is zero or over [`SIZE_MAX`].
pub fn on_top_of(backing: &str, size: u64) -> Result<Empty, SizeError> {
    image(size, backing)
}

/// The file that an image reads as where nothing was written to it; nothing when it stands
/// alone, or these are not the first 4 KiB of an image.
#[must_use]
pub fn backing_of(head: &[u8]) -> Option<&str> {
    let number = |at: usize, len: usize| {
        let bytes = head.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte)))
    };
    if head.get(..4)? != b"QFI\xfb" {
        return None;
    }
    let (offset, len) = (number(8, 8)?, number(16, 4)?);
    let from = usize::try_from(offset).ok().filter(|from| *from > 0)?;
    let to = from.checked_add(usize::try_from(len).ok()?)?;
    std::str::from_utf8(head.get(from..to)?).ok()
}

fn image(size: u64, backing: &str) -> Result<Empty, SizeError> {
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
    let backing = &backing.as_bytes()[..backing.len().min(BACKING_LEN_MAX)];
    let backing_len = u32::try_from(backing.len()).map_err(|_| SizeError { size })?;
    let backing_at = if backing.is_empty() { 0 } else { BACKING_AT };
    head.extend_from_slice(&backing_at.to_be_bytes());
    head.extend_from_slice(&backing_len.to_be_bytes());
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
    if !backing.is_empty() {
        // What the other file is, so that nobody guesses it from what a guest wrote there.
        head.extend_from_slice(&BACKING_FORMAT.to_be_bytes());
        head.extend_from_slice(&5u32.to_be_bytes());
        head.extend_from_slice(b"qcow2\0\0\0");
        head.extend_from_slice(&[0; 8]); // no more extensions
        put(&mut head, BACKING_AT, backing);
    }
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
    fn an_image_on_top_of_another_says_which_and_is_as_one_that_stands_alone_but_for_that()
     {
        let (alone, on) =
            (empty(5 << 30).unwrap(), on_top_of("copy-1-2.qcow2", 5 << 30).unwrap());
        assert_eq!(backing_of(&on.head), Some("copy-1-2.qcow2"));
        assert_eq!(backing_of(&alone.head), None);
        assert_eq!(on.file_len, alone.file_len);
        assert_eq!(on.head[20..104], alone.head[20..104]);
        assert_eq!(on.head[1 << 16..], alone.head[1 << 16..]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(
            mut head in prop::collection::vec(any::<u8>(), 0..300),
            is_image: bool,
        ) {
            if is_image && head.len() >= 4 {
                head[..4].copy_from_slice(b"QFI\xfb");
            }
            let _name = backing_of(&head);
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
