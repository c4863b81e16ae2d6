//! Policy files: from text to a checked policy to the bytes of the kernel's maps.
//!
//! Three stages, each a type: the file as written (private), [`Policy`] (every value valid), and
//! [`MapImage`] (what the maps hold). A key that this version does not enforce is refused, never
//! ignored: a policy that loads is enforced as it reads.
//!
//! Nothing here does I/O or reads a clock: text in, values out.
#![forbid(unsafe_code)]

pub use crate::{
    compile::{CompileError, MapImage, compile},
    error::{PolicyError, PolicyErrorKind, PolicyErrors, Warning},
    model::{
        BinaryMatcher, Compatibility, Endpoint, Filesystem, GrantEntry, NetworkMode, Policy,
        Process, Protocol, RuleGroup, SeccompProfile,
    },
    parse::{Parsed, parse},
    prefix::{Prefix, PrefixError},
    tables::ImageTables,
};

mod check;
mod compile;
mod error;
mod escape;
mod fields;
mod file;
pub mod limits;
mod model;
mod node;
mod parse;
mod prefix;
mod problem;
mod suggest;
mod tables;

#[cfg(test)]
mod tests;
