//! The command of the throw-away sandbox: asks for what nobody allows it.

use std::net::{Ipv4Addr, SocketAddrV4};

use clawd_control::ExitCode;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, connect, socket},
};

/// A documentation address (RFC 5737), port 9. A datagram socket's `connect` sends nothing, so nothing
/// leaves even a machine where nothing is enforced.
pub(super) const FORBIDDEN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9);

/// Exit code: no hook refused it.
pub(super) const ALLOWED: u8 = 41;
/// Exit code: something else than a refusal came.
pub(super) const ODD: u8 = 42;

/// Connects to [`FORBIDDEN`]: 0 where that is refused with EPERM, else [`ALLOWED`] or [`ODD`].
pub(crate) fn probe() -> u8 {
    let connected = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .and_then(|socket| connect(&socket, &FORBIDDEN));
    match connected {
        Err(Errno::PERM) => ExitCode::Ok.code(),
        // The hooks are asked before a route is looked for (`inet_dgram_connect`, net/ipv4/af_inet.c, v6.1).
        Ok(()) | Err(Errno::NETUNREACH | Errno::HOSTUNREACH) => ALLOWED,
        Err(_) => ODD,
    }
}
