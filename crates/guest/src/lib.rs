//! What runs inside the lab's guests.
