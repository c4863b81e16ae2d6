//! A forge in the test internet: git over SSH and HTTP, package indexes, uploads; all Debian's.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    internet::{Address, Internet},
    namespace::Namespace,
    prober::PYTHON,
    scratch::Scratch,
};

/// How long a server may take until it listens; emulated machines are slow.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// The account that its programs run as; no account of the host has the number.
const ACCOUNT: u32 = 65533;
const SERVER: &str = include_str!("forge/server.py");
const SSHD: &str = include_str!("forge/sshd.sh");

/// Servers at [`Address::A`]: sshd at port 22, HTTP at 3000, HTTPS at 3443.
#[derive(Debug)]
pub struct Forge {
    servers: Vec<Child>,
    scratch: Scratch,
}

impl Forge {
    /// Port of plain HTTP.
    pub const HTTP: u16 = 3000;
    /// Port of HTTPS.
    pub const HTTPS: u16 = 3443;
    /// Port of sshd.
    pub const SSH: u16 = 22;

    /// Starts the servers; they listen when this returns.
    ///
    /// # Errors
    /// A program of Debian is not installed, or does not start: then with what it said.
    pub fn start(internet: &Internet) -> anyhow::Result<Self> {
        for program in ["/usr/sbin/sshd", "/usr/bin/ssh-keygen", "/usr/bin/openssl"] {
            if !Path::new(program).exists() {
                bail!("there is no {program}; run `cargo xtask setup`");
            }
        }
        let mut forge = Self {
            servers: Vec::new(),
            scratch: Scratch::new()?,
        };
        forge.provide()?;
        let dir = forge.scratch.dir().to_path_buf();
        let mut sshd = Namespace::command("unshare");
        sshd.args(["--mount", "sh", "-c", SSHD, "sh"]).arg(&dir);
        forge.serve(internet, sshd, Self::SSH)?;
        forge.serve(internet, forge.web(Self::HTTP), Self::HTTP)?;
        let mut https = forge.web(Self::HTTPS);
        https.args([forge.certificate(), dir.join("key.pem")]);
        forge.serve(internet, https, Self::HTTPS)?;
        Ok(forge)
    }

    /// Makes folders, keys and accounts.
    fn provide(&self) -> anyhow::Result<()> {
        for name in ["files", "uploads", "repositories"] {
            own(&self.scratch.folder(name, 0o755)?)?;
        }
        own(&self.scratch.write("requests.log", "")?)?;
        let dir = self.scratch.dir().display();
        let accounts = format!(
            "root:x:0:0::/root:/bin/sh\nsshd:x:65532:65534::/run/sshd:/bin/false\n\
             git:x:{ACCOUNT}:{ACCOUNT}::{dir}:/bin/sh\n"
        );
        self.scratch.write("passwd", accounts)?;
        let groups = format!("root:x:0:\nnogroup:x:65534:\ngit:x:{ACCOUNT}:\n");
        self.scratch.write("group", groups)?;
        self.scratch.write("shadow", "git:*:::::::\n")?;
        for name in ["host_key", "client_key"] {
            let mut generate = Command::new("/usr/bin/ssh-keygen");
            generate.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
            succeed(generate.arg(self.scratch.path(name)))?;
        }
        let configuration = format!(
            "ListenAddress 0.0.0.0:{}\nHostKey {dir}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {dir}/client_key.pub\nPasswordAuthentication no\nUseDNS no\n",
            Self::SSH
        );
        self.scratch.write("sshd_config", configuration)?;
        self.certify()
    }

    /// Makes a certificate that is its own authority.
    fn certify(&self) -> anyhow::Result<()> {
        let configuration = format!(
            "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n\
             [name]\nCN = forge\n[extensions]\nsubjectAltName = IP:{}\n\
             basicConstraints = critical, CA:TRUE\nkeyUsage = critical, digitalSignature, keyCertSign\n\
             subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n",
            Address::A
        );
        let configuration = self.scratch.write("openssl.cnf", configuration)?;
        let key = self.scratch.path("key.pem");
        let mut make = Command::new("/usr/bin/openssl");
        make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"])
            .arg("-config")
            .arg(configuration)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(self.certificate());
        succeed(&mut make)?;
        own(&key)
    }

    /// The command of a web server.
    fn web(&self, port: u16) -> Command {
        let account = ACCOUNT.to_string();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &account, "--regid", &account, "--clear-groups"])
            .args(["--pdeathsig", "KILL", "--", PYTHON, "-I", "-c", SERVER])
            .arg(self.scratch.dir())
            .args([Address::A, &port.to_string()]);
        command
    }

    /// Starts a server and waits until it listens.
    fn serve(
        &mut self,
        internet: &Internet,
        mut command: Command,
        port: u16,
    ) -> anyhow::Result<()> {
        let log = self.scratch.path(&format!("server-{port}.log"));
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let child = internet
            .outside()
            .start(command)
            .context("cannot start a server")?;
        self.servers.push(child);
        let at = SocketAddr::new(Address::A.parse()?, port);
        let deadline = Instant::now() + START_DEADLINE;
        let listens = move || TcpStream::connect_timeout(&at, Duration::from_secs(5)).is_ok();
        while !internet.outside().run(listens) {
            let ended = match self.servers.last_mut() {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if ended || Instant::now() > deadline {
                bail!(
                    "the server of port {port} does not start: {}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Writes a file that the web servers serve, with the folders above it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn publish(&self, path: &str, content: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let file = self.scratch.path("files").join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&file, content)?;
        Ok(file)
    }

    /// What was uploaded under this name.
    ///
    /// # Errors
    /// Nothing was.
    pub fn upload(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        Ok(fs::read(self.scratch.path("uploads").join(name))?)
    }

    /// Makes an empty repository: `/git/<name>` of the web servers, and [`Forge::repository`] by SSH.
    ///
    /// # Errors
    /// git fails.
    pub fn make_repository(&self, name: &str) -> anyhow::Result<()> {
        let account = ACCOUNT.to_string();
        let mut git = Command::new("setpriv");
        git.args(["--reuid", &account, "--regid", &account, "--clear-groups"])
            .args(["--", "/usr/bin/git", "init", "--quiet", "--bare"])
            .arg("--initial-branch=main")
            .arg(self.repository(name))
            .env("HOME", self.scratch.dir());
        succeed(&mut git)
    }

    /// The folder of a repository, on the server.
    #[must_use]
    pub fn repository(&self, name: &str) -> PathBuf {
        self.scratch.path("repositories").join(name)
    }

    /// The certificate that vouches for HTTPS.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.scratch.path("certificate.pem")
    }

    /// The private key that sshd lets in, as user `git`.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.scratch.path("client_key")
    }

    /// The line of a `known_hosts` file that names sshd's key.
    ///
    /// # Errors
    /// There is no key.
    pub fn known_hosts(&self) -> anyhow::Result<String> {
        let key = fs::read_to_string(self.scratch.path("host_key.pub"))?;
        Ok(format!("{} {key}", Address::A))
    }

    /// The requests that the web servers answered: port, method, path.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let text = fs::read_to_string(self.scratch.path("requests.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What the servers said.
    #[must_use]
    pub fn log(&self) -> String {
        let log = |port| self.scratch.path(&format!("server-{port}.log"));
        let ports = [Self::SSH, Self::HTTP, Self::HTTPS];
        ports
            .map(|port| fs::read_to_string(log(port)).unwrap_or_default())
            .concat()
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the forge said:\n{}", self.log());
        }
        for child in &mut self.servers {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("a server of the forge cannot be ended: {error}");
            }
        }
    }
}

/// Gives a file to the account of the servers.
fn own(path: &Path) -> anyhow::Result<()> {
    chown(path, Some(ACCOUNT), Some(ACCOUNT))
        .with_context(|| format!("cannot give {} away", path.display()))
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!(
            "{:?}: {}",
            command.get_program(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
