//! QEMU Machine Protocol client.
