//! Denied and read-only paths on an invented host.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    spec::ViewSpec,
    view::plan::{Plan, PlanError, What, plan},
};

/// `/ws` has `.git/hooks`, a file `.env`, and links; nothing is below `/ws/gone`.
fn host(path: &Path) -> io::Result<Option<PathBuf>> {
    match path.to_str().expect("utf-8") {
        "/bin" => Ok(Some("usr/bin".into())),
        "/ws/alias" => Ok(Some(".env".into())),
        "/ws/way" => Ok(Some("/ws/real".into())),
        "/etc/localtime" => Ok(Some("/usr/share/zoneinfo/UTC".into())),
        "/ws/broken" => Err(io::ErrorKind::PermissionDenied.into()),
        "/ws/.env/x" => Err(io::ErrorKind::NotADirectory.into()),
        path if path.contains("gone") || path == "/sbin" || path.starts_with("/lib") => {
            Err(io::ErrorKind::NotFound.into())
        }
        _ => Ok(None),
    }
}

fn spec(deny: &[&str]) -> ViewSpec {
    ViewSpec {
        read_execute: vec!["/usr".into()],
        workspace: Some("/ws".into()),
        deny: deny.iter().map(PathBuf::from).collect(),
        ..ViewSpec::default()
    }
}

fn planned(spec: &ViewSpec) -> Plan {
    plan(spec, &host).expect("a plan")
}

/// The places of one kind of entry.
fn places(plan: &Plan, what: &What) -> Vec<String> {
    let entries = plan.entries.iter().filter(|entry| entry.what == *what);
    entries
        .map(|entry| entry.at.display().to_string())
        .collect()
}

#[test]
fn denied_paths_are_covered_and_the_folders_above_them_pinned() {
    let plan = planned(&spec(&[
        "/ws/.env",
        "/ws/.git/hooks",
        "/ws/.git/hooks/x",
        "/usr/share/doc",
    ]));
    let covers = ["/ws/.env", "/usr/share/doc", "/ws/.git/hooks"];
    assert_eq!(places(&plan, &What::Cover), covers);
    // A tree that cannot be written needs none.
    assert_eq!(places(&plan, &What::Pin), ["/ws/.git"]);
    let position = |at: &str| {
        let mut entries = plan.entries.iter();
        entries.position(|entry| entry.at == Path::new(at))
    };
    assert!(position("/ws") < position("/ws/.git"));
    assert!(position("/ws/.git") < position("/ws/.git/hooks"));
    // A mount point in a tree of the host is never made.
    let made = plan.entries.iter().filter(|entry| entry.create);
    assert!(
        made.map(|entry| &entry.at)
            .all(|at| !at.starts_with("/ws") || at == "/ws")
    );
}

#[test]
fn read_only_paths_in_writable_trees_keep_their_names() {
    let mut spec = spec(&[]);
    spec.read_only = vec!["/ws/a/b/policy.yaml".into(), "/ws/top".into()];
    spec.read_write = vec!["/ws/a/b/c/d".into(), "/home/sandbox/x/y".into()];
    spec.read_execute.push("/home/sandbox/.config/git".into());
    let plan = planned(&spec);
    let pins = ["/ws/a", "/home/sandbox/.config", "/ws/a/b"];
    assert_eq!(places(&plan, &What::Pin), pins);
    spec.read_write.push("/ws/a".into());
    // A tree has its name already.
    assert_eq!(places(&planned(&spec), &What::Pin), pins[1..]);
}

#[test]
fn deny_wins_over_what_is_listed_and_what_is_implied() {
    let mut spec = spec(&[
        "/srv",
        "/tmp",
        "/home",
        "/etc/passwd",
        "/usr/share/zoneinfo",
        "/bin",
        "/dev/shm",
    ]);
    spec.read_only = vec!["/srv/public".into(), "/bin/sh".into()];
    let plan = planned(&spec);
    for gone in [
        "/srv/public",
        "/tmp",
        "/home/sandbox",
        "/etc/passwd",
        "/etc/localtime",
        "/bin",
        "/usr/bin/sh",
    ] {
        assert!(!plan.has(Path::new(gone)), "{gone}");
    }
    assert!(plan.has(Path::new("/etc/group")) && plan.has(Path::new("/proc")));
    let covers = ["/dev/shm", "/usr/bin", "/usr/share/zoneinfo"];
    assert_eq!(places(&plan, &What::Cover), covers);
    let refused = |spec: &ViewSpec| plan_of(spec).expect_err("refused");
    let workspace = |deny: &str| refused(&self::spec(&[deny]));
    for deny in ["/ws", "/"] {
        assert!(matches!(workspace(deny), PlanError::DeniedWorkspace(_)));
    }
}

fn plan_of(spec: &ViewSpec) -> Result<Plan, PlanError> {
    plan(spec, &host)
}

#[test]
fn denied_link_is_covered_itself_and_with_what_it_leads_to() {
    let plan = planned(&spec(&["/ws/alias"]));
    assert_eq!(places(&plan, &What::Cover), ["/ws/.env", "/ws/alias"]);
}

#[test]
fn denied_path_that_is_missing_is_refused_where_it_could_come_to_be() {
    for (path, real) in [
        ("/ws/gone", "`/ws/gone`"),
        ("/ws/.env/x", "`/ws/.env/x`"),
        ("/ws/way/gone/deep", "deny `/ws/real/gone/deep` instead"),
        ("/usr/gone", "`/usr`"),
    ] {
        let told = plan_of(&spec(&[path])).expect_err(path).to_string();
        assert!(told.contains(path) && told.contains(real), "{told}");
    }
    // Outside every tree nothing can: the root of the view is read-only.
    for path in ["/gone", "/var/lib/gone/x", "/root/.ssh"] {
        assert_eq!(places(&planned(&spec(&[path])), &What::Cover), [""; 0]);
    }
    // What is the sandbox's own has another content than the host's.
    for path in ["/tmp/gone", "/home/sandbox/gone/x", "/dev/shm/gone"] {
        assert_eq!(places(&planned(&spec(&[path])), &What::Cover), [path]);
    }
}

#[test]
fn denied_path_that_cannot_be_followed_for_sure_is_refused() {
    let told = |path: &str| plan_of(&spec(&[path])).expect_err(path).to_string();
    assert!(told("/ws/broken").contains("could not be looked at"));
    let by_link = told("/ws/way/x");
    assert!(by_link.contains("`/ws/way`") && by_link.contains("deny `/ws/real/x` instead"));
}
