//! What came of an attempt, against the policy, the servers and the audit log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clawd_audit::{Activity, AuditRecord, Outcome};
use clawd_tests::Contact;

use super::attempt::{Attempt, Call, Protocol};
use super::expectation::Expectation;
use super::rows::{Row, Shows};

/// A refusal that takes longer is not at once: packets were dropped and something timed out.
const AT_ONCE: Duration = Duration::from_secs(1);

/// One row of the demo with everything that is known about it.
pub(super) struct Judged {
    pub(super) number: usize,
    pub(super) row: Row,
    pub(super) attempt: Attempt,
    /// SHA-256 of the program, in hexadecimal, computed here.
    pub(super) sha256: String,
    pub(super) expectation: Expectation,
    /// The audit record behind it.
    pub(super) record: Option<AuditRecord>,
    /// What did not come out as the policy says.
    pub(super) complaints: Vec<String>,
}

// === impl Judged ===

impl Judged {
    /// Compares what the program saw with what the policy says, and both with what the row shows.
    pub(super) fn new(
        number: usize,
        row: Row,
        attempt: Attempt,
        sha256: String,
        expectation: Expectation,
    ) -> Self {
        let mut judged = Self {
            number,
            row,
            attempt,
            sha256,
            expectation,
            record: None,
            complaints: Vec::new(),
        };
        judged.compare();
        judged
    }

    fn compare(&mut self) {
        let Self {
            row,
            attempt,
            expectation,
            ..
        } = &*self;
        let mut complaints = Vec::new();
        if attempt.name != row.name {
            complaints.push(format!("the agent tried `{}` here", attempt.name));
        }
        if expectation.allowed != (row.shows == Shows::Reached) {
            complaints.push(format!(
                "the policy says `{}`, which is not what the row is to show",
                expectation.in_words()
            ));
        }
        if expectation.lacks_identity() == row.hashed {
            complaints.push("the decision does not rest on the program's hash".to_owned());
        }
        let outcome = attempt.outcome();
        if expectation.allowed && !attempt.has_reached() {
            complaints.push(format!("allowed, and yet {outcome}"));
        }
        if !expectation.allowed && !attempt.was_refused() {
            complaints.push(format!("to be refused with EPERM, and yet {outcome}"));
        }
        if !expectation.allowed && Duration::from_micros(attempt.elapsed_us) > AT_ONCE {
            complaints.push(format!("not refused at once: {outcome}"));
        }
        self.complaints = complaints;
    }

    pub(super) fn has_failed(&self) -> bool {
        !self.complaints.is_empty()
    }

    /// Finds the first of `records` that is about this attempt, takes it out, and compares.
    pub(super) fn take_record(&mut self, records: &mut Vec<AuditRecord>) {
        let Some(index) = records
            .iter()
            .position(|record| is_about(record, &self.attempt))
        else {
            self.complaints
                .push("no audit record tells of it".to_owned());
            return;
        };
        let record = records.remove(index);
        let outcome = if self.expectation.allowed {
            Outcome::Allowed
        } else {
            Outcome::Denied
        };
        let digest = record.sha256.map(|digest| digest.to_string());
        let pinned = record.pinned_sha256.map(|digest| digest.to_string());
        let wanted = self.row.hashed.then(|| self.sha256.clone());
        for (what, agrees) in [
            ("action", record.action == Some(outcome)),
            (
                "reason",
                record.reason.map(clawd_common::verdict::Reason::name)
                    == Some(self.expectation.reason),
            ),
            ("rule", record.rule == self.expectation.rule),
            ("sha256", digest == wanted),
            ("pinned_sha256", pinned == self.expectation.pinned),
        ] {
            if !agrees {
                self.complaints
                    .push(format!("the audit record has another `{what}`"));
            }
        }
        self.record = Some(record);
    }
}

/// Whether a record is about the destination of a connect or a datagram at all.
pub(super) fn is_about_network(record: &AuditRecord) -> bool {
    matches!(
        record.activity,
        Activity::Connect | Activity::Sendmsg | Activity::Socket
    )
}

fn is_about(record: &AuditRecord, attempt: &Attempt) -> bool {
    let activity = match attempt.call {
        Call::Connect => Activity::Connect,
        Call::Sendmsg => Activity::Sendmsg,
    };
    let to = attempt.canonical_to();
    record.activity == activity
        && record.dst_ip == Some(to.ip())
        && record.dst_port == Some(to.port())
        && record.protocol.map(|protocol| protocol.to_string())
            == Some(attempt.protocol.name().to_owned())
}

/// What servers were asked, by protocol and address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Visits(BTreeMap<(bool, SocketAddr), usize>);

impl Visits {
    /// What the servers saw.
    pub(super) fn seen(contacts: &[Contact]) -> Self {
        let mut visits = Self::default();
        for contact in contacts {
            visits.add(contact.kind == "udp", contact.local);
        }
        visits
    }

    /// What these attempts should have made them see, if each got through.
    pub(super) fn of<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Self {
        let mut visits = Self::default();
        for attempt in attempts {
            visits.add(attempt.protocol == Protocol::Udp, attempt.canonical_to());
        }
        visits
    }

    fn add(&mut self, is_udp: bool, at: SocketAddr) {
        let count = self.0.entry((is_udp, at)).or_default();
        *count = count.saturating_add(1);
    }

    /// These without the earlier ones.
    pub(super) fn since(mut self, earlier: &Self) -> Self {
        for (server, count) in &mut self.0 {
            *count = count.saturating_sub(earlier.0.get(server).copied().unwrap_or(0));
        }
        self
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().sum()
    }

    /// What differs from what was to be seen, one sentence a server.
    pub(super) fn differences(&self, wanted: &Self) -> Vec<String> {
        let mut servers: Vec<_> = self.0.keys().chain(wanted.0.keys()).collect();
        servers.sort();
        servers.dedup();
        let count = |visits: &Self, server| visits.0.get(server).copied().unwrap_or(0);
        servers
            .into_iter()
            .filter(|server| count(self, server) != count(wanted, server))
            .map(|server| {
                let protocol = if server.0 { "udp" } else { "tcp" };
                format!(
                    "the server at {protocol} {} was reached {} times, not {}",
                    server.1,
                    count(self, server),
                    count(wanted, server)
                )
            })
            .collect()
    }
}

#[cfg(test)]
pub(super) mod tests;
