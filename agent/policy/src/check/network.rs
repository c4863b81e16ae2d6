//! Judges `network_policies`.

use crate::{
    check::{
        binary::binary,
        endpoint::{Destination, Omissions, endpoint},
        is_title,
        value::one_of,
    },
    error::PolicyErrorKind,
    escape::quoted,
    fields::{At, Field},
    file::{EndpointFile, GroupFile},
    limits::{MAX_BINARIES, MAX_ENDPOINTS, MAX_GROUP_NAME_BYTES, MAX_GROUPS},
    model::{Endpoint, Filesystem, NamedEndpoint, NetworkMode, RuleAction, RuleGroup},
    node::{Key, Scalar},
    places::GroupPlaces,
    problem::{Position, Problems},
};

/// Judges every entry; sorts them by name. `filesystem` tells which files the sandbox may write.
pub(super) fn groups(
    entries: At<Vec<(Key, GroupFile)>>,
    filesystem: &Filesystem,
    problems: &mut Problems,
) -> Vec<(RuleGroup, GroupPlaces)> {
    if !within_limits(&entries, problems) {
        return Vec::new();
    }
    let mut groups: Vec<(RuleGroup, GroupPlaces)> = entries
        .value
        .into_iter()
        .map(|(key, file)| group(key, file, filesystem, problems))
        .collect();
    groups.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    groups
}

/// Judges `ingress`.
pub(super) fn ingress(
    entries: Field<Vec<At<EndpointFile>>>,
    network: NetworkMode,
    problems: &mut Problems,
) -> Vec<Endpoint> {
    let Some(At { at, value }) = entries.given() else {
        return Vec::new();
    };
    if value.len() > MAX_ENDPOINTS {
        problems.error(
            at,
            PolicyErrorKind::Limit,
            format!(
                "`ingress` has {} entries, the limit is {MAX_ENDPOINTS}",
                value.len()
            ),
            "list prefixes in place of addresses, and ranges in place of ports",
        );
        return Vec::new();
    }
    if network == NetworkMode::None && !value.is_empty() {
        problems.warn(
            at,
            "no entry of `ingress` has an effect in network mode `none`".to_owned(),
            "write `network: { mode: direct }`, or remove the entries",
        );
    }
    let entries = value.into_iter();
    entries
        .flat_map(|entry| endpoint(entry, Omissions::OfAddressesMeanAll, problems))
        .filter_map(|destination| match destination {
            Destination::Address(endpoint) => Some(endpoint),
            Destination::Name(_) => None, // reported where it was read
        })
        .collect()
}

/// Counts before anything is expanded.
fn within_limits(entries: &At<Vec<(Key, GroupFile)>>, problems: &mut Problems) -> bool {
    let groups = entries.value.iter().map(|(_, group)| group);
    let counts = [
        ("entries", entries.value.len(), MAX_GROUPS),
        (
            "endpoints",
            groups.clone().map(|group| len(&group.endpoints)).sum(),
            MAX_ENDPOINTS,
        ),
        (
            "`binaries` entries",
            groups.map(|group| len(&group.binaries)).sum(),
            MAX_BINARIES,
        ),
    ];
    let mut within = true;
    for (what, count, limit) in counts {
        if count > limit {
            within = false;
            problems.error(
                entries.at,
                PolicyErrorKind::Limit,
                format!("`network_policies` has {count} {what}, the limit is {limit}"),
                "merge entries that say the same, or list prefixes in place of addresses",
            );
        }
    }
    within
}

fn len<T>(list: &Field<Vec<T>>) -> usize {
    match list {
        Field::Given(list) => list.value.len(),
        Field::Absent | Field::Bad => 0,
    }
}

fn group(
    key: Key,
    file: GroupFile,
    filesystem: &Filesystem,
    problems: &mut Problems,
) -> (RuleGroup, GroupPlaces) {
    let at = key.at;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if key.text.is_empty() || key.text.len() > MAX_GROUP_NAME_BYTES || !key.text.chars().all(fits) {
        problems.value(
            at,
            format!("{} is not a name for a network policy", quoted(&key.text)),
            "audit records show it: use up to 64 ASCII letters, digits, `_`, `-` and `.`; \
             a text for people goes into `name`",
        );
    }
    let action = action(file.action, problems);
    let absent = (is_empty(&file.endpoints), is_empty(&file.binaries));
    warn_of_absent(&key, action, absent, problems);
    if let (RuleAction::Deny, Field::Given(binaries)) = (action, &file.binaries)
        && binaries.value.is_empty()
    {
        problems.error(
            binaries.at,
            PolicyErrorKind::Missing,
            format!(
                "`binaries` of network policy {} has no entry, so it is not clear whom it denies",
                quoted(&key.text)
            ),
            "remove the key to deny every program, or list those that are meant",
        );
    }
    let omissions = match action {
        RuleAction::Allow => Omissions::AreMistakes,
        RuleAction::Deny => Omissions::MeanAll,
    };
    let endpoints = each(file.endpoints, |entry| endpoint(entry, omissions, problems));
    let ((endpoint_places, endpoints), (name_places, names)) = parted(endpoints);
    let (binary_places, binaries) = each(file.binaries, |entry| {
        binary(entry, (filesystem, action), problems)
    });
    let group = RuleGroup {
        title: file.name.given().map(|name| title(name, problems)),
        line: at.line,
        action,
        endpoints,
        names,
        binaries,
        name: key.text,
    };
    let places = GroupPlaces {
        at,
        endpoints: endpoint_places,
        names: name_places,
        binaries: binary_places,
    };
    (group, places)
}

/// Warns of lists without which an entry does nothing.
fn warn_of_absent(
    key: &Key,
    action: RuleAction,
    (endpoints, binaries): (bool, bool),
    problems: &mut Problems,
) {
    let (no_endpoints, nobody) = match action {
        RuleAction::Allow => ("it allows no destination", Some("it allows nobody")),
        RuleAction::Deny => ("it denies no destination", None),
    };
    for (list, absent, effect) in [
        ("endpoints", endpoints, Some(no_endpoints)),
        ("binaries", binaries, nobody),
    ] {
        if absent && let Some(effect) = effect {
            problems.warn(
                key.at,
                format!(
                    "network policy {} has no `{list}`: {effect}",
                    quoted(&key.text)
                ),
                format!("add an entry to `{list}`, or remove the network policy"),
            );
        }
    }
}

/// Items with their places.
type Placed<T> = (Vec<Position>, Vec<T>);

/// Addresses, and names.
fn parted(all: Placed<Destination>) -> (Placed<Endpoint>, Placed<NamedEndpoint>) {
    let mut addresses = Placed::default();
    let mut names = Placed::default();
    for (at, destination) in all.0.into_iter().zip(all.1) {
        match destination {
            Destination::Address(endpoint) => {
                addresses.0.push(at);
                addresses.1.push(endpoint);
            }
            Destination::Name(name) => {
                names.0.push(at);
                names.1.push(name);
            }
        }
    }
    (addresses, names)
}

fn action(given: Field<Scalar>, problems: &mut Problems) -> RuleAction {
    const ACTIONS: &[(&str, RuleAction)] =
        &[("allow", RuleAction::Allow), ("deny", RuleAction::Deny)];
    given
        .given()
        .map(|word| one_of(&word, "an action", ACTIONS, &[], problems))
        .unwrap_or_default()
}

/// Whether a list is absent or empty; one of the wrong shape has been reported already.
fn is_empty<T>(list: &Field<Vec<T>>) -> bool {
    match list {
        Field::Absent => true,
        Field::Bad => false,
        Field::Given(list) => list.value.is_empty(),
    }
}

/// What all entries of a list come to, each with the place of the entry that it comes of.
fn each<T, I: IntoIterator>(
    list: Field<Vec<At<T>>>,
    mut check: impl FnMut(At<T>) -> I,
) -> Placed<I::Item> {
    let entries = list.given().map(|list| list.value).unwrap_or_default();
    let of = |entry: At<T>| {
        let at = entry.at;
        check(entry).into_iter().map(move |item| (at, item))
    };
    entries.into_iter().flat_map(of).unzip()
}

fn title(name: At<Scalar>, problems: &mut Problems) -> String {
    if !is_title(&name.value.text) {
        problems.value(
            name.at,
            format!("{} cannot be a `name`", quoted(&name.value.text)),
            "use at most 200 characters on one line, none of them invisible",
        );
    }
    name.value.text
}

/// Reports keys that are missing or exclude each other.
pub(super) fn missing<T>(
    at: Position,
    message: &str,
    help: &str,
    problems: &mut Problems,
) -> Option<T> {
    problems.error(at, PolicyErrorKind::Missing, message.to_owned(), help);
    None
}
