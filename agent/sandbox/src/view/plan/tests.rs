//! Plans on an invented host.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Access, Plan, PlanError, What, plan};
use crate::spec::ViewSpec;

fn host(path: &Path) -> io::Result<Option<PathBuf>> {
    match path.to_str().expect("utf-8") {
        "/bin" => Ok(Some("usr/bin".into())),
        "/lib64" => Ok(Some("usr/lib64".into())),
        "/etc/localtime" => Ok(Some("/usr/share/zoneinfo/UTC".into())),
        "/rootlink" => Ok(Some("/".into())),
        "/missing" | "/etc/ca-certificates" | "/sbin" | "/lib" | "/lib32" | "/libx32" => {
            Err(io::ErrorKind::NotFound.into())
        }
        _ => Ok(None),
    }
}

fn paths(list: &[&str]) -> Vec<PathBuf> {
    list.iter().map(PathBuf::from).collect()
}

fn planned(spec: &ViewSpec) -> Plan {
    plan(spec, &host).expect("a plan")
}

fn position(plan: &Plan, at: &str) -> usize {
    let found = plan
        .entries
        .iter()
        .position(|entry| entry.at == Path::new(at));
    found.unwrap_or_else(|| panic!("{at} is not planned"))
}

#[test]
fn plan_puts_inner_trees_after_outer_ones() {
    let plan = planned(&ViewSpec {
        read_only: paths(&["/srv/a/b/c"]),
        read_execute: paths(&["/usr", "/srv"]),
        read_write: paths(&["/srv/a"]),
        workspace: Some("/tmp/project".into()),
        ..ViewSpec::default()
    });
    assert!(position(&plan, "/srv") < position(&plan, "/srv/a"));
    assert!(position(&plan, "/srv/a") < position(&plan, "/srv/a/b/c"));
    assert!(position(&plan, "/tmp") < position(&plan, "/tmp/project"));
    let create = |at: &str| plan.entries[position(&plan, at)].create;
    assert!(create("/usr") && create("/tmp/project") && create("/etc/passwd"));
    assert!(!create("/srv/a") && !create("/srv/a/b/c"));
}

#[test]
fn plan_recreates_links_and_mounts_what_they_lead_to() {
    let plan = planned(&ViewSpec {
        read_execute: paths(&["/bin", "/usr/lib64"]),
        ..ViewSpec::default()
    });
    assert_eq!(
        plan.entries[position(&plan, "/bin")].what,
        What::Link("usr/bin".into())
    );
    assert!(
        plan.trees
            .iter()
            .any(|t| t.at == Path::new("/usr/bin") && t.access == Access::ReadExecute)
    );
    // Not listed by this name, but its target is in the view.
    assert_eq!(
        plan.entries[position(&plan, "/lib64")].what,
        What::Link("usr/lib64".into())
    );
}

#[test]
fn plan_root_link_to_an_unlisted_tree_is_left_out() {
    let plan = planned(&ViewSpec::default());
    assert!(
        plan.entries
            .iter()
            .all(|entry| entry.at != Path::new("/bin"))
    );
}

#[test]
fn plan_etc_files_come_by_their_target_and_not_into_a_listed_etc() {
    let plan = planned(&ViewSpec::default());
    let zone = plan
        .trees
        .iter()
        .find(|t| t.at == Path::new("/etc/localtime"))
        .expect("planned");
    assert_eq!(zone.source, Path::new("/usr/share/zoneinfo/UTC"));
    assert!(
        plan.trees
            .iter()
            .all(|t| t.at != Path::new("/etc/ca-certificates"))
    );
    let listed = planned(&ViewSpec {
        read_only: paths(&["/etc"]),
        ..ViewSpec::default()
    });
    assert!(
        listed
            .trees
            .iter()
            .all(|t| t.at != Path::new("/etc/passwd"))
    );
}

#[test]
fn plan_implicit_paths_are_not_taken_from_the_host() {
    let plan = planned(&ViewSpec {
        read_only: paths(&["/proc", "/dev/urandom"]),
        read_write: paths(&["/tmp", "/dev/null", "/dev/shm"]),
        ..ViewSpec::default()
    });
    assert!(plan.trees.iter().all(|t| t.at.starts_with("/etc")));
}

#[test]
fn plan_home_of_the_host_replaces_the_private_one_where_listed() {
    let home = |read_write: &[&str]| {
        let plan = planned(&ViewSpec {
            read_write: paths(read_write),
            ..ViewSpec::default()
        });
        let entry = plan.entries[position(&plan, "/home/sandbox")].clone();
        (entry.what == What::Home, entry.create)
    };
    assert_eq!(home(&["/home/sandbox/project"]), (true, true));
    assert_eq!(home(&["/home/sandbox"]), (false, true));
    assert_eq!(home(&["/home"]), (true, false));
}

#[test]
fn plan_read_write_execute_is_a_kind_of_its_own_and_nests_both_ways() {
    let plan = planned(&ViewSpec {
        read_execute: paths(&["/srv/venv/fixed"]),
        read_write: paths(&["/srv"]),
        // `/tmp` is private to each sandbox and never executable, however it is listed.
        read_write_execute: paths(&["/srv/venv", "/bin", "/tmp"]),
        ..ViewSpec::default()
    });
    let access = |at: &str| {
        let tree = plan.trees.iter().find(|tree| tree.at == Path::new(at));
        tree.map(|tree| tree.access)
    };
    assert_eq!(access("/srv"), Some(Access::ReadWrite));
    assert_eq!(access("/srv/venv"), Some(Access::ReadWriteExecute));
    assert_eq!(access("/srv/venv/fixed"), Some(Access::ReadExecute));
    assert_eq!(access("/usr/bin"), Some(Access::ReadWriteExecute));
    assert_eq!(access("/tmp"), None);
    assert_eq!(plan.entries[position(&plan, "/tmp")].what, What::Temporary);
    assert!(position(&plan, "/srv") < position(&plan, "/srv/venv"));
    assert!(position(&plan, "/srv/venv") < position(&plan, "/srv/venv/fixed"));
    assert!(!plan.entries[position(&plan, "/srv/venv")].create);
    assert!(!plan.entries[position(&plan, "/srv/venv/fixed")].create);
}

#[test]
fn plan_read_write_execute_contradictions_are_refused_by_name() {
    let of = |spec: ViewSpec| {
        let spec = ViewSpec {
            read_write_execute: paths(&["/bin", "/bin"]),
            ..spec
        };
        plan(&spec, &host).map_err(|error| error.to_string())
    };
    assert!(of(ViewSpec::default()).is_ok(), "the same right twice");
    let same = || paths(&["/usr/bin"]);
    let with = |key: &str| {
        let mut spec = ViewSpec::default();
        match key {
            "read_only" => spec.read_only = same(),
            "read_execute" => spec.read_execute = same(),
            "read_write" => spec.read_write = same(),
            _ => spec.workspace = same().pop(),
        }
        of(spec).expect_err(key)
    };
    for (key, named) in [
        ("read_only", "as read_only"),
        ("read_execute", "as read_execute"),
        ("read_write", "as read_write"),
        ("workspace", "as read_write"),
    ] {
        let told = with(key);
        let wanted = format!("`/usr/bin` is listed twice, {named} and as read_write_execute");
        assert!(told.starts_with(&wanted), "{told}");
    }
    for path in ["/", "/rootlink", "/dev", "/proc/1/root"] {
        let spec = ViewSpec {
            read_write_execute: paths(&[path]),
            ..ViewSpec::default()
        };
        let got = plan(&spec, &host);
        let refused = matches!(got, Err(PlanError::Root(_) | PlanError::Private(..)));
        assert!(refused, "{path}: {got:?}");
    }
}

#[test]
fn plan_refuses_the_root_devices_missing_trees_and_contradictions() {
    let of = |read_only: &[&str], read_write: &[&str]| {
        let spec = ViewSpec {
            read_only: paths(read_only),
            read_write: paths(read_write),
            ..ViewSpec::default()
        };
        plan(&spec, &host)
    };
    assert!(matches!(of(&["/"], &[]), Err(PlanError::Root(_))));
    assert!(matches!(of(&["/rootlink"], &[]), Err(PlanError::Root(_))));
    assert!(matches!(
        of(&[], &["/dev/sda"]),
        Err(PlanError::Private(..))
    ));
    assert!(matches!(of(&[], &["/dev"]), Err(PlanError::Private(..))));
    assert!(matches!(
        of(&["/proc/1/root"], &[]),
        Err(PlanError::Private(..))
    ));
    assert!(matches!(
        of(&["/usr/bin"], &["/bin"]),
        Err(PlanError::Twice { .. })
    ));
    let missing = of(&["/missing"], &[]).expect_err("missing");
    assert!(missing.to_string().contains("/missing"), "{missing}");
}
