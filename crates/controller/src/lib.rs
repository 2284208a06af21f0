//! Inventory, ownership, attempts, history, HTTP.
