//! The router held to an oracle that was written apart, and rule by rule.

mod exactness;
mod oracle;
mod random;
mod replays;
mod rules;
mod source;
mod upstreams;
