//! Debian's nginx, with a configuration and files of its own.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::Contact;
use crate::{namespace::Namespace, scratch::Scratch};

/// How long it may take until it listens; emulated machines are slow.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// Bytes of `/large`: zeros that take no room.
const LARGE_BYTES: u64 = 64 << 20;
/// What `/small` says.
const SMALL: &str = "small file\n";

/// One process: a killed master would leave its workers.
const CONFIGURATION: &str = "\
daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 512; }
http {
    log_format contact '$server_addr $server_port $remote_addr $remote_port';
    access_log requests.log contact;
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    keepalive_requests 1000000;
    server {
        listen 80; listen 443; listen 8080;
        listen [::]:80; listen [::]:443; listen [::]:8080;
        root files;
    }
}
";

/// A running nginx.
#[derive(Debug)]
pub(super) struct Nginx {
    child: Child,
    requests: PathBuf,
}

impl Nginx {
    pub(super) fn start(place: &Namespace, scratch: &Scratch) -> anyhow::Result<Self> {
        let files = scratch.folder("files", 0o755)?;
        fs::write(files.join("small"), SMALL)?;
        fs::File::create(files.join("large"))?.set_len(LARGE_BYTES)?;
        let configuration = scratch.write("nginx.conf", CONFIGURATION)?;
        let errors = scratch.path("nginx.log");
        let mut command = Namespace::command("/usr/sbin/nginx");
        command
            .arg("-p")
            .arg(scratch.dir())
            .arg("-c")
            .arg(&configuration)
            .args(["-e", "nginx.log"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = place.start(command).context("cannot start nginx")?;
        let mut started = Self {
            child,
            requests: scratch.path("requests.log"),
        };
        let deadline = Instant::now() + START_DEADLINE;
        // Written once it listens.
        while fs::read_to_string(scratch.path("nginx.pid")).map_or(true, |text| text.is_empty()) {
            if started.child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!(
                    "nginx does not start: {}",
                    fs::read_to_string(errors).unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(started)
    }

    /// The requests so far; each is written when it is answered.
    pub(super) fn requests(&self) -> Vec<Contact> {
        let text = fs::read_to_string(&self.requests).unwrap_or_default();
        text.lines().filter_map(contact).collect()
    }
}

fn contact(line: &str) -> Option<Contact> {
    let words: Vec<&str> = line.split(' ').collect();
    let [server, server_port, peer, peer_port] = words.as_slice() else {
        return None;
    };
    Some(Contact {
        kind: "http",
        local: SocketAddr::new(server.parse().ok()?, server_port.parse().ok()?),
        peer: SocketAddr::new(peer.parse().ok()?, peer_port.parse().ok()?),
    })
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("nginx cannot be ended: {error}");
        }
    }
}
