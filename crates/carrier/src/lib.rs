//! One process per migration and side: QEMU's sockets, TLS streams, page placement.
