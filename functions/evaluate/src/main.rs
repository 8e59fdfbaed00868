//! The `evaluate` function.
fn main() {}
