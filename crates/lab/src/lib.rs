//! A fleet on one machine: namespaces, real agents, real QEMU, shaped links, guests.
