//! A compiled policy as tables in memory, for tests and for explaining a decision.

use std::collections::BTreeMap;

use clawd_common::{
    addr::{Addr, FAMILY_V4},
    decide::{AddressKey, MaskKey, MaskValue, PortKey, RuleKey, RuleValue, Tables},
    packet::{Packet, Peers},
    record::UdpPeerValue,
};

use crate::compile::MapImage;

/// What the kernel's maps would answer with a [`MapImage`] in them.
#[derive(Clone, Copy, Debug)]
pub struct ImageTables<'a> {
    image: &'a MapImage,
    masks: &'a BTreeMap<u32, MaskValue>,
}

impl MapImage {
    /// The tables for [`clawd_common::decide::decide`]. `masks` has, by chain, what
    /// each line of executables is granted: map `MASK` of this policy.
    #[must_use]
    pub const fn lookup<'a>(&'a self, masks: &'a BTreeMap<u32, MaskValue>) -> ImageTables<'a> {
        ImageTables { image: self, masks }
    }
}

impl Tables for ImageTables<'_> {
    fn address_class(&self, key: &AddressKey) -> u32 {
        let Self { image, .. } = self;
        if key.policy_id != image.policy_id {
            return 0;
        }
        let family_bits = if key.addr.family == FAMILY_V4 {
            32
        } else {
            128
        };
        // The longest prefix that may still be around the address. Of all prefixes up to that one, in
        // the image's order, the last one is the longest around the address, or begins inside it.
        let mut longest = (key.addr, family_bits);
        loop {
            let upto = image
                .addresses
                .partition_point(|(bits, prefix, _)| (prefix.addr, *bits) <= longest);
            let Some((bits, prefix, class)) = upto
                .checked_sub(1)
                .and_then(|last| image.addresses.get(last))
                .filter(|(_, prefix, _)| prefix.addr.family == key.addr.family)
            else {
                return 0;
            };
            if prefix.addr.covers(*bits, &key.addr) {
                return *class;
            }
            longest = common(&prefix.addr, &key.addr);
        }
    }

    fn port_class(&self, key: &PortKey) -> u32 {
        let Self { image, .. } = self;
        // No prefix is in another: the last one that begins at or before the port, or none.
        let upto = image.ports.partition_point(|(_, prefix, _)| prefix <= key);
        let last = upto.checked_sub(1).and_then(|last| image.ports.get(last));
        let around = last.filter(|(bits, prefix, _)| {
            let port = |key: &PortKey| u32::from(u16::from_be_bytes(key.port_be));
            (prefix.policy_id, prefix.protocol) == (key.policy_id, key.protocol)
                && (port(prefix) ^ port(key)) >> (PortKey::PORT_BITS - bits) == 0
        });
        around.map_or(0, |(.., class)| *class)
    }

    fn rule(&self, key: &RuleKey) -> Option<&RuleValue> {
        let rules = &self.image.rules;
        let index = rules.binary_search_by_key(key, |(key, _)| *key).ok()?;
        rules.get(index).map(|(_, rule)| rule)
    }

    fn mask(&self, key: &MaskKey) -> Option<&MaskValue> {
        (key.policy_id == self.image.policy_id)
            .then(|| self.masks.get(&key.chain))
            .flatten()
    }
}

/// The bits that two addresses of a family have in common, as a prefix.
fn common(a: &Addr, b: &Addr) -> (Addr, u32) {
    let (first, second) = (u128::from_be_bytes(a.octets), u128::from_be_bytes(b.octets));
    let bits = (first ^ second).leading_zeros();
    // A shift by 128 overflows: that is the prefix of no bits.
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    let prefix = Addr {
        family: b.family,
        octets: (second & mask).to_be_bytes(),
    };
    (prefix, bits)
}

/// What the rules alone say: of the other side nothing else is known.
impl Peers for ImageTables<'_> {
    fn is_own(&self, _packet: &Packet) -> bool {
        false
    }

    fn known(&self, _packet: &Packet) -> Option<UdpPeerValue> {
        None
    }
}
