//! What the two ends say before the first frame.
//!
//! Who the other is stands in its certificate; a [`Hello`] adds what no certificate knows: which
//! federation it means, which life of its process speaks, and which dictionary it has. Both
//! ends say hello, then the deciding end confirms the connection (see [`super::pair`]).

use std::fmt;

use super::block::BlockError;

/// Bytes of a hello.
pub(super) const HELLO_LEN: usize = 36;

/// Names a federation. A daemon of another one, or of one restored beside it, is not listened
/// to, even if the same authority certified it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// The federation.
    pub(super) cluster: ClusterId,
    /// Differs in each life of the process.
    pub(super) instance: u64,
    /// The last connection that the deciding end confirmed, as far as this end has heard; zero
    /// from the deciding end itself.
    pub(super) seen: u64,
    /// The compression dictionary that this end understands, zero for none.
    pub(super) dictionary: u32,
}

impl Hello {
    pub(super) fn encode(&self) -> [u8; HELLO_LEN] {
        let mut bytes = [0; HELLO_LEN];
        let (cluster, rest) = bytes.split_at_mut(16);
        let (instance, rest) = rest.split_at_mut(8);
        let (seen, dictionary) = rest.split_at_mut(8);
        cluster.copy_from_slice(&self.cluster.0);
        instance.copy_from_slice(&self.instance.to_be_bytes());
        seen.copy_from_slice(&self.seen.to_be_bytes());
        dictionary.copy_from_slice(&self.dictionary.to_be_bytes());
        bytes
    }

    /// A longer hello is from a later version that says more; what is known of it stands first.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let mut rest = bytes;
        Ok(Self {
            cluster: ClusterId(take(&mut rest)?),
            instance: u64::from_be_bytes(take(&mut rest)?),
            seen: u64::from_be_bytes(take(&mut rest)?),
            dictionary: u32::from_be_bytes(take(&mut rest)?),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BlockError> {
    let (first, others) = rest.split_first_chunk().ok_or(BlockError::Short)?;
    *rest = others;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hello_comes_back_also_when_a_later_version_says_more(
            cluster: [u8; 16], instance: u64, seen: u64, dictionary: u32,
            more in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let cluster = ClusterId(cluster);
            let hello = Hello { cluster, instance, seen, dictionary };
            let mut bytes = hello.encode().to_vec();
            for len in 0..bytes.len() {
                prop_assert_eq!(Hello::decode(&bytes[..len]), Err(BlockError::Short));
            }
            bytes.extend(more);
            prop_assert_eq!(Hello::decode(&bytes), Ok(hello));
        }
    }
}
