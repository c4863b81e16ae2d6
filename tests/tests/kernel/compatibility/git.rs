//! git, by itself and with a server.

use std::{path::Path, process::Command};

use clawd_tests::{Address, Forge};

use super::{Lab, Needs, at_forge, elsewhere, not_listed, ssh, told};
use crate::support::text;

pub(super) const OVER_SSH: Needs = Needs {
    program: "git over SSH",
    executes: "",
    builds: "",
    binaries: "{ path: /usr/bin/git, descendants: true }",
};

pub(super) const OVER_HTTP: Needs = Needs {
    program: "git over HTTP",
    executes: "",
    builds: "",
    binaries: "{ path: /usr/lib/git-core/git-remote-http }",
};

/// The program that git starts for HTTP and HTTPS.
const REMOTE_HTTP: &str = "/usr/lib/git-core/git-remote-http";
/// What every repository of the tests is told.
const WHO: &str = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a \
                   GIT_COMMITTER_EMAIL=a@example.com GIT_SSH_COMMAND=\"ssh -F $PWD/ssh_config\"\n";

/// A shell script that stops at the first failure.
fn script(text: &str) -> String {
    format!("set -e\n{WHO}{text}")
}

/// What a branch of a repository of the forge has: its commits' subjects, newest first.
#[track_caller]
fn subjects(repository: &Path, branch: &str) -> String {
    let mut git = Command::new("/usr/bin/git");
    git.args(["-c", "safe.directory=*", "log", "--format=%s", branch])
        .current_dir(repository);
    let output = git.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

#[test]
fn git_keeps_history_by_itself() {
    let lab = Lab::start();
    let printed = lab.works(
        &OVER_SSH,
        "",
        &[
            "sh",
            "-c",
            &script(
                "git init -q -b main one && cd one\n\
                 echo first >file && git add file && git commit -qm first\n\
                 git checkout -qb topic && echo second >>file && git commit -qam second\n\
                 git checkout -q main && echo other >other && git add . && git commit -qm other\n\
                 git merge -q -m merge topic && git branch -d topic >/dev/null\n\
                 git stash list && git gc -q && git fsck --strict 2>/dev/null\n\
                 cd .. && git clone -q one two && cd two && git tag -m tag v1\n\
                 git log --format=%s && git describe && git grep -c second && git status --short",
            ),
        ],
    );
    assert_eq!(printed, "merge\nother\nsecond\nfirst\nv1\nfile:1\n");
}

/// Clones an empty repository, commits, pushes a branch, and clones that.
fn exchange(url: &str) -> String {
    script(&format!(
        "git clone -q {url} work\ncd work\ngit checkout -qb topic\n\
         echo text >file\ngit add file\ngit commit -qm pushed\ngit push -q {url} topic\n\
         cd ..\ngit clone -q -b topic {url} again\ncat again/file"
    ))
}

#[test]
fn git_clones_and_pushes_over_ssh() {
    let lab = Lab::with_forge();
    ssh::provide(&lab);
    lab.forge().make_repository("one.git").unwrap();
    let repository = lab.forge().repository("one.git");
    let url = format!("ssh://{}{}", Address::A, repository.display());
    let endpoints = at_forge(Forge::SSH);
    let printed = lab.works(&OVER_SSH, &endpoints, &["sh", "-c", &exchange(&url)]);
    assert_eq!(printed, "text\n");
    assert_eq!(subjects(&repository, "topic"), "pushed\n");
}

#[test]
fn git_alone_may_start_an_ssh_that_connects() {
    let lab = Lab::with_forge();
    ssh::provide(&lab);
    let argv = ["ssh", "-F", "ssh_config", Address::A, "true"];
    let denial = not_listed("/usr/bin/ssh", Forge::SSH);
    let printed = lab.is_refused(&OVER_SSH, &at_forge(Forge::SSH), &argv, &denial);
    assert!(printed.contains("Operation not permitted"), "{printed}");
}

#[test]
fn git_clones_and_pushes_over_http_and_https() {
    let lab = Lab::with_forge();
    let certificate = std::fs::read(lab.forge().certificate()).unwrap();
    lab.write("ca.pem", certificate);
    for (name, origin, port) in [
        ("plain.git", "http://192.0.2.10:3000", Forge::HTTP),
        ("tls.git", "https://192.0.2.10:3443", Forge::HTTPS),
    ] {
        lab.forge().make_repository(name).unwrap();
        let url = format!("{origin}/git/{name}");
        let all = format!(
            "rm -rf work again; export GIT_SSL_CAINFO=$PWD/ca.pem\n{}",
            exchange(&url)
        );
        let printed = lab.works(&OVER_HTTP, &at_forge(port), &["sh", "-c", &all]);
        assert_eq!(printed, "text\n");
        assert_eq!(subjects(&lab.forge().repository(name), "topic"), "pushed\n");
    }
    let requests = lab.forge().requests();
    let wants = "POST /git/tls.git/git-receive-pack";
    assert!(
        requests.iter().any(|line| line.ends_with(wants)),
        "{requests:?}"
    );
}

#[test]
fn git_clones_from_no_other_server() {
    let lab = Lab::start();
    let argv = ["git", "clone", "http://192.0.2.11:8080/one.git", "one"];
    let denial = elsewhere(REMOTE_HTTP, 8080);
    let printed = lab.is_refused(&OVER_HTTP, &at_forge(Forge::HTTP), &argv, &denial);
    assert!(printed.contains("Failed to connect"), "{printed}");
}

#[test]
fn git_runs_no_hook_that_lies_in_the_project() {
    let lab = Lab::start();
    let with_hook = script(
        "git init -q one\ncd one\nmkdir -p .git/hooks\n\
         printf '#!/bin/sh\\necho hooked >ran\\n' >.git/hooks/pre-commit\n\
         chmod +x .git/hooks/pre-commit && git commit -q --allow-empty -m first",
    );
    let output = lab.run(&OVER_SSH, "", &["sh", "-c", &with_hook]);
    assert!(!lab.project().join("one/ran").exists(), "{}", told(&output));
    let ignored = "hook was ignored because it's not set as executable";
    assert!(told(&output).contains(ignored), "{}", told(&output));
}
