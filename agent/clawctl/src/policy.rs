//! `clawctl policy`: check a policy without clawd, or put one in force.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::Path,
};

use clawd_control::{
    ExitCode, PolicyReport, PolicySource, PushReport, PushRequest, Route, SandboxName, limits,
};
use clawd_policy::{FileAccess, FileGrant, Policy, file_grants};
use serde::Serialize;

use crate::{
    client::Client,
    command::PushCommand,
    failure::Failure,
    output::{complain, json as to_json, print, shown, shown_lines},
    table::table,
};

/// A policy that was read and is valid.
#[derive(Debug)]
pub(crate) struct Checked {
    /// As clawd will get it.
    pub(crate) source: PolicySource,
    /// What it says.
    pub(crate) policy: Policy,
    /// What looks unintended.
    pub(crate) warnings: Vec<String>,
}

/// What `validate --json` prints.
#[derive(Debug, Serialize)]
struct Validation<'a> {
    file: String,
    valid: bool,
    /// Whether all of it is enforced; `run` and `push` refuse it otherwise.
    enforced: bool,
    warnings: &'a [String],
    not_enforced: Option<&'a str>,
    error: Option<&'a str>,
}

/// What was found of a policy that is valid.
#[derive(Debug, Default)]
struct Review {
    warnings: Vec<String>,
    /// What of it is not enforced, in one text.
    not_enforced: Option<String>,
}

/// `clawctl policy validate`; with `strict` what is warned of is an error.
pub(crate) fn validate(file: &Path, strict: bool, json: bool) -> Result<u8, Failure> {
    let name = shown(&file.display().to_string());
    let (review, failure) = match review(file) {
        Ok(review) if strict && !review.is_clean() => {
            let failure = Failure::usage(format!(
                "{name}: `--strict` makes what is warned of an error"
            ));
            (review, Some(failure))
        }
        Ok(review) => (review, None),
        Err(failure) => (Review::default(), Some(failure)),
    };
    if json {
        print(&to_json(&Validation {
            file: file.display().to_string(),
            valid: failure.is_none(),
            enforced: failure.is_none() && review.not_enforced.is_none(),
            warnings: &review.warnings,
            not_enforced: review.not_enforced.as_deref(),
            error: failure.as_ref().map(|failure| failure.message.as_str()),
        }))?;
        return Ok(failure.map_or(ExitCode::Ok.code(), |failure| failure.code));
    }
    warn(&review.warnings);
    warn(review.not_enforced.as_slice());
    if let Some(failure) = failure {
        return Err(failure);
    }
    print(&match review.not_enforced {
        None => format!("{name}: valid"),
        Some(_) => {
            format!("{name}: valid, but refused by `run` and `push`: not all of it is enforced")
        }
    })?;
    Ok(ExitCode::Ok.code())
}

fn review(file: &Path) -> Result<Review, Failure> {
    let source = read_source(file)?;
    let checked = clawd_policy::read(&source.file, &source.text)
        .map_err(|errors| Failure::usage(errors.to_string()))?;
    compiles(&source.file, &checked.parsed.policy)?;
    let warnings = checked.parsed.warnings.iter();
    Ok(Review {
        warnings: warnings.map(ToString::to_string).collect(),
        not_enforced: checked.not_enforced.map(|errors| errors.to_string()),
    })
}

impl Review {
    const fn is_clean(&self) -> bool {
        self.warnings.is_empty() && self.not_enforced.is_none()
    }
}

/// Whether a policy fits into the kernel's tables. The id stands for the one that clawd will give; the
/// result does not depend on it.
fn compiles(file: &str, policy: &Policy) -> Result<(), Failure> {
    match clawd_policy::compile(policy, 1) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::usage(format!("{file}: {error}"))),
    }
}

/// What `show --json` prints.
#[derive(Debug, Serialize)]
struct Shown {
    file: String,
    effective: bool,
    grants: Vec<FileGrant>,
}

/// `clawctl policy show`.
pub(crate) fn show(file: &Path, effective: bool, json: bool) -> Result<u8, Failure> {
    let checked = read(file)?;
    let grants = file_grants(&checked.policy, effective);
    let file = file.display().to_string();
    print(&if json {
        to_json(&Shown {
            file,
            effective,
            grants,
        })
    } else {
        rendered(&grants)
    })?;
    Ok(ExitCode::Ok.code())
}

fn rendered(grants: &[FileGrant]) -> String {
    let rows: Vec<_> = grants
        .iter()
        .map(|grant| {
            let path = grant.path.as_ref().map(|path| path.display().to_string());
            let access = match grant.access {
                FileAccess::Read => "read",
                FileAccess::ReadExecute => "read, execute",
                FileAccess::ReadWrite => "read, write",
                FileAccess::ReadWriteExecute => "read, write, execute",
                FileAccess::Denied => "DENIED",
            };
            [
                shown(&path.unwrap_or_else(|| "(workspace)".to_owned())),
                access.to_owned(),
                grant.key.unwrap_or("implicit").to_owned(),
                shown(&grant.reason),
            ]
        })
        .collect();
    table(["PATH", "ACCESS", "FROM", "WHY"], &rows)
}

/// `clawctl policy push`.
pub(crate) async fn push(client: &Client, push: PushCommand, json: bool) -> Result<u8, Failure> {
    let checked = read(&push.file)?;
    let request = PushRequest {
        policy: checked.source,
        if_generation: push.if_generation,
    };
    let route = Route::Push(push.sandbox);
    let report: PushReport = client.request_with(&route, &request).await?;
    in_force(&report, json)
}

/// Tells of a policy that came into force.
pub(crate) fn in_force(report: &PushReport, json: bool) -> Result<u8, Failure> {
    if json {
        print(&to_json(report))?;
        return Ok(ExitCode::Ok.code());
    }
    warn(&report.warnings);
    let PushReport {
        sandbox,
        generation,
        elapsed_us,
        ..
    } = report;
    let text_of = report.rolled_back_to;
    let text_of = text_of.map_or_else(String::new, |to| format!(", with the text of {to}"));
    print(&format!(
        "generation {generation} is in force for {sandbox}{text_of} ({elapsed_us} us)"
    ))?;
    Ok(ExitCode::Ok.code())
}

/// `clawctl policy pull`: the text as it was given, so that a file of it is that policy again.
pub(crate) async fn pull(
    client: &Client,
    sandbox: SandboxName,
    generation: Option<u64>,
    json: bool,
) -> Result<u8, Failure> {
    let route = Route::Policy(sandbox, generation);
    let report: PolicyReport = client.request(&route).await?;
    let text = &report.policy.text;
    if json {
        print(&to_json(&report))?;
    } else if io::stdout().is_terminal() {
        // A policy may come from somebody else.
        print(shown_lines(text).trim_end_matches('\n'))?;
    } else {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes());
        written.and_then(|()| stdout.flush()).map_err(|error| {
            Failure::failed(format!("cannot write to standard output: {error}"))
        })?;
    }
    Ok(ExitCode::Ok.code())
}

/// Reads and checks the policy at `path`.
///
/// # Errors
/// Exit code 2, with every mistake that was found and its place in the file.
pub(crate) fn read(path: &Path) -> Result<Checked, Failure> {
    let source = read_source(path)?;
    let file = &source.file;
    let parsed = clawd_policy::parse(file, &source.text);
    let parsed = parsed.map_err(|errors| Failure::usage(errors.to_string()))?;
    compiles(file, &parsed.policy)?;
    Ok(Checked {
        source,
        warnings: parsed.warnings.iter().map(ToString::to_string).collect(),
        policy: parsed.policy,
    })
}

/// Reads the policy at `path`; what it says is not looked at.
///
/// # Errors
/// Exit code 2, with the file's name.
pub(crate) fn read_source(path: &Path) -> Result<PolicySource, Failure> {
    let file = path.to_str().ok_or_else(|| {
        Failure::usage(format!("policy file name {} is not UTF-8", path.display()))
    })?;
    Ok(PolicySource {
        file: file.to_owned(),
        text: read_text(path)?,
    })
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let cannot = |error| Failure::usage(format!("cannot read policy {shown}: {error}"));
    let limit = limits::POLICY_BYTES;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long, even one without end.
    let mut file = File::open(path).map_err(cannot)?.take(limit as u64 + 1);
    file.read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > limit {
        return Err(Failure::usage(format!(
            "policy {shown} is longer than {limit} bytes"
        )));
    }
    String::from_utf8(bytes)
        .map_err(|error| Failure::usage(format!("policy {shown} is not UTF-8: {error}")))
}

/// Shows warnings on standard error.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        complain(&shown_lines(warning));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clawd_control::limits;

    use super::{read, rendered, review, validate};

    #[test]
    fn show_names_access_origin_and_reason_of_each_grant() {
        let text = "version: 2\nfilesystem_policy: { include_workdir: true, read_execute: [/usr], deny: [/usr/a] }\n";
        let policy = clawd_policy::parse("p", text).expect("a policy").policy;
        let grants = |effective| clawd_policy::file_grants(&policy, effective);
        assert_eq!(
            rendered(&grants(false)),
            "PATH         ACCESS         FROM             WHY\n\
             (workspace)  read, write    include_workdir  the workspace\n\
             /usr         read, execute  read_execute     listed\n\
             /usr/a       DENIED         deny             wins over everything else"
        );
        let effective = rendered(&grants(true));
        let line = "/dev/null             read, write    implicit         device";
        assert!(effective.lines().any(|shown| shown == line), "{effective}");
    }

    #[test]
    fn policy_that_cannot_be_used_is_wrong_usage_and_names_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("p.yaml");
        let refused = |want: &str| {
            let failure = read(&path).expect_err("refused");
            assert_eq!(failure.code, 2);
            assert!(failure.message.contains("p.yaml"), "{}", failure.message);
            assert!(failure.message.contains(want), "{}", failure.message);
        };
        refused("cannot read");
        fs::write(&path, b"version: \xff").expect("writes");
        refused("not UTF-8");
        fs::write(&path, "#".repeat(limits::POLICY_BYTES + 1)).expect("writes");
        refused("longer than");
        fs::write(&path, "version: 2\nfrobnicate: 1\n").expect("writes");
        refused("p.yaml:2:1:");
        fs::write(&path, "version: 2\n").expect("writes");
        read(&path).expect("the least policy there is");
    }

    #[test]
    fn policy_with_names_is_valid_and_cannot_be_put_in_force() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("p.yaml");
        let write = |host: &str| {
            let text = format!(
                "version: 2\nnetwork: {{ mode: direct }}\nnetwork_policies:\n  \
                 g: {{ endpoints: [{{ host: {host}, port: 1 }}], binaries: [{{ path: /bin/x }}] }}\n"
            );
            fs::write(&path, text).expect("writes");
        };
        let code = |strict| {
            let result = validate(&path, strict, false);
            result.unwrap_or_else(|failure| failure.code)
        };
        write("api.example.com");
        let found = review(&path).expect("valid");
        let told = found.not_enforced.expect("names");
        assert!(
            told.contains("p.yaml:4:28: host `api.example.com` is a name"),
            "{told}"
        );
        assert_eq!((code(false), code(true)), (0, 2));
        let failure = read(&path).expect_err("not enforced");
        assert_eq!((failure.code, failure.message), (2, told));
        write("192.0.2.1");
        assert_eq!((code(false), code(true)), (0, 0));
        read(&path).expect("enforced");
        write("a..b");
        assert_eq!((code(false), code(true)), (2, 2));
    }
}
