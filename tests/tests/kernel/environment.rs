//! The environment of a sandbox is made from scratch, and what is in it is told to nobody else.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Output, Stdio},
};

use clawd_tests::Daemon;

use crate::support::{closed, code, eventually, text};

/// What must come out nowhere.
const SECRET: &str = "canary-4711-secret";

fn lines(output: &Output) -> Vec<String> {
    let out = text(&output.stdout);
    out.lines().map(str::to_owned).collect()
}

#[test]
fn environment_is_the_defaults_the_policys_and_the_requests_alone() {
    let mut daemon = Daemon::prepare(None).unwrap();
    daemon.launch_by(&["env", "LEAKED=1", "LD_BIND_NOW=1", "HTTPS_PROXY=x"]);
    daemon.launch().unwrap();
    let policy = format!("{}env: {{ OF_POLICY: p, LANG: C }}\n", closed());
    let mut command = daemon.run_command(&policy, None, &["/usr/bin/env"]);
    command.env("OF_CALLER", "1").env("TERM", "dumb");
    let mut got = lines(&command.output().unwrap());
    got.sort();
    let want = [
        "HOME=/home/sandbox",
        "LANG=C",
        "LOGNAME=nobody",
        "OF_POLICY=p",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "TERM=dumb",
        "USER=nobody",
    ];
    assert_eq!(got, want);
    let account = ["/usr/bin/sh", "-c", "test \"$USER\" = \"$(id -un)\""];
    assert_eq!(code(&daemon.run(closed(), &account)), 0);
}

/// Runs `env` with one more variable.
fn with_variable(daemon: &Daemon, policy: &str, variable: &str) -> Output {
    let policy = daemon.policy_file(policy);
    let mut command = daemon.clawctl(["run", "--env", variable, "--policy"]);
    command.arg(policy).args(["--", "/usr/bin/env"]);
    command.output().expect("clawctl")
}

#[test]
fn variable_that_changes_code_needs_the_policys_leave() {
    let daemon = Daemon::start(None).unwrap();
    for name in ["LD_PRELOAD", "PYTHONSTARTUP", "BASH_ENV", "GIT_SSH_COMMAND"] {
        let variable = format!("{name}=/{SECRET}");
        let refused = with_variable(&daemon, closed(), &variable);
        assert_eq!(code(&refused), 2, "{refused:?}");
        let told = text(&refused.stderr);
        assert!(told.contains(name) && told.contains("env_allow"), "{told}");
        assert!(!told.contains(SECRET), "{told}");
        // Leave for another one is none.
        let other = format!("{}env_allow: [LD_AUDIT]\n", closed());
        assert_eq!(code(&with_variable(&daemon, &other, &variable)), 2);
        let allowed = format!("{}env_allow: [{name}]\n", closed());
        let output = with_variable(&daemon, &allowed, &variable);
        assert!(lines(&output).contains(&variable), "{output:?}");
        let own = format!("{}env: {{ {name}: /x }}\n", closed());
        assert_eq!(code(&with_variable(&daemon, &own, &variable)), 2);
        assert!(lines(&with_variable(&daemon, &own, "A=b")).contains(&format!("{name}=/x")));
    }
}

/// Sends a request that no clawctl would send, and returns the answer.
fn raw(daemon: &Daemon, body: &str) -> String {
    let mut stream = UnixStream::connect(&daemon.paths().socket).unwrap();
    write!(
        stream,
        "POST /v1/sandboxes HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: clawd-run/1\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    // The connection stays open: the answer ends where its head says.
    let mut reader = BufReader::new(stream);
    let (mut answer, mut length) = (String::new(), 0);
    while !answer.ends_with("\r\n\r\n") {
        let before = answer.len();
        assert_ne!(reader.read_line(&mut answer).unwrap(), 0, "{answer}");
        let line = answer[before..].to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut content = vec![0; length];
    reader.read_exact(&mut content).unwrap();
    answer + &text(&content)
}

/// Policies that are wrong near a secret, pushed to sandbox `box` and run.
fn refusals(daemon: &Daemon, say: &mut impl FnMut(&Output)) {
    for wrong in [
        format!("{}env: {{ OTHER: {SECRET} }}\n", closed()),
        format!("{}env: {{ 1A: {SECRET} }}\n", closed()),
        format!("{}env: {SECRET}\n", closed()),
        format!("{}env:\n  A: \"{SECRET}\n  B: c\n", closed()),
    ] {
        let mut push = daemon.clawctl(["policy", "push", "--sandbox", "box"]);
        let refused = push.arg(daemon.policy_file(&wrong)).output().unwrap();
        assert_eq!(code(&refused), 2, "{refused:?}");
        say(&refused);
        say(&daemon.run(&wrong, &["no-such-command"]));
    }
}

/// What clawd answers to requests that it does not understand.
fn misunderstood(daemon: &Daemon) -> String {
    let bodies = [
        format!("{{\"env\":\"{SECRET}\"}}"),
        format!("{{\"env\":[[\"A\",{{\"{SECRET}\":1}}]]}}"),
        format!("{{\"env\":[[\"A\",\"{SECRET}\"]],\"network\":\"{SECRET}\"}}"),
        format!("{{\"env\":[[\"A\",\"{SECRET}\"]]"),
    ];
    let answer = |body: &String| {
        let answer = raw(daemon, body);
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        answer
    };
    bodies.iter().map(answer).collect()
}

#[test]
fn values_of_the_environment_are_in_no_output() {
    let mut daemon = Daemon::prepare(None).unwrap();
    daemon.launch_by(&["env", "CLAWD_LOG=trace"]);
    daemon.launch().unwrap();
    let policy = format!("{}env: {{ OF_POLICY: {SECRET} }}\n", closed());
    let mut said = String::new();
    let mut say = |output: &Output| {
        said += &text(&output.stdout);
        said += &text(&output.stderr);
    };

    // It is there.
    let script = "echo ready ${#OF_POLICY} ${#OF_REQUEST}; read line";
    let variable = format!("OF_REQUEST={SECRET}");
    let file = daemon.policy_file(&policy);
    let run = |arguments: &[&str], command: &[&str]| {
        let mut run = daemon.clawctl(["run", "--policy"]);
        run.arg(&file).args(["--env", &variable]).args(arguments);
        run.arg("--").args(command);
        run
    };
    let mut child = run(&["--name", "box"], &["sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let length = SECRET.len();
    assert_eq!(line, format!("ready {length} {length}\n"));

    // Everything that tells of it.
    eventually("it runs", || daemon.ps().len() == 1);
    for arguments in [&["ps"][..], &["status"], &["logs"], &["identity", "list"]] {
        say(&daemon.clawctl(arguments).output().unwrap());
        say(&daemon
            .clawctl([&["--json"], arguments].concat())
            .output()
            .unwrap());
    }
    // Everything that goes wrong near it.
    refusals(&daemon, &mut say);
    let exec = |variable: &str| {
        let mut exec = daemon.clawctl(["exec", "--env", variable, "box", "--", "sh", "-c"]);
        exec.arg("echo ${#OF_POLICY}${#MORE}").output().unwrap()
    };
    let entered = exec(&format!("MORE={SECRET}"));
    assert_eq!(text(&entered.stdout), format!("{length}{length}\n"));
    say(&exec(&format!("LD_PRELOAD={SECRET}")));
    say(&run(&[], &["no-such-command"]).output().unwrap());
    for wrong in ["", "1A=", "LD_PRELOAD="] {
        let variable = format!("{wrong}{SECRET}");
        say(&run(&["--env", &variable], &["true"]).output().unwrap());
    }
    say(&run(&["--name", "box"], &["true"]).output().unwrap());
    said += &misunderstood(&daemon);

    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    said += &daemon.log();
    said += &fs::read_to_string(daemon.paths().state_dir.join("audit.jsonl")).unwrap();
    assert!(said.contains("sandbox_started") && said.contains(" DEBUG "));
    let found: Vec<_> = said.lines().filter(|line| line.contains(SECRET)).collect();
    assert!(found.is_empty(), "{found:?}");
}
