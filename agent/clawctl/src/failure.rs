//! How a command fails: what is said, and the exit code.

use std::{fmt, process};

use clawd_control::{ApiError, ExitCode};

use crate::output;

/// A command that did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What clawctl exits with.
    pub(crate) code: u8,
    /// What was wrong, where, and what to do.
    pub(crate) message: String,
}

// === impl Failure ===

impl Failure {
    /// The request failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Failed, message)
    }

    /// Wrong usage, or a wrong policy.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// The sandbox could not be set up.
    pub(crate) fn setup(message: impl Into<String>) -> Self {
        Self::new(ExitCode::Setup, message)
    }

    fn new(code: ExitCode, message: impl Into<String>) -> Self {
        let (code, message) = (code.code(), message.into());
        Self { code, message }
    }

    /// The same failure with another exit code: commands differ in what a broken connection means.
    pub(crate) fn with_code(self, code: ExitCode) -> Self {
        let code = code.code();
        Self { code, ..self }
    }

    /// Says on standard error what went wrong; with `json` as the API says it.
    pub(crate) fn report(&self, json: bool) -> process::ExitCode {
        if json {
            output::complain(&output::json(&ApiError {
                error: clawd_control::ApiErrorBody {
                    message: self.message.clone(),
                    exit_code: self.code,
                },
            }));
        } else {
            output::complain(&self.to_string());
        }
        process::ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clawctl: {}", output::shown_lines(&self.message))
    }
}

impl From<ApiError> for Failure {
    /// An error never becomes success: a code of 0 is read as "failed".
    fn from(error: ApiError) -> Self {
        let ApiError { error } = error;
        match error.exit_code {
            0 => Self::failed(error.message),
            code => Self {
                code,
                message: error.message,
            },
        }
    }
}

/// Help and version are success; anything else the argument parser says is wrong usage.
pub(crate) fn usage(error: &clap::Error) -> process::ExitCode {
    let text = error.to_string();
    if error.use_stderr() {
        output::complain(text.trim_end());
        return process::ExitCode::from(ExitCode::Usage.code());
    }
    match output::print(text.trim_end()) {
        Ok(()) => process::ExitCode::SUCCESS,
        Err(failure) => failure.report(false),
    }
}

#[cfg(test)]
mod tests {
    use clawd_control::{ApiError, ApiErrorBody, ExitCode};

    use super::Failure;

    #[test]
    fn failure_from_the_api_keeps_its_code_but_is_never_success() {
        for (sent, want) in [(0, 1), (1, 1), (2, 2), (125, 125)] {
            let error = ApiErrorBody {
                message: "m".to_owned(),
                exit_code: sent,
            };
            assert_eq!(Failure::from(ApiError { error }).code, want);
        }
    }

    #[test]
    fn failure_is_shown_without_control_characters() {
        let failure = Failure::failed("a\u{1b}[31m\nb");
        assert_eq!(failure.to_string(), "clawctl: a\\u{1b}[31m\nb");
        assert_eq!(failure.with_code(ExitCode::Setup).code, 125);
    }
}
