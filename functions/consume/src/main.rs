//! The `consume` function.
fn main() {}
