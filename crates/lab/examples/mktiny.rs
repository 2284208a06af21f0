//! x
fn main() { let p = std::env::args().nth(1).unwrap(); godwit_lab::images::tiny(p.as_ref(), &Default::default()).unwrap(); }
