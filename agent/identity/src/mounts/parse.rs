//! Reads the text of `/proc/<pid>/mountinfo`.

use std::{
    collections::BTreeSet, ffi::OsString, io, os::unix::ffi::OsStringExt as _, path::PathBuf,
};

use super::{Dev, Mount};

/// Most mounts of one view: the kernel's own limit for a mount namespace, unless an administrator
/// raised `/proc/sys/fs/mount-max`.
pub const MOUNTS_MAX: usize = 100_000;

/// Longest text that is read, in bytes. Mounts take about 100 each; this leaves room for overlays
/// of 500 layers, and bounds what a namespace can make the daemon hold.
pub(super) const TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a view is not known. Nothing in it may carry an identity then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountsError {
    /// The kernel does not show the mounts.
    #[error("cannot read the mounts of process {pid}")]
    Read {
        /// The process.
        pid: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// More than [`MOUNTS_MAX`] mounts, or a longer text than is read.
    #[error("there are more mounts than are read")]
    TooMany,
    /// The last line has no end, so something may be missing.
    #[error("the list of mounts is cut off")]
    CutOff,
    /// A line is not of the form that `proc_pid_mountinfo(5)` tells of, or repeats an id.
    #[error("line {number} of the list of mounts is not understood")]
    Malformed {
        /// Its number, from 1.
        number: usize,
    },
}

/// Reads the whole text, each line of which ends with a newline.
///
/// # Errors
/// Anything but [`MountsError::Read`]; one wrong line is enough, since a mount that is passed over
/// might be a writable one.
pub fn parse(text: &[u8]) -> Result<Vec<Mount>, MountsError> {
    if u64::try_from(text.len()).map_or(true, |len| len > TEXT_BYTES_MAX) {
        return Err(MountsError::TooMany);
    }
    let Some(lines) = text.strip_suffix(b"\n") else {
        return if text.is_empty() {
            Ok(Vec::new())
        } else {
            Err(MountsError::CutOff)
        };
    };
    let mut mounts = Vec::new();
    let mut ids = BTreeSet::new();
    for (index, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        if index >= MOUNTS_MAX {
            return Err(MountsError::TooMany);
        }
        let mount = mount(line).filter(|mount| ids.insert(mount.id));
        mounts.push(mount.ok_or(MountsError::Malformed { number: index + 1 })?);
    }
    Ok(mounts)
}

/// One line: id, parent, device, root, mount point, options, optional fields up to `-`, type,
/// source, options of the file system.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let dev = dev(fields.next()?)?;
    let root = path(unescape(fields.next()?)?);
    let point = path(unescape(fields.next()?)?);
    let options = fields.next()?;
    fields.by_ref().find(|field| field == b"-")?;
    let fs_type = String::from_utf8(unescape(fields.next()?)?).ok()?;
    let _source = fields.next()?;
    let super_options = fields.next()?;
    let is_read_only = is_read_only(options)? || is_read_only(super_options)?;
    if fields.next().is_some() || fs_type.is_empty() || !point.is_absolute() {
        return None;
    }
    let (layers, upper) = if fs_type == "overlay" {
        layers(super_options)?
    } else {
        (Vec::new(), Vec::new())
    };
    Some(Mount {
        id,
        parent,
        dev,
        root,
        point,
        read_only: is_read_only,
        noexec: options_of(options).any(|option| option == b"noexec"),
        fs_type,
        layers,
        upper,
    })
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    // `from_str` takes a sign, which the kernel does not write.
    let digits = field.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(field).ok().filter(|_| digits)?;
    text.parse().ok()
}

fn dev(field: &[u8]) -> Option<Dev> {
    let mut numbers = field.split(|byte| *byte == b':');
    let dev = Dev {
        major: number(numbers.next()?)?,
        minor: number(numbers.next()?)?,
    };
    numbers.next().is_none().then_some(dev)
}

fn options_of(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b',')
}

/// What the first option says: the kernel writes `ro` or `rw` before any other.
fn is_read_only(field: &[u8]) -> Option<bool> {
    match options_of(field).next()? {
        b"ro" => Some(true),
        b"rw" => Some(false),
        _ => None,
    }
}

// === layers of an overlay ===

/// All layers and those that are written to.
///
/// `ovl_show_options` (`fs/overlayfs/params.c`, v6.12) writes what the caller of `mount(2)` wrote,
/// its backslashes included, with commas, blanks and backslashes in octal. So a comma always ends
/// an option, and the octal comes off first.
fn layers(super_options: &[u8]) -> Option<(Vec<PathBuf>, Vec<PathBuf>)> {
    let mut layers = Vec::new();
    let mut upper = Vec::new();
    for option in options_of(super_options) {
        let Some(equals) = option.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (key, value) = (option.get(..equals)?, option.get(equals + 1..)?);
        match key {
            b"lowerdir" => layers.extend(lower_list(&unescape(value)?)?.map(path)),
            // One path, as it is.
            b"lowerdir+" | b"datadir+" => layers.push(path(unescape(value)?)),
            b"upperdir" => {
                // A path given as text loses its backslashes, the name of a descriptor does not.
                let name = unescape(value)?;
                let mut readings = vec![path(strip_backslashes(&name))];
                if name.contains(&b'\\') {
                    readings.push(path(name));
                }
                layers.extend(readings.iter().cloned());
                upper.extend(readings);
            }
            _ => {}
        }
    }
    Some((layers, upper))
}

/// The layers of `lowerdir`: colons stand between them, two before a layer that holds data alone,
/// and a backslash keeps what follows it from meaning anything (`ovl_parse_param_split_lowerdirs`).
fn lower_list(value: &[u8]) -> Option<impl Iterator<Item = Vec<u8>>> {
    let mut layers = vec![Vec::new()];
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => layers.push(Vec::new()),
            b'\\' => layers.last_mut()?.push(*bytes.next()?),
            _ => layers.last_mut()?.push(*byte),
        }
    }
    Some(layers.into_iter().filter(|layer| !layer.is_empty()))
}

/// As `ovl_unescape` does.
fn strip_backslashes(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            _ => out.push(*byte),
        }
    }
    out
}

// === escapes ===

/// Turns three octal digits after a backslash into their byte; `None` for another backslash, as the
/// kernel writes none.
pub(super) fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'\\' {
            out.push(*first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_first_chunk::<3>()?;
        let mut value = 0_u32;
        for digit in digits {
            value = value * 8 + char::from(*digit).to_digit(8)?;
        }
        out.push(u8::try_from(value).ok()?);
        rest = tail;
    }
    Some(out)
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}
