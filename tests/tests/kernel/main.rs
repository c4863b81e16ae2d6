//! The promises of clawd, kept or not: real programs, sockets and servers on the running kernel.
#![forbid(unsafe_code)]

mod demo;
mod support;
