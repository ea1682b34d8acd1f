//! What every adapter of the strong engine must do; one suite for all of them.
