//! The pinned maps, opened for writing.

use std::collections::HashSet;

use aya::{
    Pod,
    maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use clawd_common::{
    decide::{AddressKey, GrantMask, MaskKey, RuleKey},
    record::{Counters, FileKey, IdentityValue, SandboxValue},
};
use clawd_policy::MapImage;

use crate::{
    error::{OpenError, TableError},
    pins::Pins,
};

/// The maps that user space writes. All of them are pinned: dropping this changes nothing in force.
pub struct Kernel {
    sandbox: HashMap<MapData, u64, SandboxValue>,
    identity: HashMap<MapData, FileKey, IdentityValue>,
    address: LpmTrie<MapData, AddressKey, u32>,
    rule: HashMap<MapData, RuleKey, GrantMask>,
    mask: HashMap<MapData, MaskKey, GrantMask>,
    counters: HashMap<MapData, u32, Counters>,
}

fn open_hash<K: Pod, V: Pod>(pins: &Pins, name: &str) -> Result<HashMap<MapData, K, V>, OpenError> {
    Map::from_map_data(pins.open_map(name)?)
        .and_then(HashMap::try_from)
        .map_err(|source| OpenError::Map {
            path: pins.map(name),
            source: Box::new(source),
        })
}

fn failed(what: &'static str, map: &'static str) -> impl Fn(MapError) -> TableError {
    move |source| TableError {
        what,
        map,
        source: Box::new(source),
    }
}

/// Removing what is not there is done already.
fn absent_is_done(result: Result<(), MapError>) -> Result<(), MapError> {
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
        let address = Map::from_map_data(pins.open_map("ADDRESS")?)
            .and_then(LpmTrie::try_from)
            .map_err(|source| OpenError::Map {
                path: pins.map("ADDRESS"),
                source: Box::new(source),
            })?;
        Ok(Self {
            sandbox: open_hash(pins, "SANDBOX")?,
            identity: open_hash(pins, "IDENTITY")?,
            address,
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
            self.remove_policy(image, std::iter::empty())?;
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
        for (key, grants) in &image.rules {
            self.rule
                .insert(key, grants, 0)
                .map_err(failed("write", "RULE"))?;
        }
        Ok(())
    }

    /// Writes which `binaries` entries of a policy an identity matches; none means no entry.
    ///
    /// # Errors
    /// [`TableError`]; then the identity has no grants under this policy.
    pub fn set_mask(
        &mut self,
        policy_id: u32,
        file_id: u32,
        grants: &GrantMask,
    ) -> Result<(), TableError> {
        let key = MaskKey { policy_id, file_id };
        if grants.is_empty() {
            return absent_is_done(self.mask.remove(&key)).map_err(failed("write", "MASK"));
        }
        self.mask
            .insert(key, grants, 0)
            .map_err(failed("write", "MASK"))
    }

    /// Removes the rules of a policy, and its masks for `file_ids`. No sandbox may be under it.
    ///
    /// # Errors
    /// [`TableError`]; what is left decides nothing, and goes with [`Kernel::retain_policies`].
    pub fn remove_policy(
        &mut self,
        image: &MapImage,
        file_ids: impl Iterator<Item = u32>,
    ) -> Result<(), TableError> {
        for (prefix_bits, key, _) in &image.addresses {
            let key = Key::new(AddressKey::FIXED_BITS + prefix_bits, *key);
            absent_is_done(self.address.remove(&key)).map_err(failed("clear", "ADDRESS"))?;
        }
        for (key, _) in &image.rules {
            absent_is_done(self.rule.remove(key)).map_err(failed("clear", "RULE"))?;
        }
        for file_id in file_ids {
            let key = MaskKey {
                policy_id: image.policy_id,
                file_id,
            };
            absent_is_done(self.mask.remove(&key)).map_err(failed("clear", "MASK"))?;
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

    /// Puts a sandbox under a policy, in one step: a hook sees the old value or the new one.
    ///
    /// # Errors
    /// [`TableError`]; then the value before stays.
    pub fn set_sandbox(&mut self, cgroup_id: u64, value: SandboxValue) -> Result<(), TableError> {
        self.sandbox
            .insert(cgroup_id, value, 0)
            .map_err(failed("write", "SANDBOX"))
    }

    /// Every sandbox that the kernel knows, with the id of its cgroup.
    #[must_use]
    pub fn sandboxes(&self) -> Vec<(u64, SandboxValue)> {
        self.sandbox.iter().filter_map(Result::ok).collect()
    }

    /// The greatest number that any table holds of sandboxes, of policies and of files: a daemon
    /// without the file of a daemon before must not give them again.
    #[must_use]
    pub fn greatest_ids(&self) -> (u32, u32, u32) {
        let sandboxes = self.sandboxes().into_iter();
        let sandbox = sandboxes.map(|(_, value)| value.sandbox_id);
        let counted = self.counters.keys().filter_map(Result::ok);
        let addresses = self.address.keys().filter_map(Result::ok);
        let rules = self.rule.keys().filter_map(Result::ok);
        let masks = self.mask.keys().filter_map(Result::ok);
        let policies = addresses.map(|key| key.data().policy_id);
        let policies = policies.chain(rules.map(|key| key.policy_id));
        let policies = policies.chain(
            self.sandboxes()
                .into_iter()
                .map(|(_, value)| value.policy_id),
        );
        let files = self
            .identities()
            .into_iter()
            .map(|(_, value)| value.file_id);
        let mut file = files.max().unwrap_or(0);
        let mut policy = policies.max().unwrap_or(0);
        for key in masks {
            policy = policy.max(key.policy_id);
            file = file.max(key.file_id);
        }
        (sandbox.chain(counted).max().unwrap_or(0), policy, file)
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

    /// Forgets a sandbox that has no process left.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn remove_sandbox(&mut self, cgroup_id: u64, sandbox_id: u32) -> Result<(), TableError> {
        absent_is_done(self.sandbox.remove(&cgroup_id)).map_err(failed("clear", "SANDBOX"))?;
        absent_is_done(self.counters.remove(&sandbox_id)).map_err(failed("clear", "COUNTERS"))
    }

    /// Publishes a file's identity: its execs from now on carry it.
    ///
    /// # Errors
    /// [`TableError`]; then the file has no identity.
    pub fn insert_identity(
        &mut self,
        key: &FileKey,
        value: &IdentityValue,
    ) -> Result<(), TableError> {
        self.identity
            .insert(key, value, 0)
            .map_err(failed("write", "IDENTITY"))
    }

    /// Every identity that is published.
    #[must_use]
    pub fn identities(&self) -> Vec<(FileKey, IdentityValue)> {
        self.identity.iter().filter_map(Result::ok).collect()
    }
}
