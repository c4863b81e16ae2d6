//! Why a step on the kernel side failed.

use std::{io, path::PathBuf};

use crate::btf::BtfError;

/// Why the programs could not be put in place. What [`crate::install`] pinned before the failure is
/// removed again; what [`crate::replace`] has replaced stays, beside what it has not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The kernel's type information could not be read.
    #[error("cannot read the kernel's types from {}", path.display())]
    Btf {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BtfError,
    },
    /// aya needs the kernel's types for typed tracepoints.
    #[error("cannot read the kernel's types for typed tracepoints")]
    AyaBtf(#[source] aya::BtfError),
    /// The object was refused as a whole.
    #[error("cannot create the eBPF maps")]
    Load(#[source] Box<aya::EbpfError>),
    /// The embedded object lacks a part that this code names.
    #[error("the embedded eBPF object has no {what} `{name}`")]
    Missing {
        /// Program or map.
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// The kernel refused a program.
    #[error("the kernel refused program `{program}`")]
    Program {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A link could not be taken out of its program.
    #[error("program `{program}` has no link that can be pinned")]
    Link {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: aya::programs::links::LinkError,
    },
    /// Something could not be pinned.
    #[error("cannot pin {}; is it a bpf file system?", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<aya::pin::PinError>,
    },
    /// A program could not be put in the place of another.
    #[error("cannot put program `{program}` in the place of the one before")]
    Replace {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The pins could not be read or cleared.
    #[error(transparent)]
    Pins(#[from] OpenError),
    /// A map could not be written.
    #[error("cannot write map `{name}`")]
    Map {
        /// The map.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// A file or folder of the pins could not be made or removed.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why pinned maps could not be taken over. Whatever they enforce stays in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A pin could not be opened.
    #[error("cannot open the pinned map {}", path.display())]
    Map {
        /// The pin.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// A pinned program could not be opened.
    #[error("cannot open the pinned program {}", path.display())]
    Program {
        /// The pin.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// The kernel's socket diagnostics could not be opened.
    #[error("cannot open the kernel's socket diagnostics (CONFIG_INET_DIAG)")]
    Flows(#[source] io::Error),
    /// A file or folder of the pins could not be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a table of the kernel could not be written or read. What is in force stays so.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} map `{map}`{}", full_hint(source))]
pub struct TableError {
    /// What was tried.
    pub what: &'static str,
    /// The map.
    pub map: &'static str,
    /// Why.
    #[source]
    pub source: Box<aya::maps::MapError>,
}

/// Says so where the kernel refused for want of room: hash maps answer E2BIG
/// (kernel/bpf/hashtab.c, v6.12), tries ENOSPC (kernel/bpf/lpm_trie.c).
fn full_hint(error: &aya::maps::MapError) -> &'static str {
    const E2BIG: i32 = 7;
    const ENOSPC: i32 = 28;
    match error {
        aya::maps::MapError::SyscallError(error)
            if matches!(error.io_error.raw_os_error(), Some(E2BIG | ENOSPC)) =>
        {
            ", which is full: stop sandboxes or use fewer rules"
        }
        _ => "",
    }
}
