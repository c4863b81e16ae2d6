//! What the policy says about an attempt: asked of the compiled policy, not written down here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use clawd_common::addr::Addr;
use clawd_common::decide::{MaskValue, PROTOCOL_TCP, PROTOCOL_UDP, Query, decide};
use clawd_common::verdict::{Reason, Verdict};
use clawd_policy::{Binary, BinaryMatcher, Endpoint, GrantEntry, MapImage, Prefix, RuleGroup};

use super::attempt::{Attempt, Protocol};

/// Any id but 0 does: the tables hold one policy.
const POLICY_ID: u32 = 1;
/// The only line of executables in the tables: the one that is asked about.
const CHAIN: u32 = 1;

/// A compiled policy with the hashes that its `path:` entries stand for.
pub(super) struct Rules {
    image: MapImage,
    /// Each `binaries` entry in the order of its bit, with the hash that it means.
    entries: Vec<(GrantEntry, String)>,
    listed: Vec<String>,
}

/// The program that makes an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) path: &'a Path,
    /// In hexadecimal; `None` is a program without identity.
    pub(super) sha256: Option<&'a str>,
    /// The hash of the program that started it, where that is one that counts.
    pub(super) started_by: Option<&'a str>,
}

/// What the policy says about one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expectation {
    pub(super) allowed: bool,
    /// As in audit records.
    pub(super) reason: &'static str,
    /// The rule that allows it, or would for the pinned content, as in audit records.
    pub(super) rule: Option<String>,
    /// The content that the rule's path had at first, where it has another now.
    pub(super) pinned: Option<String>,
}

// === impl Rules ===

impl Rules {
    /// Compiles the text of a policy; `hash` tells the SHA-256 of a file, in hexadecimal.
    ///
    /// # Errors
    /// The policy is wrong, or a file that it names cannot be read.
    pub(super) fn new(
        text: &str,
        hash: impl Fn(&Path) -> anyhow::Result<String>,
    ) -> anyhow::Result<Self> {
        let parsed =
            clawd_policy::parse("demo.yaml", text).map_err(|errors| anyhow!("{errors}"))?;
        let resolve = |entry: GrantEntry| {
            let sha256 = match &entry.matcher {
                BinaryMatcher::Path(path) => {
                    hash(path).with_context(|| format!("cannot resolve {entry}"))?
                }
                BinaryMatcher::Sha256(digest) => clawd_audit::Digest(*digest).to_string(),
                BinaryMatcher::Pattern(pattern) => {
                    return Err(anyhow!("the demo names its programs, {pattern} does not"));
                }
            };
            Ok((entry, sha256))
        };
        let entries = parsed.policy.grants().into_iter().map(resolve);
        Ok(Self {
            listed: parsed.policy.rules.iter().flat_map(listed).collect(),
            image: clawd_policy::compile(&parsed.policy, POLICY_ID)?,
            entries: entries.collect::<anyhow::Result<_>>()?,
        })
    }

    /// What the policy allows, one endpoint a line.
    pub(super) fn listed(&self) -> &[String] {
        &self.listed
    }

    /// Decides `attempt` of a program.
    pub(super) fn expect(&self, attempt: &Attempt, asker: &Asker<'_>) -> Expectation {
        let masks = BTreeMap::from([(CHAIN, self.mask(asker))]);
        let query = Query {
            policy_id: POLICY_ID,
            sandbox_flags: 0,
            chain: if asker.sha256.is_some() { CHAIN } else { 0 },
            scope_id: 0,
            addr: match attempt.to.ip() {
                IpAddr::V4(ip) => Addr::v4(ip.octets()),
                IpAddr::V6(ip) => Addr::v6(ip.octets()),
            },
            port: attempt.to.port(),
            protocol: match attempt.protocol {
                Protocol::Tcp => PROTOCOL_TCP,
                Protocol::Udp => PROTOCOL_UDP,
            },
        };
        self.explain(decide(&self.image.lookup(&masks), &query))
    }

    fn mask(&self, asker: &Asker<'_>) -> MaskValue {
        let mut mask = MaskValue::ZERO;
        for (bit, (entry, listed)) in self.entries.iter().enumerate() {
            if asker.sha256 == Some(listed) {
                mask.own.insert(bit);
            } else if matches!(&entry.matcher, BinaryMatcher::Path(path) if path == asker.path) {
                mask.changed.insert(bit);
            }
            if entry.descendants && asker.started_by == Some(listed) {
                mask.lineage.insert(bit);
            }
        }
        mask
    }

    fn explain(&self, verdict: Verdict) -> Expectation {
        let entry = usize::try_from(verdict.grant_index)
            .ok()
            .and_then(|bit| self.entries.get(bit));
        Expectation {
            allowed: verdict.is_allowed(),
            reason: verdict.reason.name(),
            rule: entry.map(|(entry, _)| entry.to_string()),
            pinned: entry
                .filter(|_| verdict.reason == Reason::BinaryChanged)
                .map(|(_, listed)| listed.clone()),
        }
    }
}

/// `web: /usr/bin/curl to tcp 192.0.2.10 port 80`, for each endpoint.
fn listed(group: &RuleGroup) -> Vec<String> {
    let binaries: Vec<String> = group.binaries.iter().map(binary).collect();
    let line = |endpoint: &Endpoint| {
        let protocol = match endpoint.protocol {
            clawd_policy::Protocol::Tcp => "tcp",
            clawd_policy::Protocol::Udp => "udp",
        };
        format!(
            "{}: {} to {protocol} {} port {}",
            group.name,
            binaries.join(", "),
            addresses(endpoint.prefix),
            endpoint.ports
        )
    };
    group.endpoints.iter().map(line).collect()
}

/// A single address without the length of its prefix.
fn addresses(prefix: Prefix) -> String {
    let bits = if prefix.ip().is_ipv4() { 32 } else { 128 };
    if prefix.bits() == bits {
        prefix.ip().to_string()
    } else {
        prefix.to_string()
    }
}

fn binary(binary: &Binary) -> String {
    let program = match &binary.matcher {
        BinaryMatcher::Path(path) => path.display().to_string(),
        BinaryMatcher::Pattern(pattern) => pattern.to_string(),
        BinaryMatcher::Sha256(digest) => clawd_audit::Digest(*digest).to_string(),
    };
    if binary.descendants {
        return format!("{program} and what it starts");
    }
    program
}

// === impl Expectation ===

impl Expectation {
    /// The expectation in a few words.
    pub(super) fn in_words(&self) -> String {
        match &self.rule {
            Some(rule) if self.allowed => {
                let short = rule.strip_prefix("network_policies.").unwrap_or(rule);
                format!("allow: {}", short.replace(".binaries", ""))
            }
            _ if self.allowed => format!("allow: {}", self.reason),
            _ => format!("refuse: {}", self.reason),
        }
    }

    /// Whether it is a refusal because the program has no identity.
    pub(super) fn lacks_identity(&self) -> bool {
        self.reason == Reason::NoIdentity.name()
    }
}

#[cfg(test)]
mod tests {
    use super::super::attempt::tests::{REACHED, REFUSED, read};
    use super::*;
    use crate::demo::workload::POLICY;

    const CURL: &str = "c0ffee";
    const PYTHON: &str = "beef";
    const DRIVER: &str = "d0d0";
    const TOOL: &str = "700l";

    fn rules() -> Rules {
        let hash = |path: &Path| {
            let hash = match path.to_str() {
                Some("/usr/bin/curl") => CURL,
                Some("/usr/bin/python3") => PYTHON,
                Some("/opt/agent/tools/driver") => DRIVER,
                Some("/opt/agent/tools/tool") => TOOL,
                other => return Err(anyhow!("{other:?} is not listed")),
            };
            Ok(hash.to_owned())
        };
        Rules::new(POLICY, hash).unwrap()
    }

    fn asker<'a>(path: &'a str, sha256: Option<&'a str>) -> Asker<'a> {
        Asker {
            path: Path::new(path),
            sha256,
            started_by: None,
        }
    }

    fn words(line: &str, sha256: Option<&str>) -> String {
        let asker = asker("/elsewhere", sha256);
        rules().expect(&read(line), &asker).in_words()
    }

    /// An attempt where `driver` and `tool` may go.
    fn elsewhere() -> Attempt {
        read(
            &REACHED
                .replace("::ffff:192.0.2.10", "2001:db8::10")
                .replace("port=80", "port=8080"),
        )
    }

    #[test]
    fn shipped_policy_passes_the_drivers_right_on() {
        let mut curl = asker("/usr/bin/curl", Some(CURL));
        let said = |asker: &Asker<'_>| rules().expect(&elsewhere(), asker).in_words();
        assert_eq!(said(&curl), "refuse: binary_not_listed");
        curl.started_by = Some(DRIVER);
        assert_eq!(said(&curl), "allow: driver[0]");
        curl.started_by = Some(TOOL);
        assert_eq!(said(&curl), "refuse: binary_not_listed");
    }

    #[test]
    fn shipped_policy_refuses_what_took_a_listed_programs_place() {
        let tool = |sha256| asker("/opt/agent/tools/tool", Some(sha256));
        let first = rules().expect(&elsewhere(), &tool(TOOL));
        assert_eq!((first.allowed, first.pinned), (true, None));
        let other = rules().expect(&elsewhere(), &tool("0"));
        assert_eq!(other.in_words(), "refuse: binary_changed");
        assert_eq!(other.pinned.as_deref(), Some(TOOL));
        assert_eq!(
            other.rule.as_deref(),
            Some("network_policies.tool.binaries[0]")
        );
    }

    #[test]
    fn shipped_policy_allows_the_listed_program_alone() {
        assert_eq!(words(REACHED, Some(CURL)), "allow: web[0]");
        assert_eq!(words(REACHED, Some(PYTHON)), "refuse: binary_not_listed");
        assert_eq!(words(REACHED, Some("0")), "refuse: binary_not_listed");
        assert_eq!(words(REACHED, None), "refuse: no_identity");
        assert_eq!(words(REFUSED, Some(PYTHON)), "allow: echo[0]");
    }

    #[test]
    fn shipped_policy_refuses_other_destinations() {
        let port = REACHED.replace("port=80", "port=8080");
        assert_eq!(words(&port, Some(CURL)), "refuse: port_not_listed");
        let address = REACHED.replace("192.0.2.10", "192.0.2.11");
        assert_eq!(words(&address, Some(CURL)), "refuse: address_not_listed");
        let protocol = REACHED.replace("protocol=tcp", "protocol=udp");
        assert_eq!(words(&protocol, Some(CURL)), "refuse: port_not_listed");
    }

    #[test]
    fn file_that_cannot_be_read_is_named_with_its_entry() {
        let error = Rules::new(POLICY, |_| Err(anyhow!("gone"))).err().unwrap();
        assert!(format!("{error:#}").contains("network_policies.driver.binaries[0]"));
    }
}
