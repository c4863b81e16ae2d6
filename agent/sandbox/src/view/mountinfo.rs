//! Reads `/proc/<pid>/mountinfo`.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it is, as seen from the reader's root.
    pub(super) at: PathBuf,
    /// Whether nothing in it can be executed.
    pub(super) noexec: bool,
    /// Type of its file system.
    pub(super) filesystem: String,
}

/// Reads one line; `None` for what is no such line.
///
/// Fields: id, parent, device, root, mount point, options, optional ones up to `-`, type, ...
fn parse(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let at = fields.nth(4)?;
    let options = fields.next()?;
    let filesystem = fields.by_ref().skip_while(|field| *field != "-").nth(1)?;
    Some(Mount {
        at: PathBuf::from(OsString::from_vec(unescape(at))),
        noexec: options.split(',').any(|option| option == "noexec"),
        filesystem: filesystem.to_owned(),
    })
}

/// Reads the whole file; an error names the line that is not understood.
pub(super) fn parse_all(text: &str) -> Result<Vec<Mount>, String> {
    text.lines()
        .map(|line| parse(line).ok_or_else(|| format!("mountinfo line not understood: {line}")))
        .collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() {
            tail.get(3..).unwrap_or_default()
        } else {
            tail
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{parse, parse_all};

    #[test]
    fn parse_reads_options_type_and_escaped_path() {
        let line = r"36 35 98:0 /mnt1 /a\040b\134c rw,noexec,noatime master:1 - ext3 /dev/root rw";
        let mount = parse(line).expect("a mount");
        assert_eq!(mount.at, Path::new(r"/a b\c"));
        assert_eq!((mount.noexec, mount.filesystem.as_str()), (true, "ext3"));
        let plain = "1 1 0:2 / / rw - rootfs rootfs rw,noexec";
        assert!(!parse(plain).expect("a mount").noexec);
    }

    #[test]
    fn parse_all_of_a_cut_line_is_an_error() {
        assert!(parse_all("36 35 98:0 / /a rw,noexec master:1").is_err());
        assert!(parse_all("").is_ok_and(|mounts| mounts.is_empty()));
    }
}
