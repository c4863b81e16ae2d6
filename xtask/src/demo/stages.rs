//! The demo from stage to stage, against a clawd that runs.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clawd_audit::AuditRecord;
use clawd_audit::tail::read_line;
use clawd_tests::{Daemon, Internet, binaries, sha256_of_file};
use serde_json::Value;

use super::agent::Agent;
use super::attempt::Attempt;
use super::expectation::{Asker, Rules};
use super::interrupt::Interrupt;
use super::judge::{Judged, Visits};
use super::rows::{AFTER_RESTART, AGENT, BEFORE_KILL, REPLACED, Row, Section, WITHOUT_CLAWD};
use super::show::Show;
use super::table;
use super::workload::Workload;

/// The sandbox that outlives its clawd.
const SECOND: &str = "second";
/// How long a server may take to write down who was there, once it has answered.
const SERVER_LOG_MAX: Duration = Duration::from_secs(5);
/// Where the agent's programs are; the whole environment that it needs.
const PATH: &str = "/usr/bin:/bin";

/// What every stage works with.
struct Stage<'a> {
    internet: &'a Internet,
    daemon: &'a mut Daemon,
    interrupt: &'a Interrupt,
    workload: Workload,
    rules: Rules,
    show: Show,
}

/// Goes through all stages.
///
/// # Errors
/// A stage could not be carried out; whatever came out otherwise than the policy says is no error
/// but in the [`Show`].
pub(super) fn all(
    internet: &Internet,
    daemon: &mut Daemon,
    interrupt: &Interrupt,
) -> anyhow::Result<Show> {
    let dir = daemon.scratch().folder("demo", 0o755)?;
    let workload = Workload::write(dir).context("cannot prepare the agent's directory")?;
    let rules = Rules::new(workload.policy(), |path| sha256_of_file(path))?;
    let mut stage = Stage {
        internet,
        daemon,
        interrupt,
        workload,
        rules,
        show: Show::default(),
    };
    stage.introduce();
    stage.without_sandbox()?;
    stage.first_sandbox()?;
    let first_of_second = stage.show.next_number();
    stage.second_sandbox()?;
    let records = stage.records()?;
    stage.show.audit(records, SECOND, first_of_second);
    Ok(stage.show)
}

impl Stage<'_> {
    fn introduce(&self) {
        println!("\nThe policy, policies/demo/demo.yaml, lets");
        for line in self.rules.listed() {
            println!("  {line}");
        }
        println!("and nothing else.");
    }

    /// Shows that there is something to refuse: without clawd every attempt succeeds.
    fn without_sandbox(&mut self) -> anyhow::Result<()> {
        self.show.heading("Without a sandbox: ./agent.sh");
        let mut command = Command::new("./agent.sh");
        command
            .current_dir(self.workload.dir())
            .env_clear()
            .env("PATH", PATH);
        let before = self.visits();
        let attempts = self.run_to_end(command)?;
        let complaints = attempts
            .iter()
            .filter(|attempt| !attempt.has_reached())
            .map(|attempt| format!("`{}` gave {}", attempt.name, attempt.outcome()));
        let mut complaints: Vec<String> = complaints.collect();
        complaints.extend(self.visit_complaints(&before, &attempts.iter().collect::<Vec<_>>()));
        let what = format!(
            "each of its {} attempts reaches its server, also those to be refused",
            attempts.len()
        );
        self.show.check(&what, complaints);
        Ok(())
    }

    fn first_sandbox(&mut self) -> anyhow::Result<()> {
        self.show
            .heading("In a sandbox: clawctl run --policy demo.yaml -- ./agent.sh");
        println!("{}", table::headings());
        let command = self.clawctl(&["run", "--policy", "demo.yaml", "--", "./agent.sh"])?;
        let before = self.visits();
        let attempts = self.run_to_end(command)?;
        let row_count: usize = AGENT.iter().map(|section| section.rows.len()).sum();
        ensure!(
            attempts.len() == row_count,
            "the agent made {} attempts, not {row_count}",
            attempts.len()
        );
        let first = self.show.next_number();
        let mut attempts = attempts.into_iter();
        for section in AGENT {
            self.show.heading(section.heading);
            for (row, attempt) in section.rows.iter().zip(attempts.by_ref()) {
                self.judge(*row, attempt)?;
            }
        }
        self.check_visits(&before, first);
        Ok(())
    }

    fn second_sandbox(&mut self) -> anyhow::Result<()> {
        self.workload.replace_tool()?;
        let command = [
            "run",
            "--name",
            SECOND,
            "--policy",
            "demo.yaml",
            "--",
            "./agent.sh",
            "-",
        ];
        let mut agent = self.start(self.clawctl(&command)?)?;
        self.section(&BEFORE_KILL, &mut agent)?;
        self.section(&REPLACED, &mut agent)?;
        self.daemon.kill9()?;
        let without_clawd = self.section(&WITHOUT_CLAWD, &mut agent);
        self.daemon.launch()?;
        without_clawd?;
        self.section(&AFTER_RESTART, &mut agent)?;
        self.takes_over()?;
        let stopped = self.json(&["stop", SECOND])?;
        let (attempts, _killed) = agent.finish()?;
        let mut complaints = Vec::new();
        if !attempts.is_empty() {
            complaints.push("the agent went on".to_owned());
        }
        if !self.sandboxes()?.is_empty() {
            complaints.push("`clawctl ps` still lists a sandbox".to_owned());
        }
        let killed = number(stopped.first(), "killed");
        if killed == 0 {
            complaints.push("no process was killed".to_owned());
        }
        let what = format!("`clawctl stop {SECOND}` ends it ({killed} processes)");
        self.show.check(&what, complaints);
        Ok(())
    }

    /// Whether the restarted clawd knows the sandbox as its own.
    fn takes_over(&mut self) -> anyhow::Result<()> {
        let sandboxes = self.sandboxes()?;
        let text = |name: &str| match sandboxes.as_slice() {
            [one] => one.get(name).map(Value::to_string).unwrap_or_default(),
            _ => String::new(),
        };
        let mut complaints = Vec::new();
        if text("name") != format!("\"{SECOND}\"") || text("adopted") != "true" {
            complaints.push(format!("it lists {}", Value::from(sandboxes.clone())));
        }
        let what =
            format!("`clawctl ps` of the next clawd lists the sandbox `{SECOND}`, taken over");
        self.show.check(&what, complaints);
        Ok(())
    }

    /// Has the agent make the attempts of a section, and judges each.
    fn section(&mut self, section: &Section, agent: &mut Agent) -> anyhow::Result<()> {
        self.show.heading(section.heading);
        let before = self.visits();
        let first = self.show.next_number();
        for row in section.rows {
            let attempt = agent.attempt(row.name)?;
            self.judge(*row, attempt)?;
        }
        self.check_visits(&before, first);
        Ok(())
    }

    fn judge(&mut self, row: Row, attempt: Attempt) -> anyhow::Result<()> {
        let path = self.workload.file(&attempt.program)?;
        let sha256 = sha256_of_file(&path)?;
        let starter = row.started_by.map(|program| {
            let file = self.workload.file(Path::new(program))?;
            sha256_of_file(file)
        });
        let starter = starter.transpose()?;
        let asker = Asker {
            path: &path,
            sha256: row.hashed.then_some(sha256.as_str()),
            started_by: starter.as_deref(),
        };
        let expectation = self.rules.expect(&attempt, &asker);
        let number = self.show.next_number();
        self.show
            .row(Judged::new(number, row, attempt, sha256, expectation));
        Ok(())
    }

    /// Compares what the servers saw since `before` with the rows since `first`.
    fn check_visits(&mut self, before: &Visits, first: usize) {
        let allowed: Vec<&Attempt> = self
            .show
            .rows_from(first)
            .iter()
            .filter(|judged| judged.expectation.allowed)
            .map(|judged| &judged.attempt)
            .collect();
        let what = format!(
            "the servers saw what was allowed, {} in all, and no more",
            allowed.len()
        );
        let complaints = self.visit_complaints(before, &allowed);
        self.show.check(&what, complaints);
    }

    fn visits(&self) -> Visits {
        Visits::seen(&self.internet.contacts())
    }

    fn visit_complaints(&self, before: &Visits, attempts: &[&Attempt]) -> Vec<String> {
        let wanted = Visits::of(attempts.iter().copied());
        let deadline = Instant::now() + SERVER_LOG_MAX;
        loop {
            let seen = self.visits().since(before);
            if seen.count() >= wanted.count() || Instant::now() > deadline {
                return seen.differences(&wanted);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs the agent until it ends by itself.
    fn run_to_end(&self, command: Command) -> anyhow::Result<Vec<Attempt>> {
        let agent = self.start(command)?;
        let complaints = self.daemon.scratch().path("agent.log");
        let (attempts, status) = agent.finish()?;
        if !status.success() {
            let said = std::fs::read_to_string(complaints).unwrap_or_default();
            bail!("the agent ended with {status}: {}", said.trim());
        }
        Ok(attempts)
    }

    fn start(&self, command: Command) -> anyhow::Result<Agent> {
        let complaints = self.daemon.scratch().path("agent.log");
        Agent::start(self.internet.host(), command, complaints, self.interrupt)
    }

    /// `clawctl` in the agent's directory, as one would type it there.
    fn clawctl(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(binaries::find("clawctl")?);
        command
            .args(arguments)
            .current_dir(self.workload.dir())
            .env(clawd_control::SOCKET_VARIABLE, &self.daemon.paths().socket);
        Ok(command)
    }

    /// The lines that `clawctl --json` prints.
    fn json(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let text = crate::process::output(self.clawctl(arguments)?.arg("--json"))?;
        let lines = text.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }

    fn sandboxes(&self) -> anyhow::Result<Vec<Value>> {
        let listed = self.json(&["ps"])?;
        let list = listed
            .first()
            .and_then(|listed| listed.get("sandboxes")?.as_array());
        list.cloned().context("`clawctl ps --json` printed no list")
    }

    /// Every audit record, in the order in which it all happened.
    fn records(&self) -> anyhow::Result<Vec<AuditRecord>> {
        let mut command = self.clawctl(&["logs", "-n", "100000", "--json"])?;
        let text = crate::process::output(&mut command)?;
        let lines = text.lines().map(|line| read_line(line.as_bytes()));
        let mut records = lines.collect::<Result<Vec<AuditRecord>, _>>()?;
        // Denials come through a ring buffer of their own, so the log's order is not that in time.
        records.sort_by_key(|record| record.time);
        Ok(records)
    }
}

fn number(value: Option<&Value>, name: &str) -> u64 {
    value
        .and_then(|value| value.get(name)?.as_u64())
        .unwrap_or(0)
}
