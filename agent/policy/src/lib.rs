//! Policy files: from text to a checked policy to the bytes of the kernel's maps.
//!
//! Three stages, each a type: the file as written (private), [`Policy`] (every value valid), and
//! [`MapImage`] (what the maps hold). A key that this version does not enforce is refused, never
//! ignored: a policy that loads is enforced as it reads.
//!
//! Nothing here does I/O or reads a clock: text in, values out.
#![forbid(unsafe_code)]

// Tests that other crates include call this one by its name.
#[cfg(test)]
extern crate self as clawd_policy;

pub use crate::grants::{FileAccess, FileGrant, IMPLICIT, file_grants};
pub use crate::{
    check::parse_sha256,
    compile::{AtFault, CompileError, MapImage, compile},
    diff::{PolicyDiff, diff},
    error::{PolicyError, PolicyErrorKind, PolicyErrors, Warning},
    explain::{Answer, Explainer, Explanation, Question, QuestionError, Who},
    host::{HostPattern, HostPatternError},
    model::{
        Binary, BinaryMatcher, Compatibility, Endpoint, Filesystem, GrantEntry, NamedEndpoint,
        NetworkMode, Policy, Process, Protocol, ResourceLimits, RuleAction, RuleGroup,
        SeccompProfile,
    },
    parse::{Checked, Parsed, parse, read},
    pattern::{NamePattern, PathPattern, PatternError, Segment},
    places::GroupPlaces,
    ports::{PortRange, PortSet},
    prefix::{Prefix, PrefixError},
    problem::Position,
    tables::ImageTables,
};

mod check;
mod compile;
pub mod diff;
mod error;
mod escape;
mod explain;
mod fields;
mod file;
mod grants;
mod host;
pub mod limits;
mod model;
mod node;
mod parse;
mod pattern;
mod places;
mod ports;
mod prefix;
mod problem;
mod secret;
mod suggest;
mod tables;

#[cfg(test)]
mod tests;
