//! Cases about what is denied or read-only inside trees that are not.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use clawd_sandbox::{HOME, SpawnSpec, StartError};

use crate::{
    mounts::directory,
    rig::{USER, probe, run},
};

const NOENT: &str = "errno 2";
const ACCES: &str = "errno 13";
const BUSY: &str = "errno 16";
const XDEV: &str = "errno 18";
const ROFS: &str = "errno 30";

/// Makes a file of the sandbox's user.
fn file(path: &Path, content: &str) {
    fs::write(path, content).expect("a file");
    std::os::unix::fs::chown(path, Some(USER), Some(USER)).expect("owner");
}

/// Runs the attempts, each beneath `dir` unless its path is absolute, and compares what came of them.
#[track_caller]
fn outcomes(mut spec: SpawnSpec, dir: &Path, wanted: &[(&str, &str)]) {
    let in_dir = |attempt: &str| {
        let (operation, paths) = attempt.split_once(':').expect("an operation");
        let paths = paths
            .split(':')
            .map(|path| dir.join(path).display().to_string());
        format!("{operation}:{}", paths.collect::<Vec<_>>().join(":"))
    };
    let attempts: Vec<String> = wanted.iter().map(|(attempt, _)| in_dir(attempt)).collect();
    spec.argv.extend(attempts.iter().cloned());
    let got = run(&spec).expect("starts");
    let want: Vec<String> = attempts
        .iter()
        .zip(wanted)
        .map(|(attempt, (_, want))| format!("{attempt} {want}"))
        .collect();
    assert_eq!(got.out.lines().collect::<Vec<_>>(), want, "{}", got.err);
}

/// A project with a secret, hooks and a link, as a workspace.
fn project() -> (tempfile::TempDir, SpawnSpec) {
    let dir = directory(&["git", "git/hooks"]);
    file(&dir.path().join(".env"), "secret");
    file(&dir.path().join("git/hooks/post"), "echo");
    file(&dir.path().join("plain"), "plain");
    symlink(".env", dir.path().join("alias")).expect("a link");
    let mut spec = probe(&["files"]);
    spec.view.workspace = Some(dir.path().into());
    (dir, spec)
}

/// A denied file and directory: nothing of them is told, and nothing takes their place.
pub(crate) fn denied() {
    let (dir, mut spec) = project();
    spec.view.deny = ["alias", "git/hooks"]
        .map(|name| dir.path().join(name))
        .into();
    let wanted = [
        ("read:plain", "ok"),
        ("read:.env", ACCES),
        ("read:alias", ACCES),
        ("write:.env", ACCES),
        ("chmod:.env", ROFS),
        ("link:.env:copy", XDEV),
        ("unlink:.env", BUSY),
        ("rename:.env:old", BUSY),
        ("rename:plain:.env", BUSY),
        ("readlink:alias", "errno 22"),
        ("unlink:alias", BUSY),
        ("rename:plain:alias", BUSY),
        ("symlink:alias:plain", "errno 17"),
        ("list:git/hooks", ACCES),
        ("read:git/hooks/post", ACCES),
        ("create:git/hooks/pre", ACCES),
        ("rmdir:git/hooks", BUSY),
        ("rename:git/hooks:git/old", BUSY),
        // The folder above would take the cover along, and leave its name free.
        ("rename:git:old", BUSY),
        ("mkdir:old", "ok"),
        ("rename:old:git", BUSY),
        ("create:git/config", "ok"),
        ("rename:git/config:config", XDEV),
    ];
    outcomes(spec, dir.path(), &wanted);
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("there");
    assert_eq!(
        (read(".env").as_str(), read("git/hooks/post").as_str()),
        ("secret", "echo")
    );
    assert_eq!(
        fs::read_link(dir.path().join("alias")).expect("a link"),
        Path::new(".env")
    );
    assert!(
        dir.path().join("git/config").exists(),
        "it was the host's folder that was written"
    );
}

/// Deny wins over trees inside it, over what is listed beside it, and over what no policy lists.
pub(crate) fn denied_implicit() {
    let (dir, mut spec) = project();
    fs::set_permissions(
        dir.path().join("git/hooks/post"),
        fs::Permissions::from_mode(0o755),
    )
    .expect("mode");
    spec.view.read_execute.push(dir.path().join("git/hooks"));
    // A folder in which this program was not built, as it has to be executed.
    let own = std::env::current_exe().expect("a program");
    let elsewhere = if own.starts_with("/var") {
        "/srv"
    } else {
        "/var"
    };
    let is_elsewhere = format!("stat:{elsewhere}");
    spec.view.deny = [
        "/dev/null",
        "/dev/shm",
        "/tmp",
        HOME,
        "/etc/passwd",
        "/usr/share",
        "/proc/meminfo",
        elsewhere,
    ]
    .map(Into::into)
    .into();
    spec.view.deny.push(dir.path().join("git"));
    spec.view.workspace = None;
    spec.view.read_only.push(dir.path().into());
    let wanted = [
        ("read:plain", "ok"),
        ("list:git", ACCES),
        ("read:git/hooks/post", ACCES),
        ("read:/dev/null", ACCES),
        ("read:/dev/zero/x", "errno 20"),
        ("list:/dev/shm", ACCES),
        ("list:/tmp", NOENT),
        ("stat:/home/sandbox", NOENT),
        ("read:/etc/passwd", NOENT),
        ("read:/etc/group", "ok"),
        ("list:/usr/share", ACCES),
        ("read:/proc/meminfo", ACCES),
        ("read:/proc/cpuinfo", "ok"),
        (is_elsewhere.as_str(), NOENT),
    ];
    // The directory lies in /tmp of the host, which is then the only thing there.
    let in_tmp = dir.path().starts_with("/tmp");
    let wanted = wanted.map(|(attempt, want)| match attempt {
        "list:/tmp" if in_tmp => (attempt, "ok"),
        _ => (attempt, want),
    });
    if in_tmp {
        spec.view.deny.retain(|path| path != Path::new("/tmp"));
    }
    outcomes(spec, dir.path(), &wanted);
}

/// What is not there cannot be covered; where something could come to be, nothing starts.
pub(crate) fn denied_missing() {
    let (dir, spec) = project();
    let refused = |name: &str| {
        let mut spec = spec.clone();
        spec.view.deny = vec![dir.path().join(name)];
        let error: StartError = run(&spec).expect_err("refused");
        error.to_string()
    };
    let told = refused("later");
    assert!(
        told.contains("later` is denied") && told.contains("create it"),
        "{told}"
    );
    assert!(
        !dir.path().join("later").exists(),
        "nothing is made on the host"
    );
    // In what is its own the sandbox finds the name taken.
    let mut own = spec;
    own.view.deny = [
        "/home/sandbox/.ssh/key",
        "/dev/shm/later",
        "/nowhere/else",
        "/dev/nothing",
    ]
    .map(Into::into)
    .into();
    let wanted = [
        ("create:/home/sandbox/.ssh/key", "errno 21"),
        ("rename:/home/sandbox/.ssh:/home/sandbox/old", BUSY),
        ("create:/home/sandbox/other", "ok"),
        ("create:/dev/shm/later", "errno 21"),
        // Of root, in a sticky folder.
        ("rmdir:/dev/shm/later", "errno 1"),
        ("stat:/nowhere", NOENT),
        ("stat:/dev/nothing", NOENT),
    ];
    outcomes(own, dir.path(), &wanted);
}

/// A read-only file in a writable folder: its content and its name stay.
pub(crate) fn read_only_file() {
    let (dir, mut spec) = project();
    spec.view.read_only = ["plain", "git/hooks/post"]
        .map(|name| dir.path().join(name))
        .into();
    let wanted = [
        ("read:plain", "ok"),
        ("write:plain", ROFS),
        ("append:plain", ROFS),
        ("create:plain", ROFS),
        ("chmod:plain", ROFS),
        ("unlink:plain", BUSY),
        ("rename:plain:moved", BUSY),
        ("rename:.env:plain", BUSY),
        ("link:plain:copy", XDEV),
        ("write:git/hooks/post", ROFS),
        ("rename:git/hooks:git/old", BUSY),
        ("rename:git:old", BUSY),
        ("create:git/hooks/other", "ok"),
        ("write:.env", "ok"),
    ];
    outcomes(spec, dir.path(), &wanted);
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("there");
    assert_eq!(
        (read("plain").as_str(), read("git/hooks/post").as_str()),
        ("plain", "echo")
    );
}
