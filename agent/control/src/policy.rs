//! A policy as it travels: the push of one to a running sandbox, the policies that it had, and the way back
//! to one of them.

use serde::{Deserialize, Serialize};

use crate::{name::SandboxName, run::NetworkMode};

/// A policy file's text with the name it goes by in messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// The path as the operator typed it: for messages only, clawd never opens it.
    pub file: String,
    /// The YAML text, at most [`crate::limits::POLICY_BYTES`].
    pub text: String,
}

/// Body of `POST /v1/sandboxes/{name}/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// The policy to put in force.
    pub policy: PolicySource,
    /// The generation that must be in force: if another one is, nothing is switched. `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
}

/// The policy in force for a sandbox: the answer to `GET /v1/sandboxes/{name}/policy`; or an earlier one, to the
/// same with `/N` for generation N.
///
/// Its text may hold secrets (`env`): only root, and whoever may run as the sandbox's user, gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Number of the policy within the sandbox, from 1.
    pub generation: u64,
    /// How the sandbox is connected, which its start may have narrowed.
    pub network: NetworkMode,
    /// As it was given.
    pub policy: PolicySource,
}

/// Body of `POST /v1/sandboxes/{name}/policy/rollback`: the text of an earlier generation is pushed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The generation whose text is wanted; `None` for the one before that in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// As in [`PushRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
}

/// The policy is in force: every attempt from now on is judged by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct PushReport {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Number of the policy within the sandbox, from 1.
    pub generation: u64,
    /// Under which the kernel holds its rules.
    pub policy_id: u32,
    /// The earlier generation that the text is of, where it came by a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<u64>,
    /// Microseconds from the parsed request to the switch.
    pub elapsed_us: u64,
    /// What is allowed but looks unintended, each with its position in the file.
    pub warnings: Vec<String>,
}

/// A policy that is or was in force for a sandbox. The answer to
/// `GET /v1/sandboxes/{name}/policy/history` is a list of them, oldest first, the last one in force.
///
/// clawd keeps the last [`crate::limits::GENERATIONS`], fewer where they are large, and tells whom it tells
/// [`PolicyReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationInfo {
    /// Its number within the sandbox, from 1.
    pub generation: u64,
    /// Whether it is in force.
    pub in_force: bool,
    /// When it was pushed, or the sandbox started with it: RFC 3339, UTC. `null` where a clawd put it
    /// in force that kept no history.
    pub pushed_at: Option<String>,
    /// User id of who did; `null` likewise.
    pub caller_uid: Option<u32>,
    /// The generation that it has its text of, where it came by a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<u64>,
    /// The policy's file, as typed.
    pub file: String,
    /// The text's SHA-256, in 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Bytes of the text.
    pub text_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::{GenerationInfo, PushRequest, RollbackRequest};

    #[test]
    fn changes_are_read_strictly_and_a_missing_generation_is_any() {
        let rollback = |text| serde_json::from_str::<RollbackRequest>(text);
        assert_eq!(rollback("{}").expect("reads"), RollbackRequest::default());
        let both = rollback(r#"{"to":3,"if_generation":5}"#).expect("reads");
        assert_eq!((both.to, both.if_generation), (Some(3), Some(5)));
        for wrong in [r#"{"too":3}"#, r#"{"to":"3"}"#, r#"{"to":-1}"#, "3"] {
            rollback(wrong).expect_err(wrong);
        }
        let push = |more: &str| {
            let text = format!(r#"{{"policy":{{"file":"p","text":"t"}}{more}}}"#);
            serde_json::from_str::<PushRequest>(&text)
        };
        assert_eq!(push("").expect("reads").if_generation, None);
        let with = push(r#","if_generation":7"#).expect("reads");
        assert_eq!(with.if_generation, Some(7));
        push(r#","if-generation":7"#).expect_err("an unknown field");
        // A clawd that does not know the field is not asked for nothing.
        let json = serde_json::to_string(&push("").expect("reads")).expect("serialises");
        assert!(!json.contains("if_generation"), "{json}");
    }

    #[test]
    fn generation_has_its_documented_form() {
        let info = GenerationInfo {
            generation: 3,
            in_force: true,
            pushed_at: None,
            caller_uid: Some(0),
            rolled_back_to: None,
            file: "p.yaml".to_owned(),
            sha256: "ab".repeat(32),
            text_bytes: 1,
        };
        let json = serde_json::to_string(&info).expect("serialises");
        let want = format!(
            r#"{{"generation":3,"in_force":true,"pushed_at":null,"caller_uid":0,"file":"p.yaml","sha256":"{}","text_bytes":1}}"#,
            "ab".repeat(32)
        );
        assert_eq!(json, want);
        let again: GenerationInfo = serde_json::from_str(&json).expect("reads back");
        assert_eq!(again, info);
    }
}
