//! `clawctl policy explain`: whether a policy allows an attempt, and why.

mod batch;

use clawd_control::{ExitCode, NetworkMode, PolicyReport, Route};
use clawd_policy::{Answer, Explainer, Explanation, Question};
use serde::Serialize;

use crate::{
    client::Client,
    command::{Asked, ExplainCommand, PolicyOf},
    failure::Failure,
    output::{json as to_json, print, shown},
    policy,
};

/// What `explain --json` prints.
#[derive(Debug, Serialize)]
struct Explained<'a> {
    allowed: bool,
    policy: Option<&'a str>,
    reason: &'a str,
    why: &'a [String],
    near_misses: &'a [String],
}

/// `clawctl policy explain`. That clawd cannot be reached is no denial, and has no denial's exit code.
pub(crate) async fn explain(
    client: &Client,
    command: ExplainCommand,
    json: bool,
) -> Result<u8, Failure> {
    let asked = async {
        let mut explainer = explainer(client, command.policy).await?;
        match command.asked {
            Asked::One(question) => one(&mut explainer, &question, json),
            Asked::Batch(file) => batch::batch(&mut explainer, &file),
        }
    };
    asked
        .await
        .map_err(|failure| failure.with_code(ExitCode::Usage))
}

/// Reads the policy that is asked about.
async fn explainer(client: &Client, policy: PolicyOf) -> Result<Explainer, Failure> {
    let (source, network) = match policy {
        PolicyOf::File(file) => (policy::read_source(&file)?, None),
        PolicyOf::Sandbox(name) => {
            let report: PolicyReport = client.request(&Route::Policy(name, None)).await?;
            (report.policy, Some(report.network))
        }
    };
    // What is not enforced yet can be asked about all the same.
    let checked = clawd_policy::read(&source.file, &source.text)
        .map_err(|errors| Failure::usage(errors.to_string()))?;
    let explainer = Explainer::new(&source.file, checked.parsed)
        .map_err(|error| Failure::usage(format!("{}: {error}", source.file)))?;
    Ok(match network {
        None => explainer,
        Some(NetworkMode::Direct) => explainer.in_network(clawd_policy::NetworkMode::Direct),
        Some(NetworkMode::None) => explainer.in_network(clawd_policy::NetworkMode::None),
    })
}

fn one(explainer: &mut Explainer, question: &Question, json: bool) -> Result<u8, Failure> {
    let answer = explainer
        .decide(question)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let explanation = explainer.explain(question, &answer);
    print(&if json {
        to_json(&Explained {
            allowed: answer.allowed,
            policy: explainer.policy_of(&answer),
            reason: answer.reason,
            why: &explanation.why,
            near_misses: &explanation.near_misses,
        })
    } else {
        rendered(question, &answer, &explanation)
    })?;
    let code = match answer.allowed {
        true => ExitCode::Ok,
        false => ExitCode::Failed,
    };
    Ok(code.code())
}

fn rendered(question: &Question, answer: &Answer, explanation: &Explanation) -> String {
    let outcome = match answer.allowed {
        true => "allowed",
        false => "DENIED",
    };
    let host = match question.host.contains(':') {
        true => format!("[{}]", question.host),
        false => question.host.clone(),
    };
    let mut lines = vec![shown(&format!(
        "{outcome} ({}): {} to {host}:{}, {}",
        answer.reason,
        question.who.binary.display(),
        question.port,
        question.protocol.name(),
    ))];
    lines.extend(
        explanation
            .why
            .iter()
            .map(|why| format!("  {}", shown(why))),
    );
    if !explanation.near_misses.is_empty() {
        lines.push("near misses:".to_owned());
        let near = explanation.near_misses.iter();
        lines.extend(near.map(|near| format!("  {}", shown(near))));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
