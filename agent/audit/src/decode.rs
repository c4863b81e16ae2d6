//! From the bytes of a ring buffer to an event, without trusting them.

use clawd_common::{
    addr::Addr,
    event::Event,
    record::{FileKey, ProcessKey},
};

/// Bytes of an event (its layout is asserted beside its definition).
pub const EVENT_BYTES: usize = size_of::<Event>();

/// Bytes that are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// An event of another version, or a torn one.
    #[error("an event is {got} bytes long; expected {EVENT_BYTES}")]
    Size {
        /// Its length in bytes.
        got: usize,
    },
}

/// Reads one event, in this machine's byte order.
///
/// Every byte is taken as it is: raw bytes of an unknown kind, action or reason stay in the event
/// and read as `None`, a denial and `unknown`.
///
/// # Errors
/// [`DecodeError::Size`] where `bytes` is not [`EVENT_BYTES`] long.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let got = bytes.len();
    let bytes: Option<&[u8; EVENT_BYTES]> = bytes.try_into().ok();
    bytes.and_then(fields).ok_or(DecodeError::Size { got })
}

/// `None` only if an offset lay past the end, which the layout's assertion excludes.
fn fields(bytes: &[u8; EVENT_BYTES]) -> Option<Event> {
    Some(Event {
        boottime_ns: u64::from_ne_bytes(at(bytes, 0)?),
        process: ProcessKey {
            tgid: u32::from_ne_bytes(at(bytes, 8)?),
            reserved: u32::from_ne_bytes(at(bytes, 12)?),
            start_boottime_ns: u64::from_ne_bytes(at(bytes, 16)?),
        },
        file: FileKey {
            ino: u64::from_ne_bytes(at(bytes, 24)?),
            size_bytes: u64::from_ne_bytes(at(bytes, 32)?),
            ctime_sec: i64::from_ne_bytes(at(bytes, 40)?),
            ctime_nsec: u32::from_ne_bytes(at(bytes, 48)?),
            dev: u32::from_ne_bytes(at(bytes, 52)?),
            generation: u32::from_ne_bytes(at(bytes, 56)?),
            fs_magic: u32::from_ne_bytes(at(bytes, 60)?),
        },
        sandbox_id: u32::from_ne_bytes(at(bytes, 64)?),
        policy_id: u32::from_ne_bytes(at(bytes, 68)?),
        file_id: u32::from_ne_bytes(at(bytes, 72)?),
        tid: u32::from_ne_bytes(at(bytes, 76)?),
        grant_index: u32::from_ne_bytes(at(bytes, 80)?),
        addr: Addr {
            family: u32::from_ne_bytes(at(bytes, 84)?),
            octets: at(bytes, 88)?,
        },
        port: u16::from_ne_bytes(at(bytes, 104)?),
        kind_raw: u8::from_ne_bytes(at(bytes, 106)?),
        action_raw: u8::from_ne_bytes(at(bytes, 107)?),
        reason_raw: u8::from_ne_bytes(at(bytes, 108)?),
        reserved0: u8::from_ne_bytes(at(bytes, 109)?),
        protocol: u16::from_ne_bytes(at(bytes, 110)?),
        socket_kind: u32::from_ne_bytes(at(bytes, 112)?),
        chain: u32::from_ne_bytes(at(bytes, 116)?),
        parent_chain: u32::from_ne_bytes(at(bytes, 120)?),
        local_port: u16::from_ne_bytes(at(bytes, 124)?),
        reserved1: u16::from_ne_bytes(at(bytes, 126)?),
    })
}

/// The `N` bytes at `offset`.
fn at<const N: usize>(bytes: &[u8; EVENT_BYTES], offset: usize) -> Option<[u8; N]> {
    let end = offset.checked_add(N)?;
    bytes.get(offset..end)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use proptest::prelude::*;

    use super::{DecodeError, EVENT_BYTES, decode};
    use clawd_common::{
        addr::Addr,
        event::Event,
        record::{FileKey, ProcessKey},
    };

    /// Puts `value` at the offset that the compiler gives the field.
    fn put(bytes: &mut [u8; EVENT_BYTES], offset: usize, value: &[u8]) {
        bytes[offset..offset + value.len()].copy_from_slice(value);
    }

    fn process(bytes: &mut [u8; EVENT_BYTES], key: &ProcessKey) {
        let base = offset_of!(Event, process);
        let field = |offset: usize| base + offset;
        put(
            bytes,
            field(offset_of!(ProcessKey, tgid)),
            &key.tgid.to_ne_bytes(),
        );
        put(
            bytes,
            field(offset_of!(ProcessKey, reserved)),
            &key.reserved.to_ne_bytes(),
        );
        let start = key.start_boottime_ns.to_ne_bytes();
        put(
            bytes,
            field(offset_of!(ProcessKey, start_boottime_ns)),
            &start,
        );
    }

    fn file(bytes: &mut [u8; EVENT_BYTES], key: &FileKey) {
        let base = offset_of!(Event, file);
        put(
            bytes,
            base + offset_of!(FileKey, ino),
            &key.ino.to_ne_bytes(),
        );
        put(
            bytes,
            base + offset_of!(FileKey, size_bytes),
            &key.size_bytes.to_ne_bytes(),
        );
        put(
            bytes,
            base + offset_of!(FileKey, ctime_sec),
            &key.ctime_sec.to_ne_bytes(),
        );
        put(
            bytes,
            base + offset_of!(FileKey, ctime_nsec),
            &key.ctime_nsec.to_ne_bytes(),
        );
        put(
            bytes,
            base + offset_of!(FileKey, dev),
            &key.dev.to_ne_bytes(),
        );
        put(
            bytes,
            base + offset_of!(FileKey, generation),
            &key.generation.to_ne_bytes(),
        );
        put(
            bytes,
            base + offset_of!(FileKey, fs_magic),
            &key.fs_magic.to_ne_bytes(),
        );
    }

    fn encode(event: &Event) -> [u8; EVENT_BYTES] {
        let mut bytes = [0; EVENT_BYTES];
        process(&mut bytes, &event.process);
        file(&mut bytes, &event.file);
        let addr = offset_of!(Event, addr);
        let family = addr + offset_of!(Addr, family);
        put(&mut bytes, family, &event.addr.family.to_ne_bytes());
        put(
            &mut bytes,
            addr + offset_of!(Addr, octets),
            &event.addr.octets,
        );
        macro_rules! put_all {
            ($($field:ident),+) => {
                $(put(&mut bytes, offset_of!(Event, $field), &event.$field.to_ne_bytes());)+
            };
        }
        put_all!(
            boottime_ns,
            sandbox_id,
            policy_id,
            file_id,
            tid,
            grant_index,
            port,
            kind_raw,
            action_raw,
            reason_raw,
            reserved0,
            protocol,
            socket_kind,
            chain,
            parent_chain,
            local_port,
            reserved1
        );
        bytes
    }

    proptest! {
        #[test]
        fn event_decoded_and_encoded_is_the_same_bytes(
            bytes in proptest::collection::vec(any::<u8>(), EVENT_BYTES)
        ) {
            let event = decode(&bytes).expect("right length");
            prop_assert_eq!(encode(&event).to_vec(), bytes);
        }

        #[test]
        fn event_of_another_length_is_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let got = bytes.len();
            prop_assume!(got != EVENT_BYTES);
            prop_assert_eq!(decode(&bytes), Err(DecodeError::Size { got }));
        }
    }
}
