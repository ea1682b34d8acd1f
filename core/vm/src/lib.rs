//! decides what a host does about its VMs; speaks QMP as values.
