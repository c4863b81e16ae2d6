//! No text makes the reader of mounts panic, and the answers about what it read fit together.
//!
//! `cargo xtask fuzz mountinfo`
#![no_main]

use std::path::Path;

use clawd_identity::mounts::{View, WritableTrees, layers_writable, parse, upper_places};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mounts) = parse(data) else {
        return;
    };
    assert_eq!(mounts.len(), data.split(|byte| *byte == b'\n').count() - 1);
    let view = View::from_mounts(mounts.clone());
    let mut trees = WritableTrees::default();
    trees.set(1, view.writable());
    let canonical = |path: &Path| Ok(path.to_path_buf());
    for mount in &mounts {
        assert_eq!(view.mount(mount.id), Some(mount));
        if let Some(place) = mount.place_of(&mount.point) {
            assert_eq!(place.path, mount.root);
            assert!(!trees.covers(&place) || (trees.overlaps(&place) && trees.any_on(place.dev)));
        }
        if let Some(top) = view.topmost(&mount.point) {
            assert!(mount.point.starts_with(&top.point));
        }
        assert!(mount.upper.iter().all(|upper| mount.layers.contains(upper)));
        let _ = layers_writable(mount, &view, &trees, canonical);
    }
    drop(upper_places(&view, &view, canonical));
});
