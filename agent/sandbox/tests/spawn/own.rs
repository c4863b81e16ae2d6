//! Cases about what each sandbox has of its own.

use std::fs;

use clawd_sandbox::Compatibility;

use crate::rig::{probe, run, shell, spec};

pub(crate) fn etc_and_proc() {
    let got = shell(
        "cat /etc/passwd /etc/group /etc/hosts /etc/resolv.conf; id -un; id -gn; echo ~agent; \
         getent hosts $(cat /proc/sys/kernel/hostname) | cut -d' ' -f1",
    );
    let want = "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n\
        agent:x:64123:64123::/home/sandbox:/bin/sh\n\
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
        root:x:0:\nagents:x:64123:\nnogroup:x:65534:\n\
        127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 box\n\
        # network mode none: there is no name server\n\
        agent\nagents\n/home/sandbox\n127.0.1.1\n";
    assert_eq!(got.out, want, "{}", got.err);

    // What is there on this kernel must be closed, and is there for sure where the host has it.
    let masked = [
        "keys",
        "kallsyms",
        "interrupts",
        "cmdline",
        "modules",
        "sysrq-trigger",
        "bus",
        "fs",
    ];
    let present = masked
        .map(|name| format!("/proc/{name}"))
        .into_iter()
        .filter(|path| fs::exists(path).expect("look"));
    let mut closed: Vec<String> = present
        .flat_map(|path| [format!("read:{path}"), format!("list:{path}")])
        .collect();
    assert!(closed.len() > 8, "{closed:?}");
    // Not even with the right mode bits, and before Landlock is asked.
    let fixed = [
        "/proc/self/mem",
        "/proc/self/oom_score_adj",
        "/proc/self/comm",
        "/proc/sys/kernel/hostname",
    ];
    closed.extend(fixed.map(|path| format!("write:{path}")));
    let open = [
        "cpuinfo",
        "meminfo",
        "stat",
        "uptime",
        "self/status",
        "sys/kernel/pid_max",
        "self/mountinfo",
    ];
    closed.extend(open.map(|name| format!("read:/proc/{name}")));
    let mut spec = probe(&["files"]);
    spec.argv.extend(closed);
    let got = run(&spec).expect("starts");
    for line in got.out.lines() {
        let (attempt, told) = line.split_once(' ').expect("two parts");
        let path = attempt.split_once(':').expect("a path").1;
        let want = match attempt {
            _ if open.iter().any(|name| path == format!("/proc/{name}")) => "ok",
            "write:/proc/sys/kernel/hostname" => "errno 13",
            _ if fixed.contains(&path) => "errno 30",
            // A file is none to list.
            _ if attempt.starts_with("list:")
                && fs::metadata(path).is_ok_and(|data| !data.is_dir()) =>
            {
                "errno 20"
            }
            _ => "errno 13",
        };
        assert_eq!(told, want, "{line}");
    }
    assert_eq!(got.out.lines().count(), spec.argv.len() - 3, "{}", got.err);
}

pub(crate) fn etc_of_direct() {
    let mut direct = spec(&[
        "sh",
        "-c",
        "cat /etc/hosts; cat /etc/resolv.conf; grep -c ' /etc/' /proc/self/mountinfo; grep -E ' /etc/(hosts|resolv.conf|passwd|group) ' /proc/self/mountinfo",
    ]);
    direct.own_network = false;
    direct.landlock = Compatibility::BestEffort;
    let got = run(&direct).expect("starts");
    let host = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let hosts = host("/etc/hosts");
    assert!(got.out.starts_with(hosts.trim_end()), "{}", got.out);
    assert!(got.out.contains("\n127.0.1.1 box\n"), "{}", got.out);
    assert!(got.out.contains(&host("/etc/resolv.conf")), "{}", got.out);
    // Not one of them is a file of the host.
    let after = got.out.lines().last().expect("a count");
    assert!(
        after.parse::<u32>().is_ok_and(|count| count > 0),
        "{}",
        got.out
    );
    // Where the host's file is listed, it is that one.
    let mut listed = spec(&["sh", "-c", "cat /etc/passwd"]);
    listed.view.read_only.push("/etc/passwd".into());
    assert_eq!(run(&listed).expect("starts").out, host("/etc/passwd"));
}
