//! Who reaches what under one policy and not under another.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    rc::Rc,
};

use clawd_common::{
    decide::{GrantMask, INGRESS, MaskValue, PROTOCOL_UDP, RuleValue},
    verdict::NO_GRANT,
};
use serde::{Serialize, Serializer};

use super::{
    regions::{Region, regions},
    services::{ProtocolKey, Services},
};
use crate::{BinaryMatcher, GrantEntry, Policy, PortSet, Prefix, compile::MapImage};

/// A difference between what two policies say of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkChange {
    /// What became of it.
    pub change: Change,
    /// Whose it is.
    pub who: Who,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The addresses: destinations, or of [`Who::Peers`] where they are.
    #[serde(serialize_with = "shown")]
    pub prefix: Prefix,
    /// Those of them of which this is not said.
    #[serde(serialize_with = "all_shown")]
    pub except: Vec<Prefix>,
    /// The ports; of [`Who::Peers`] the sandbox's own.
    #[serde(serialize_with = "shown")]
    pub ports: PortSet,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was not reached and is.
    Reached,
    /// It was reached and is not.
    NotReached,
    /// It was not listed, and is denied whatever allows it.
    Denied,
    /// It was denied whatever allows it, and is not listed.
    NotDenied,
}

/// Whose connections a difference is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Whatever program asks.
    EveryProgram,
    /// Programs that an entry means, themselves.
    Program(Program),
    /// What such programs start, where no entry means it itself.
    StartedBy(Program),
    /// Both.
    ProgramAndStarted(Program),
    /// Who connects to the sandbox.
    Peers,
}

/// Programs, as an entry of `binaries` means them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Program(pub BinaryMatcher);

/// What a policy says of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Allowed,
    Denied,
}

/// Whose attempts are compared.
struct Subject {
    who: Who,
    /// The entries that mean it in the old policy and in the new one.
    masks: (MaskValue, MaskValue),
}

/// Who, what became of it, and of which protocol.
type Key = (usize, Change, ProtocolKey);

/// For addresses that are alike in both policies: the ports of each difference.
type Differences = BTreeMap<Key, PortSet>;

/// A difference before it is told: the positions of its regions.
struct Line {
    key: Key,
    region: usize,
    except: Vec<usize>,
    ports: PortSet,
}

/// The differences, by whom, then by address.
pub(super) fn changes(
    (old, old_image): (&Policy, &MapImage),
    (new, new_image): (&Policy, &MapImage),
) -> Vec<NetworkChange> {
    let subjects = subjects(old, new);
    let services = Services::of(old_image, new_image);
    let regions = regions((old, old_image), (new, new_image));
    let mut of_classes: HashMap<(u32, u32), Rc<Differences>> = HashMap::new();
    let of_region: Vec<Rc<Differences>> = (regions.iter())
        .map(|region| {
            let differences = of_classes.entry(region.classes);
            let differences = differences
                .or_insert_with(|| Rc::new(compare(region.classes, &services, &subjects)));
            Rc::clone(differences)
        })
        .collect();
    let lines = together(lines(&regions, &of_region), &subjects);
    let mut changes: Vec<_> = (lines.into_iter())
        .filter_map(|(who, line)| told(who, line, &regions))
        .collect();
    changes.sort_by(|a, b| {
        let key = |of: &NetworkChange| (of.who.clone(), of.prefix, of.protocol, of.change);
        key(a).cmp(&key(b))
    });
    changes
}

/// Everybody of whom the policies speak.
fn subjects(old: &Policy, new: &Policy) -> Vec<Subject> {
    let nobody = (MaskValue::ZERO, MaskValue::ZERO);
    let mut subjects = vec![
        Subject {
            who: Who::EveryProgram,
            masks: nobody,
        },
        Subject {
            who: Who::Peers,
            masks: nobody,
        },
    ];
    let entries = [old, new].into_iter().flat_map(|policy| &policy.rules);
    let matchers: BTreeSet<_> = entries
        .flat_map(|group| &group.binaries)
        .map(|binary| &binary.matcher)
        .collect();
    let grants = (old.grants(), new.grants());
    for matcher in matchers {
        let own = |grants: &[GrantEntry]| MaskValue {
            own: entries_of(grants, |entry| means(&entry.matcher, matcher)),
            ..MaskValue::ZERO
        };
        let lineage = |grants: &[GrantEntry]| MaskValue {
            lineage: entries_of(grants, |entry| {
                entry.descendants && means(&entry.matcher, matcher)
            }),
            ..MaskValue::ZERO
        };
        let program = Program(matcher.clone());
        subjects.push(Subject {
            who: Who::Program(program.clone()),
            masks: (own(&grants.0), own(&grants.1)),
        });
        subjects.push(Subject {
            who: Who::StartedBy(program),
            masks: (lineage(&grants.0), lineage(&grants.1)),
        });
    }
    subjects
}

fn entries_of(grants: &[GrantEntry], is_meant: impl Fn(&GrantEntry) -> bool) -> GrantMask {
    let mut mask = GrantMask::ZERO;
    for (bit, entry) in grants.iter().enumerate() {
        if is_meant(entry) {
            mask.insert(bit);
        }
    }
    mask
}

/// Whether an entry means the programs of another entry.
fn means(entry: &BinaryMatcher, programs: &BinaryMatcher) -> bool {
    match (entry, programs) {
        (BinaryMatcher::Pattern(pattern), BinaryMatcher::Path(path)) => pattern.matches(path),
        (entry, programs) => entry == programs,
    }
}

/// What is different for a pair of address classes.
fn compare(classes: (u32, u32), services: &Services<'_>, subjects: &[Subject]) -> Differences {
    let mut differences = Differences::new();
    for (service, old, new) in services.said(classes) {
        let comes_in = service.protocol & INGRESS != 0;
        let nobody = |rule: Option<&RuleValue>| rule.is_some_and(|rule| rule.deny_all != NO_GRANT);
        let for_all = nobody(old) != nobody(new);
        for (at, subject) in subjects.iter().enumerate() {
            if comes_in != (subject.who == Who::Peers) {
                continue;
            }
            let said = match subject.who {
                Who::Peers => (by_ingress(old), by_ingress(new)),
                _ => (said(old, &subject.masks.0), said(new, &subject.masks.1)),
            };
            let change = match said {
                (old, new) if old == new => continue,
                (_, Said::Allowed) => Change::Reached,
                (Said::Allowed, _) => Change::NotReached,
                // What became of every program is told once.
                _ if for_all && subject.who != Who::EveryProgram => continue,
                (_, Said::Denied) => Change::Denied,
                _ => Change::NotDenied,
            };
            let ports = differences
                .entry((at, change, service.protocol))
                .or_default();
            *ports = ports.union(&service.ports);
        }
    }
    differences
}

/// As `clawd_common::decide` judges somebody whom those entries mean.
fn said(rule: Option<&RuleValue>, mask: &MaskValue) -> Said {
    let Some(rule) = rule else {
        return Said::Nothing;
    };
    if rule.deny_all != NO_GRANT || rule.deny.meets(&mask.any()) {
        Said::Denied
    } else if rule.allow.meets(&mask.own) || rule.allow.meets(&mask.lineage) {
        Said::Allowed
    } else {
        Said::Nothing
    }
}

fn by_ingress(rule: Option<&RuleValue>) -> Said {
    rule.map_or(Said::Nothing, |_| Said::Allowed)
}

/// Tells each difference at the widest region of which it is true, and leaves out those inside of
/// which it is not.
fn lines(regions: &[Region], of_region: &[Rc<Differences>]) -> Vec<Line> {
    let none = Rc::new(Differences::new());
    let mut lines: Vec<Line> = Vec::new();
    // For each region, the line that tells of it, by key.
    let mut active: Vec<Rc<BTreeMap<Key, usize>>> = Vec::with_capacity(regions.len());
    for (at, (region, own)) in regions.iter().zip(of_region).enumerate() {
        let outer = region
            .parent
            .and_then(|at| of_region.get(at))
            .unwrap_or(&none);
        let inherited = region.parent.and_then(|at| active.get(at)).cloned();
        let inherited = inherited.unwrap_or_default();
        if Rc::ptr_eq(own, outer) {
            active.push(inherited);
            continue;
        }
        let mut mine = BTreeMap::clone(&inherited);
        let keys: BTreeSet<&Key> = own.keys().chain(outer.keys()).collect();
        for key in keys {
            let (ports, around) = (own.get(key), outer.get(key));
            if ports == around {
                continue;
            }
            if let Some(line) = mine.remove(key).and_then(|line| lines.get_mut(line)) {
                line.except.push(at);
            }
            if let Some(ports) = ports {
                mine.insert(*key, lines.len());
                lines.push(Line {
                    key: *key,
                    region: at,
                    except: Vec::new(),
                    ports: ports.clone(),
                });
            }
        }
        active.push(Rc::new(mine));
    }
    lines
}

/// Tells what is the same for a program and for what it starts in one line.
fn together(lines: Vec<Line>, subjects: &[Subject]) -> Vec<(Who, Line)> {
    let key = |who: &Who, line: &Line| {
        let (_, change, protocol) = line.key;
        let (except, ports) = (line.except.clone(), line.ports.clone());
        (who.clone(), change, protocol, line.region, except, ports)
    };
    let who = |line: &Line| subjects.get(line.key.0).map(|subject| subject.who.clone());
    let lines: Vec<(Who, Line)> = (lines.into_iter())
        .filter_map(|line| Some((who(&line)?, line)))
        .collect();
    let all: BTreeSet<_> = lines.iter().map(|(who, line)| key(who, line)).collect();
    let has = |who: &Who, line: &Line| all.contains(&key(who, line));
    let whose = |(who, line): (Who, Line)| match who {
        Who::Program(program) if has(&Who::StartedBy(program.clone()), &line) => {
            Some((Who::ProgramAndStarted(program), line))
        }
        Who::StartedBy(program) if has(&Who::Program(program.clone()), &line) => None,
        who => Some((who, line)),
    };
    lines.into_iter().filter_map(whose).collect()
}

fn told(who: Who, line: Line, regions: &[Region]) -> Option<NetworkChange> {
    let (_, change, protocol) = line.key;
    let prefix = |at: &usize| regions.get(*at).map(|region| region.prefix);
    Some(NetworkChange {
        change,
        who,
        protocol: match protocol & !INGRESS {
            PROTOCOL_UDP => "udp",
            _ => "tcp",
        },
        prefix: prefix(&line.region)?,
        except: line.except.iter().filter_map(prefix).collect(),
        ports: line.ports,
    })
}

fn shown<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn all_shown<S: Serializer>(prefixes: &[Prefix], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(prefixes.iter().map(ToString::to_string))
}

// === impl Program ===

/// As a policy writes it.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BinaryMatcher::Path(path) => write!(f, "{}", path.display()),
            BinaryMatcher::Pattern(pattern) => write!(f, "{pattern}"),
            BinaryMatcher::Sha256(sha256) => {
                write!(f, "sha256:")?;
                sha256.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl Serialize for Program {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
