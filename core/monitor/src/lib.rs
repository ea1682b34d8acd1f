//! decides how healthy a region is.
