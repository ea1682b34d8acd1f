//! The compression dictionary: what frames usually say, so that a small one need not say it.
//!
//! The built-in one is trained by `cargo xtask dictionary` and checked in. Its id travels in
//! the hello; ends with different ones, as in the middle of an upgrade, work without.

use std::fmt;
use std::sync::Arc;

/// The trained one.
static BUILT_IN: &[u8] = include_bytes!("frames.dict");

/// How a dictionary of zstd begins; its id follows.
const MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

/// A dictionary, or none. Cloning shares it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Dictionary {
    bytes: Option<Arc<[u8]>>,
}

impl Dictionary {
    /// The one that this version was built with.
    #[must_use]
    pub fn built_in() -> Self {
        Self::from_bytes(BUILT_IN)
    }

    /// None: small frames are not compressed.
    #[must_use]
    pub const fn none() -> Self {
        Self { bytes: None }
    }

    /// The one of some bytes; none when they are no dictionary of zstd.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let known = id(bytes).is_some_and(|id| id != 0);
        Self { bytes: known.then(|| Arc::from(bytes)) }
    }

    /// Its id, zero for none. Ids are made by training from the content.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.bytes.as_deref().and_then(id).unwrap_or(0)
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.bytes.as_deref()
    }
}

fn id(bytes: &[u8]) -> Option<u32> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    rest.first_chunk().map(|id| u32::from_le_bytes(*id))
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({})", self.id())
    }
}
