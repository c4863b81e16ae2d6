//! The promises of clawd, kept or not: real programs, sockets and servers on the running kernel.
#![forbid(unsafe_code)]

mod bad_input;
mod demo;
mod identity;
mod push;
mod restart;
mod rules;
mod run;
mod sockets;
mod spellings;
mod support;
mod sweeping;
