//! One row a filter: what is asked, what the region is, and the reason in words.
