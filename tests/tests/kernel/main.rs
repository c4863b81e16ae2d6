//! The promises of clawd, kept or not: real programs, sockets and servers on the running kernel.
#![forbid(unsafe_code)]

#[cfg(test)]
mod accounts;
#[cfg(test)]
mod audit_log;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod detach;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod enter;
#[cfg(test)]
mod environment;
#[cfg(test)]
mod escapes;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod files;
#[cfg(test)]
mod filesystems;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lineage;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod pins;
#[cfg(test)]
mod programs;
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
mod starts;
#[cfg(test)]
mod support;
#[cfg(test)]
mod sweeping;
#[cfg(test)]
mod syscalls;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod verified;
