//! Pins as the control API shows them.

use clawd_audit::{DaemonEvent, Digest, Timestamp};
use clawd_control::{ApiError, ExitCode, ForgetReport, ForgetRequest, PinInfo};
use clawd_identity::Pin;

use crate::{gate::GateError, sandboxes::Shared};

/// Every pin, by path.
pub(crate) fn list(shared: &Shared) -> Result<Vec<PinInfo>, ApiError> {
    let pins = shared.gate.pins().map_err(failed)?;
    Ok(pins.into_iter().map(info).collect())
}

/// Forgets pins: the next use of each path pins what is there then.
pub(crate) fn forget(shared: &Shared, request: &ForgetRequest) -> Result<ForgetReport, ApiError> {
    request
        .check()
        .map_err(|error| ApiError::new(ExitCode::Usage, error.to_string()))?;
    let paths = if request.all {
        let pins = shared.gate.pins().map_err(failed)?;
        pins.into_iter().map(|pin| pin.path).collect()
    } else {
        request.paths.clone()
    };
    let wanted = paths.iter().map(Into::into).collect();
    let forgotten = shared.gate.forget_pins(wanted).map_err(failed)?;
    for pin in &forgotten {
        shared.audit.daemon(&DaemonEvent::PinForgotten {
            path: &pin.path,
            sha256: Digest(pin.sha256),
        });
    }
    let is_unknown = |path: &String| !forgotten.iter().any(|pin| pin.path == *path);
    Ok(ForgetReport {
        unknown: paths
            .iter()
            .filter(|path| is_unknown(path))
            .cloned()
            .collect(),
        forgotten: forgotten.into_iter().map(info).collect(),
    })
}

fn info(pin: Pin) -> PinInfo {
    let first_used = Timestamp::from_unix_ns(i128::from(pin.first_used_unix_s) * 1_000_000_000);
    PinInfo {
        path: pin.path,
        sha256: Digest(pin.sha256).to_string(),
        first_used: first_used.to_string(),
        sandbox: pin.sandbox,
        found_sha256: pin.found.map(|found| Digest(found).to_string()),
    }
}

fn failed(error: GateError) -> ApiError {
    ApiError::new(ExitCode::Failed, error.to_string())
}
