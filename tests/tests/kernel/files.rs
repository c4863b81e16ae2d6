//! What a sandbox sees of files, by way of `clawctl run`.

use std::{fs, path::Path, process::Output};

use clawd_tests::{Daemon, Prober, Scratch};

use crate::support::{closed, code, direct, text};

/// Runs a shell's script in a workspace, under a policy with more keys of `filesystem_policy`.
fn run_in(daemon: &Daemon, workspace: &Path, keys: &str, script: &str) -> Output {
    let policy = format!(
        "version: 2\nfilesystem_policy: {{ include_workdir: true, read_execute: [/usr]{keys} }}\n\
         landlock: {{ compatibility: best_effort }}\n"
    );
    daemon
        .run_command(&policy, None, &["sh", "-c", script])
        .current_dir(workspace)
        .output()
        .expect("clawctl")
}

/// A folder that every sandbox may write, with a secret and hooks.
fn workspace(scratch: &Scratch) -> std::path::PathBuf {
    let folder = scratch.folder("workspace", 0o777).expect("a folder");
    fs::write(folder.join(".env"), "secret").expect("a file");
    scratch.folder("workspace/.git", 0o777).expect("a folder");
    let hooks = scratch.folder("workspace/.git/hooks", 0o777);
    fs::write(hooks.expect("a folder").join("pre-commit"), "true").expect("a file");
    folder
}

#[test]
fn denied_parts_of_the_workspace_stay_as_they_are() {
    let daemon = Daemon::start(None).unwrap();
    let folder = workspace(daemon.scratch());
    let deny = format!(", deny: [{0}/.env, {0}/.git/hooks]", folder.display());
    let script = "cat .env; echo x > .env; echo x > .git/hooks/pre-commit; mv .git old; rm -rf .env .git/hooks; \
                  echo made > .git/config && ls -A";
    let output = run_in(&daemon, &folder, &deny, script);
    assert_eq!(text(&output.stdout), ".env\n.git\n", "{output:?}");
    assert!(!text(&output.stderr).contains("secret"));
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(
        (read(".env"), read(".git/hooks/pre-commit")),
        ("secret".into(), "true".into())
    );
    assert_eq!(read(".git/config"), "made\n");
    // The same without the key is another matter.
    let output = run_in(&daemon, &folder, "", "cat .env");
    assert_eq!(text(&output.stdout), "secret");
    let missing = format!(", deny: [{}/later]", folder.display());
    let output = run_in(&daemon, &folder, &missing, "true");
    assert_eq!(code(&output), 125, "{output:?}");
    assert!(
        text(&output.stderr).contains("later` is denied"),
        "{output:?}"
    );
}

/// Health's exit code, the text, and what holds each promise to `box`.
fn status(daemon: &Daemon) -> (i32, String, serde_json::Map<String, serde_json::Value>) {
    let shown = daemon.clawctl(["status"]).output().unwrap();
    // Exit code 1 says that it is degraded; there is an answer all the same.
    let told = daemon.clawctl(["--json", "status"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let [of] = told["promises"].as_array().expect("a list").as_slice() else {
        panic!("one sandbox: {told}")
    };
    assert_eq!(of["sandbox"], "box");
    let promises = of["promises"].as_array().expect("promises").iter();
    let named = promises.map(|status| {
        let name = status["promise"].as_str().expect("a name").to_owned();
        (name, status["held_by"].clone())
    });
    (code(&shown), text(&shown.stdout), named.collect())
}

#[test]
fn status_tells_what_holds_each_promise_on_this_kernel() {
    let daemon = Daemon::start(None).unwrap();
    let mut prober = Prober::start(&daemon, "box", closed()).unwrap();
    let abi = daemon.ps()[0]["layers"]["landlock_abi"].as_u64().unwrap();
    let landlock = format!("landlock abi {abi}");
    let (code, shown, promises) = status(&daemon);
    let held = |promise: &str, by: &str| {
        let held_by = promises[promise].as_array().expect("a list");
        held_by.iter().any(|held| held == by)
    };
    // Limits are another matter: not every host has controllers for them.
    let unheld = promises.iter().filter(|(promise, held_by)| {
        !promise.ends_with("_limit") && **held_by == serde_json::json!([])
    });
    assert_eq!(unheld.count(), 0, "{promises:?}");
    assert!(promises.len() >= 18, "{promises:?}");
    assert!(
        code < 2 && !shown.contains("nothing on this kernel"),
        "{shown}"
    );
    for (promise, since) in [
        ("files", 1),
        ("truncate", 3),
        ("device_commands", 5),
        ("signals", 6),
    ] {
        assert_eq!(held(promise, &landlock), abi >= since, "{promise}");
    }
    assert!(held("truncate", "read-only mounts") && held("signals", "pid namespace"));
    assert!(held("abstract_sockets", "network namespace") && held("network", "network namespace"));
    assert!(
        shown.contains("  kept from  box:\n    files                  mount view"),
        "{shown}"
    );
    prober.end().unwrap();

    let mut prober = Prober::start(&daemon, "box", &direct("")).unwrap();
    let (code, shown, promises) = status(&daemon);
    let is_kept = promises["abstract_sockets"] != serde_json::json!([]);
    assert_eq!(is_kept, abi >= 6, "{promises:?}");
    assert!(is_kept || code == 1, "{shown}");
    let told = "nothing on this kernel holds the promise `abstract unix sockets`";
    assert_eq!(shown.contains(told), !is_kept, "{shown}");
    assert!(!promises.contains_key("network"));
    prober.end().unwrap();
}

/// A root with busybox, a file and links that would lead out if they were followed on the host.
fn small_root(scratch: &Scratch) -> std::path::PathBuf {
    use std::os::unix::fs::symlink;
    for folder in ["root/usr/bin", "root/data/deep", "root/etc/ssl"] {
        scratch.folder(folder, 0o755).expect("a folder");
    }
    let root = scratch.path("root");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    let busybox = busybox
        .into_iter()
        .find(|path| path.exists())
        .expect("busybox-static");
    fs::copy(busybox, root.join("usr/bin/busybox")).expect("a copy");
    for name in ["sh", "cat", "ls", "id", "touch"] {
        symlink("busybox", root.join("usr/bin").join(name)).expect("a link");
    }
    symlink("usr/bin", root.join("bin")).expect("a link");
    symlink("/data/deep", root.join("way")).expect("a link");
    symlink("../../../../../../data", root.join("data/deep/up")).expect("a link");
    fs::write(root.join("data/deep/file"), "of the root").expect("a file");
    fs::write(root.join("data/secret"), "secret").expect("a file");
    fs::write(root.join("etc/ssl/mark"), "its own ssl\n").expect("a file");
    fs::write(root.join("etc/passwd"), "wrong").expect("a file");
    root
}

#[test]
fn rootfs_stands_for_the_hosts_root_and_the_workspace_stays_the_hosts() {
    let daemon = Daemon::start(None).unwrap();
    let root = small_root(daemon.scratch());
    let folder = workspace(daemon.scratch());
    let policy = format!(
        "version: 2\nfilesystem_policy:\n  include_workdir: true\n  rootfs: {}\n  \
         read_execute: [/bin]\n  read_only: [/way, /data]\n  deny: [/data/secret, {}/.env]\n\
         landlock: {{ compatibility: best_effort }}\n",
        root.display(),
        folder.display()
    );
    let run_under = |policy: &str, argv: &[&str]| {
        let mut command = daemon.run_command(policy, None, argv);
        command.current_dir(&folder).output().expect("clawctl")
    };
    let script = "ls /; ls /usr /usr/bin; cat /way/file; echo; cat /data/deep/up/deep/file; echo; \
                  cat /etc/ssl/mark; id -un; pwd; touch made; cat /data/secret .env; touch /data/x";
    let run = |argv: &[&str]| run_under(&policy, argv);
    let output = run(&["sh", "-c", script]);
    let want = format!(
        "bin\ndata\ndev\netc\nhome\nproc\ntmp\nusr\nvar\nway\n/usr:\nbin\n\n/usr/bin:\nbusybox\ncat\nid\nls\nsh\ntouch\n\
         of the root\nof the root\nits own ssl\nnobody\n{}\n",
        folder.display()
    );
    assert_eq!(text(&output.stdout), want, "{output:?}");
    let said = text(&output.stderr);
    assert_eq!(said.matches("Permission denied").count(), 2, "{said}");
    assert_eq!(said.matches("Read-only").count(), 1, "{said}");
    assert!(folder.join("made").exists());
    // A path of the host that the root does not have is missing.
    let output = run(&["/usr/bin/python3", "-c", ""]);
    assert_eq!(code(&output), 127, "{output:?}");
    let wrong = policy.replace(&root.display().to_string(), "/no/such/root");
    let output = run_under(&wrong, &["sh"]);
    assert_eq!(code(&output), 125, "{output:?}");
    assert!(text(&output.stderr).contains("`rootfs: /no/such/root` cannot be used"));
}

#[test]
fn workspace_below_a_folder_that_its_user_may_not_enter_is_one() {
    use std::os::unix::fs::chown;
    let daemon = Daemon::start(None).unwrap();
    let closed = daemon.scratch().folder("closed", 0o700).unwrap();
    let folder = daemon
        .scratch()
        .folder("closed/deep/project", 0o700)
        .unwrap();
    chown(&folder, Some(65_534), Some(65_534)).unwrap();
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    fs::write(closed.join("beside"), "").unwrap();
    let policy = "version: 2\nfilesystem_policy: { include_workdir: true, read_execute: [/usr] }\n\
                  landlock: { compatibility: best_effort }\n";
    let script = "pwd && echo inside > file && mkdir sub && ls .. ../..";
    let mut command = daemon.clawctl(["run", "--workspace"]);
    command
        .arg(&folder)
        .arg("--policy")
        .arg(daemon.policy_file(policy));
    let output = command.args(["--", "sh", "-c", script]).output().unwrap();
    let want = format!("{}\n..:\nproject\n\n../..:\ndeep\n", folder.display());
    assert_eq!(text(&output.stdout), want, "{output:?}");
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "inside\n");
}

#[test]
fn policy_show_tells_every_grant_without_a_daemon() {
    let daemon = Daemon::prepare(None).unwrap();
    let policy = "version: 2\nfilesystem_policy: { read_execute: [/usr], deny: [/tmp] }\n";
    let file = daemon.policy_file(policy);
    let mut command = daemon.clawctl(["--json", "policy", "show", "--effective"]);
    let output = command.arg(file).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let grants = told["grants"].as_array().expect("a list");
    let of = |path: &str| grants.iter().find(|grant| grant["path"] == path);
    let null = of("/dev/null").expect("implicit");
    assert_eq!(
        (&null["access"], &null["key"]),
        (&"read_write".into(), &serde_json::Value::Null)
    );
    assert_eq!(of("/usr").expect("listed")["key"], "read_execute");
    assert_eq!(of("/tmp").expect("denied")["access"], "denied");
    assert!(
        grants.iter().all(|grant| grant["reason"].is_string()),
        "{told}"
    );
}

/// What only somebody outside can do: an editor saves a file by renaming another one over it.
#[test]
fn denied_file_that_is_replaced_outside_is_told_by_status() {
    let daemon = Daemon::start(None).unwrap();
    let folder = workspace(daemon.scratch());
    let policy = closed().replace(
        "read_execute: [/usr]",
        &format!(
            "read_execute: [/usr], read_write: [{0}], deny: [{0}/.env]",
            folder.display()
        ),
    );
    let mut prober = Prober::start(&daemon, "box", &policy).unwrap();
    let file = folder.join(".env").display().to_string();
    let mut sees = || {
        let ask = serde_json::json!({ "do": "run", "argv": ["cat", file] });
        prober.ask(&ask)["ok"]["out"].clone()
    };
    let told = || text(&daemon.clawctl(["status"]).output().unwrap().stdout);
    assert_eq!(sees(), "");
    assert!(!told().contains("mounts of its view are gone"));
    fs::write(folder.join("new"), "replaced").unwrap();
    fs::rename(folder.join("new"), &file).unwrap();
    assert_eq!(
        sees(),
        "replaced",
        "the kernel has learnt to keep mounts: say so in README"
    );
    let (code, shown, _) = status(&daemon);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("box: 1 of "), "{shown}");
    assert!(shown.contains("mounts of its view are gone"), "{shown}");
    prober.end().unwrap();
}
