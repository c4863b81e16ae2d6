//! Where in the file the parts of a checked policy stand.

use crate::problem::Position;

/// The places of one entry of `network_policies`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlaces {
    /// Its key.
    pub at: Position,
    /// Its endpoints, as many as [`crate::RuleGroup::endpoints`] has: an entry that stands for several has
    /// its place several times.
    pub endpoints: Vec<Position>,
    /// Its endpoints with a name, as many as [`crate::RuleGroup::names`] has.
    pub names: Vec<Position>,
    /// Its `binaries` entries, as many as [`crate::RuleGroup::binaries`] has.
    pub binaries: Vec<Position>,
}
