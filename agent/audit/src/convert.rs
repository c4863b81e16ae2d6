//! From the kernel's event to the audit record: numbers become names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clawd_common::{
    addr::{Addr, FAMILY_V4, FAMILY_V6},
    event::{Event, EventKind},
    record::FileKey,
    verdict::{Action, NO_GRANT, Reason},
};

use crate::{
    record::{Activity, AuditRecord, Digest, Protocol},
    time::Clock,
};

/// What the numbers in events stand for. `None` is "not known", never an error: an event outlives
/// the sandbox that it tells of.
pub trait Names {
    /// The name of the sandbox with this id.
    fn sandbox(&self, id: u32) -> Option<String>;
    /// The generation, within its sandbox, of the policy with this id.
    fn generation(&self, policy_id: u32) -> Option<u64>;
    /// The name of entry `grant_index` of the policy's `binaries`, with the policy it is under.
    fn grant(&self, policy_id: u32, grant_index: u32) -> Option<String>;
    /// Path and SHA-256 of the executable with this identity.
    fn file(&self, file_id: u32) -> Option<(String, [u8; 32])>;
    /// Path and reason of a file that was executed without an identity, by its key.
    fn unidentified(&self, file: &FileKey) -> Option<(String, Reason)>;
}

/// Makes the record of `event`; its `seq` is given by [`crate::AuditLog::append`].
///
/// Never fails: what is not known is `null` or `#` and its number.
#[must_use]
pub fn record(event: &Event, names: &dyn Names, clock: &Clock) -> AuditRecord {
    let kind = EventKind::from_raw(event.kind_raw);
    let file = known(event.file_id).and_then(|id| names.file(id));
    let (mut exe, sha256) = file.unzip();
    let mut reason = Reason::from_raw(event.reason_raw);
    if event.file_id == 0
        && let Some((path, why)) = names.unidentified(&event.file)
    {
        exe = Some(path);
        // The kernel sees that there was no identity, the gate knows why.
        if reason == Reason::NotHashed {
            reason = why;
        }
    }
    let mut record = AuditRecord {
        sandbox: known(event.sandbox_id).map(|id| or_number(names.sandbox(id), id)),
        policy_generation: known(event.policy_id).and_then(|id| names.generation(id)),
        pid: known(event.process.tgid),
        exe,
        sha256: sha256.map(Digest),
        action: Some(Action::from_raw(event.action_raw).into()),
        reason: Some(reason),
        rule: rule(event, names),
        tid: known(event.tid),
        ..AuditRecord::new(clock.wall(event.boottime_ns), activity(kind))
    };
    match kind {
        Some(EventKind::Connect | EventKind::Sendmsg) => destination(&mut record, event),
        Some(EventKind::Socket) => socket(&mut record, event),
        Some(EventKind::Exec) => {}
        None => record.message = Some(format!("event of unknown kind {}", event.kind_raw)),
    }
    record
}

fn activity(kind: Option<EventKind>) -> Activity {
    match kind {
        Some(EventKind::Connect) => Activity::Connect,
        Some(EventKind::Sendmsg) => Activity::Sendmsg,
        Some(EventKind::Socket) => Activity::Socket,
        Some(EventKind::Exec) => Activity::Exec,
        None => Activity::Unknown,
    }
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

fn number_name(number: u32, names: &[(u32, &str)]) -> String {
    match names.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => (*name).to_owned(),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests;
