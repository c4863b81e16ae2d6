//! Pins: which content stands for a path that policies list, from the path's first use on.

use serde::{Deserialize, Serialize};

use crate::limits;

/// One pin; the answer to `GET /v1/pins` is a list of them, in the order of their paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinInfo {
    /// The path as policies list it.
    pub path: String,
    /// The content's SHA-256, in 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// When it was pinned: RFC 3339, UTC.
    pub first_used: String,
    /// The sandbox whose use pinned it; it may have ended since.
    pub sandbox: String,
    /// The SHA-256 of another content that was found there and is granted nothing; the latest,
    /// where there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_sha256: Option<String>,
}

/// Body of `POST /v1/pins/forget`: the next use of each path pins what is there then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// The paths, as policies list them.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Every pin there is, in place of paths.
    #[serde(default)]
    pub all: bool,
}

/// What was forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct ForgetReport {
    /// The pins as they were.
    pub forgotten: Vec<PinInfo>,
    /// Paths of the request that are not pinned.
    pub unknown: Vec<String>,
}

/// A [`ForgetRequest`] that no clawd accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// Neither paths nor `all`.
    #[error("nothing to forget; expected paths, or `all`")]
    Nothing,
    /// Paths and `all`, which would forget more than the paths.
    #[error("paths and `all` exclude each other")]
    Both,
    /// More than [`limits::FORGET_PATHS`].
    #[error("{got} paths; expected at most {limit}", limit = limits::FORGET_PATHS)]
    TooMany {
        /// How many there are.
        got: usize,
    },
    /// Policies list absolute paths of at most [`limits::PATH_BYTES`] without zero bytes.
    #[error("path {0:?} cannot be in a policy; expected an absolute path")]
    Path(String),
}

// === impl ForgetRequest ===

impl ForgetRequest {
    /// Checks everything that can be told without the pins.
    ///
    /// # Errors
    /// [`ForgetError`]: the first fault found.
    pub fn check(&self) -> Result<(), ForgetError> {
        match (self.paths.is_empty(), self.all) {
            (true, true) => return Ok(()),
            (true, false) => return Err(ForgetError::Nothing),
            (false, true) => return Err(ForgetError::Both),
            (false, false) => {}
        }
        let got = self.paths.len();
        if got > limits::FORGET_PATHS {
            return Err(ForgetError::TooMany { got });
        }
        let wrong = |path: &&String| {
            !path.starts_with('/') || path.contains('\0') || path.len() > limits::PATH_BYTES
        };
        match self.paths.iter().find(wrong) {
            Some(path) => Err(ForgetError::Path(path.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ForgetError, ForgetReport, ForgetRequest, PinInfo};
    use crate::limits;

    fn request(paths: &[&str], all: bool) -> ForgetRequest {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        ForgetRequest { paths, all }
    }

    #[test]
    fn forget_takes_paths_or_all_but_not_both_and_not_nothing() {
        assert_eq!(request(&["/usr/bin/curl", "/b"], false).check(), Ok(()));
        assert_eq!(request(&[], true).check(), Ok(()));
        assert_eq!(request(&[], false).check(), Err(ForgetError::Nothing));
        assert_eq!(request(&["/b"], true).check(), Err(ForgetError::Both));
    }

    #[test]
    fn forget_path_that_no_policy_lists_is_refused() {
        let long = format!("/{}", "x".repeat(limits::PATH_BYTES));
        for path in ["", "curl", "./curl", "/a\0b", long.as_str()] {
            let want = ForgetError::Path(path.to_owned());
            assert_eq!(request(&["/b", path], false).check(), Err(want));
        }
        let longest = format!("/{}", "x".repeat(limits::PATH_BYTES - 1));
        assert_eq!(request(&[longest.as_str()], false).check(), Ok(()));
    }

    #[test]
    fn forget_of_more_paths_than_the_limit_is_refused() {
        let got = limits::FORGET_PATHS + 1;
        let most = vec!["/b"; limits::FORGET_PATHS];
        assert_eq!(request(&most, false).check(), Ok(()));
        let many = request(&vec!["/b"; got], false).check();
        assert_eq!(many, Err(ForgetError::TooMany { got }));
    }

    #[test]
    fn forget_body_is_read_strictly_and_a_missing_field_is_nothing() {
        let read = |text| serde_json::from_str::<ForgetRequest>(text);
        assert_eq!(read("{}").expect("reads"), request(&[], false));
        assert_eq!(read(r#"{"all":true}"#).expect("reads"), request(&[], true));
        let paths = r#"{"paths":["/b"]}"#;
        assert_eq!(read(paths).expect("reads"), request(&["/b"], false));
        read(r#"{"al":true}"#).expect_err("an unknown field");
        read(r#"{"all":"true"}"#).expect_err("a text is no truth value");
    }

    #[test]
    fn pin_has_its_documented_form() {
        let pin = PinInfo {
            path: "/usr/bin/curl".to_owned(),
            sha256: "ab".repeat(32),
            first_used: "2026-01-01T00:00:00.000000000Z".to_owned(),
            sandbox: "a".to_owned(),
            found_sha256: None,
        };
        let json = serde_json::to_string(&pin).expect("serialises");
        let want = format!(
            r#"{{"path":"/usr/bin/curl","sha256":"{}","first_used":"2026-01-01T00:00:00.000000000Z","sandbox":"a"}}"#,
            "ab".repeat(32)
        );
        assert_eq!(json, want);
        let report = ForgetReport {
            forgotten: vec![PinInfo {
                found_sha256: Some("cd".repeat(32)),
                ..pin
            }],
            unknown: vec!["/x".to_owned()],
        };
        let json = serde_json::to_string(&report).expect("serialises");
        assert!(json.contains(&format!(r#""found_sha256":"{}""#, "cd".repeat(32))));
        let again: ForgetReport = serde_json::from_str(&json).expect("reads back");
        assert_eq!(again, report);
    }
}
