//! The command: found in the view, and executed.

use std::{
    ffi::{CString, NulError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use clawd_sys::exec::execve;

use crate::error::{Failed, InLayer, Layer};

/// Where a name is looked up if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// All that the exec takes.
#[derive(Debug)]
pub(super) struct Command {
    name: String,
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: PathBuf,
}

/// Prepares a command that starts in `cwd` with this whole environment.
pub(super) fn prepare(
    argv: &[String],
    variables: &[(String, String)],
    cwd: &Path,
) -> Result<Command, Failed> {
    let name = argv.first().cloned().unwrap_or_default();
    if name.is_empty() {
        return Err(Failed::new(Layer::Exec, "there is no command to run"));
    }
    let argv = argv.iter().map(|argument| CString::new(argument.as_str()));
    let env = variables
        .iter()
        .map(|(key, value)| CString::new(format!("{key}={value}")));
    let collect = |strings: &mut dyn Iterator<Item = Result<CString, NulError>>| {
        strings.collect::<Result<Vec<_>, _>>()
    };
    let what = "pass arguments or environment";
    Ok(Command {
        candidates: collect(&mut candidates(&name, variables).into_iter().map(CString::new))
            .in_layer(Layer::Exec, what)?,
        argv: collect(&mut argv.into_iter()).in_layer(Layer::Exec, what)?,
        env: collect(&mut env.into_iter()).in_layer(Layer::Exec, what)?,
        cwd: cwd.to_owned(),
        name,
    })
}

// === impl Command ===

impl Command {
    /// Changes into the working directory, with the user's own rights.
    pub(super) fn enter(&self) -> Result<(), Failed> {
        clawd_sys::rustix::process::chdir(&self.cwd).in_layer(
            Layer::WorkingDirectory,
            format_args!("enter `{}` inside the sandbox", self.cwd.display()),
        )
    }

    /// Executes it; returns only why it could not.
    pub(super) fn exec(&self) -> Failed {
        let mut worst = None;
        for candidate in &self.candidates {
            let error = execve(candidate, &self.argv, &self.env);
            let path = String::from_utf8_lossy(candidate.as_bytes()).into_owned();
            match explain(&path, &error) {
                None => {}
                Some(failed) if error.kind() == io::ErrorKind::PermissionDenied => {
                    worst = worst.or(Some(failed));
                }
                Some(failed) => return failed,
            }
        }
        worst.unwrap_or_else(|| Failed {
            layer: Layer::Exec,
            exit_code: NOT_FOUND,
            message: format!("`{}` is not found in the sandbox's view", self.name),
        })
    }
}

/// Why a file could not be executed; `None` if it is not there.
fn explain(path: &str, error: &io::Error) -> Option<Failed> {
    let found = std::fs::metadata(Path::new(path));
    let reason = match (error.raw_os_error(), found) {
        (Some(libc::ENOENT | libc::ENOTDIR), Err(_)) => return None,
        (Some(libc::ENOENT), Ok(_)) => {
            "its interpreter is not in the sandbox's view: list the directory it is in under `read_execute`".to_owned()
        }
        (Some(libc::EACCES), Ok(data)) if data.mode() & 0o111 != 0 && data.is_file() => {
            "permission denied: its directory is listed under neither `read_execute` nor `read_write_execute`, or its mode does not allow this user"
                .to_owned()
        }
        _ => error.to_string(),
    };
    Some(Failed {
        layer: Layer::Exec,
        exit_code: NOT_EXECUTABLE,
        message: format!("`{path}` cannot be executed: {reason}"),
    })
}

/// The files to try, in order. A relative entry of `PATH` would mean the working directory, where
/// anything may have been written: it is passed over.
fn candidates(name: &str, env: &[(String, String)]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = env.iter().rev().find(|(key, _)| key == "PATH");
    path.map_or(DEFAULT_PATH, |(_, value)| value.as_str())
        .split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| format!("{}/{name}", dir.trim_end_matches('/')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::candidates;

    #[test]
    fn candidates_follow_path_and_pass_over_relative_entries() {
        let env = [("PATH".to_owned(), "/a/::.:bin:/b".to_owned())];
        assert_eq!(candidates("x", &env), ["/a/x", "/b/x"]);
        assert_eq!(candidates("./x", &env), ["./x"]);
        assert_eq!(candidates("x", &[]).len(), 3);
    }
}
