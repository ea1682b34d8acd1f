//! Connections by network: so many of one, so that no network takes the room of all others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use dwcp_router::client_number;

/// Who is connected. Its size is bounded by the connections that there are.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    open: Arc<Mutex<HashMap<u64, usize>>>,
    most: usize,
}

/// One connection's place among those of its network.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    network: u64,
}

impl Seats {
    /// So many connections of one network.
    pub(crate) fn new(most: usize) -> Self {
        Self { open: Arc::default(), most }
    }

    pub(crate) fn enter(&self, source: IpAddr) -> Option<Seat> {
        let network = client_number(source);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat { seats: self.clone(), network })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.seats.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}
