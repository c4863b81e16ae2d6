//! Another Debian release's packages, read through an apt state of our own.
//!
//! The machine's configuration is read, for the address of its Debian archive, and never changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::apt::Apt;

/// Kernel series, and the Debian release that came out with it.
const RELEASES: &[(&str, &str)] = &[("6.1", "bookworm"), ("6.12", "trixie")];

/// The keys of all Debian releases, by the names that `debian-archive-keyring` has had for them.
const KEYRINGS: &[&str] = &[
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
];

/// The fields of a package list that [`repositories`] reads.
const TARGET_FORMAT: &str = "$(CREATED_BY)\t$(ORIGIN)\t$(LABEL)\t$(REPO_URI)";

/// A release's lists change a few times a week at most, and every run reads them twice.
const LISTS_LAST: Duration = Duration::from_secs(24 * 60 * 60);

/// One part of Debian's archive, as the machine gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Main,
    Security,
}

impl Part {
    /// By the label that the part's release file carries.
    fn from_label(label: &str) -> Option<Self> {
        match label {
            "Debian" => Some(Self::Main),
            "Debian-Security" => Some(Self::Security),
            _ => None,
        }
    }

    fn suite(self, release: &str) -> String {
        match self {
            Self::Main => release.to_owned(),
            Self::Security => format!("{release}-security"),
        }
    }
}

/// The Debian release that came out with `series`.
pub(super) fn release_with(series: &str) -> Option<&'static str> {
    let mut known = RELEASES.iter().filter(|(known, _)| *known == series);
    known.next().map(|(_, release)| *release)
}

/// Apt with the package lists of `release`, fetched if they are not here or a day old, and kept in
/// `directory`.
///
/// # Errors
/// The machine's apt lists no Debian archive, no key is there to verify it with, or the lists
/// cannot be fetched or verified.
pub(super) fn apt_of(release: &str, directory: &Path) -> anyhow::Result<Apt> {
    let targets = Apt::of_this_machine().index_targets(TARGET_FORMAT)?;
    let repositories = repositories(&targets);
    if !repositories.contains_key(&Part::Main) {
        bail!("apt lists no Debian archive on this machine to take its address from");
    }
    let keyring = KEYRINGS.iter().find(|path| Path::new(path).exists());
    let keyring = keyring.context(
        "there is no keyring to verify it with; install the package debian-archive-keyring",
    )?;
    let sources = sources(release, &repositories, keyring);
    let configuration = configuration(directory)?;
    for below in ["lists/partial", "cache/archives/partial"] {
        let below = directory.join(below);
        fs::create_dir_all(&below).with_context(|| format!("cannot make {}", below.display()))?;
    }
    write(&directory.join("debian.sources"), &sources)?;
    let configuration_path = directory.join("apt.conf");
    write(&configuration_path, &configuration)?;
    let renewal = format!("remove {}", directory.display());
    let apt = Apt::configured_by(configuration_path, renewal);
    let fetched = directory.join("fetched.sources");
    if !is_current(&fetched, &sources) {
        apt.update().with_context(
            || "its package lists could not be fetched and verified, and apt said why above",
        )?;
        write(&fetched, &sources)?;
    }
    Ok(apt)
}

/// Reads the lines of [`TARGET_FORMAT`]: where the machine gets each part from. Of a part with
/// several addresses the first one counts.
fn repositories(targets: &str) -> BTreeMap<Part, &str> {
    let mut found = BTreeMap::new();
    for line in targets.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let ["Packages", "Debian", label, uri] = fields.as_slice() else {
            continue;
        };
        // An address with a space would be two; one that apt does not know stays `$(REPO_URI)`.
        if !uri.contains(':') || uri.contains(char::is_whitespace) {
            continue;
        }
        if let Some(part) = Part::from_label(label) {
            found.entry(part).or_insert(*uri);
        }
    }
    found
}

/// The sources file that reads `release` where the machine reads its own, verified with `keyring`:
/// the keys that the machine names for its own release need not be those of another.
fn sources(release: &str, repositories: &BTreeMap<Part, &str>, keyring: &str) -> String {
    let entries = repositories.iter().map(|(part, uri)| {
        let suite = part.suite(release);
        format!(
            "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\n\
             Targets: Packages\nSigned-By: {keyring}\n\n"
        )
    });
    entries.collect()
}

/// What apt reads on top of the machine's configuration: all that it reads or writes of packages
/// is below `directory`, and nothing unsigned is taken, whatever the machine allows itself.
fn configuration(directory: &Path) -> anyhow::Result<String> {
    let shown = directory.to_str().filter(|path| {
        path.starts_with('/') && !path.contains(['"', '\\']) && !path.contains(char::is_control)
    });
    let Some(directory) = shown else {
        bail!(
            "apt's configuration cannot name {}; check the sources out at a path without quotation \
             marks, backslashes and control characters",
            directory.display()
        );
    };
    Ok(format!(
        r#"Dir::Etc::sourcelist "{directory}/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "{directory}/lists/";
Dir::Cache "{directory}/cache/";
Dir::Cache::archives "archives/";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
// The machine's own release is not among these sources, and apt would refuse to prefer it.
APT::Default-Release "";
// As root, apt would fetch as a user of its own that may not write here.
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
// What the machine does after an update is about its own lists and caches.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#
    ))
}

/// Whether the lists were fetched from `sources` less than [`LISTS_LAST`] ago.
fn is_current(fetched: &Path, sources: &str) -> bool {
    let age = fs::metadata(fetched)
        .and_then(|metadata| metadata.modified())
        .map(|time| time.elapsed());
    // A time in the future has no age, and says nothing.
    let is_young = matches!(age, Ok(Ok(age)) if age < LISTS_LAST);
    is_young && fs::read_to_string(fetched).is_ok_and(|text| text == sources)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
DEP-11\tDebian\tDebian\thttp://components.example/debian/
Packages\tExample\tDebian\thttp://other.example/debian/
Packages\tDebian\tDebian Backports\thttp://backports.example/debian/
Packages\tDebian\tDebian-Security\thttp://security.example/
Packages\tDebian\tDebian\thttp://archive.example/debian/
Packages\tDebian\tDebian\thttp://second.example/debian/
";

    #[test]
    fn every_supported_series_has_a_release() {
        for series in crate::vm::SERIES {
            assert!(release_with(series).is_some(), "{series}");
        }
        assert_eq!(release_with("6.1"), Some("bookworm"));
        assert_eq!(release_with("5.15"), None);
    }

    #[test]
    fn only_debians_own_package_lists_count() {
        let expected = [
            (Part::Main, "http://archive.example/debian/"),
            (Part::Security, "http://security.example/"),
        ];
        assert_eq!(repositories(TARGETS), BTreeMap::from(expected));
    }

    #[test]
    fn broken_lines_are_passed_over() {
        for line in [
            "",
            "Packages\tDebian\tDebian",
            "Packages\tDebian\tDebian\t",
            "Packages\tDebian\tDebian\t$(REPO_URI)",
            "Packages\tDebian\tDebian\thttp://a.example/ Trusted: yes",
            "Packages\tDebian\tDebian\thttp://a.example/\tmore",
        ] {
            assert_eq!(repositories(line), BTreeMap::new(), "{line}");
        }
    }

    #[test]
    fn every_part_of_the_sources_is_signed() {
        let text = sources("bookworm", &repositories(TARGETS), "/keys/all.gpg");
        let entry = |uri, suite| {
            format!(
                "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nArchitectures: amd64\n\
                 Targets: Packages\nSigned-By: /keys/all.gpg\n\n"
            )
        };
        let main = entry("http://archive.example/debian/", "bookworm");
        let security = entry("http://security.example/", "bookworm-security");
        assert_eq!(text, main + &security);
    }

    #[test]
    fn configuration_stays_below_its_directory() {
        let text = configuration(Path::new("/a b/apt")).unwrap();
        for line in text.lines().filter(|line| line.starts_with("Dir::")) {
            let path = line.split('"').nth(1).unwrap();
            assert!(
                !path.starts_with('/') || path == "/dev/null" || path.starts_with("/a b/apt/"),
                "{line}"
            );
        }
        for path in ["relative", "/a\"; Dir \"/", "/a\\b", "/a\nb"] {
            assert!(configuration(Path::new(path)).is_err(), "{path:?}");
        }
    }

    #[test]
    fn lists_are_current_for_a_day_and_their_sources() {
        let directory = tempfile::tempdir().unwrap();
        let fetched = directory.path().join("fetched.sources");
        assert!(!is_current(&fetched, "a"));
        fs::write(&fetched, "a").unwrap();
        assert!(is_current(&fetched, "a"));
        assert!(!is_current(&fetched, "b"));
        let now = std::time::SystemTime::now();
        let file = fs::File::options().write(true).open(&fetched).unwrap();
        file.set_modified(now - LISTS_LAST).unwrap();
        assert!(!is_current(&fetched, "a"));
        file.set_modified(now + LISTS_LAST).unwrap();
        assert!(!is_current(&fetched, "a"));
    }
}
