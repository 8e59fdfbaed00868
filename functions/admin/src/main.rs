//! The `admin` function.
fn main() {}
