//! The sandboxes that are watched: by their numbers, and by the mount namespace that tells whose an
//! exec is.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::sandbox::{Sandbox, WatchError};

#[derive(Default)]
struct Maps {
    by_id: HashMap<u32, Arc<Sandbox>>,
    by_namespace: HashMap<u32, Arc<Sandbox>>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Watched(Mutex<Maps>);

impl Watched {
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a sandbox, in the place of one with its number, which is returned.
    ///
    /// # Errors
    /// Another one is in its mount namespace: then nobody could tell whose an exec is.
    pub(crate) fn insert(
        &self,
        sandbox: &Arc<Sandbox>,
    ) -> Result<Option<Arc<Sandbox>>, WatchError> {
        let namespace = sandbox.namespace();
        let mut maps = self.maps();
        if let Some(other) = maps.by_namespace.get(&namespace)
            && other.id != sandbox.id
        {
            return Err(WatchError::Look {
                what: "mount namespace, which another sandbox has too",
                source: io::ErrorKind::AlreadyExists.into(),
            });
        }
        let before = maps.by_id.insert(sandbox.id, Arc::clone(sandbox));
        if let Some(before) = &before {
            maps.by_namespace.remove(&before.namespace());
        }
        maps.by_namespace.insert(namespace, Arc::clone(sandbox));
        Ok(before)
    }

    /// Takes a sandbox out; its namespace's number is its as long as somebody has it.
    pub(crate) fn remove(&self, id: u32) -> Option<Arc<Sandbox>> {
        let mut maps = self.maps();
        let sandbox = maps.by_id.remove(&id)?;
        maps.by_namespace.remove(&sandbox.namespace());
        Some(sandbox)
    }

    /// The sandbox with this number.
    pub(crate) fn get(&self, id: u32) -> Option<Arc<Sandbox>> {
        self.maps().by_id.get(&id).cloned()
    }

    /// The sandbox in this mount namespace; 0 is none.
    pub(crate) fn of_namespace(&self, namespace: u32) -> Option<Arc<Sandbox>> {
        self.maps().by_namespace.get(&namespace).cloned()
    }

    /// Every one.
    pub(crate) fn all(&self) -> Vec<Arc<Sandbox>> {
        self.maps().by_id.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Watched;
    use crate::tests::sandbox;

    #[test]
    fn a_sandbox_is_found_by_number_and_namespace_until_it_goes() {
        let watched = Watched::default();
        let one = sandbox(1);
        watched.insert(&one).expect("new");
        let found = watched.of_namespace(one.namespace()).expect("there");
        assert!(Arc::ptr_eq(&found, &one) && watched.get(1).is_some());
        assert_eq!(watched.all().len(), 1);
        assert!(watched.of_namespace(0).is_none());
        assert!(watched.of_namespace(one.namespace() ^ 1).is_none());
        assert!(watched.remove(1).is_some());
        assert!(watched.of_namespace(one.namespace()).is_none());
        assert!(watched.get(1).is_none() && watched.remove(1).is_none());
    }

    #[test]
    fn a_second_sandbox_in_one_namespace_is_refused_and_its_successor_is_not() {
        let watched = Watched::default();
        watched.insert(&sandbox(1)).expect("new");
        assert!(watched.insert(&sandbox(2)).is_err());
        assert!(watched.get(1).is_some() && watched.get(2).is_none());
        let again = sandbox(1);
        watched.insert(&again).expect("in its own place");
        let found = watched.of_namespace(again.namespace()).expect("there");
        assert!(Arc::ptr_eq(&found, &again));
    }
}
