//! Frames and session between two carriers.
