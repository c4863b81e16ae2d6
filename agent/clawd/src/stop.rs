//! Ending sandboxes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clawd_control::{
    ApiError, ExitCode, SandboxName, StopAllReport, StopFailure, StopReport, StopRequest,
    WaitReport, limits,
};
use rustix::process::{Signal, pidfd_send_signal};

use crate::{
    cgroup::CgroupError,
    sandboxes::{Live, Shared},
    starts::Start,
};

/// How long the clearing away of a killed sandbox may take.
const CLEARED_DEADLINE: Duration = Duration::from_secs(10);

/// How long a start that is given up may take to end; more than a start may take.
const START_DEADLINE: Duration = Duration::from_secs(25);

/// Ends one sandbox; returns when nothing of it is left.
pub(crate) async fn stop(
    shared: &Arc<Shared>,
    name: &SandboxName,
    request: &StopRequest,
) -> Result<StopReport, ApiError> {
    let grace = grace(request)?;
    let live = shared.find(name)?;
    stop_gently(name, live, grace).await
}

/// Waits until a sandbox has ended and nothing of it is left.
pub(crate) async fn wait(shared: &Arc<Shared>, name: &SandboxName) -> Result<WaitReport, ApiError> {
    let live = shared.find(name)?;
    live.cleared().await;
    Ok(WaitReport {
        sandbox: name.clone(),
        exit_code: *live.exit_code(),
    })
}

/// Ends every sandbox, all at once: those that live, and those that are being started when this is
/// called. What has got no name yet comes after it.
pub(crate) async fn stop_all(
    shared: &Arc<Shared>,
    request: &StopRequest,
) -> Result<StopAllReport, ApiError> {
    let grace = grace(request)?;
    let all = shared.starts.cancel_all();
    let stopping = all.into_iter().map(|(name, start)| {
        tokio::spawn(async move { (name.clone(), stop_started(&name, &start, grace).await) })
    });
    // Collected first, so that they have all begun before the first is waited for.
    let stopping: Vec<_> = stopping.collect();
    let mut report = StopAllReport::default();
    for stopped in stopping {
        match stopped.await {
            Ok((_, Ok(Some(stopped)))) => report.stopped.push(stopped),
            Ok((_, Ok(None))) => {}
            Ok((sandbox, Err(error))) => report.failed.push(StopFailure {
                sandbox,
                message: error.error.message,
            }),
            Err(error) => {
                return Err(ApiError::new(
                    ExitCode::Failed,
                    format!("the request failed inside clawd: {error}"),
                ));
            }
        }
    }
    Ok(report)
}

fn grace(request: &StopRequest) -> Result<Duration, ApiError> {
    let (got, limit) = (request.timeout_s, limits::STOP_TIMEOUT_S);
    if got > limit {
        return Err(ApiError::new(
            ExitCode::Usage,
            format!("the time to end is {got} s, more than the limit of {limit} s"),
        ));
    }
    Ok(Duration::from_secs(got.into()))
}

/// Ends what has come of a start; `None` where no sandbox has.
async fn stop_started(
    name: &SandboxName,
    start: &Start,
    grace: Duration,
) -> Result<Option<StopReport>, ApiError> {
    match tokio::time::timeout(START_DEADLINE, start.live()).await {
        Ok(None) => Ok(None),
        Ok(Some(live)) => stop_gently(name, live, grace).await.map(Some),
        Err(_late) => Err(ApiError::new(
            ExitCode::Failed,
            format!("{name} is still being started"),
        )),
    }
}

/// Asks the sandbox's command to end, and kills what is left after `grace`. What was entered ends with
/// the sandbox.
async fn stop_gently(
    name: &SandboxName,
    live: Arc<Live>,
    grace: Duration,
) -> Result<StopReport, ApiError> {
    let begun = Instant::now();
    if !grace.is_zero() {
        // Its first process hands the signal to the command. One that has ended is cleared away.
        if let Err(error) = pidfd_send_signal(&live.pidfd, Signal::TERM) {
            tracing::debug!(sandbox = %name, %error, "a sandbox ended before it was asked to");
        }
        if tokio::time::timeout(grace, live.cleared()).await.is_ok() {
            return Ok(StopReport {
                sandbox: name.clone(),
                killed: 0,
                elapsed_us: microseconds(begun),
            });
        }
    }
    let report = stop_live(name, live).await?;
    Ok(StopReport {
        elapsed_us: microseconds(begun),
        ..report
    })
}

fn microseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
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
        elapsed_us: microseconds(begun),
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
