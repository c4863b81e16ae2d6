//! Reading records back from the end of a log, whatever its bytes are.

use std::{
    collections::VecDeque,
    io::{self, Read, Seek, SeekFrom},
};

use crate::{log::LogFiles, record::AuditRecord};

/// Bytes of a line that are looked at; a record is far shorter, so a longer line is damaged.
pub const LINE_BYTES: usize = 128 * 1024;
/// Bytes read at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// A line that is no record.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Too long.
    #[error("an audit line is longer than {LINE_BYTES} bytes")]
    TooLong,
    /// Not JSON of this form.
    #[error("an audit line is not a record")]
    Json(#[source] serde_json::Error),
}

/// Reads one line, without its newline.
///
/// # Errors
/// [`LineError`] says why it is no record.
pub fn read_line(line: &[u8]) -> Result<AuditRecord, LineError> {
    if line.len() > LINE_BYTES {
        return Err(LineError::TooLong);
    }
    serde_json::from_slice(line).map_err(LineError::Json)
}

/// The last records of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// As they stand in the file, without newlines, oldest first.
    pub lines: Vec<String>,
    /// Lines that were passed over because they are no records.
    pub damaged: u64,
}

/// Reads the last `count` records that are `wanted` from the files of a log.
///
/// A last line without newline is still being written and is left out. Blocks for as long as the disk
/// takes; what is rare may lie far back, in the oldest file.
///
/// # Errors
/// A file cannot be opened or read.
pub fn tail(
    mut files: LogFiles,
    count: usize,
    wanted: impl Fn(&AuditRecord) -> bool,
) -> io::Result<Tail> {
    let mut tail = Tail::default();
    while tail.lines.len() < count {
        let Some((file, is_written)) = files.next_older()? else {
            break;
        };
        let torn = tail.read_back(file, count, &wanted)?;
        tail.damaged = tail.damaged.saturating_add(u64::from(torn && !is_written));
    }
    tail.lines.reverse();
    Ok(tail)
}

// === impl Tail ===

impl Tail {
    /// Adds what is wanted from the end of a file on, the newest first, until there are `count`; tells
    /// whether the file ends within a line.
    fn read_back<F: Read + Seek>(
        &mut self,
        file: F,
        count: usize,
        wanted: &impl Fn(&AuditRecord) -> bool,
    ) -> io::Result<bool> {
        let mut lines = LinesBack::new(file)?;
        while self.lines.len() < count {
            let Some(line) = lines.next_line()? else {
                break;
            };
            match (read_line(&line), String::from_utf8(line)) {
                (Ok(record), Ok(text)) => self.lines.extend(wanted(&record).then_some(text)),
                _ => self.damaged = self.damaged.saturating_add(1),
            }
        }
        Ok(lines.is_torn())
    }
}

/// The complete lines of a file, last first.
pub(crate) struct LinesBack<F> {
    file: F,
    /// Where in the file `block` begins.
    block_at: u64,
    /// Bytes read and not given out yet; what follows them is given out.
    block: VecDeque<u8>,
    /// Whether the file ends within a line.
    torn: bool,
}

// === impl LinesBack ===

impl<F: Read + Seek> LinesBack<F> {
    /// Goes to the end of `file` as it is now; bytes of a last line without newline are left out.
    pub(crate) fn new(mut file: F) -> io::Result<Self> {
        let block_at = file.seek(SeekFrom::End(0))?;
        let block = VecDeque::new();
        let mut lines = Self {
            file,
            block_at,
            block,
            torn: false,
        };
        lines.torn = !lines.take_line()?.is_empty();
        Ok(lines)
    }

    /// Whether the file ended within a line.
    pub(crate) const fn is_torn(&self) -> bool {
        self.torn
    }

    /// The line before the one given out last, without its newline; of a line longer than
    /// [`LINE_BYTES`] its last `LINE_BYTES + 1` bytes, which are no record.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.block.is_empty() && self.block_at == 0 {
            return Ok(None);
        }
        // The newline that ends the line; the one before it stays for the next call.
        self.block.pop_back();
        self.take_line().map(Some)
    }

    /// Takes the bytes after the last newline out of the block.
    fn take_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line: Vec<u8> = Vec::new();
        loop {
            if self.block.is_empty() && !self.fill()? {
                break;
            }
            match self.block.pop_back() {
                Some(b'\n') => {
                    self.block.push_back(b'\n');
                    break;
                }
                Some(byte) if line.len() <= LINE_BYTES => line.push(byte),
                _ => {}
            }
        }
        line.reverse();
        Ok(line)
    }

    /// Reads the block before this one; `false` at the beginning of the file.
    fn fill(&mut self) -> io::Result<bool> {
        let want = self.block_at.min(BLOCK_BYTES as u64);
        if want == 0 {
            return Ok(false);
        }
        self.block_at -= want;
        self.file.seek(SeekFrom::Start(self.block_at))?;
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        // Fewer where the writer has cut off a record that did not fit: it ended the file.
        (&mut self.file).take(want).read_to_end(&mut bytes)?;
        self.block = bytes.into();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::{BLOCK_BYTES, LINE_BYTES, LinesBack, Tail, read_line};
    use crate::record::{AuditRecord, tests::any_record};

    /// All lines, last first, and whether the end is torn.
    fn lines_back(bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let mut reader = LinesBack::new(Cursor::new(bytes)).expect("memory reads");
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().expect("memory reads") {
            lines.push(line);
        }
        (lines, reader.is_torn())
    }

    /// The same, read from the front.
    fn lines_split(bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
        let mut lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        let rest = lines.pop().expect("split gives one part at least");
        lines.reverse();
        (lines, !rest.is_empty())
    }

    proptest! {
        #[test]
        fn lines_back_are_the_lines_reversed(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200)
        ) {
            prop_assert_eq!(lines_back(&bytes), lines_split(&bytes));
        }

        #[test]
        fn lines_back_cross_blocks(
            lengths in proptest::collection::vec(0..BLOCK_BYTES * 3 / 2, 0..8), torn in any::<bool>()
        ) {
            let mut bytes = Vec::new();
            for length in lengths {
                bytes.extend(std::iter::repeat_n(b'x', length));
                bytes.push(b'\n');
            }
            bytes.extend(torn.then_some(b'y'));
            prop_assert_eq!(lines_back(&bytes), lines_split(&bytes));
        }

        #[test]
        fn line_of_any_bytes_does_not_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            read_line(&line).expect_err("random bytes are no record");
        }

        #[test]
        fn line_written_is_the_record_read(record in any_record()) {
            let line = serde_json::to_vec(&record).expect("serialises");
            prop_assert!(line.len() <= LINE_BYTES);
            prop_assert!(line.iter().all(|b| *b >= 0x20), "control characters are escaped");
            prop_assert_eq!(read_line(&line).expect("reads back"), record);
        }

        #[test]
        fn tail_gives_the_last_records_of_the_sandbox(
            records in proptest::collection::vec(any_record(), 0..20), count in 0..25_usize
        ) {
            let mut bytes = b"torn by a crash\n".to_vec();
            for record in &records {
                bytes.extend(serde_json::to_vec(record).expect("serialises"));
                bytes.push(b'\n');
            }
            for sandbox in [None, Some("a")] {
                let wanted = |record: &AuditRecord| {
                    sandbox.is_none() || record.sandbox.as_deref() == sandbox
                };
                let mut tail = Tail::default();
                tail.read_back(Cursor::new(&bytes), count, &wanted).expect("memory reads");
                tail.lines.reverse();
                let want: Vec<_> = records
                    .iter()
                    .filter(|record| sandbox.is_none() || record.sandbox.as_deref() == sandbox)
                    .collect();
                let want = want.get(want.len().saturating_sub(count)..).expect("in range");
                let got: Vec<_> = tail
                    .lines
                    .iter()
                    .map(|line| read_line(line.as_bytes()).expect("a record"))
                    .collect();
                prop_assert_eq!(got.iter().collect::<Vec<_>>(), want);
                prop_assert_eq!(tail.damaged, u64::from(want.len() < count));
            }
        }
    }

    #[test]
    fn line_too_long_is_damaged_and_bounded() {
        let mut bytes = vec![b'x'; LINE_BYTES * 3];
        bytes.push(b'\n');
        let (lines, torn) = lines_back(&bytes);
        assert_eq!(
            lines.iter().map(Vec::len).collect::<Vec<_>>(),
            [LINE_BYTES + 1]
        );
        assert!(!torn);
        assert!(read_line(&lines[0]).is_err());
    }
}
