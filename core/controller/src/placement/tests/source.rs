//! The three requests of the source (C11-C13).
