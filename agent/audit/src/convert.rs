//! From the kernel's event to the audit record: numbers become names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clawd_common::{
    addr::{Addr, FAMILY_V4, FAMILY_V6},
    event::{Event, EventKind},
    record::{FileKey, LINEAGE_MAX},
    verdict::{Action, NO_GRANT, Reason},
};

use crate::{
    record::{Activity, Ancestor, AuditRecord, Digest, Protocol},
    time::Clock,
};

/// What the numbers in events stand for. `None` is "not known", never an error: an event outlives
/// the sandbox that it tells of.
pub trait Names {
    /// The name of the sandbox with this id.
    fn sandbox(&self, id: u32) -> Option<String>;
    /// The generation, within its sandbox, of the policy with this id.
    fn generation(&self, policy_id: u32) -> Option<u64>;
    /// The name of the rule with the number `grant_index` (of an event) under the policy.
    fn grant(&self, policy_id: u32, grant_index: u32) -> Option<String>;
    /// What the exec gate made of the file when it was last executed.
    fn seen(&self, file: &FileKey) -> Option<SeenFile>;
    /// Path and SHA-256 of a content by its number.
    fn file(&self, file_id: u32) -> Option<(String, [u8; 32])>;
    /// The file ids of a line of executables, the running one first; empty where it is not known.
    fn lineage(&self, chain: u32) -> Vec<u32>;
    /// The content that was pinned for the path which now holds file `file_id`.
    fn pinned(&self, policy_id: u32, file_id: u32) -> Option<[u8; 32]>;
}

/// What the exec gate made of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenFile {
    /// Its path in the sandbox's view.
    pub path: String,
    /// SHA-256 of its content, where it was hashed.
    pub sha256: Option<[u8; 32]>,
    /// Why it has no identity, or [`Reason::Identified`].
    pub reason: Reason,
}

/// File systems on which a file may have an identity (`include/uapi/linux/magic.h`). Of a file that
/// the gate has not seen, or has forgotten, the key still tells whether it lies on another one.
const HASHED_FILE_SYSTEMS: &[u32] = &[
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlay
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
];

/// Makes the record of `event`; its `seq` is given by [`crate::AuditLog::append`].
///
/// Never fails: what is not known is `null` or `#` and its number.
#[must_use]
pub fn record(event: &Event, names: &dyn Names, clock: &Clock) -> AuditRecord {
    let kind = EventKind::from_raw(event.kind_raw);
    let mut record = whose(event, activity(kind), names, clock);
    match kind {
        Some(EventKind::Connect | EventKind::Sendmsg) => destination(&mut record, event),
        Some(EventKind::Send | EventKind::Receive | EventKind::Cut) => {
            destination(&mut record, event);
            record.local_port = Some(event.local_port);
        }
        Some(EventKind::Socket) => socket(&mut record, event),
        Some(EventKind::Exec) => {}
        None => record.message = Some(format!("event of unknown kind {}", event.kind_raw)),
    }
    record
}

/// The part of a record that says who did something, when, and what was decided.
pub(crate) fn whose(
    event: &Event,
    activity: Activity,
    names: &dyn Names,
    clock: &Clock,
) -> AuditRecord {
    let has_file = event.file != FileKey::ZERO;
    let seen = has_file.then(|| names.seen(&event.file)).flatten();
    let reason = reason(event, seen.as_ref());
    let Ancestor { exe, sha256 } = executable(event, seen, names);
    AuditRecord {
        sandbox: known(event.sandbox_id).map(|id| or_number(names.sandbox(id), id)),
        policy_generation: known(event.policy_id).and_then(|id| names.generation(id)),
        pid: known(event.process.tgid),
        exe,
        sha256,
        pinned_sha256: pinned(event, reason, names),
        lineage: ancestors(event, names),
        action: Some(Action::from_raw(event.action_raw).into()),
        reason: Some(reason),
        rule: rule(event, names),
        tid: known(event.tid),
        ..AuditRecord::new(clock.wall(event.boottime_ns), activity)
    }
}

fn activity(kind: Option<EventKind>) -> Activity {
    match kind {
        Some(EventKind::Connect) => Activity::Connect,
        Some(EventKind::Sendmsg) => Activity::Sendmsg,
        Some(EventKind::Socket) => Activity::Socket,
        Some(EventKind::Send) => Activity::Send,
        Some(EventKind::Receive) => Activity::Receive,
        Some(EventKind::Cut) => Activity::Cut,
        Some(EventKind::Exec) => Activity::Exec,
        None => Activity::Unknown,
    }
}

/// Why; the kernel sees that a file has no identity, the exec gate knows why.
fn reason(event: &Event, seen: Option<&SeenFile>) -> Reason {
    let judged = Reason::from_raw(event.reason_raw);
    if judged != Reason::NotHashed {
        return judged;
    }
    match seen.map(|seen| seen.reason) {
        // The kernel itself kept the path of a file that the gate did not see.
        None | Some(Reason::NotHashed) => by_file_system(&event.file),
        Some(Reason::Identified | Reason::Unknown) => judged,
        Some(reason) => reason,
    }
}

/// Why the gate saw nothing of a file.
fn by_file_system(file: &FileKey) -> Reason {
    // A key that could not be read tells nothing of its file system.
    if *file == FileKey::ZERO || HASHED_FILE_SYSTEMS.contains(&file.fs_magic) {
        Reason::NotHashed
    } else {
        Reason::FileSystem
    }
}

/// Path and content. The path is the file's own rather than that of the first file with its
/// content; the content is the one that was judged, whatever the file held when it was last seen.
fn executable(event: &Event, seen: Option<SeenFile>, names: &dyn Names) -> Ancestor {
    // A packet's record has the line alone; its first is what runs.
    let file_id = match event.file_id {
        0 => known(event.chain).and_then(|chain| names.lineage(chain).first().copied()),
        file_id => Some(file_id),
    };
    let judged = by_id(file_id.unwrap_or(0), names);
    match seen {
        Some(seen) => Ancestor {
            exe: Some(seen.path),
            sha256: judged.sha256.or(seen.sha256.map(Digest)),
        },
        None => judged,
    }
}

/// The executables before the running one, nearest first.
fn ancestors(event: &Event, names: &dyn Names) -> Vec<Ancestor> {
    // Without a line of its own, a process still has what is known from before its exec.
    let (chain, own) = match event.chain {
        0 => (event.parent_chain, 0),
        chain => (chain, 1),
    };
    let files = known(chain).map_or_else(Vec::new, |chain| names.lineage(chain));
    // A line may end with one that nobody knows, which has no number.
    let files = files.into_iter().filter(|file_id| *file_id != 0);
    let before = files.take(LINEAGE_MAX).skip(own);
    before.map(|file_id| by_id(file_id, names)).collect()
}

/// The content with this number; nothing of it where it is not known any more.
fn by_id(file_id: u32, names: &dyn Names) -> Ancestor {
    let (exe, sha256) = known(file_id).and_then(|id| names.file(id)).unzip();
    Ancestor {
        exe,
        sha256: sha256.map(Digest),
    }
}

fn pinned(event: &Event, reason: Reason, names: &dyn Names) -> Option<Digest> {
    let changed = reason == Reason::BinaryChanged && event.file_id != 0;
    let pinned = changed.then(|| names.pinned(event.policy_id, event.file_id));
    pinned.flatten().map(Digest)
}

fn rule(event: &Event, names: &dyn Names) -> Option<String> {
    let index = event.grant_index;
    (index != NO_GRANT).then(|| or_number(names.grant(event.policy_id, index), index))
}

fn destination(record: &mut AuditRecord, event: &Event) {
    record.dst_ip = ip(&event.addr);
    record.dst_port = Some(event.port);
    record.protocol = Some(Protocol(event.protocol));
}

fn socket(record: &mut AuditRecord, event: &Event) {
    let (family, kind) = (event.socket_kind >> 16, event.socket_kind & 0xffff);
    record.protocol = Some(Protocol(event.protocol));
    record.socket_family = Some(number_name(family, &[(2, "inet"), (10, "inet6")]));
    let types = [
        (1, "stream"),
        (2, "dgram"),
        (3, "raw"),
        (5, "seqpacket"),
        (6, "dccp"),
    ];
    record.socket_type = Some(number_name(kind, &types));
}

fn ip(addr: &Addr) -> Option<IpAddr> {
    let [a, b, c, d, ..] = addr.octets;
    match addr.family {
        FAMILY_V4 => Some(Ipv4Addr::new(a, b, c, d).into()),
        FAMILY_V6 => Some(Ipv6Addr::from(addr.octets).into()),
        _ => None,
    }
}

/// 0 stands for none in every id.
fn known(id: u32) -> Option<u32> {
    (id != 0).then_some(id)
}

/// `#` begins no sandbox name and no rule name.
fn or_number(name: Option<String>, number: u32) -> String {
    name.unwrap_or_else(|| format!("#{number}"))
}

/// A number by its name; unnamed, in decimal.
pub(crate) fn number_name(number: u32, names: &[(u32, &str)]) -> String {
    match names.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => (*name).to_owned(),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests;
