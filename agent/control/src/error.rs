//! The body of every answer that is an error.

use serde::{Deserialize, Serialize};

use crate::exit::ExitCode;

/// Body of an answer with a 4xx or 5xx status: `{"error":{"message":...,"exit_code":...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What went wrong.
    pub error: ApiErrorBody,
}

/// What went wrong, for people and for clawctl's exit code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiErrorBody {
    /// A sentence: what was wrong, where, and what to do.
    pub message: String,
    /// What clawctl exits with.
    pub exit_code: u8,
}

// === impl ApiError ===

impl ApiError {
    /// An error that makes clawctl exit with `exit_code`.
    #[must_use]
    pub fn new(exit_code: ExitCode, message: impl Into<String>) -> Self {
        Self {
            error: ApiErrorBody {
                message: message.into(),
                exit_code: exit_code.code(),
            },
        }
    }
}
