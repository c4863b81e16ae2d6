//! Numbers that are never given twice, over restarts too.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// How many numbers one write of the file reserves; a crash skips the rest.
const BLOCK: u32 = 256;

/// The next numbers, as the file has them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Next {
    sandbox_id: u32,
    policy_id: u32,
}

/// Why no number can be given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdError {
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {}; stop all sandboxes and remove it", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("all numbers for {0} are used up; stop all sandboxes and remove the state directory")]
    Exhausted(&'static str),
}

/// Gives out numbers from 1.
#[derive(Debug)]
pub(crate) struct Ids {
    path: PathBuf,
    next: Next,
    reserved: Next,
}

impl Ids {
    /// Goes on where the file says.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, IdError> {
        let path = state_dir.join("ids.json");
        let next = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| IdError::Read {
                path: path.clone(),
                source: error.into(),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Next {
                sandbox_id: 1,
                policy_id: 1,
            },
            Err(source) => return Err(IdError::Read { path, source }),
        };
        Ok(Self {
            path,
            next,
            reserved: next,
        })
    }

    /// Sees to it that no number up to these (sandbox, policy) is given.
    pub(crate) fn pass(&mut self, (sandbox, policy): (u32, u32)) {
        let next = &mut self.next;
        next.sandbox_id = next.sandbox_id.max(sandbox.saturating_add(1));
        next.policy_id = next.policy_id.max(policy.saturating_add(1));
    }

    pub(crate) fn sandbox(&mut self) -> Result<u32, IdError> {
        self.take("sandboxes", |next| &mut next.sandbox_id)
    }

    pub(crate) fn policy(&mut self) -> Result<u32, IdError> {
        self.take("policies", |next| &mut next.policy_id)
    }

    fn take(
        &mut self,
        what: &'static str,
        field: impl Fn(&mut Next) -> &mut u32,
    ) -> Result<u32, IdError> {
        let id = *field(&mut self.next);
        let following = id.checked_add(1).ok_or(IdError::Exhausted(what))?;
        if following > *field(&mut self.reserved) {
            let mut reserved = self.reserved;
            *field(&mut reserved) = id.saturating_add(BLOCK);
            self.write(&reserved)?;
            self.reserved = reserved;
        }
        *field(&mut self.next) = following;
        Ok(id)
    }

    fn write(&self, reserved: &Next) -> Result<(), IdError> {
        crate::files::replace_json(&self.path, reserved, crate::files::Durable::Yes).map_err(
            |source| IdError::Write {
                path: self.path.clone(),
                source,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Ids;

    #[test]
    fn ids_are_not_given_twice_over_a_restart() {
        let dir = std::env::temp_dir().join(format!("clawd-ids-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("folder");
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 {
            let mut ids = Ids::open(&dir).expect("opened");
            for _ in 0..300 {
                assert!(seen.insert(ids.policy().expect("an id")));
            }
        }
        assert!(!seen.contains(&0));
        let mut ids = Ids::open(&dir).expect("opened");
        ids.pass((0, 9_000));
        assert_eq!(ids.policy().expect("an id"), 9_001);
        let mut ids = Ids::open(&dir).expect("opened");
        assert!(ids.policy().expect("an id") > 9_001);
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
