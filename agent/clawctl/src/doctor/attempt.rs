//! The proof: a sandbox that may reach nothing tries to, and the audit log tells of it.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use clawd_audit::{AuditRecord, Outcome as Verdict, tail};
use clawd_control::{ExitCode, LogQuery, Route, SandboxName};
use http_body_util::BodyExt as _;

use super::{
    Check,
    probe::{ALLOWED, FORBIDDEN},
};
use crate::{
    client::Client,
    lines::{Lines, TooLong},
};

/// Where programs and their libraries are.
const TREES: [&str; 4] = ["/usr/lib", "/usr/lib64", "/lib", "/lib64"];
/// How long the record may take from the kernel to the log.
const RECORD_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks for it.
const PAUSE: Duration = Duration::from_millis(50);

/// What `landlock: { compatibility: }` asks for.
const STRICT: &str = "hard_requirement";
const LENIENT: &str = "best_effort";

/// Starts the sandbox and looks at what came of it. Nothing of it is left.
pub(super) async fn checks(client: &Client) -> Vec<Check> {
    let mut checks = Vec::new();
    let name = format!("doctor-{}", std::process::id());
    let mut output = run(client, &name, STRICT);
    if matches!(&output, Ok(output) if is_refused_start(output)) {
        let why = output.as_ref().map(said).unwrap_or_default();
        output = run(client, &name, LENIENT);
        if matches!(&output, Ok(output) if !is_refused_start(output)) {
            let remedy = "use a newer kernel, network mode none, or `landlock: { compatibility: best_effort }`";
            checks.push(Check::warning("sandbox", why, remedy));
        }
    }
    match output {
        Ok(output) => checks.push(refusal(&output)),
        Err(error) => {
            let found = format!("cannot start clawctl: {error}");
            checks.push(Check::failed("attempt", found, "see `clawctl run --help`"));
            return checks;
        }
    }
    if let Ok(name) = SandboxName::new(name)
        && checks
            .last()
            .is_some_and(|check| check.outcome == super::Outcome::Ok)
    {
        checks.push(record(client, name).await);
    }
    checks
}

/// As an operator would: `clawctl run`, with the policy from a pipe.
fn run(client: &Client, name: &str, compatibility: &str) -> std::io::Result<Output> {
    let own = std::env::current_exe()?;
    let mut child = Command::new(&own)
        .arg("--socket")
        .arg(client.socket())
        .args(["run", "--policy", "/proc/self/fd/0", "--name", name, "--"])
        .arg(&own)
        .arg("doctor-probe")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A clawctl that ended without reading it says why.
        drop(stdin.write_all(policy(&own, compatibility).as_bytes()));
    }
    child.wait_with_output()
}

/// Programs and libraries alone; no destination. Whose it is clawd decides by who asks.
fn policy(own: &Path, compatibility: &str) -> String {
    let trees = TREES.map(Path::new).into_iter();
    let listed = trees.filter(|tree| tree.is_dir()).chain([own]);
    let listed: Vec<String> = listed.map(|path| path.display().to_string()).collect();
    // JSON is YAML in flow style.
    format!(
        "version: 2\n\
         filesystem_policy: {{ read_execute: {} }}\n\
         network: {{ mode: direct }}\n\
         landlock: {{ compatibility: {compatibility} }}\n",
        serde_json::json!(listed)
    )
}

fn is_refused_start(output: &Output) -> bool {
    output.status.code() == Some(ExitCode::Setup.code().into())
}

/// What clawctl said, on one line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.trim().replace('\n', "; ")
}

fn refusal(output: &Output) -> Check {
    const NAME: &str = "attempt";
    let code = output.status.code();
    if code == Some(ExitCode::Ok.code().into()) {
        let found = format!("a connect to {FORBIDDEN} was refused with EPERM");
        return Check::ok(NAME, found);
    }
    if code == Some(ALLOWED.into()) {
        let found = format!("a sandbox that may reach nothing was let through to {FORBIDDEN}");
        return Check::failed(NAME, found, "stop all sandboxes; see `clawctl status`");
    }
    let said = said(output);
    let found = match (code, said.as_str()) {
        (_, "") => format!("the throw-away sandbox ended with {}", output.status),
        (_, said) => format!("the throw-away sandbox does not run: {said}"),
    };
    Check::failed(NAME, found, "what it says is also what `clawctl run` meets")
}

/// Whether the log tells of the refusal.
async fn record(client: &Client, sandbox: SandboxName) -> Check {
    const NAME: &str = "record";
    let deadline = Instant::now() + RECORD_DEADLINE;
    loop {
        let query = LogQuery {
            sandbox: Some(sandbox.clone()),
            ..LogQuery::default()
        };
        let found = match records(client, query).await {
            Ok(records) => records.into_iter().find(is_of_the_attempt),
            Err(error) => return Check::failed(NAME, error, "see `clawctl logs`"),
        };
        if let Some(record) = found {
            let exe = record.exe.unwrap_or_default();
            let found = format!("audit record {} names {exe}", record.seq);
            return Check::ok(NAME, found);
        }
        if Instant::now() >= deadline {
            let found = "the audit log does not tell of the attempt";
            let remedy = "see the problems that `clawctl status` lists";
            return Check::failed(NAME, found, remedy);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_of_the_attempt(record: &AuditRecord) -> bool {
    record.action == Some(Verdict::Denied)
        && record.dst_ip == Some((*FORBIDDEN.ip()).into())
        && record.dst_port == Some(FORBIDDEN.port())
}

async fn records(client: &Client, query: LogQuery) -> Result<Vec<AuditRecord>, String> {
    let response = client.stream(&Route::Logs(query)).await;
    let mut body = response.map_err(|failure| failure.message)?.into_body();
    let mut lines = Lines::new(tail::LINE_BYTES + 16);
    let mut records = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let complete = lines.push(&data);
        let complete = complete.map_err(|TooLong| "clawd sent a line without end".to_owned())?;
        records.extend(complete.iter().filter_map(|line| {
            let text = crate::logs::record_text(line)?;
            tail::read_line(text.as_bytes()).ok()
        }));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, path::Path, process::ExitStatus};

    use super::{Output, policy, refusal};
    use crate::doctor::Outcome;

    #[test]
    fn attempts_policy_is_one_whatever_clawctls_path_is() {
        for path in ["/usr/bin/clawctl", "/home/a b/\"x\": {y}/clawctl"] {
            for compatibility in [super::STRICT, super::LENIENT] {
                let text = policy(Path::new(path), compatibility);
                let parsed = clawd_policy::parse("doctor", &text);
                assert!(parsed.is_ok(), "{text}: {parsed:?}");
            }
        }
    }

    #[test]
    fn attempt_is_good_only_where_it_was_refused() {
        for (code, want, found) in [
            (0, Outcome::Ok, "refused with EPERM"),
            (41, Outcome::Failed, "let through to 192.0.2.1:9"),
            (42, Outcome::Failed, "no such library"),
            (125, Outcome::Failed, "no such library"),
        ] {
            let check = refusal(&Output {
                status: ExitStatus::from_raw(code << 8),
                stdout: Vec::new(),
                stderr: b"no such library\n".to_vec(),
            });
            assert_eq!(check.outcome, want);
            assert!(check.found.contains(found), "{check:?}");
        }
    }
}
