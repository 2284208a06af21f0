//! QEMU on Linux: command line, scopes, taps, memory files.
