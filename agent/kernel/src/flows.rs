//! Flows that are open: found with their records, and ended so that their programs are told.

mod message;

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::Duration,
};

use aya::maps::MapData;
use clawd_common::{addr::Addr, record::SocketRecord};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

use crate::{error::OpenError, pins::Pins};
use message::{Answer, Kind, SocketId};

/// TCP and UDP, of both IP versions.
const KINDS: [Kind; 4] = [
    Kind {
        family: 2,
        protocol: 6,
    },
    Kind {
        family: 10,
        protocol: 6,
    },
    Kind {
        family: 2,
        protocol: 17,
    },
    Kind {
        family: 10,
        protocol: 17,
    },
];

/// Room for one datagram of a list: the kernel fills 32 KiB at most (`netlink_dump` in
/// net/netlink/af_netlink.c, v6.12).
const BUFFER_BYTES: usize = 64 << 10;

/// How long the kernel may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// An open socket of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFlow {
    id: SocketId,
    /// Its own port.
    pub local_port: u16,
    /// IP protocol number.
    pub protocol: u16,
    /// The other side.
    pub peer: Addr,
    /// The other side's port; 0 where it is connected to none.
    pub peer_port: u16,
    /// What hooks wrote of it; a writer may have been at it. The kernel does not tell it of datagram
    /// sockets.
    pub record: Option<SocketRecord>,
}

/// The sockets of the network namespace in which this was opened.
pub struct Flows {
    socket: OwnedFd,
    records: MapData,
}

impl Flows {
    /// Opens the kernel's socket diagnostics.
    ///
    /// # Errors
    /// [`OpenError::Map`] for the pinned map of records, [`OpenError::Flows`] for the diagnostics.
    pub fn open(pins: &Pins) -> Result<Self, OpenError> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )
        .and_then(|socket| {
            // The kernel answers at once; should it not, nobody waits for ever.
            set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
            Ok(socket)
        })
        .map_err(|errno| OpenError::Flows(errno.into()))?;
        Ok(Self {
            socket,
            records: pins.open_map("SOCKET")?,
        })
    }

    /// Every TCP and UDP socket of a cgroup, but those that listen.
    ///
    /// # Errors
    /// The kernel's answer, as where it has no diagnostics for TCP (`CONFIG_INET_DIAG`).
    pub fn of_cgroup(&self, cgroup_id: u64) -> io::Result<Vec<OpenFlow>> {
        let mut found = Vec::new();
        for kind in KINDS {
            let map_fd = self.records.fd().as_fd().as_raw_fd();
            self.ask(kind, &message::list(kind, cgroup_id, map_fd), |answer| {
                if let Answer::Socket(id, record) = answer {
                    found.push(OpenFlow {
                        id,
                        local_port: id.local_port(),
                        protocol: kind.protocol.into(),
                        peer: id.peer(),
                        peer_port: id.peer_port(),
                        record,
                    });
                }
            })?;
        }
        Ok(found)
    }

    /// Ends a flow; its program sees `ECONNABORTED`. False where it has ended already.
    ///
    /// # Errors
    /// The kernel's answer, as where it ends no sockets (`CONFIG_INET_DIAG_DESTROY`).
    pub fn end(&self, flow: &OpenFlow) -> io::Result<bool> {
        let result = self.ask(flow.id.kind, &message::destroy(&flow.id), drop);
        match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Sends a question and hears all answers, up to the last.
    fn ask(&self, kind: Kind, question: &[u8], mut each: impl FnMut(Answer)) -> io::Result<()> {
        send(&self.socket, question, SendFlags::empty())?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let (length, _) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            for answer in message::read(kind.protocol, buffer.get(..length).unwrap_or_default()) {
                match answer {
                    Answer::Done | Answer::Error(0) => return Ok(()),
                    Answer::Error(errno) => {
                        return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
                    }
                    other => each(other),
                }
            }
        }
    }
}
