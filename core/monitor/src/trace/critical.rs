//! What a trace waited for: its critical path (F71).
//!
//! From the end of a span back to its beginning: whatever child was still running then is what
//! was waited for, until it began; what no child covers is the span's own. Each microsecond of
//! the first span is somebody's, and only one's.

/// A span's place in time and what it is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) start: i128,
    pub(super) end: i128,
    pub(super) children: Vec<usize>,
}

/// How much of `root`'s time each node's own is.
pub(super) fn critical(nodes: &[Node], root: usize) -> Vec<u64> {
    let mut own = vec![0; nodes.len()];
    let Some(first) = nodes.get(root) else { return own };
    // What is still to be looked at: a node, and the part of its time that counts.
    let mut next = vec![(root, first.start, first.end)];
    while let Some((at, from, until)) = next.pop() {
        let mut cursor = until;
        for child in latest_first(nodes, at) {
            let (start, end) =
                (nodes[child].start.max(from), nodes[child].end.min(cursor));
            if start >= end {
                continue;
            }
            own[at] += length(end, cursor);
            next.push((child, start, end));
            cursor = start;
        }
        own[at] += length(from, cursor);
    }
    own
}

fn latest_first(nodes: &[Node], at: usize) -> Vec<usize> {
    let mut children = nodes[at].children.clone();
    children.sort_by_key(|child| (std::cmp::Reverse(nodes[*child].end), *child));
    children
}

fn length(from: i128, until: i128) -> u64 {
    u64::try_from(until - from).unwrap_or(0)
}
