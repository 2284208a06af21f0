//! Who may run the VM: the pure state machines of a migration's two sides.
