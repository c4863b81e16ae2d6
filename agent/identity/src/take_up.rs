//! How sandboxes come to be watched, and when they are not any more.

use std::{collections::HashSet, path::Path, sync::Arc, thread};

use crate::{
    basis::{everything, writable_by},
    gate::Shared,
    load::Prepared,
    mounts::View,
    protocol::Watch,
    sandbox::{LOADERS, Missing, Sandbox, WatchError},
};

/// Sandboxes taken up together: while their execs wait, all processes are looked at once for them.
const RESTORED_AT_ONCE: usize = 64;

impl Shared {
    /// Watches a sandbox that has not executed its command.
    pub(crate) fn watch(self: &Arc<Self>, watch: &Watch) -> Result<Vec<String>, WatchError> {
        let view = View::read(watch.init_pid)?;
        // What it can write has no identity any more before it can write it.
        self.book()
            .set_writable(watch.sandbox_id, writable_by(&view));
        let watched = || {
            let (sandbox, prepared) = self.prepare_watch(watch, view)?;
            self.mark(&sandbox, watch, Missing::Refuse)?;
            // It has executed nothing yet, so no process of its has a line.
            self.book().know_lines(sandbox.id, HashSet::new());
            self.enter(&sandbox, prepared)
        };
        watched().inspect_err(|_| self.forget(watch.sandbox_id))
    }

    /// Watches sandboxes that run. What each can write is known before any is judged, that of those
    /// too which cannot be watched.
    pub(crate) fn restore(self: &Arc<Self>, watches: &[Watch]) -> Vec<Result<(), WatchError>> {
        let views: Vec<_> = watches
            .iter()
            .map(|watch| View::read(watch.init_pid))
            .collect();
        for (view, watch) in views.iter().zip(watches) {
            let trees = match view {
                Ok(view) => writable_by(view),
                Err(_) => View::read(std::process::id())
                    .map(|host| everything(&host))
                    .unwrap_or_default(),
            };
            self.book().take_up_writable(watch.sandbox_id, trees);
        }
        let mut views = views.into_iter();
        let mut restored = Vec::new();
        let mut results = Vec::new();
        for watches in watches.chunks(RESTORED_AT_ONCE) {
            let of_some = views.by_ref().zip(watches);
            // Their execs wait for nothing that takes its time.
            let prepared: Vec<_> = of_some
                .map(|(view, watch)| self.prepare_watch(watch, view?))
                .collect();
            let marked: Vec<_> = (prepared.into_iter().zip(watches))
                .map(|(prepared, watch)| {
                    let (sandbox, prepared) = prepared?;
                    self.mark(&sandbox, watch, Missing::Skip)?;
                    Ok((sandbox, prepared))
                })
                .collect();
            let mut lines = self.book().lines_of_processes();
            results.extend(marked.into_iter().zip(watches).map(|(marked, watch)| {
                let entered = marked.and_then(|(sandbox, prepared)| {
                    let lines = lines.remove(&sandbox.id).unwrap_or_default();
                    self.book().know_lines(sandbox.id, lines);
                    self.enter(&sandbox, prepared)?;
                    restored.push(sandbox);
                    Ok(())
                });
                entered.inspect_err(|_| self.leave(watch.sandbox_id))
            }));
        }
        // Programs may be large and many; the daemon need not wait for them.
        let shared = Arc::clone(self);
        let adopting = thread::Builder::new()
            .name("gate-adopt".to_owned())
            .spawn(move || crate::adopt::identify_running(&shared, &restored));
        if let Err(error) = adopting {
            tracing::error!(%error, "running programs are not identified again");
        }
        results
    }

    /// Looks at a sandbox and at the files of its policy.
    fn prepare_watch(
        self: &Arc<Self>,
        watch: &Watch,
        view: View,
    ) -> Result<(Arc<Sandbox>, Prepared), WatchError> {
        let sandbox = Arc::new(Sandbox::new(watch, view, self.seat()?)?);
        self.book().name_sandbox(sandbox.id, &watch.name);
        for loader in LOADERS {
            self.learn_loader(&sandbox, Path::new(loader));
        }
        let prepared = self.prepare(&sandbox, &watch.policy);
        Ok((sandbox, prepared))
    }

    /// Marks its mounts; its execs wait from now on.
    fn mark(
        &self,
        sandbox: &Arc<Sandbox>,
        watch: &Watch,
        missing: Missing,
    ) -> Result<(), WatchError> {
        // Known before it is marked: an exec of nobody's goes on without identity.
        if let Some(before) = self.watched.insert(sandbox)? {
            before.leave();
        }
        sandbox.mark(watch, missing)?;
        self.book().add_sandbox(sandbox.id, &watch.name);
        Ok(())
    }

    /// Grants what its policy does; its execs are answered from now on.
    fn enter(&self, sandbox: &Arc<Sandbox>, prepared: Prepared) -> Result<Vec<String>, WatchError> {
        let warnings = self.grant(sandbox, prepared)?;
        sandbox.enter();
        self.queue.look_again();
        Ok(warnings)
    }

    /// Forgets a sandbox that has no process left.
    pub(crate) fn forget(&self, sandbox_id: u32) {
        let last = self.watched.get(sandbox_id);
        self.leave(sandbox_id);
        self.book().clear_writable(sandbox_id);
        // What it kept goes after what is remembered by it.
        drop(last);
    }

    /// Stops watching a sandbox; what it can write is still its.
    pub(crate) fn leave(&self, sandbox_id: u32) {
        if let Some(sandbox) = self.watched.remove(sandbox_id) {
            sandbox.leave();
            self.queue.look_again();
        }
        self.book().remove_sandbox(sandbox_id);
    }
}
