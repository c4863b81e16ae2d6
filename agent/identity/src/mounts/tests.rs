//! Lines as kernels write them, and trees against a naive reference.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use super::{
    Dev, Layers, Mount, MountsError, Place, View, WritableTrees, is_trusted_fs_type,
    layers_writable, parse, parse::unescape, upper_places,
};

fn one(line: &str) -> Mount {
    let mut mounts = parse(format!("{line}\n").as_bytes()).expect("understood");
    assert_eq!(mounts.len(), 1);
    mounts.remove(0)
}

fn view(lines: &[&str]) -> View {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    View::from_mounts(parse(text.as_bytes()).expect("understood"))
}

const DISK: Dev = Dev { major: 8, minor: 1 };

fn place(path: &str) -> Place {
    Place {
        dev: DISK,
        path: PathBuf::from(path),
    }
}

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

fn as_it_is(path: &Path) -> io::Result<PathBuf> {
    Ok(path.to_path_buf())
}

#[test]
fn parse_reads_every_field() {
    let line = concat!(
        r"36 35 98:0 /mnt1 /a\040b\134c rw,noexec,noatime master:1 shared:2 - ext3 /dev/root ",
        "rw,errors=continue"
    );
    assert_eq!(
        one(line),
        Mount {
            id: 36,
            parent: 35,
            dev: Dev {
                major: 98,
                minor: 0
            },
            root: PathBuf::from("/mnt1"),
            point: PathBuf::from(r"/a b\c"),
            read_only: false,
            noexec: true,
            fs_type: "ext3".to_owned(),
            layers: Vec::new(),
            upper: Vec::new(),
        }
    );
    let plain = one("1 1 0:2 / / rw - rootfs rootfs rw,noexec");
    assert!(!plain.noexec);
    assert_eq!(
        one("1 1 0:4 net:[4026531840] /run/netns/x rw - nsfs nsfs rw").root,
        Path::new("net:[4026531840]")
    );
}

#[test]
fn parse_reads_a_mount_as_read_only_when_it_or_its_file_system_is() {
    for (line, expected) in [
        ("1 0 8:1 / / rw - ext4 /dev/sda rw", false),
        ("1 0 8:1 / / ro,nosuid - ext4 /dev/sda rw", true),
        ("1 0 8:1 / / rw - ext4 /dev/sda ro,x", true),
        ("1 0 8:1 / / ro - ext4 /dev/sda ro", true),
        ("1 0 8:1 / / rw,ro - ext4 /dev/sda rw,ro", false),
    ] {
        assert_eq!(one(line).read_only, expected, "{line}");
    }
}

#[test]
fn parse_of_a_malformed_line_is_an_error() {
    let good = "1 0 8:1 / /mnt rw - ext4 /dev/sda rw";
    one(good);
    for bad in [
        "",
        "x 0 8:1 / / rw - ext4 /dev/sda rw",
        "+1 0 8:1 / / rw - ext4 /dev/sda rw",
        "1 0 8 / / rw - ext4 /dev/sda rw",
        "1 0 8:1:2 / / rw - ext4 /dev/sda rw",
        "1 0 8:-1 / / rw - ext4 /dev/sda rw",
        "1 0 8:4294967296 / / rw - ext4 /dev/sda rw",
        "1 0 8:1 / mnt rw - ext4 /dev/sda rw",
        r"1 0 8:1 / /a\04 rw - ext4 /dev/sda rw",
        r"1 0 8:1 / /a\400 rw - ext4 /dev/sda rw",
        r"1 0 8:1 / /a\x20 rw - ext4 /dev/sda rw",
        r"1 0 8:1 /a\ / rw - ext4 /dev/sda rw",
        "1 0 8:1 / / noatime - ext4 /dev/sda rw",
        "1 0 8:1 / / rw - ext4 /dev/sda",
        "1 0 8:1 / / rw - ext4 /dev/sda noatime",
        "1 0 8:1 / / rw - ext4 /dev/sda rw rw",
        "1 0 8:1 / / rw ext4 /dev/sda rw",
        "1 0 8:1 / / rw -  /dev/sda rw",
        "1  0 8:1 / / rw - ext4 /dev/sda rw",
        r"1 0 8:1 / / rw - overlay o rw,lowerdir=/a\",
        r"1 0 8:1 / / rw - overlay o rw,lowerdir=/a\134",
    ] {
        let text = format!("{}\n{bad}\n", good.replace("1 0", "7 0"));
        let refused = parse(text.as_bytes()).expect_err(bad);
        assert!(
            matches!(refused, MountsError::Malformed { number: 2 }),
            "{bad}: {refused}"
        );
    }
    let repeated = format!("{good}\n{good}\n");
    assert!(matches!(
        parse(repeated.as_bytes()),
        Err(MountsError::Malformed { number: 2 })
    ));
    assert!(matches!(parse(good.as_bytes()), Err(MountsError::CutOff)));
    assert!(parse(b"").is_ok_and(|mounts| mounts.is_empty()));
}

#[test]
fn parse_takes_as_many_mounts_as_a_namespace_may_have() {
    let line = |id: usize| format!("{id} 0 8:1 / /m rw - ext4 /dev/sda rw\n");
    let mut text: String = (0..super::MOUNTS_MAX).map(line).collect();
    assert_eq!(
        parse(text.as_bytes()).expect("fits").len(),
        super::MOUNTS_MAX
    );
    text.push_str(&line(super::MOUNTS_MAX));
    assert!(matches!(parse(text.as_bytes()), Err(MountsError::TooMany)));
}

/// As the kernel's `mangle_path` does it, for every byte and every pair of bytes that can stand in
/// a path.
#[test]
fn unescape_takes_back_what_the_kernel_escapes() {
    let escape = |bytes: &[u8], out: &mut Vec<u8>| {
        for byte in bytes {
            if b" \t\n\\".contains(byte) {
                out.extend(format!("\\{byte:03o}").bytes());
            } else {
                out.push(*byte);
            }
        }
    };
    for first in 0..=255_u8 {
        for second in 0..=255_u8 {
            let path = [first, second, b'0', b'4', b'0'];
            let mut escaped = Vec::new();
            escape(&path, &mut escaped);
            assert_eq!(unescape(&escaped).as_deref(), Some(&path[..]));
            if first != 0 && second != 0 {
                let mut line = b"1 0 8:1 /".to_vec();
                line.extend(&escaped);
                line.extend(b" /");
                line.extend(&escaped);
                line.extend(b" rw - ext4 /dev/sda rw\n");
                let mounts = parse(&line).expect("understood");
                let expected = PathBuf::from(OsString::from_vec([b"/", &path[..]].concat()));
                assert_eq!((&mounts[0].root, &mounts[0].point), (&expected, &expected));
            }
        }
    }
}

/// The options are those that Linux 6.18 showed for these folders.
#[test]
fn parse_reads_the_layers_of_an_overlay() {
    let mount = one(concat!(
        r"72 63 0:40 / /m rw - overlay o rw,",
        r"lowerdir=/t/a\134:b:/t/c\040d:/t/e\134\134f:/t/i=j:/t/g\134\054h:/t/plain::/t/data,",
        "upperdir=/t/up,workdir=/t/project,redirect_dir=on,uuid=on,metacopy=on"
    ));
    assert_eq!(
        mount.layers,
        paths(&[
            "/t/a:b", "/t/c d", r"/t/e\f", "/t/i=j", "/t/g,h", "/t/plain", "/t/data", "/t/up"
        ])
    );
    assert_eq!(mount.upper, paths(&["/t/up"]));
    let mount = one(concat!(
        r"70 63 0:40 / /m rw - overlay none ro,lowerdir+=/t/a:b,lowerdir+=/t/c\040d,",
        r"lowerdir+=/t/e\134f,lowerdir+=/t/g\054h,lowerdir+=/t/k\012l,",
        "datadir+=/t/i=j,metacopy=on"
    ));
    assert_eq!(
        mount.layers,
        paths(&["/t/a:b", "/t/c d", r"/t/e\f", "/t/g,h", "/t/k\nl", "/t/i=j"])
    );
    assert!(mount.upper.is_empty());
    let mount = one(r"66 63 0:40 / /m rw - overlay o rw,lowerdir=plain,upperdir=/t/g\134\054h");
    assert_eq!(mount.layers, paths(&["plain", "/t/g,h", r"/t/g\,h"]));
    assert_eq!(mount.upper, paths(&["/t/g,h", r"/t/g\,h"]));
    let other = one("1 0 8:1 / / rw - ext4 /dev/sda rw,lowerdir=/a");
    assert!(other.layers.is_empty());
}

#[test]
fn place_of_adds_what_is_below_the_mount_point() {
    let mount = one("1 0 8:1 /srv/data /mnt rw - ext4 /dev/sda rw");
    for (path, expected) in [
        ("/mnt", Some("/srv/data")),
        ("/mnt/", Some("/srv/data")),
        ("/mnt/a/b", Some("/srv/data/a/b")),
        ("/mnt2", None),
        ("/", None),
        ("mnt/a", None),
        ("/mnt/../etc", None),
    ] {
        assert_eq!(
            mount.place_of(Path::new(path)),
            expected.map(place),
            "{path}"
        );
    }
    // A file's own bind mount.
    let mount = one("1 0 8:1 /etc/hosts /h rw - ext4 /dev/sda rw");
    let found = mount.place_of(Path::new("/h")).expect("a place");
    assert_eq!(found.path.as_os_str(), "/etc/hosts");
}

#[test]
fn topmost_is_the_mount_that_the_kernel_walks_to() {
    let view = view(&[
        "1 1 0:2 / / rw - rootfs rootfs rw",
        "20 1 8:1 / / rw - ext4 /dev/sda rw",
        // Hidden by 23, which was mounted over its parent later.
        "22 21 8:2 / /x/y rw - ext4 /dev/sdb rw",
        "21 20 8:3 / /x rw - ext4 /dev/sdc rw",
        "23 21 8:4 / /x rw - ext4 /dev/sdd rw",
        "24 23 8:5 / /x/z rw - ext4 /dev/sde rw",
        // Below a mount that this view does not show.
        "30 99 8:6 / /x/q rw - ext4 /dev/sdf rw",
    ]);
    for (path, id) in [
        ("/", 20),
        ("/a/b", 20),
        ("/x", 23),
        ("/x/y/file", 23),
        ("/x/z", 24),
        ("/x/z/deep", 24),
        ("/xz", 20),
        ("/x/q", 23),
    ] {
        let found = view.topmost(Path::new(path)).map(|mount| mount.id);
        assert_eq!(found, Some(id), "{path}");
    }
    assert!(view.topmost(Path::new("x")).is_none());
    assert!(view.topmost(Path::new("/x/../y")).is_none());
    assert_eq!(view.mount(24).map(|mount| mount.dev.minor), Some(5));
    assert!(view.mount(25).is_none());
}

#[test]
fn topmost_of_an_unclear_view_is_none() {
    let root = Path::new("/");
    assert!(View::default().topmost(root).is_none());
    let two = view(&["1 0 8:1 / / rw - ext4 a rw", "2 0 8:2 / / rw - ext4 b rw"]);
    assert!(two.topmost(root).is_none());
    let tie = view(&[
        "1 0 8:1 / / rw - ext4 a rw",
        "2 1 8:2 / /x rw - ext4 b rw",
        "3 1 8:3 / /x rw - ext4 c rw",
    ]);
    assert!(tie.topmost(Path::new("/x")).is_none());
    assert!(tie.topmost(root).is_some());
    let circle = view(&[
        "1 1 8:1 / / rw - ext4 a rw",
        "2 3 8:2 / / rw - ext4 b rw",
        "3 2 8:3 / / rw - ext4 c rw",
    ]);
    assert_eq!(circle.topmost(root).map(|mount| mount.id), Some(1));
}

#[test]
fn writable_names_what_can_be_written_and_can_hold_programs() {
    let view = view(&[
        "1 0 8:1 / / ro - ext4 a rw",
        "2 1 8:1 /home /home rw,noexec - ext4 a rw",
        "3 1 0:5 / /proc rw - proc proc rw",
        "4 1 0:6 / /dev rw - devtmpfs dev rw",
        "5 1 0:7 / /new rw - somethingfs new rw",
        "6 1 0:8 / /ro rw - tmpfs t ro",
    ]);
    let found: Vec<_> = view
        .writable()
        .into_iter()
        .map(|p| (p.dev.minor, p.path))
        .collect();
    assert_eq!(
        found,
        [(1, "/home"), (6, "/"), (7, "/")].map(|(minor, path)| (minor, PathBuf::from(path)))
    );
}

#[test]
fn covers_and_overlaps_agree_with_a_reference_that_lists_every_file() {
    // Every path of up to three of these names. One name begins with another.
    let mut all = vec![PathBuf::from("/")];
    let mut last = all.clone();
    for _ in 0..3 {
        last = last
            .iter()
            .flat_map(|path| ["a", "ab"].map(|name| path.join(name)))
            .collect();
        all.extend(last.iter().cloned());
    }
    let other = Dev { major: 8, minor: 2 };
    let at = |dev: Dev, path: &PathBuf| Place {
        dev,
        path: path.clone(),
    };
    // What lies in a tree, by going up from each path.
    let is_in = |path: &Path, tree: &Path| path.ancestors().any(|ancestor| ancestor == tree);
    for first in &all {
        for second in &all {
            let mut trees = WritableTrees::default();
            trees.set(1, vec![at(DISK, first)]);
            trees.set(2, vec![at(other, second)]);
            for path in &all {
                let in_first = is_in(path, first);
                let in_second = is_in(path, second);
                assert_eq!(trees.covers(&at(DISK, path)), in_first);
                assert_eq!(trees.covers(&at(other, path)), in_second);
                // Two trees overlap where they have a file of the list in common.
                let common =
                    |one: &Path| all.iter().any(|file| is_in(file, path) && is_in(file, one));
                assert_eq!(
                    trees.overlaps(&at(DISK, path)),
                    common(first),
                    "{path:?} {first:?}"
                );
                assert_eq!(trees.overlaps(&at(other, path)), common(second));
            }
        }
    }
}

#[test]
fn writable_trees_are_those_of_live_sandboxes() {
    let mut trees = WritableTrees::default();
    assert!(!trees.any_on(DISK));
    trees.set(1, vec![place("/a"), place("/b")]);
    trees.set(2, vec![place("/a")]);
    trees.set(1, vec![place("/c")]);
    assert!(trees.any_on(DISK) && trees.covers(&place("/c/x")) && !trees.covers(&place("/b")));
    trees.remove(2);
    assert!(!trees.covers(&place("/a")));
    trees.remove(1);
    trees.remove(1);
    assert!(!trees.any_on(DISK));
}

#[test]
fn layers_writable_asks_about_every_layer() {
    let host = view(&[
        "1 0 8:1 / / rw - ext4 a rw",
        "2 1 0:9 / /net rw - nfs4 a:/ rw",
        "3 1 0:10 / /over rw - overlay o rw,lowerdir=/x",
    ]);
    let overlay = |options: &str| one(&format!("9 1 0:40 / /m ro - overlay o ro,{options}"));
    let mut trees = WritableTrees::default();
    trees.set(1, vec![place("/project/deep")]);
    for (options, expected) in [
        ("lowerdir=/usr:/opt", Layers::Untouched),
        ("lowerdir=/usr:/project/deep/er", Layers::Writable),
        ("lowerdir=/usr:/project", Layers::Writable),
        ("lowerdir=/usr,upperdir=/project/deep", Layers::Writable),
        ("lowerdir+=/usr,datadir+=/project/deep", Layers::Writable),
        ("lowerdir=/usr::/project/deep", Layers::Writable),
        ("lowerdir=usr", Layers::Unknown),
        ("lowerdir=/usr:/net/x", Layers::Unknown),
        ("lowerdir=/net/x:/project", Layers::Writable),
        ("lowerdir=/over/x", Layers::Unknown),
        ("redirect_dir=on", Layers::Unknown),
        ("lowerdir=", Layers::Unknown),
    ] {
        let found = layers_writable(&overlay(options), &host, &trees, as_it_is);
        assert_eq!(found, expected, "{options}");
    }
    let found = layers_writable(
        &overlay("lowerdir=/usr"),
        &View::default(),
        &trees,
        as_it_is,
    );
    assert_eq!(found, Layers::Unknown);
    let plain = one("1 0 8:1 / / ro - ext4 a ro");
    assert_eq!(
        layers_writable(&plain, &host, &trees, as_it_is),
        Layers::Untouched
    );
}

#[test]
fn layers_writable_follows_symbolic_links() {
    let host = view(&["1 0 8:1 / / rw - ext4 a rw"]);
    let mut trees = WritableTrees::default();
    trees.set(1, vec![place("/project")]);
    let mount = one("9 1 0:40 / /m ro - overlay o ro,lowerdir=/l/ABC");
    let found = layers_writable(&mount, &host, &trees, |_| {
        Ok(PathBuf::from("/project/diff"))
    });
    assert_eq!(found, Layers::Writable);
    let gone = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    assert_eq!(
        layers_writable(&mount, &host, &trees, gone),
        Layers::Unknown
    );
}

#[test]
fn upper_places_are_those_of_writable_overlays() {
    let host = view(&["1 0 8:1 / / rw - ext4 a rw"]);
    let inside = view(&[
        "5 4 0:40 / / rw - overlay o rw,lowerdir=/usr,upperdir=/up,workdir=/w",
        "6 5 0:41 / /b ro - overlay o rw,lowerdir=/usr,upperdir=/up2,workdir=/w2",
        "7 5 8:1 /home /home rw - ext4 a rw",
    ]);
    let found = upper_places(&inside, &host, as_it_is).expect("found");
    assert_eq!(found, [place("/up")]);
    let relative = view(&["5 4 0:40 / /m rw - overlay o rw,lowerdir=/usr,upperdir=up"]);
    let refused = upper_places(&relative, &host, as_it_is).expect_err("unknown");
    assert_eq!((refused.path, refused.point), ("up".into(), "/m".into()));
    let none = view(&["5 4 0:40 / /m rw - overlay o rw,lowerdir=/usr"]);
    assert!(upper_places(&none, &host, as_it_is).is_err());
}

#[test]
fn read_shows_this_process_where_it_runs() {
    let view = View::read(std::process::id()).expect("understood");
    let program = std::env::current_exe().expect("known");
    let program = program.canonicalize().expect("there");
    let mount = view.topmost(&program).expect("on a mount");
    assert!(mount.place_of(&program).is_some());
    let mount = view.topmost(Path::new("/proc/version")).expect("a mount");
    assert_eq!(mount.fs_type, "proc");
    let refused = View::read(u32::MAX).expect_err("no such process");
    assert!(matches!(refused, MountsError::Read { pid: u32::MAX, .. }));
}

#[test]
fn is_trusted_fs_type_knows_no_served_and_no_stacked_ones() {
    assert!(is_trusted_fs_type("ext4") && is_trusted_fs_type("overlay"));
    for name in [
        "fuse",
        "fuse.sshfs",
        "nfs4",
        "9p",
        "virtiofs",
        "ramfs",
        "ecryptfs",
        "",
        "EXT4",
    ] {
        assert!(!is_trusted_fs_type(name), "{name}");
    }
}
