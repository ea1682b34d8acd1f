//! The configuration as a whole: every message word for word, every accepted form, and that
//! no input whatever makes the reader panic or refuse without a place.

mod accepted;
mod golden;
mod mutation;
