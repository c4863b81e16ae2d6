//! Each mistake, where it is reported and in which words.

mod binaries;
mod denying;
mod endpoints;
mod files;
mod limits;
mod shown;

use crate::{PolicyErrorKind, parse};

/// A text, and the errors it gets: kind, and `line:col: message`.
type Case = (&'static str, &'static [(PolicyErrorKind, &'static str)]);

const AROUND_BINARY: &str = "version: 2
network: { mode: direct }
network_policies:
  g:
    binaries:
      - ";

const AROUND_ENDPOINT: &str = "version: 2
network: { mode: direct }
network_policies:
  g:
    binaries: [{ path: /bin/x }]
    endpoints:
      - ";

fn errors(text: &str) -> Vec<(PolicyErrorKind, String)> {
    let Err(errors) = parse("p.yaml", text) else {
        panic!("accepted: {text}");
    };
    let line = |error: &crate::PolicyError| {
        assert!(error.help.is_some(), "no help: {error}");
        (
            error.kind,
            format!("{}:{}: {}", error.line, error.col, error.message),
        )
    };
    errors.as_slice().iter().map(line).collect()
}

fn check(text: &str, want: &[(PolicyErrorKind, &str)]) {
    let got = errors(text);
    let got: Vec<(PolicyErrorKind, &str)> = got
        .iter()
        .map(|(kind, line)| (*kind, line.as_str()))
        .collect();
    assert_eq!(got, want, "{text}");
}
