//! The promises of clawd, kept or not: real programs, sockets and servers on the running kernel.
#![forbid(unsafe_code)]

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod push;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod run;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod spellings;
#[cfg(test)]
mod support;
#[cfg(test)]
mod sweeping;
