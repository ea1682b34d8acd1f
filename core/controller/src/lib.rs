//! decides where VMs run: placement, reservation, capacity.
