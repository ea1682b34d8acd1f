//! How a region brings a pre-empted VM about: its capacity goes back once its guest is seen
//! stopped under the very record that wants it so; wanted again, it starts only after it has
//! its capacity again.

use dwcp_controller::ownership::{VmRecord, reinstate, vm_key};
use dwcp_types::Power;

use crate::engine::{EngineRequest, Txn, Value};
use crate::options::Breakage;
use crate::region::{Daemon, Step};

impl Daemon {
    /// Whether the host is not to be told of this record: it is about to change, because its
    /// VM has its capacity again.
    pub(super) fn gives_way(
        &mut self,
        record: &VmRecord,
        revision: u64,
        step: &mut Step,
    ) -> bool {
        if record.preempted_by.is_none() || record.power == Power::Deleted {
            return false;
        }
        let id = &record.reservation;
        if !record.is_parked() {
            let has_room = match self.ledger.unpark(id) {
                Ok(done) => {
                    step.changes.extend(done.changes);
                    true
                }
                Err(_) => self.breakage == Breakage::VictimsTakeTheirRoomBack,
            };
            if has_room {
                let back = reinstate(record);
                let key = vm_key(&record.request.id);
                let txn = Txn {
                    compares: vec![(key.clone(), revision)],
                    puts: vec![(key, Value::Vm(Box::new(back)))],
                    deletes: Vec::new(),
                };
                self.ask_engine(EngineRequest::Txn(txn), step);
                return true;
            }
        }
        let hasty = self.breakage == Breakage::ParksTheRunning;
        let stopped = self.heard(record).is_some_and(|heard| heard.stopped);
        if (stopped || hasty)
            && let Ok(done) = self.ledger.park(id)
        {
            step.changes.extend(done.changes);
        }
        hasty
    }
}
