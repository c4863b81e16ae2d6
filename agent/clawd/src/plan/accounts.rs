//! As whom a sandbox runs.

use std::ffi::OsStr;

use clawd_control::{ApiError, RunRequest, SOCKET_GROUP};
use clawd_policy::Policy;
use clawd_sandbox::Group;
use clawd_sys::passing::Peer;

use super::usage;

/// Who a sandbox of root's runs as unless the policy or the request says otherwise.
const DEFAULT_USER: &str = "nobody";

/// Whom the command runs as: the request, the policy, the caller itself, or nobody for root.
pub(super) fn user(
    request: &RunRequest,
    policy: &Policy,
    peer: Peer,
) -> Result<(u32, u32), ApiError> {
    let named = request
        .user
        .as_deref()
        .or(policy.process.run_as_user.as_deref());
    let (uid, mut gid) = match named {
        Some(name) => find_user(name)?,
        None if peer.uid != 0 => (peer.uid, peer.gid),
        None => find_user(DEFAULT_USER)?,
    };
    if let Some(group) = policy.process.run_as_group.as_deref() {
        gid = find_group(group)?;
    }
    if uid == 0 || gid == 0 {
        return Err(usage(
            "a sandbox never runs as root; name another user with --user or `process: { run_as_user: }`",
        ));
    }
    if is_socket_group(gid) {
        return Err(usage(format!(
            "a sandbox never runs with group {SOCKET_GROUP:?}, whose members command the host; a member starts sandboxes from a shell with its usual group (not after `newgrp {SOCKET_GROUP}`), root names another with `process: {{ run_as_group: }}`"
        )));
    }
    // A member of the socket's group is no root: as somebody else it would read that user's files.
    if peer.uid != 0 && (uid, gid) != (peer.uid, peer.gid) {
        return Err(usage(format!(
            "only root may start a sandbox as another user (uid {uid}, gid {gid}); you are uid {}, gid {}",
            peer.uid, peer.gid
        )));
    }
    Ok((uid, gid))
}

/// Whether the group is the one that may use the control socket, by whichever of its names.
fn is_socket_group(gid: u32) -> bool {
    uzers::get_group_by_name(SOCKET_GROUP).is_some_and(|group| group.gid() == gid)
}

fn find_user(name: &str) -> Result<(u32, u32), ApiError> {
    let found = match name.parse::<u32>() {
        Ok(uid) => uzers::get_user_by_uid(uid),
        Err(_name) => uzers::get_user_by_name(name),
    };
    let found = found.ok_or_else(|| {
        usage(format!("there is no user {name:?} on this host; make it with `useradd --system {name}` or name another"))
    })?;
    Ok((found.uid(), found.primary_group_id()))
}

fn find_group(name: &str) -> Result<u32, ApiError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    let found = uzers::get_group_by_name(name);
    found.map(|group| group.gid()).ok_or_else(|| {
        usage(format!("there is no group {name:?} on this host; make it with `groupadd --system {name}` or name another"))
    })
}

/// The further groups that the policy lists. Whoever is not root can hand out no rights but its own.
pub(super) fn groups(policy: &Policy, peer: Peer) -> Result<Vec<Group>, ApiError> {
    let mut groups: Vec<Group> = Vec::new();
    for name in &policy.process.supplementary_groups {
        let gid = find_group(name)?;
        let known = group_name(gid);
        if gid == 0 || is_socket_group(gid) {
            return Err(usage(format!(
                "`supplementary_groups`: a sandbox never has the rights of group {known:?}, whose members command the host; remove {name:?}"
            )));
        }
        if peer.uid != 0 && !is_member(peer, gid) {
            return Err(usage(format!(
                "`supplementary_groups`: you are no member of {name:?}, and only root may give a sandbox the rights of another group; remove it, or have root start the sandbox"
            )));
        }
        if groups.iter().all(|other| other.gid != gid) {
            groups.push(Group { gid, name: known });
        }
    }
    Ok(groups)
}

/// Whether `peer` may have a command run with these rights: root may, and who has them.
pub(crate) fn may_run_as(peer: Peer, (uid, gid): (u32, u32), groups: &[u32]) -> bool {
    let has_groups = || groups.iter().all(|gid| is_member(peer, *gid));
    peer.uid == 0 || ((peer.uid, peer.gid) == (uid, gid) && has_groups())
}

/// As the host's files say, not the process: a shell that was started before counts too.
fn is_member(peer: Peer, gid: u32) -> bool {
    if peer.gid == gid {
        return true;
    }
    let user = uzers::get_user_by_uid(peer.uid);
    let groups = user.and_then(|user| user.groups()).unwrap_or_default();
    groups.iter().any(|group| group.gid() == gid)
}

/// The user's name for the sandbox's own `/etc`; empty where the host does not know one.
pub(super) fn user_name(uid: u32) -> String {
    let user = uzers::get_user_by_uid(uid);
    user.map_or_else(String::new, |user| text(user.name()))
}

/// The group's name, likewise.
pub(super) fn group_name(gid: u32) -> String {
    let group = uzers::get_group_by_gid(gid);
    group.map_or_else(String::new, |group| text(group.name()))
}

fn text(name: &OsStr) -> String {
    name.to_str().unwrap_or_default().to_owned()
}
