//! What a push of a file would change, told before it.

use clawd_tests::Address;

use super::{allowing, push};
use crate::support::{World, code, text};

#[test]
fn difference_to_what_is_in_force_is_told_and_gone_after_the_push() {
    let world = World::start();
    let _prober = world.prober("box", &allowing(Address::A));
    let other = world.daemon.policy_file(&allowing(Address::B));
    let other = other.to_str().unwrap();
    let diff = |sandbox: &str| {
        let line = ["policy", "diff", "--sandbox", sandbox, other];
        world.daemon.clawctl(line).output().unwrap()
    };
    let told = diff("box");
    assert_eq!(code(&told), 1, "{told:?}");
    let want = format!(
        "- /usr/bin/python3: may no longer reach {}/32, tcp 7000\n\
         + /usr/bin/python3: may reach {}/32, tcp 7000\n",
        Address::A,
        Address::B
    );
    assert_eq!(text(&told.stdout), want);
    assert_eq!(code(&push(&world, "box", &allowing(Address::B))), 0);
    let none = diff("box");
    assert_eq!((code(&none), text(&none.stdout)), (0, String::new()));
    // Not being told is neither.
    for sandbox in ["nobody", "BOX"] {
        let unknown = diff(sandbox);
        assert_eq!(code(&unknown), 2, "{unknown:?}");
        assert!(unknown.stdout.is_empty(), "{unknown:?}");
    }
}
