//! How large values and their parts may become.
//!
//! What a caller adds is refused at the limit; what joins is not, or replicas could never agree
//! again after both sides of a partition wrote up to it. So there are two limits of a value:
//! one for writing, and one for reading that the joins of many full values stay below.

/// A value that has grown to this many bytes takes no update that adds to it: 1 MiB.
pub const WRITTEN_BYTES_MAX: usize = 1 << 20;
/// No value that is read is larger: what 15 replicas can write apart from each other.
pub const JOINED_BYTES_MAX: usize = 16 * WRITTEN_BYTES_MAX;
/// Longest element of a set: 64 KiB. Larger things are values of their own.
pub const ELEMENT_BYTES_MAX: usize = 1 << 16;
/// Longest name of a field of a map; four times the longest identifier and some more.
pub const NAME_BYTES_MAX: usize = 256;
/// Maps in maps, counted with the outermost.
pub const DEPTH_MAX: usize = 4;
/// Concurrent values of one register; more is a writer that never reads (S14).
pub const SIBLINGS_MAX: usize = 16;
/// Actors, minted rights and transfers of one counter: 100 starts of each of 40 replicas.
pub const ACTORS_MAX: usize = 4096;
