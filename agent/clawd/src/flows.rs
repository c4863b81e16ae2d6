//! Open flows that a new policy forbids: ended, so that their programs need not wait for a time-out.

pub(crate) mod dropped;

use clawd_audit::record;
use clawd_common::{
    addr::AddrKind,
    decide::{AddressKey, Tables as _, rule},
    event::{Event, EventKind},
    packet::{Direction, Packet, SocketState, ingress, judge},
    record::{RECORD_JUDGED, RECORD_PASSIVE, SandboxValue, SocketRecord},
    verdict::{Action, NO_GRANT, Reason},
};
use clawd_kernel::{Flows, OpenFlow};
use clawd_policy::ImageTables;

use crate::{audit, sandboxes::Shared};

/// Ends what `sandbox`'s policy forbids and an earlier one allowed. The packet hooks drop all of it
/// whatever becomes of this.
pub(crate) fn cut(shared: &Shared, cgroup_id: u64, sandbox: &SandboxValue) {
    let open = Flows::open(&shared.pins).map_err(anyhow::Error::from);
    let found = open.and_then(|flows| Ok((flows.of_cgroup(cgroup_id)?, flows)));
    let (open, flows) = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "programs are not told of flows that a push forbids");
            return;
        }
    };
    for flow in open {
        if shared.registry.forbids(cgroup_id, sandbox, &flow) {
            end(shared, &flows, sandbox, &flow);
        }
    }
}

/// Ends a flow, and writes it down.
fn end(shared: &Shared, flows: &Flows, sandbox: &SandboxValue, flow: &OpenFlow) {
    match flows.end(flow) {
        Ok(false) => {}
        Ok(true) => shared.audit.write(record(
            &event(sandbox, flow),
            shared.registry.as_ref(),
            &audit::clock(),
        )),
        Err(error) => tracing::warn!(%error, "a program is not told of a flow's end"),
    }
}

/// Whether the rules forbid a flow: by the decision of the packet hooks where its record is known, else
/// only where nobody may have such a flow.
pub(crate) fn is_forbidden(
    rules: ImageTables<'_>,
    sandbox: &SandboxValue,
    flow: &OpenFlow,
) -> bool {
    let packet = Packet {
        peer: flow.peer,
        peer_port: flow.peer_port,
        local_port: flow.local_port,
        protocol: flow.protocol,
    };
    match &flow.record {
        // Not judged, or being written: the hooks decide at its next packet.
        Some(record) => {
            let judged = record.flags & (RECORD_JUDGED | RECORD_PASSIVE) != 0;
            let socket = (record, SocketState::Other);
            record.sandbox_id == sandbox.sandbox_id
                && judged
                && record.sequence & 1 == 0
                && !judge(&rules, sandbox, socket, (Direction::Egress, &packet))
                    .verdict
                    .is_allowed()
        }
        None => is_listed_for_nobody(&rules, sandbox, &packet),
    }
}

/// Whether no entry of the policy has the peer, in either direction. Loopback may be the sandbox's own.
fn is_listed_for_nobody(rules: &ImageTables<'_>, sandbox: &SandboxValue, packet: &Packet) -> bool {
    let is_connected = packet.peer_port != 0;
    let is_loopback = matches!(packet.peer.kind(1), AddrKind::Loopback);
    let policy_id = sandbox.policy_id;
    let address_class = rules.address_class(&AddressKey {
        policy_id,
        addr: packet.peer,
    });
    let service = (packet.protocol, packet.peer_port);
    let rule = rule(rules, (policy_id, address_class), service);
    let is_for_somebody = rule.is_some_and(|rule| rule.deny_all == NO_GRANT);
    let is_listed = is_for_somebody || ingress(rules, sandbox, packet).is_allowed();
    is_connected && !is_loopback && !is_listed
}

fn event(sandbox: &SandboxValue, flow: &OpenFlow) -> Event {
    let record = flow.record.unwrap_or(SocketRecord::ZERO);
    Event {
        boottime_ns: audit::boottime_ns(),
        process: record.holder,
        sandbox_id: sandbox.sandbox_id,
        policy_id: sandbox.policy_id,
        tid: record.holder.tgid,
        grant_index: NO_GRANT,
        addr: flow.peer,
        port: flow.peer_port,
        kind_raw: EventKind::Cut as u8,
        action_raw: Action::Denied.to_raw(),
        reason_raw: Reason::PolicyChanged.to_raw(),
        protocol: flow.protocol,
        chain: record.chain,
        local_port: flow.local_port,
        ..Event::ZERO
    }
}
