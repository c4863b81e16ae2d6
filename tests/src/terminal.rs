//! A terminal with a program at it, as an operator would sit at it.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

/// How long something may take that usually takes milliseconds; emulated machines are slow.
const DEADLINE: Duration = Duration::from_secs(120);

/// A program whose three streams are a terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The program.
    pub child: Child,
    master: Option<OwnedFd>,
    /// Holds the terminal too, until the pipe is closed.
    reader: Option<(JoinHandle<()>, PipeWriter)>,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    /// Starts a program at a terminal of 50 lines of 132 characters.
    ///
    /// # Errors
    /// There is no terminal, or the program cannot be started.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        set_size(&master, 50, 132)?;
        let child = command
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave)
            .spawn()?;
        // It holds copies of the terminal's side, which must end with the program.
        drop(command);
        let seen = Arc::new(Mutex::new(String::new()));
        let (output, shown) = (File::from(master.try_clone()?), Arc::clone(&seen));
        let (ended, going_on) = std::io::pipe()?;
        let reader = thread::spawn(move || show(&output, &ended, &shown));
        Ok(Self {
            child,
            master: Some(master),
            reader: Some((reader, going_on)),
            seen,
        })
    }

    /// Types these characters.
    ///
    /// # Panics
    /// If the terminal was hung up.
    pub fn type_in(&self, text: &str) {
        let master = self.master.as_ref().expect("not hung up");
        let mut master = File::from(master.try_clone().expect("a copy"));
        master.write_all(text.as_bytes()).expect("typed");
    }

    /// All that was shown so far.
    #[must_use]
    pub fn seen(&self) -> String {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until this was shown after what `seen` returned in `before`, and returns what came.
    ///
    /// # Panics
    /// If it never is.
    #[track_caller]
    pub fn wait_for(&self, before: &str, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = self.seen();
            let new = seen.get(before.len()..).unwrap_or_default();
            if new.contains(text) {
                return new.to_owned();
            }
            assert!(Instant::now() < deadline, "{text:?} is not in {seen:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Types a line and waits until its answer was shown; returns what came.
    ///
    /// # Panics
    /// If it never is.
    #[track_caller]
    pub fn ask(&self, line: &str, answer: &str) -> String {
        let before = self.seen();
        self.type_in(line);
        self.wait_for(&before, answer)
    }

    /// Makes it another size.
    ///
    /// # Panics
    /// If it was hung up.
    pub fn resize(&self, rows: u16, columns: u16) {
        let master = self.master.as_ref().expect("not hung up");
        set_size(master, rows, columns).expect("resized");
    }

    /// Whether characters are passed on as they are typed, without being shown.
    ///
    /// # Panics
    /// If it was hung up.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        let master = self.master.as_ref().expect("not hung up");
        let modes = tcgetattr(master).expect("modes").local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Takes the terminal away, as a connection that is lost does.
    ///
    /// # Panics
    /// If the reader has panicked.
    pub fn hang_up(&mut self) {
        if let Some((reader, going_on)) = self.reader.take() {
            drop(going_on);
            reader.join().expect("the reader has ended");
        }
        self.master = None;
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waited for") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {}",
                self.seen()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
        // Ends the reader.
        self.reader = None;
    }
}

/// Keeps what is shown, until the end of either.
fn show(mut output: &File, ended: &PipeReader, shown: &Mutex<String>) {
    let mut bytes = [0; 4096];
    loop {
        let mut polled = [
            PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN),
        ];
        if poll(&mut polled, None).is_err() || !polled[0].revents().is_empty() {
            return;
        }
        let Ok(count @ 1..) = output.read(&mut bytes) else {
            return;
        };
        let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default());
        shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_str(&text);
    }
}

fn set_size(master: &OwnedFd, rows: u16, columns: u16) -> rustix::io::Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master.as_fd(), size)
}
