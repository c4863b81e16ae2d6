//! Ending sandboxes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clawd_control::{ApiError, ExitCode, SandboxName, StopAllReport, StopFailure, StopReport};

use crate::{
    cgroup::CgroupError,
    sandboxes::{Live, Shared},
};

/// How long the clearing away of a killed sandbox may take.
const CLEARED_DEADLINE: Duration = Duration::from_secs(10);

/// Ends one sandbox; returns when nothing of it is left.
pub(crate) async fn stop(shared: &Arc<Shared>, name: &SandboxName) -> Result<StopReport, ApiError> {
    let live = shared.find(name)?;
    stop_live(name, live).await
}

/// Ends every sandbox.
pub(crate) async fn stop_all(shared: &Arc<Shared>) -> StopAllReport {
    let mut report = StopAllReport::default();
    for live in shared.list() {
        let name = live.state().name.clone();
        match stop_live(&name, live).await {
            Ok(stopped) => report.stopped.push(stopped),
            Err(error) => report.failed.push(StopFailure {
                sandbox: name,
                message: error.error.message,
            }),
        }
    }
    report
}

/// Ends this very sandbox, not a later one of its name.
pub(crate) async fn stop_live(name: &SandboxName, live: Arc<Live>) -> Result<StopReport, ApiError> {
    let begun = Instant::now();
    let failed =
        |message: String| ApiError::new(ExitCode::Failed, format!("cannot stop {name}: {message}"));
    let killed = {
        let live = Arc::clone(&live);
        tokio::task::spawn_blocking(move || kill(&live))
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?
    };
    if tokio::time::timeout(CLEARED_DEADLINE, live.cleared())
        .await
        .is_err()
    {
        return Err(failed("its processes do not end".to_owned()));
    }
    Ok(StopReport {
        sandbox: name.clone(),
        killed: u32::try_from(killed).unwrap_or(u32::MAX),
        elapsed_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}

/// Kills every process; returns how many there were. A sandbox that ended by itself meanwhile had none.
fn kill(live: &Live) -> Result<usize, CgroupError> {
    let processes = match live.cgroup.processes() {
        Err(error) if error.is_gone() => return Ok(0),
        other => other?.len(),
    };
    match live.cgroup.kill() {
        Err(error) if !error.is_gone() => Err(error),
        _ => Ok(processes),
    }
}
