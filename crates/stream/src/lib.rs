//! QEMU's migration stream: decoder and encoder.
