//! Records of system calls that a sandbox was refused: numbers and registers become names.

use clawd_common::{
    event::Event,
    syscall::{self, Arch, X32_BIT},
    verdict::{Action, Reason},
};

use crate::{
    convert::{Names, number_name, whose},
    record::{Activity, AuditRecord, Protocol},
    time::Clock,
};

/// A call that was refused, as its thread made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedCall {
    /// Its number.
    pub number: u32,
    /// `AUDIT_ARCH_*` of the table that the number is of.
    pub arch: u32,
    /// The registers. What they point at was not read: it may have changed since.
    pub arguments: [u64; 6],
}

/// Makes the record of a refused call. `event` says who made it and when; what it says of sockets and
/// destinations is not looked at.
#[must_use]
pub fn refused_call(
    event: &Event,
    call: &RefusedCall,
    names: &dyn Names,
    clock: &Clock,
) -> AuditRecord {
    let mut record = whose(event, Activity::Syscall, names, clock);
    let told = call.told();
    record.action = Some(Action::Denied.into());
    record.rule = None;
    record.pinned_sha256 = None;
    record.reason = Some(match told.table {
        None => Reason::SyscallDenied,
        Some(_) => Reason::ForeignSyscall,
    });
    record.syscall = Some(told.name);
    record.syscall_table = told.table;
    if record.syscall_table.is_none() {
        call.describe(&mut record);
    }
    record
}

/// A call by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldCall {
    /// As in its manual page; `#N` where it is not known.
    pub name: String,
    /// The table, where it is not the one of the machine's own programs.
    pub table: Option<String>,
}

// === impl RefusedCall ===

impl RefusedCall {
    /// Its name, and whose table it is of.
    #[must_use]
    pub fn told(&self) -> ToldCall {
        let of = Arch::ALL.into_iter().find(|arch| arch.audit() == self.arch);
        let is_x32 = of == Some(Arch::X86_64) && self.number & X32_BIT != 0;
        let known = match of {
            // Below 512 the numbers of x32 are those of x86_64.
            Some(arch) => syscall::name(arch, self.number & !X32_BIT),
            None => None,
        };
        let name = known.map_or_else(|| format!("#{}", self.number & !X32_BIT), str::to_owned);
        let table = if is_x32 {
            Some("x32".to_owned())
        } else if of.is_some() {
            None
        } else {
            Some(table_name(self.arch))
        };
        ToldCall { name, table }
    }

    /// What the registers say of the attempt, where that is more than the name.
    fn describe(&self, record: &mut AuditRecord) {
        let [a, b, c, ..] = self.arguments.map(int);
        record.arguments = match record.syscall.as_deref() {
            Some("socket" | "socketpair") => {
                record.socket_family = Some(number_name(a, FAMILIES));
                record.socket_type = Some(number_name(b & 0xf, TYPES));
                match (a, u16::try_from(c)) {
                    (2 | 10, Ok(protocol)) => {
                        record.protocol = Some(Protocol(protocol));
                        None
                    }
                    _ => Some(format!("protocol={c}")),
                }
            }
            Some("clone" | "unshare") => Some(format!("flags={}", bits(a, NAMESPACES))),
            Some("setns") => Some(format!("type={}", bits(b, NAMESPACES))),
            Some("ioctl") => Some(format!("request={}", number_hex(b, REQUESTS))),
            Some("prctl") => Some(format!("option={}", number_name(a, OPTIONS))),
            Some("setsockopt") => Some(format!("level={} name={c}", number_name(b, LEVELS))),
            Some("prlimit64") => Some(format!("pid={a} resource={b}")),
            Some("personality") => Some(format!("persona={a:#x}")),
            Some("seccomp") => Some(format!("operation={a} flags={b:#x}")),
            Some("ptrace") => Some(format!("request={a}")),
            Some("bpf") => Some(format!("command={a}")),
            Some("keyctl") => Some(format!("operation={a}")),
            _ => None,
        };
    }
}

/// The kernel takes an `int` from the lower half of a register.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper half is what must go"
)]
const fn int(register: u64) -> u32 {
    register as u32
}

/// include/uapi/linux/audit.h.
fn table_name(arch: u32) -> String {
    match arch {
        0x4000_0003 => "i386".to_owned(),
        0x4000_0028 => "arm".to_owned(),
        other => format!("{other:#x}"),
    }
}

fn number_hex(number: u32, names: &[(u32, &str)]) -> String {
    let known = names.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_owned())
}

/// The names of the bits that are set, and the rest as a number.
fn bits(word: u32, names: &[(u32, &str)]) -> String {
    let set = names.iter().filter(|(bit, _)| word & bit != 0);
    let rest = names.iter().fold(word, |rest, (bit, _)| rest & !bit);
    let mut told: Vec<String> = set.map(|(_, name)| (*name).to_owned()).collect();
    if rest != 0 || told.is_empty() {
        told.push(format!("{rest:#x}"));
    }
    told.join("|")
}

const FAMILIES: &[(u32, &str)] = &[
    (1, "unix"),
    (2, "inet"),
    (10, "inet6"),
    (15, "key"),
    (16, "netlink"),
    (17, "packet"),
    (21, "rds"),
    (30, "tipc"),
    (31, "bluetooth"),
    (38, "alg"),
    (40, "vsock"),
    (41, "kcm"),
    (44, "xdp"),
];

const TYPES: &[(u32, &str)] = &[
    (1, "stream"),
    (2, "dgram"),
    (3, "raw"),
    (4, "rdm"),
    (5, "seqpacket"),
    (6, "dccp"),
    (10, "packet"),
];

const NAMESPACES: &[(u32, &str)] = &[
    (1 << 17, "CLONE_NEWNS"),
    (1 << 25, "CLONE_NEWCGROUP"),
    (1 << 26, "CLONE_NEWUTS"),
    (1 << 27, "CLONE_NEWIPC"),
    (1 << 28, "CLONE_NEWUSER"),
    (1 << 29, "CLONE_NEWPID"),
    (1 << 30, "CLONE_NEWNET"),
];

const REQUESTS: &[(u32, &str)] = &[
    (0x5412, "TIOCSTI"),
    (0x541c, "TIOCLINUX"),
    (0x5423, "TIOCSETD"),
];
const OPTIONS: &[(u32, &str)] = &[(35, "PR_SET_MM")];
const LEVELS: &[(u32, &str)] = &[(0, "IPPROTO_IP"), (41, "IPPROTO_IPV6")];

#[cfg(test)]
mod tests {
    use clawd_common::syscall::Arch;

    use super::RefusedCall;
    use crate::{
        record::{Activity, AuditRecord},
        time::Timestamp,
    };

    fn described(arch: Arch, name: &str, arguments: [u64; 3]) -> AuditRecord {
        let [a, b, c] = arguments;
        let call = RefusedCall {
            number: clawd_common::syscall::number(arch, name).expect(name),
            arch: arch.audit(),
            arguments: [a, b, c, 0, 0, 0],
        };
        let mut record = AuditRecord::new(Timestamp::from_unix_ns(0), Activity::Syscall);
        record.syscall = Some(call.told().name);
        assert_eq!(record.syscall.as_deref(), Some(name));
        call.describe(&mut record);
        record
    }

    #[test]
    fn arguments_say_what_was_tried_on_both_architectures() {
        const HIGH: u64 = 0xdead_beef << 32;
        for arch in Arch::ALL {
            for (name, arguments, want) in [
                (
                    "clone",
                    [HIGH | 0x1002_0011, 0, 0],
                    "flags=CLONE_NEWNS|CLONE_NEWUSER|0x11",
                ),
                ("unshare", [0, 0, 0], "flags=0x0"),
                ("setns", [3, 1 << 30, 0], "type=CLONE_NEWNET"),
                ("ioctl", [0, HIGH | 0x5412, 0], "request=TIOCSTI"),
                ("ioctl", [0, 0x541c, 0], "request=TIOCLINUX"),
                ("ioctl", [0, 0x5423, 0], "request=TIOCSETD"),
                ("ioctl", [0, 0x5401, 0], "request=0x5401"),
                ("prctl", [35, 13, 0], "option=PR_SET_MM"),
                ("setsockopt", [3, 41, 57], "level=IPPROTO_IPV6 name=57"),
                ("prlimit64", [HIGH | 1, 7, 0], "pid=1 resource=7"),
                ("personality", [0x4_0000, 0, 0], "persona=0x40000"),
                ("seccomp", [1, 8, 0], "operation=1 flags=0x8"),
            ] {
                let got = described(arch, name, arguments);
                assert_eq!(got.arguments.as_deref(), Some(want), "{name}");
            }
            assert_eq!(described(arch, "mount", [1, 2, 3]).arguments, None);
        }
    }

    #[test]
    fn socket_is_told_by_family_type_and_protocol() {
        let got = described(Arch::X86_64, "socket", [38, 0x8_0005, 0]);
        assert_eq!(got.socket_family.as_deref(), Some("alg"));
        assert_eq!(got.socket_type.as_deref(), Some("seqpacket"));
        assert_eq!(
            (got.protocol, got.arguments.as_deref()),
            (None, Some("protocol=0"))
        );
        let got = described(Arch::X86_64, "socket", [2, 2, 1]);
        assert_eq!(got.protocol.expect("a protocol").to_string(), "icmp");
        assert_eq!(got.arguments, None);
        let got = described(Arch::Aarch64, "socket", [99, 99, 1 << 20]);
        assert_eq!(got.socket_family.as_deref(), Some("99"));
        assert_eq!(got.arguments.as_deref(), Some("protocol=1048576"));
    }

    #[test]
    fn foreign_tables_are_named_and_unknown_numbers_shown() {
        let told = |arch, number| {
            let call = RefusedCall {
                number,
                arch,
                arguments: [0; 6],
            };
            let told = call.told();
            (told.name, told.table)
        };
        let table = |name: &str| Some(name.to_owned());
        let x86_64 = Arch::X86_64.audit();
        assert_eq!(
            told(x86_64, 0x4000_0027),
            ("getpid".to_owned(), table("x32"))
        );
        assert_eq!(told(x86_64, 0x4000_0200), ("#512".to_owned(), table("x32")));
        assert_eq!(told(0x4000_0003, 20), ("#20".to_owned(), table("i386")));
        assert_eq!(told(7, 1), ("#1".to_owned(), table("0x7")));
        assert_eq!(told(x86_64, 460), ("lsm_set_self_attr".to_owned(), None));
    }
}
