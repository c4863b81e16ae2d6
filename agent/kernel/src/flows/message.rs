//! Messages of the kernel's socket diagnostics: asked for sockets with their records, and for a
//! socket's end (include/uapi/linux/{netlink,inet_diag,sock_diag}.h, v6.12).

use clawd_common::{
    addr::Addr,
    record::{ProcessKey, SocketRecord},
};

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct inet_diag_sockid`.
const ID_BYTES: usize = 48;
/// Bytes of `struct inet_diag_msg`.
const MESSAGE_BYTES: usize = 72;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// The upper bits of an attribute's type are flags.
const TYPE_MASK: u16 = 0x3fff;

const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const SK_DIAG_BPF_STORAGE_MAP_VALUE: u16 = 3;
const INET_DIAG_BC_CGROUP_COND: u8 = 13;

/// One family and protocol to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// `AF_INET` or `AF_INET6`.
    pub(super) family: u8,
    /// IP protocol number.
    pub(super) protocol: u8,
}

/// A socket, by the bytes that the kernel names it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketId {
    pub(super) kind: Kind,
    id: [u8; ID_BYTES],
}

/// What a message of the kernel's says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A socket, with its record where that is told: not of datagram sockets (`inet_sk_diag_fill` in
    /// net/ipv4/inet_diag.c, v6.12).
    Socket(SocketId, Option<SocketRecord>),
    /// Something else.
    Other,
    /// The end of a list.
    Done,
    /// An errno; 0 is success.
    Error(i32),
}

impl SocketId {
    /// Its own port.
    pub(super) fn local_port(&self) -> u16 {
        number(&self.id, 0).map_or(0, u16::from_be_bytes)
    }

    /// The other side's port; 0 where it is connected to none.
    pub(super) fn peer_port(&self) -> u16 {
        number(&self.id, 2).map_or(0, u16::from_be_bytes)
    }

    /// The other side's address, canonical.
    pub(super) fn peer(&self) -> Addr {
        const AF_INET: u8 = 2;
        const DESTINATION: usize = 20;
        if self.kind.family == AF_INET {
            number(&self.id, DESTINATION).map_or(Addr::ZERO, Addr::v4)
        } else {
            number(&self.id, DESTINATION).map_or(Addr::ZERO, Addr::v6)
        }
    }
}

/// Asks for the sockets of a cgroup, each with its entry of the storage map `map_fd`.
pub(super) fn list(kind: Kind, cgroup_id: u64, map_fd: i32) -> Vec<u8> {
    /// All but listening sockets (10), TIME_WAIT (6) and CLOSE (7): include/net/tcp_states.h.
    const STATES: u32 = !(1 << 10 | 1 << 6 | 1 << 7);
    let mut body = vec![kind.family, kind.protocol, 0, 0];
    body.extend(STATES.to_ne_bytes());
    body.extend([0; ID_BYTES]);
    // One condition; where it does not hold, on past the end, which is no match.
    let mut condition = vec![INET_DIAG_BC_CGROUP_COND, 12];
    condition.extend(16_u16.to_ne_bytes());
    condition.extend(cgroup_id.to_ne_bytes());
    attribute(&mut body, INET_DIAG_REQ_BYTECODE, &condition);
    let mut storage = Vec::new();
    attribute(
        &mut storage,
        SK_DIAG_BPF_STORAGE_REQ_MAP_FD,
        &map_fd.to_ne_bytes(),
    );
    attribute(&mut body, INET_DIAG_REQ_SK_BPF_STORAGES, &storage);
    message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, &body)
}

/// Asks for a socket's end: its program sees `ECONNABORTED`.
pub(super) fn destroy(socket: &SocketId) -> Vec<u8> {
    let mut body = vec![socket.kind.family, socket.kind.protocol, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(socket.id);
    message(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, &body)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: one question at a time, and the kernel knows us
    message.extend(body);
    message
}

/// Appends an attribute, padded to four bytes.
fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// Reads the messages of one datagram; what is cut short ends them.
pub(super) fn read(protocol: u8, mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(length) = number(bytes, 0).map(u32::from_ne_bytes)
        && let Ok(length) = usize::try_from(length)
        && length >= HEADER_BYTES
        && let Some(message) = bytes.get(..length)
        && let Some(kind) = number(message, 4).map(u16::from_ne_bytes)
    {
        let body = message.get(HEADER_BYTES..).unwrap_or_default();
        answers.push(match kind {
            NLMSG_DONE => Answer::Done,
            NLMSG_ERROR => Answer::Error(number(body, 0).map_or(i32::MIN, i32::from_ne_bytes)),
            SOCK_DIAG_BY_FAMILY => socket(protocol, body).unwrap_or(Answer::Other),
            _ => Answer::Other,
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    answers
}

fn socket(protocol: u8, body: &[u8]) -> Option<Answer> {
    let kind = Kind {
        family: *body.first()?,
        protocol,
    };
    let id = number(body, 4)?;
    let storages = find(body.get(MESSAGE_BYTES..)?, INET_DIAG_SK_BPF_STORAGES);
    let value = storages
        .and_then(|storages| find(storages, SK_DIAG_BPF_STORAGE))
        .and_then(|storage| find(storage, SK_DIAG_BPF_STORAGE_MAP_VALUE));
    let record = match value {
        Some(value) => Some(record(value)?),
        None => None,
    };
    Some(Answer::Socket(SocketId { kind, id }, record))
}

/// The value of the first attribute of a kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(number(attributes, 0)?));
        let kind = u16::from_ne_bytes(number(attributes, 2)?) & TYPE_MASK;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// A record as it lies in memory.
fn record(bytes: &[u8]) -> Option<SocketRecord> {
    let word = |at| number(bytes, at).map(u32::from_ne_bytes);
    let long = |at| number(bytes, at).map(u64::from_ne_bytes);
    if bytes.len() != size_of::<SocketRecord>() {
        return None;
    }
    Some(SocketRecord {
        sandbox_id: word(0)?,
        flags: word(4)?,
        holder: ProcessKey {
            tgid: word(8)?,
            reserved: word(12)?,
            start_boottime_ns: long(16)?,
        },
        sequence: long(24)?,
        peer: Addr {
            family: word(32)?,
            octets: number(bytes, 36)?,
        },
        peer_port: u16::from_ne_bytes(number(bytes, 52)?),
        slot: u16::from_ne_bytes(number(bytes, 54)?),
        policy_id: word(56)?,
        chain: word(60)?,
    })
}

/// The `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Answer, HEADER_BYTES, INET_DIAG_SK_BPF_STORAGES, Kind, MESSAGE_BYTES, SK_DIAG_BPF_STORAGE,
        SK_DIAG_BPF_STORAGE_MAP_VALUE, SOCK_DIAG_BY_FAMILY, attribute, destroy, list, message,
        read,
    };
    use clawd_common::addr::Addr;

    const TCP4: Kind = Kind {
        family: 2,
        protocol: 6,
    };

    /// The kernel's answer about one socket with this record.
    fn answer(record: &[u8]) -> Vec<u8> {
        let mut body = vec![2, 1, 0, 0];
        body.extend(50_000_u16.to_be_bytes());
        body.resize(MESSAGE_BYTES, 7);
        attribute(&mut body, 8, &[1; 5]);
        let (mut value, mut storage) = (Vec::new(), Vec::new());
        attribute(&mut value, SK_DIAG_BPF_STORAGE_MAP_VALUE, record);
        attribute(&mut storage, SK_DIAG_BPF_STORAGE | 0x8000, &value);
        attribute(&mut body, INET_DIAG_SK_BPF_STORAGES | 0x8000, &storage);
        message(SOCK_DIAG_BY_FAMILY, 2, &body)
    }

    #[test]
    fn answers_are_read_one_after_the_other() {
        let bytes: Vec<u8> = (0..64).collect();
        let mut both = answer(&bytes);
        both.extend(message(3, 0, &[0; 4]));
        let answers = read(6, &both);
        let [Answer::Socket(id, Some(record)), Answer::Done] = answers.as_slice() else {
            panic!("{answers:?}")
        };
        assert_eq!((id.kind, id.local_port()), (TCP4, 50_000));
        assert_eq!((id.peer(), id.peer_port()), (Addr::v4([7; 4]), 0x0707));
        assert_eq!(record.sandbox_id.to_ne_bytes(), [0, 1, 2, 3]);
        assert_eq!(record.peer.octets[0], 36);
        assert_eq!(record.peer_port.to_ne_bytes(), [52, 53]);
        assert_eq!(record.chain.to_ne_bytes(), [60, 61, 62, 63]);
        let wanted = destroy(id);
        assert_eq!(wanted.len(), HEADER_BYTES + 56);
        assert_eq!(&wanted[24..26], &50_000_u16.to_be_bytes());
    }

    #[test]
    fn socket_whose_record_is_not_told_has_none() {
        let mut body = vec![10, 7, 0, 0];
        body.resize(MESSAGE_BYTES, 9);
        let answers = read(17, &message(SOCK_DIAG_BY_FAMILY, 2, &body));
        let [Answer::Socket(id, None)] = answers.as_slice() else {
            panic!("{answers:?}")
        };
        assert_eq!(id.peer(), Addr::v6([9; 16]));
    }

    #[test]
    fn socket_without_a_whole_record_is_another() {
        assert_eq!(read(6, &answer(&[0; 60])), [Answer::Other]);
        let error = message(2, 0, &(-2_i32).to_ne_bytes());
        assert_eq!(read(6, &error), [Answer::Error(-2)]);
    }

    #[test]
    fn question_has_the_length_that_it_says() {
        let asked = list(TCP4, 0x1234_5678_9abc, 9);
        let length = u32::from_ne_bytes(asked[..4].try_into().expect("four"));
        assert_eq!(usize::try_from(length), Ok(asked.len()));
        assert_eq!(asked.len(), HEADER_BYTES + 56 + 16 + 12);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(read(6, &bytes));
        }

        #[test]
        fn answer_with_any_byte_changed_is_read_without_harm(
            at in 0..200_usize, byte in any::<u8>(), cut in 0..200_usize,
        ) {
            let mut bytes = answer(&[3; 64]);
            if let Some(changed) = bytes.get_mut(at) {
                *changed = byte;
            }
            bytes.truncate(cut);
            drop(read(17, &bytes));
        }
    }
}
