//! What every plane is steered by: a table with what belongs to it.

use std::sync::Arc;

use dwcp_router::{Standing, Table};

use crate::clients::Clients;

/// What changes while a plane answers, swapped whole.
#[derive(Clone, Debug)]
pub struct Steering {
    /// Where requests go.
    pub table: Arc<Table>,
    /// Which regions are up.
    pub standing: Standing,
    /// Which cell of the table a client is in.
    pub clients: Arc<Clients>,
}
