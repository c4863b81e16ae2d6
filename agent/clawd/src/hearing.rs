//! What the exec gate tells without being asked, into the audit log.

use std::sync::{Arc, Mutex, PoisonError};

use clawd_audit::{DaemonEvent, Digest, Names as _};
use clawd_identity::protocol::Notice;
use clawd_kernel::Epoch;

use crate::{audit::Audit, gate::Hears, registry::Registry};

/// Writes the gate's notices down.
pub(crate) struct Hearing {
    audit: Arc<Audit>,
    registry: Arc<Registry>,
    epoch: Mutex<Epoch>,
}

impl Hearing {
    pub(crate) fn new(audit: Arc<Audit>, registry: Arc<Registry>, epoch: Epoch) -> Self {
        Self {
            audit,
            registry,
            epoch: Mutex::new(epoch),
        }
    }

    fn name(&self, sandbox_id: u32) -> String {
        let name = self.registry.sandbox(sandbox_id);
        name.unwrap_or_else(|| format!("#{sandbox_id}"))
    }
}

impl Hears for Hearing {
    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Pinned {
                sandbox_id,
                path,
                sha256,
            } => self.audit.daemon(&DaemonEvent::BinaryPinned {
                sandbox: &self.name(sandbox_id),
                path: &path,
                sha256: Digest(sha256),
            }),
            Notice::Changed {
                sandbox_id,
                rule,
                path,
                pinned,
                found,
            } => self.audit.daemon(&DaemonEvent::BinaryChanged {
                sandbox: &self.name(sandbox_id),
                path: &path,
                pinned: Digest(pinned),
                found: Digest(found),
                rule: &rule,
            }),
            Notice::Identified {
                sandbox_id,
                tgid,
                path,
                sha256,
            } => self.audit.daemon(&DaemonEvent::ProcessIdentified {
                sandbox: &self.name(sandbox_id),
                pid: tgid,
                path: &path,
                sha256: Digest(sha256),
            }),
            Notice::Unseen { sandbox_id, count } => self.audit.daemon(&DaemonEvent::ExecsUnseen {
                sandbox: sandbox_id.map(|id| self.name(id)).as_deref(),
                count,
            }),
            Notice::LeaseBroken { tgid } => {
                tracing::warn!(
                    tgid,
                    "a program was opened for writing while it was executed; it lost its grants"
                );
            }
        }
    }

    fn gone(&self) {
        let mut epoch = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = epoch.raise() {
            tracing::error!(%error, "leases of an exec gate that is gone count until their time is over");
        }
    }

    fn restarted(&self, why: &str) {
        let message = format!("the exec gate was started again: {why}");
        tracing::error!(message);
        self.audit
            .daemon(&DaemonEvent::GateRestarted { message: &message });
    }
}
