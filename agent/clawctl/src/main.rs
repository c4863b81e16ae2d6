//! clawctl
fn main() {}
