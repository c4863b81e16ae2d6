//! Counts of tests, read from the summary lines of Rust's test harness.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Tests that ran and passed.
    pub(crate) passed: u64,
    /// Tests that ran and failed.
    pub(crate) failed: u64,
}

/// The failure was already shown in full; nothing more is to be printed after it.
#[derive(Debug)]
pub(crate) struct AlreadyReported;

// === impl Outcome ===

impl Outcome {
    /// Reads a line like `test result: ok. 3 passed; 0 failed; ...`; any other line is `None`.
    pub(crate) fn from_summary_line(line: &str) -> Option<Self> {
        let (_, counts) = line.split_once("test result: ")?;
        let (_, counts) = counts.split_once(". ")?;
        let mut parts = counts.split("; ");
        let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
        let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
        Some(Self { passed, failed })
    }

    /// The same, with at least one failure: for a step that failed before any test could say so.
    pub(crate) fn with_a_failure(self) -> Self {
        Self {
            failed: self.failed.max(1),
            ..self
        }
    }
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.passed = self.passed.saturating_add(other.passed);
        self.failed = self.failed.saturating_add(other.failed);
    }
}

/// The closing line of a test run.
impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)
    }
}

// === impl AlreadyReported ===

impl fmt::Display for AlreadyReported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("failed as reported above")
    }
}

impl std::error::Error for AlreadyReported {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_of_a_passing_run_is_counted() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.03s";
        assert_eq!(
            Outcome::from_summary_line(line),
            Some(Outcome {
                passed: 12,
                failed: 0
            })
        );
    }

    #[test]
    fn summary_of_a_failing_run_is_counted_behind_a_prefix() {
        let line = "[6.1] test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\r";
        assert_eq!(
            Outcome::from_summary_line(line),
            Some(Outcome {
                passed: 7,
                failed: 2
            })
        );
    }

    #[test]
    fn other_lines_are_not_summaries() {
        for line in [
            "",
            "test result: ok",
            "test a ... ok",
            "test result: ok. many passed; 0 failed;",
            "3 passed; 0 failed",
        ] {
            assert_eq!(Outcome::from_summary_line(line), None, "{line}");
        }
    }

    #[test]
    fn sums_and_closing_line_agree() {
        let mut total = Outcome {
            passed: 3,
            failed: 0,
        };
        total += Outcome {
            passed: 4,
            failed: 2,
        };
        assert_eq!(total.to_string(), "7 passed, 2 failed");
        assert_eq!(total.with_a_failure(), total);
        assert_eq!(
            Outcome::default().with_a_failure().to_string(),
            "0 passed, 1 failed"
        );
    }
}
