//! Mistakes in an endpoint.

use super::{AROUND_ENDPOINT, Case, check};
use crate::PolicyErrorKind::{Missing, NotEnforced, UnknownKey, Value};

/// Put where an endpoint stands: line 7, column 9.
const ENDPOINTS: &[Case] = &[
    (
        "{ host: api.github.com, port: 443, protocol: rest, access: read-only }",
        &[
            (
                NotEnforced,
                "7:17: host `api.github.com` is a name, and names are not enforced by this version",
            ),
            (
                NotEnforced,
                "7:54: `rest` as a protocol is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "7:60: `access` of an endpoint is understood but not enforced by this version",
            ),
        ],
    ),
    (
        "{ port: 443 }",
        &[(Missing, "7:9: an endpoint needs `host` or `cidr`")],
    ),
    (
        "{ host: 192.0.2.1 }",
        &[(Missing, "7:9: an endpoint needs `port` or `ports`")],
    ),
    (
        "{ host: 192.0.2.1, cidr: 192.0.2.0/24, port: 1, ports: [2] }",
        &[
            (Missing, "7:9: an endpoint has both `host` and `cidr`"),
            (Missing, "7:9: an endpoint has both `port` and `ports`"),
        ],
    ),
    (
        r#"{ host: "::ffff:1.2.3.4", port: 1 }"#,
        &[(
            Value,
            "7:17: `::ffff:1.2.3.4` is IPv4 written as IPv6, which is judged as IPv4",
        )],
    ),
    (
        r#"{ cidr: "::ffff:1.2.3.0/120", port: 1 }"#,
        &[(
            Value,
            "7:17: `::ffff:1.2.3.0/120` is IPv4 written as IPv6, which is judged as IPv4",
        )],
    ),
    (
        "{ cidr: 192.0.2.1/24, port: 1 }",
        &[(
            Value,
            "7:17: `192.0.2.1/24` has bits set behind its first 24",
        )],
    ),
    (
        "{ cidr: 192.0.2.1/0, port: 1 }",
        &[(Value, "7:17: `192.0.2.1/0` has bits set behind its first 0")],
    ),
    (
        "{ cidr: 192.0.2.0/33, port: 1 }",
        &[(
            Value,
            "7:17: prefix length 33 is more than the 32 bits of the address",
        )],
    ),
    (
        "{ cidr: 192.0.2.0/024, port: 1 }",
        &[(Value, "7:17: cidr `192.0.2.0/024` is not a prefix")],
    ),
    (
        "{ cidr: 192.0.2.0, port: 1 }",
        &[(Value, "7:17: cidr `192.0.2.0` has no length")],
    ),
    (
        "{ cidr: banana, port: 1 }",
        &[(Value, "7:17: cidr `banana` is not a prefix")],
    ),
    (
        "{ cidr: 224.0.0.0/8, port: 1 }",
        &[(
            Value,
            "7:17: `224.0.0.0/8` is multicast, which is always refused",
        )],
    ),
    (
        r#"{ cidr: "2002::/16", port: 1 }"#,
        &[(
            Value,
            "7:17: `2002::/16` is a transition form with an IPv4 address inside (compatible, translated, NAT64, 6to4, Teredo or ISATAP), which is always refused",
        )],
    ),
    (
        r#"{ cidr: "ff02::/16", port: 1 }"#,
        &[(
            Value,
            "7:17: `ff02::/16` is multicast, which is always refused",
        )],
    ),
    (
        "{ host: 255.255.255.255, port: 1 }",
        &[(
            Value,
            "7:17: `255.255.255.255` is the broadcast address, which is always refused",
        )],
    ),
    (
        "{ host: 0.0.0.0, port: 1 }",
        &[(Value, "7:17: `0.0.0.0` reaches loopback")],
    ),
    (
        r#"{ host: "::", port: 1 }"#,
        &[(Value, "7:17: `::` reaches loopback")],
    ),
    (
        "{ host: 010.0.0.1, port: 1 }",
        &[(Value, "7:17: host `010.0.0.1` is not an address")],
    ),
    (
        "{ host: 127.1, port: 1 }",
        &[(Value, "7:17: host `127.1` is not an address")],
    ),
    (
        r#"{ host: "192.0.2.1:443", port: 1 }"#,
        &[(Value, "7:17: host `192.0.2.1:443` is not an address")],
    ),
    (
        r#"{ host: "[::1]", port: 1 }"#,
        &[(Value, "7:17: host `[::1]` is not an address")],
    ),
    (
        r#"{ host: "fe80::1%eth0", port: 1 }"#,
        &[(Value, "7:17: host `fe80::1%eth0` is not an address")],
    ),
    (
        r#"{ host: "https://x/", port: 1 }"#,
        &[(Value, "7:17: host `https://x/` is not an address")],
    ),
    (
        r#"{ host: "", port: 1 }"#,
        &[(Value, "7:17: host `` is not an address")],
    ),
    (
        "{ host: 192.0.2.1, port: 0 }",
        &[(Value, "7:34: `0` is not a port")],
    ),
    (
        "{ host: 192.0.2.1, port: 65536 }",
        &[(Value, "7:34: `65536` is not a port")],
    ),
    (
        "{ host: 192.0.2.1, port: 0x1bb }",
        &[(Value, "7:34: `0x1bb` is not a port")],
    ),
    (
        "{ host: 192.0.2.1, port: +443 }",
        &[(Value, "7:34: `+443` is not a port")],
    ),
    (
        "{ host: 192.0.2.1, port: 443.0 }",
        &[(Value, "7:34: `443.0` is not a port")],
    ),
    (
        "{ host: 192.0.2.1, port: [443] }",
        &[(Value, "7:34: `port` must be a single value, not a list")],
    ),
    (
        "{ host: 192.0.2.1, ports: 443 }",
        &[(Value, "7:35: `ports` must be a list, not `443`")],
    ),
    (
        "{ host: 192.0.2.1, ports: [] }",
        &[(Missing, "7:35: `ports` has no entry")],
    ),
    (
        "{ host: 192.0.2.1, ports: [443, 9010-9000, http, 1-2-3] }",
        &[
            (Value, "7:41: `9010-9000` is not a port or a range of ports"),
            (Value, "7:52: `http` is not a port or a range of ports"),
            (Value, "7:58: `1-2-3` is not a port or a range of ports"),
        ],
    ),
    (
        "{ host: 192.0.2.1, ports: [0-65535] }",
        &[(Value, "7:36: `0-65535` is not a port or a range of ports")],
    ),
    (
        "{ host: 192.0.2.1, port: 1, protocol: sctp }",
        &[(Value, "7:47: `sctp` is not a protocol")],
    ),
    (
        "{ host: 192.0.2.1, port: 1, protcol: tcp, rules: [], tls: x, allowed_ips: [], enforcement: enforce }",
        &[
            (UnknownKey, "7:37: `protcol` is not a key of an endpoint"),
            (
                NotEnforced,
                "7:51: `rules` of an endpoint is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "7:62: `tls` of an endpoint is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "7:70: `allowed_ips` of an endpoint is understood but not enforced by this version",
            ),
            (
                NotEnforced,
                "7:87: `enforcement` of an endpoint is understood but not enforced by this version",
            ),
        ],
    ),
    (
        "192.0.2.1",
        &[(Value, "7:9: an endpoint must be a mapping, not `192.0.2.1`")],
    ),
];

#[test]
fn endpoints_have_these_errors() {
    for (endpoint, want) in ENDPOINTS {
        check(&format!("{AROUND_ENDPOINT}{endpoint}\n"), want);
    }
}
