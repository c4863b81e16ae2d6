//! The pinned maps of policies and sandboxes, opened for writing.

use std::collections::HashSet;

use aya::{
    Pod,
    maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use clawd_common::{
    decide::{AddressKey, MaskKey, MaskValue, PortKey, RuleKey, RuleValue},
    record::{Counters, SandboxValue},
};
use clawd_policy::MapImage;

use crate::{
    error::{OpenError, TableError},
    in_force::InForce,
    pins::Pins,
};

/// The maps that the daemon writes. All of them are pinned: dropping this changes nothing in force.
pub struct Kernel {
    sandbox: HashMap<MapData, u64, SandboxValue>,
    address: LpmTrie<MapData, AddressKey, u32>,
    port: LpmTrie<MapData, PortKey, u32>,
    rule: HashMap<MapData, RuleKey, RuleValue>,
    mask: HashMap<MapData, MaskKey, MaskValue>,
    counters: HashMap<MapData, u32, Counters>,
    in_force: InForce,
}

pub(crate) fn open_hash<K: Pod, V: Pod>(
    pins: &Pins,
    name: &str,
) -> Result<HashMap<MapData, K, V>, OpenError> {
    Map::from_map_data(pins.open_map(name)?)
        .and_then(HashMap::try_from)
        .map_err(|source| OpenError::Map {
            path: pins.map(name),
            source: Box::new(source),
        })
}

fn open_trie<K: Pod, V: Pod>(pins: &Pins, name: &str) -> Result<LpmTrie<MapData, K, V>, OpenError> {
    Map::from_map_data(pins.open_map(name)?)
        .and_then(LpmTrie::try_from)
        .map_err(|source| OpenError::Map {
            path: pins.map(name),
            source: Box::new(source),
        })
}

pub(crate) fn failed(what: &'static str, map: &'static str) -> impl Fn(MapError) -> TableError {
    move |source| TableError {
        what,
        map,
        source: Box::new(source),
    }
}

/// Removing what is not there is done already.
pub(crate) fn absent_is_done(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        other => other,
    }
}

impl Kernel {
    /// Opens the maps of finished pins ([`crate::PinState::Ours`]).
    ///
    /// # Errors
    /// [`OpenError`], naming the pin.
    pub fn open(pins: &Pins) -> Result<Self, OpenError> {
        let sandbox: HashMap<MapData, u64, SandboxValue> = open_hash(pins, "SANDBOX")?;
        let taken = sandbox.iter().filter_map(Result::ok);
        let in_force = InForce::open(pins, taken.map(|(_, value)| value.slot))?;
        Ok(Self {
            sandbox,
            in_force,
            address: open_trie(pins, "ADDRESS")?,
            port: open_trie(pins, "PORT")?,
            rule: open_hash(pins, "RULE")?,
            mask: open_hash(pins, "MASK")?,
            counters: open_hash(pins, "COUNTERS")?,
        })
    }

    /// Writes all rules of a policy. They decide nothing until a sandbox is switched to its id.
    ///
    /// # Errors
    /// [`TableError`]; what was written of the policy is removed again.
    pub fn write_policy(&mut self, image: &MapImage) -> Result<(), TableError> {
        let result = self.try_write_policy(image);
        if result.is_err() {
            self.remove_policy(image)?;
        }
        result
    }

    fn try_write_policy(&mut self, image: &MapImage) -> Result<(), TableError> {
        for (prefix_bits, key, class) in &image.addresses {
            let key = Key::new(AddressKey::FIXED_BITS + prefix_bits, *key);
            self.address
                .insert(&key, class, 0)
                .map_err(failed("write", "ADDRESS"))?;
        }
        for (prefix_bits, key, class) in &image.ports {
            let key = Key::new(PortKey::FIXED_BITS + prefix_bits, *key);
            self.port
                .insert(&key, class, 0)
                .map_err(failed("write", "PORT"))?;
        }
        for (key, rule) in &image.rules {
            self.rule
                .insert(key, rule, 0)
                .map_err(failed("write", "RULE"))?;
        }
        Ok(())
    }

    /// Removes the rules of a policy. No sandbox may be under it.
    ///
    /// # Errors
    /// [`TableError`]; what is left decides nothing, and goes with [`Kernel::retain_policies`].
    pub fn remove_policy(&mut self, image: &MapImage) -> Result<(), TableError> {
        for (prefix_bits, key, _) in &image.addresses {
            let key = Key::new(AddressKey::FIXED_BITS + prefix_bits, *key);
            absent_is_done(self.address.remove(&key)).map_err(failed("clear", "ADDRESS"))?;
        }
        for (prefix_bits, key, _) in &image.ports {
            let key = Key::new(PortKey::FIXED_BITS + prefix_bits, *key);
            absent_is_done(self.port.remove(&key)).map_err(failed("clear", "PORT"))?;
        }
        for (key, _) in &image.rules {
            absent_is_done(self.rule.remove(key)).map_err(failed("clear", "RULE"))?;
        }
        Ok(())
    }

    /// Removes the rules and masks of every policy but those that `live` names.
    ///
    /// # Errors
    /// [`TableError`]; what is left decides nothing.
    pub fn retain_policies(&mut self, live: &HashSet<u32>) -> Result<(), TableError> {
        let dead = |policy_id: u32| !live.contains(&policy_id);
        let keys: Vec<_> = self
            .address
            .keys()
            .filter_map(Result::ok)
            .filter(|key| dead(key.data().policy_id))
            .collect();
        for key in keys {
            absent_is_done(self.address.remove(&key)).map_err(failed("clear", "ADDRESS"))?;
        }
        let keys: Vec<_> = self
            .port
            .keys()
            .filter_map(Result::ok)
            .filter(|key| dead(key.data().policy_id))
            .collect();
        for key in keys {
            absent_is_done(self.port.remove(&key)).map_err(failed("clear", "PORT"))?;
        }
        let keys: Vec<_> = self
            .rule
            .keys()
            .filter_map(Result::ok)
            .filter(|key| dead(key.policy_id))
            .collect();
        for key in keys {
            absent_is_done(self.rule.remove(&key)).map_err(failed("clear", "RULE"))?;
        }
        let keys: Vec<_> = self
            .mask
            .keys()
            .filter_map(Result::ok)
            .filter(|key| dead(key.policy_id))
            .collect();
        for key in keys {
            absent_is_done(self.mask.remove(&key)).map_err(failed("clear", "MASK"))?;
        }
        Ok(())
    }

    /// Puts a sandbox under a policy, in one step: a hook sees the old value or the new one. The value's
    /// slot is the sandbox's, whatever `value` says.
    ///
    /// # Errors
    /// [`TableError`]; then the value before stays.
    pub fn set_sandbox(&mut self, cgroup_id: u64, value: SandboxValue) -> Result<(), TableError> {
        let before = self
            .sandbox
            .get(&cgroup_id, 0)
            .map_or(0, |value| value.slot);
        let slot = if before == 0 {
            self.in_force.take()
        } else {
            before
        };
        let value = SandboxValue { slot, ..value };
        // In between packets are decided by `SANDBOX` alone, whoever is killed meanwhile.
        let switched = self.in_force.set(slot, 0).and_then(|()| {
            self.sandbox
                .insert(cgroup_id, value, 0)
                .map_err(failed("write", "SANDBOX"))
        });
        if switched.is_err() && before == 0 {
            self.in_force.give_back(slot);
        }
        switched?;
        // The value is in force: without this packets only take longer.
        if let Err(error) = self.in_force.set(slot, value.policy_id) {
            tracing::warn!(%error, "packets of a sandbox take longer");
        }
        Ok(())
    }

    /// What a line of executables is granted under a policy; nothing where there is no entry.
    #[must_use]
    pub fn mask(&self, policy_id: u32, chain: u32) -> MaskValue {
        let key = MaskKey { policy_id, chain };
        self.mask.get(&key, 0).unwrap_or(MaskValue::ZERO)
    }

    /// What a sandbox is under; `None` where the kernel knows none with that cgroup.
    #[must_use]
    pub fn sandbox(&self, cgroup_id: u64) -> Option<SandboxValue> {
        self.sandbox.get(&cgroup_id, 0).ok()
    }

    /// Every sandbox that the kernel knows, with the id of its cgroup.
    #[must_use]
    pub fn sandboxes(&self) -> Vec<(u64, SandboxValue)> {
        self.sandbox.iter().filter_map(Result::ok).collect()
    }

    /// The greatest numbers that any table holds of sandboxes and of policies: a daemon without the
    /// file of a daemon before must not give them again.
    #[must_use]
    pub fn greatest_ids(&self) -> (u32, u32) {
        let sandboxes = self.sandboxes();
        let counted = self.counters.keys().filter_map(Result::ok);
        let sandbox = counted.chain(sandboxes.iter().map(|(_, value)| value.sandbox_id));
        let addresses = self.address.keys().filter_map(Result::ok);
        let ports = self.port.keys().filter_map(Result::ok);
        let rules = self.rule.keys().filter_map(Result::ok);
        let masks = self.mask.keys().filter_map(Result::ok);
        let policy = addresses
            .map(|key| key.data().policy_id)
            .chain(ports.map(|key| key.data().policy_id))
            .chain(rules.map(|key| key.policy_id))
            .chain(masks.map(|key| key.policy_id))
            .chain(sandboxes.iter().map(|(_, value)| value.policy_id));
        (sandbox.max().unwrap_or(0), policy.max().unwrap_or(0))
    }

    /// Starts the totals of a sandbox at zero.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn start_counters(&mut self, sandbox_id: u32) -> Result<(), TableError> {
        self.counters
            .insert(sandbox_id, Counters::ZERO, 0)
            .map_err(failed("write", "COUNTERS"))
    }

    /// The totals of a sandbox; zero where there are none.
    #[must_use]
    pub fn counters(&self, sandbox_id: u32) -> Counters {
        self.counters.get(&sandbox_id, 0).unwrap_or_default()
    }

    /// Forgets a sandbox: its packets are dropped from now on.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn remove_sandbox(&mut self, cgroup_id: u64) -> Result<(), TableError> {
        let slot = self
            .sandbox
            .get(&cgroup_id, 0)
            .map_or(0, |value| value.slot);
        self.in_force.set(slot, 0)?;
        absent_is_done(self.sandbox.remove(&cgroup_id)).map_err(failed("clear", "SANDBOX"))?;
        self.in_force.give_back(slot);
        Ok(())
    }

    /// Forgets the totals of a sandbox that has no process left.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn remove_counters(&mut self, sandbox_id: u32) -> Result<(), TableError> {
        absent_is_done(self.counters.remove(&sandbox_id)).map_err(failed("clear", "COUNTERS"))
    }
}
