//! Generated policies, through real sockets: the kernel refuses what the linear scan over the policy
//! refuses, and nothing else.

#[path = "../../../../agent/policy/src/tests/decisions/reference.rs"]
mod reference;

use std::{collections::BTreeSet, fmt::Write as _, fs, net::IpAddr, path::PathBuf};

use clawd_policy::Policy;
use clawd_tests::{Address, PYTHON, Prober, sha256_of_file};
use serde_json::{Value, json};

use self::reference::{Attempt, Decision, File, reference};
use crate::support::{World, code, direct};

const POLICIES: u64 = 16;
const ATTEMPTS: usize = 24;
const DASH: &str = "/usr/bin/dash";

/// Numbers from a seed, the same ones each time (Marsaglia, Xorshift RNGs).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let end = u64::try_from(end).expect("64 bits");
        usize::try_from(self.0 % end).expect("small")
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Addresses that somebody is at, or at least a network that answers.
const PLACES: [&str; 9] = [
    Address::A,
    Address::B,
    Address::C,
    Address::D,
    Address::A6,
    Address::B6,
    Address::C6,
    "127.0.0.1",
    "::1",
];
const PORTS: [u16; 9] = [1, 79, 80, 81, 6999, 7000, 7001, 7002, 65535];

/// Around one of [`PLACES`].
fn prefix(random: &mut Random) -> String {
    let ip: IpAddr = random.pick(&PLACES).parse().expect("an address");
    let max = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match random.below(4) {
        0 => max,
        1 => max - random.below(3),
        2 => random.below(max + 1),
        _ => [0, 24, 32][random.below(3)].min(max),
    };
    let bits = u32::try_from(bits).expect("small");
    match clawd_policy::Prefix::new(ip, bits) {
        Ok(prefix) => prefix.to_string(),
        Err(clawd_policy::PrefixError::HostBits { corrected }) => corrected.to_string(),
        Err(error) => panic!("{error}"),
    }
}

fn endpoint(random: &mut Random, denies: bool) -> String {
    let mut text = format!("{{ cidr: \"{}\"", prefix(random));
    let (a, b) = (*random.pick(&PORTS), *random.pick(&PORTS));
    match random.below(4) {
        0 if denies => {}
        1 => write!(text, ", ports: [{}-{}]", a.min(b), a.max(b)).expect("memory"),
        2 => write!(text, ", ports: [{a}, {b}]").expect("memory"),
        _ => write!(text, ", port: {a}").expect("memory"),
    }
    match random.below(3) {
        0 => text += ", protocol: udp",
        1 => text += ", protocol: tcp",
        _ => {}
    }
    text + " }"
}

/// The programs that the reference knows, and how a policy may mean them.
struct Programs {
    files: Vec<File>,
    entries: Vec<String>,
}

impl Programs {
    fn of_host() -> Self {
        let file = |path: &str| {
            let path: PathBuf = fs::canonicalize(path).expect("it is there");
            let hex = sha256_of_file(&path).expect("its content");
            let mut sha256 = [0; 32];
            for (at, byte) in sha256.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal");
            }
            File { path, sha256 }
        };
        let files = vec![file(PYTHON), file(DASH)];
        let hex = |path| sha256_of_file(path).expect("its content");
        let entries = vec![
            format!("{{ path: {} }}", files[0].path.display()),
            format!("{{ sha256: {} }}", hex(PYTHON)),
            "{ path: \"/usr/bin/python3*\" }".to_owned(),
            format!("{{ path: {DASH}, descendants: true }}"),
            format!("{{ sha256: {}, descendants: true }}", hex(DASH)),
            format!("{{ path: {DASH} }}"),
            format!("{{ sha256: {} }}", "0".repeat(64)),
        ];
        Self { files, entries }
    }
}

fn policy(random: &mut Random, programs: &Programs) -> String {
    let mut groups = String::new();
    for name in 0..3 + random.below(5) {
        let denies = random.below(3) == 0;
        let endpoints: Vec<String> = (0..1 + random.below(4))
            .map(|_| endpoint(random, denies))
            .collect();
        let count = random.below(3) + usize::from(!denies);
        let binaries: BTreeSet<&String> =
            (0..count).map(|_| random.pick(&programs.entries)).collect();
        let action = if denies { "deny" } else { "allow" };
        write!(
            groups,
            "  g{name}: {{ action: {action}, endpoints: [{}]",
            endpoints.join(", ")
        )
        .expect("memory");
        if !binaries.is_empty() {
            let binaries: Vec<_> = binaries.into_iter().map(String::as_str).collect();
            write!(groups, ", binaries: [{}]", binaries.join(", ")).expect("memory");
        }
        groups += " }\n";
    }
    direct(&groups)
}

/// Connects to each destination; prints the errno of each, or 0. A connect that is under way was allowed.
const CONNECTS: &str = "
import errno, json, socket, sys
found = []
for address, port, protocol in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == 6 else socket.SOCK_DGRAM
    with socket.socket(family, kind) as talk:
        talk.setblocking(False)
        found.append(talk.connect_ex((address, port)))
print(json.dumps(found))
";

/// Makes the attempts in a Python of its own, which dash starts where `by_dash`.
fn connect(prober: &mut Prober, attempts: &[Attempt], by_dash: bool) -> Vec<i64> {
    let destinations: Vec<Value> = attempts
        .iter()
        .map(|attempt| json!([attempt.ip, attempt.port, attempt.protocol]))
        .collect();
    let python = json!([
        PYTHON,
        "-I",
        "-c",
        CONNECTS,
        json!(destinations).to_string()
    ]);
    let argv = match by_dash {
        false => python,
        true => {
            let script = "\"$0\" \"$@\"; exit";
            let python = python.as_array().expect("a list").clone();
            [vec![json!(DASH), json!("-c"), json!(script)], python]
                .concat()
                .into()
        }
    };
    let answer = prober.ask(&json!({ "do": "run", "argv": argv }));
    let out = answer["ok"]["out"].as_str().unwrap_or_default();
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn attempts(random: &mut Random, by_dash: bool) -> Vec<Attempt> {
    let attempt = |_| Attempt {
        ip: random.pick(&PLACES).parse().expect("an address"),
        scope_id: 0,
        port: *random.pick(&PORTS),
        protocol: *random.pick(&[6, 17]),
        own_loopback: false,
        file: Some(0),
        is_changed: false,
        ancestor: by_dash.then_some(1),
    };
    (0..ATTEMPTS).map(attempt).collect()
}

/// The denials under one generation of a policy tell what the reference says.
fn check_records(world: &World, generation: u64, decided: &[(Attempt, Decision)]) -> usize {
    let denials = world.denials("box", 0).into_iter();
    let mut checked = 0;
    for record in denials.filter(|record| record["policy_generation"] == generation) {
        let is_of = |(attempt, _): &&(Attempt, Decision)| {
            record["dst_ip"] == attempt.ip.to_string()
                && record["dst_port"] == attempt.port
                && record["protocol"] == (if attempt.protocol == 6 { "tcp" } else { "udp" })
        };
        let wanted: Vec<_> = decided.iter().filter(is_of).map(|(_, want)| want).collect();
        let is_told = wanted.iter().any(|(allowed, reason, rule)| {
            !allowed
                && record["reason"] == reason.name()
                && record["rule"].as_str() == rule.as_deref()
        });
        assert!(is_told, "{record} is none of {wanted:?}");
        checked += 1;
    }
    checked
}

#[test]
fn kernel_refuses_what_the_linear_scan_refuses() {
    const EPERM: i64 = 1;
    let world = World::start();
    let programs = Programs::of_host();
    let mut prober = world.prober("box", &direct(""));
    let (mut allowed, mut refused, mut told) = (0, 0, 0);
    for seed in 1..=POLICIES {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let text = policy(&mut random, &programs);
        let parsed: Policy = clawd_policy::parse("generated.yaml", &text)
            .unwrap_or_else(|errors| panic!("{errors}\n{text}"))
            .policy;
        let file = world.daemon.policy_file(&text);
        let file = file.to_str().expect("UTF-8");
        let push = ["policy", "push", "--sandbox", "box", file];
        let pushed = world.daemon.clawctl(push).output().expect("clawctl");
        assert_eq!(code(&pushed), 0, "{pushed:?}\n{text}");
        let mut decided = Vec::new();
        for by_dash in [false, true] {
            let attempts = attempts(&mut random, by_dash);
            let errnos = connect(&mut prober, &attempts, by_dash);
            assert_eq!(errnos.len(), attempts.len());
            for (attempt, errno) in attempts.into_iter().zip(errnos) {
                let want = reference(&parsed, &programs.files, &attempt);
                assert_eq!(
                    errno != EPERM,
                    want.0,
                    "{errno} {attempt:?} {want:?}\n{text}"
                );
                allowed += usize::from(want.0);
                refused += usize::from(!want.0);
                decided.push((attempt, want));
            }
        }
        told += check_records(&world, seed + 1, &decided);
    }
    assert!(allowed > 50 && refused > 100, "{allowed} {refused}");
    assert!(told > 100, "{told} of {refused}");
}
