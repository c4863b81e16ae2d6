//! First-use pins: which content a listed path stands for, kept over restarts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// Paths that may be pinned: what one host's policies list, with room. A full table pins nothing
/// more, so further paths are granted nothing.
const PINS_MAX: usize = 16_384;

/// Version of the file's form.
const VERSION: u32 = 1;

/// A pinned path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The path as a policy names it, or as a policy's pattern matches it.
    pub path: String,
    /// SHA-256 of the content, in hexadecimal.
    #[serde(with = "hexadecimal")]
    pub sha256: [u8; 32],
    /// When, in seconds since 1970.
    pub first_used_unix_s: u64,
    /// The sandbox whose use it was.
    pub sandbox: String,
    /// Another content that was found at the path and granted nothing; not kept.
    #[serde(default, with = "hexadecimal::option")]
    pub found: Option<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PinFile {
    version: u32,
    pins: Vec<Pin>,
}

/// Why the pins could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The file cannot be read. No pin is forgotten: the gate does not start.
    #[error("cannot read {}; mend it, or remove it to have every path pinned anew", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written. The path is not pinned and grants nothing.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too many.
    #[error(
        "{PINS_MAX} paths are pinned, which is the limit; forget some with `clawctl identity forget`"
    )]
    Full,
    /// The path is no UTF-8, which no policy can name.
    #[error("the path is not UTF-8")]
    NotText,
}

/// All pins, and the file that keeps them.
pub(crate) struct Pins {
    file: PathBuf,
    pins: BTreeMap<PathBuf, Pin>,
    /// The pinned paths of each content.
    by_content: HashMap<[u8; 32], BTreeSet<PathBuf>>,
    /// Written, but not yet forced to the disk.
    unsynced: bool,
}

impl Pins {
    /// Reads `file`; none is an empty one.
    pub(crate) fn open(file: PathBuf) -> Result<Self, PinError> {
        let unreadable = |source| PinError::Read {
            path: file.clone(),
            source,
        };
        let pins = match fs::read(&file) {
            Ok(bytes) => {
                let read: PinFile =
                    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.into()))?;
                if read.version != VERSION {
                    let told = format!("its version is {}, not {VERSION}", read.version);
                    return Err(unreadable(io::Error::other(told)));
                }
                read.pins
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unreadable(error)),
        };
        let pins = pins.into_iter().map(|pin| (PathBuf::from(&pin.path), pin));
        let mut opened = Self {
            pins: pins.collect(),
            by_content: HashMap::new(),
            file,
            unsynced: false,
        };
        opened.index();
        Ok(opened)
    }

    pub(crate) fn get(&self, path: &Path) -> Option<&Pin> {
        self.pins.get(path)
    }

    /// Every pin.
    pub(crate) fn all(&self) -> Vec<Pin> {
        self.pins.values().cloned().collect()
    }

    /// The paths that a content is pinned for.
    pub(crate) fn paths_of(&self, sha256: &[u8; 32]) -> impl Iterator<Item = &Path> {
        let paths = self.by_content.get(sha256).into_iter().flatten();
        paths.map(PathBuf::as_path)
    }

    fn index(&mut self) {
        self.by_content.clear();
        for (path, pin) in &self.pins {
            let paths = self.by_content.entry(pin.sha256).or_default();
            paths.insert(path.clone());
        }
    }

    /// Pins a path that is not pinned. Once this returns it survives the process.
    pub(crate) fn insert(
        &mut self,
        path: &Path,
        sha256: [u8; 32],
        sandbox: &str,
    ) -> Result<(), PinError> {
        if self.pins.len() >= PINS_MAX {
            return Err(PinError::Full);
        }
        let pin = Pin {
            path: path.to_str().ok_or(PinError::NotText)?.to_owned(),
            sha256,
            first_used_unix_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            sandbox: sandbox.to_owned(),
            found: None,
        };
        self.pins.insert(path.to_path_buf(), pin);
        if let Err(error) = self.write() {
            self.pins.remove(path);
            return Err(error);
        }
        let paths = self.by_content.entry(sha256).or_default();
        paths.insert(path.to_path_buf());
        Ok(())
    }

    /// Remembers what was found in place of the pinned content.
    pub(crate) fn note_found(&mut self, path: &Path, sha256: [u8; 32]) {
        if let Some(pin) = self.pins.get_mut(path) {
            pin.found = Some(sha256);
        }
    }

    /// Forgets pins; returns those that there were.
    pub(crate) fn forget(&mut self, paths: &[PathBuf]) -> Result<Vec<Pin>, PinError> {
        let before = self.pins.clone();
        let forgotten: Vec<Pin> = paths
            .iter()
            .filter_map(|path| self.pins.remove(path))
            .collect();
        if !forgotten.is_empty()
            && let Err(error) = self.write()
        {
            self.pins = before;
            return Err(error);
        }
        self.index();
        Ok(forgotten)
    }

    /// Forces to the disk what was written since; done apart, because an exec waits for the writer.
    pub(crate) fn take_unsynced(&mut self) -> Option<PathBuf> {
        std::mem::take(&mut self.unsynced).then(|| self.file.clone())
    }

    fn write(&mut self) -> Result<(), PinError> {
        let pins = self.pins.values().cloned();
        let written = PinFile {
            version: VERSION,
            pins: pins.map(|pin| Pin { found: None, ..pin }).collect(),
        };
        replace(&self.file, &written).map_err(|source| PinError::Write {
            path: self.file.clone(),
            source,
        })?;
        self.unsynced = true;
        Ok(())
    }
}

/// Replaces the file as a whole, readable by root alone.
fn replace(path: &Path, pins: &PinFile) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(pins)?)?;
    fs::rename(&temporary, path)
}

/// Forces a written file and its name to the disk.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// SHA-256 values as 64 hexadecimal digits.
pub(crate) mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(crate) fn text(bytes: &[u8; 32]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn parse(text: &str) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let digit = |c: u8| {
                char::from(c)
                    .to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
            };
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(bytes)
    }

    pub(crate) fn serialize<S: Serializer>(
        bytes: &[u8; 32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom("not a SHA-256"))
    }

    pub(crate) mod option {
        use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

        // Serde hands over a reference to the field, whatever its type.
        pub(crate) fn serialize<S: Serializer>(
            bytes: &Option<[u8; 32]>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match bytes {
                Some(bytes) => serializer.serialize_some(&super::text(bytes)),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<[u8; 32]>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| super::parse(&text).ok_or_else(|| D::Error::custom("not a SHA-256")))
                .transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{PinError, Pins};

    #[test]
    fn pins_survive_and_are_forgotten_for_good() {
        let dir = tempfile::tempdir().expect("folder");
        let file = dir.path().join("pins.json");
        let mut pins = Pins::open(file.clone()).expect("none yet");
        pins.insert(Path::new("/a"), [1; 32], "box")
            .expect("pinned");
        pins.insert(Path::new("/b"), [2; 32], "box")
            .expect("pinned");
        pins.note_found(Path::new("/a"), [3; 32]);
        let mut pins = Pins::open(file.clone()).expect("read");
        let a = pins.get(Path::new("/a")).expect("kept");
        assert_eq!(
            (a.sha256, a.found, a.sandbox.as_str()),
            ([1; 32], None, "box")
        );
        let paths = ["/a", "/c"].map(PathBuf::from);
        assert_eq!(pins.forget(&paths).expect("written").len(), 1);
        let pins = Pins::open(file).expect("read");
        assert_eq!(pins.all().len(), 1);
        assert_eq!(pins.paths_of(&[2; 32]).count(), 1);
        assert_eq!(pins.paths_of(&[1; 32]).count(), 0);
    }

    #[test]
    fn a_file_that_is_not_understood_forgets_no_pin() {
        let dir = tempfile::tempdir().expect("folder");
        let file = dir.path().join("pins.json");
        for text in [
            "",
            "{}",
            r#"{"version":2,"pins":[]}"#,
            r#"{"version":1,"pins":[{}]}"#,
        ] {
            std::fs::write(&file, text).expect("written");
            assert!(
                matches!(Pins::open(file.clone()), Err(PinError::Read { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_pin_that_cannot_be_written_is_none() {
        let dir = tempfile::tempdir().expect("folder");
        let mut pins = Pins::open(dir.path().join("gone/pins.json")).expect("none yet");
        let result = pins.insert(Path::new("/a"), [1; 32], "box");
        assert!(matches!(result, Err(PinError::Write { .. })));
        assert!(pins.get(Path::new("/a")).is_none());
    }
}
