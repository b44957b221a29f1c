//! The binary: parse, call the library.
fn main() {}
