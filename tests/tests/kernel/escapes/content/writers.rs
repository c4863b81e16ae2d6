//! B9: programs that somebody has open for writing, or writes between their hash and their exec.

use std::{fs::File, path::Path};

use clawd_tests::{Address, FileSystem, Kind};
use serde_json::{Value, json};

use super::{
    EPERM, ETXTBSY, EXECUTE, Script, WRITE, WRITE_AND_EXECUTE,
    caller::{self, LISTED_PORT, OTHER_PORT},
    contacts, execute, policy, reaches, unseen, writable,
};
use crate::support::{CURL_ENTRY, World, eventually, told_in_all};

const OPEN: &str = include_str!("../../../../escapes/b09_open_for_writing.py");
const HOLD: &str = include_str!("../../../../escapes/b09_hold.py");
const RACE: &str = include_str!("../../../../escapes/b09_race.py");

/// Large enough that hashing it takes its time.
const SIZE_BYTES: usize = 1 << 20;
/// How often a program is executed while it is rewritten.
const TRIES: u64 = 300;

/// Why the other content is refused: for what it is; for want of an identity; because a writer came
/// while its exec was under way, upon which the process lost its record.
const REFUSALS: [&str; 3] = ["binary_not_listed", "no_identity", "no_process_record"];

/// The entry of the listed program.
fn entry() -> String {
    format!("{{ sha256: {} }}", caller::digest(LISTED_PORT, SIZE_BYTES))
}

/// Makes the program the property of sandboxes' users, as far as the mode tells.
fn everybodys(program: &Path) {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(program, mode).unwrap();
}

/// The refused exec left nothing: no program ran, with or without identity.
#[track_caller]
fn is_busy((answer, records): (Value, Vec<Value>), program: &Path) {
    assert_eq!(answer, json!({ "errno": ETXTBSY }));
    let path = program.to_str().unwrap();
    let of_it = records.iter().filter(|record| record["exe"] == path);
    assert_eq!(of_it.count(), 0, "{records:#?}");
}

#[test]
fn b09_open_for_writing_by_a_process_of_the_sandbox() {
    let world = World::start();
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs, Kind::Tmpfs] {
        let disk = FileSystem::mount(world.daemon.scratch(), kind, kind.name()).unwrap();
        let folder = writable(disk.path(), "bin");
        let program = caller::write(&folder, "fetch", LISTED_PORT, SIZE_BYTES);
        everybodys(&program);
        let policy = policy(WRITE_AND_EXECUTE, &folder, &entry());
        let arguments = [program.to_str().unwrap()];
        let mut script = Script::start(&world, kind.name(), &policy, OPEN, &arguments);
        reaches(&world, || {
            assert_eq!(script.value(), json!({ "code": 0 }), "{kind:?}")
        });
        is_busy(unseen(&world, kind.name(), || script.go_on()), &program);
        reaches(&world, || {
            assert_eq!(script.go_on(), json!({ "code": 0 }), "{kind:?}")
        });
        script.end();
    }
}

#[test]
fn b09_open_for_writing_by_the_host() {
    let world = World::start();
    for list in [EXECUTE, WRITE_AND_EXECUTE] {
        let sandbox = list.replace('_', "-");
        let folder = writable(world.daemon.scratch().dir(), list);
        let program = caller::write(&folder, "fetch", LISTED_PORT, SIZE_BYTES);
        let mut prober = world.prober(&sandbox, &policy(list, &folder, &entry()));
        let writer = File::options().write(true).open(&program).unwrap();
        is_busy(
            unseen(&world, &sandbox, || execute(&mut prober, &program)),
            &program,
        );
        drop(writer);
        reaches(&world, || {
            assert_eq!(
                execute(&mut prober, &program),
                json!({ "code": 0 }),
                "{list}"
            );
        });
    }
}

#[test]
fn b09_open_for_writing_by_another_sandbox() {
    let world = World::start();
    let folder = writable(world.daemon.scratch().dir(), "bin");
    let program = caller::write(&folder, "fetch", LISTED_PORT, SIZE_BYTES);
    everybodys(&program);
    let mut prober = world.prober("runs", &policy(EXECUTE, &folder, &entry()));
    reaches(&world, || {
        assert_eq!(execute(&mut prober, &program), json!({ "code": 0 }));
    });
    let arguments = [program.to_str().unwrap()];
    let writes = policy(WRITE, &folder, CURL_ENTRY);
    let mut writer = Script::start(&world, "writes", &writes, HOLD, &arguments);
    assert_eq!(writer.value(), "open");
    is_busy(
        unseen(&world, "runs", || execute(&mut prober, &program)),
        &program,
    );
    assert_eq!(writer.go_on(), "closed");
    reaches(&world, || {
        assert_eq!(execute(&mut prober, &program), json!({ "code": 0 }));
    });
    writer.end();
}

/// Each connection that was made or refused tells by its port what ran: the log must tell the same,
/// and the other content must not have connected at all.
#[track_caller]
pub(super) fn no_content_was_taken_for_another(world: &World, sandbox: &str, size_bytes: usize) {
    assert_eq!(
        contacts(world, OTHER_PORT),
        0,
        "the other content connected"
    );
    for record in world.daemon.audit() {
        if record["sandbox"] != sandbox || record["activity"] != "connect" {
            continue;
        }
        let port = record["dst_port"]
            .as_u64()
            .and_then(|port| port.try_into().ok());
        let port = port.filter(|port| [LISTED_PORT, OTHER_PORT].contains(port));
        let digest = caller::digest(port.unwrap(), size_bytes);
        if !record["sha256"].is_null() {
            assert_eq!(record["sha256"], digest, "{record}");
        }
        if port == Some(OTHER_PORT) {
            assert_eq!(record["action"], "denied", "{record}");
            let reason = record["reason"].as_str().unwrap();
            assert!(REFUSALS.contains(&reason), "{record}");
        }
    }
}

/// The sum of what a race came to, which must be nothing but these outcomes.
#[track_caller]
pub(super) fn tries(outcomes: &Value, allowed: &[&str]) -> u64 {
    let outcomes = outcomes.as_object().unwrap();
    for outcome in outcomes.keys() {
        assert!(allowed.contains(&outcome.as_str()), "{outcomes:?}");
    }
    outcomes.values().filter_map(Value::as_u64).sum()
}

/// `how` the writer opens the file: so that it waits for a lease, or so that it is told.
#[track_caller]
fn races(world: &World, how: &str) {
    let folder = writable(world.daemon.scratch().dir(), how);
    let program = caller::write(&folder, "fetch", LISTED_PORT, SIZE_BYTES);
    everybodys(&program);
    let policy = policy(WRITE_AND_EXECUTE, &folder, &entry());
    let byte = |port: u16| port.to_be_bytes()[1].to_string();
    let arguments = [
        program.to_str().unwrap(),
        &caller::port_at().to_string(),
        &byte(LISTED_PORT),
        &byte(OTHER_PORT),
        &TRIES.to_string(),
        how,
    ];
    let before = contacts(world, LISTED_PORT);
    let mut script = Script::start(world, how, &policy, RACE, &arguments);
    let outcomes = script.value();
    script.end();
    println!("{how}: {outcomes}");
    assert_eq!(tries(&outcomes, &["code 0", "code 1", "errno 26"]), TRIES);
    no_content_was_taken_for_another(world, how, SIZE_BYTES);
    // Those that succeeded had the listed content: the test can see one that did.
    let connected = outcomes["code 0"].as_u64().unwrap_or(0);
    eventually("the server sees them", || {
        contacts(world, LISTED_PORT) - before == usize::try_from(connected).unwrap()
    });
    let is_allowed = |record: &Value| {
        record["sandbox"] == how && record["dst_ip"] == Address::A && record["action"] == "allowed"
    };
    eventually("every connection is told, and no more", || {
        let allowed: Vec<_> = world
            .daemon
            .audit()
            .into_iter()
            .filter(is_allowed)
            .collect();
        told_in_all(&allowed) == connected
    });
    let refused = outcomes["code 1"].as_u64().unwrap_or(0);
    eventually("every refusal is told, and no more", || {
        told_in_all(&world.denials(how, 0)) == refused
    });
    let mut prober = world.prober("after", &policy);
    reaches(world, || {
        caller::write(&folder, "fetch", LISTED_PORT, SIZE_BYTES);
        assert_eq!(execute(&mut prober, &program), json!({ "code": 0 }));
    });
    caller::write(&folder, "fetch", OTHER_PORT, SIZE_BYTES);
    let (answer, _) = unseen(world, "after", || execute(&mut prober, &program));
    assert_eq!(answer, json!({ "code": EPERM }));
}

#[test]
fn b09_written_between_hash_and_exec_by_one_who_waits_for_the_lease() {
    races(&World::start(), "wait");
}

#[test]
fn b09_written_between_hash_and_exec_by_one_who_does_not_wait() {
    races(&World::start(), "ask");
}
