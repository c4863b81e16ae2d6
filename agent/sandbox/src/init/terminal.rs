//! A terminal of the sandbox's own for its command.
//!
//! It is made in the sandbox's devpts by the command's own process, so that the terminal of whoever
//! asked never comes in: what a program types or sets here, it types and sets here alone.

use std::os::fd::AsFd as _;

use clawd_sys::{
    passing::send_with_fds,
    rustix::{
        process::ioctl_tiocsctty,
        pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
        stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdin},
        termios::{Winsize, tcsetwinsize},
    },
};

use crate::{
    error::{Failed, InLayer, Layer},
    spec::TerminalSize,
};

/// The byte that carries the other side of the terminal.
const CARRIER: &[u8] = b"T";

/// Makes a terminal, sends its other side to the socket that is standard input, and becomes the
/// session that it controls, with it as all three streams.
pub(super) fn take(size: TerminalSize) -> Result<(), Failed> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).in_layer(Layer::Terminal, "open `/dev/ptmx`")?;
    unlockpt(&master).in_layer(Layer::Terminal, "unlock a terminal")?;
    let terminal =
        ioctl_tiocgptpeer(&master, flags).in_layer(Layer::Terminal, "open a terminal")?;
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&terminal, size).in_layer(Layer::Terminal, "set its size")?;
    send_with_fds(stdin(), CARRIER, &[master.as_fd()])
        .in_layer(Layer::Terminal, "hand its other side over")?;
    drop(master);
    ioctl_tiocsctty(&terminal).in_layer(Layer::Terminal, "make it the session's")?;
    dup2_stdin(&terminal).in_layer(Layer::Terminal, "make it standard input")?;
    dup2_stdout(&terminal).in_layer(Layer::Terminal, "make it standard output")?;
    dup2_stderr(&terminal).in_layer(Layer::Terminal, "make it standard error")
}
