//! A folder with a certificate authority: what the peers of a story share.

use std::{
    hash::{BuildHasher as _, RandomState},
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

use crate::{pki::Pki, wait::PATIENCE};

/// The world of one test binary.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
    pki: Pki,
}

impl World {
    /// Makes `target/stories/NAME`, emptied, with a new certificate authority in it.
    pub fn new(name: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = target_dir().join("stories").join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("world folder");
        let pki = Pki::new(&dir.join("pki"));
        Self { dir, pki }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The certificate authority.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Makes a folder in the world.
    pub fn folder(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        dir
    }
}

/// The folder cargo builds into, from where this test binary stands (`target/debug/deps/NAME`).
pub(crate) fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("own path");
    exe.ancestors().nth(3).expect("target folder above the test binary").to_owned()
}

/// A short folder outside the world, for sockets (whose paths are bounded) and mail (whose readers are not root).
pub(crate) fn scratch() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new()
        .prefix("guichet-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("scratch folder");
    dir.keep()
}

/// Writes a file that only its owner may read: the gateway takes no secret from another kind.
pub(crate) fn write_secret(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let open = std::fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes())).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A port of loopback that nothing listens on, never the same twice. Below the range from which the system takes ports for
/// outgoing connections: one of those may take a port before its daemon does, and a probe of a port that is not open yet
/// may even connect to itself.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let chance = RandomState::new().hash_one(std::process::id());
        AtomicU16::new((chance % u64::from(PORTS.end - PORTS.start)) as u16)
    });
    std::iter::repeat_with(|| PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start))
        .take(usize::from(PORTS.end - PORTS.start))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Whether somebody accepts connections there.
pub(crate) fn listens(port: u16) -> Option<()> {
    std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
}

/// Runs a program to its end, which must be good; returns what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A client that is ended when it takes longer than anything may ([`wait::PATIENCE`](crate::wait::PATIENCE)).
pub fn client(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string()).arg(program);
    command
}

/// Runs a program with something to read, to whatever end.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // In a thread of its own: a program that prints before it has read everything must not wait for us.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("output");
    let _ = writer.join();
    output
}

/// Runs a script of `tests/python` in the environment that `tests/run` made; a bad end is a panic.
pub fn python(script: &str, args: &[&str]) -> String {
    run(client(&python_program().display().to_string()).arg(script_path(script)).args(args))
}

/// Such a script, not run yet, that bounds its own time.
pub fn python_command(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new(python_program());
    command.arg(script_path(script)).args(args);
    command
}

/// The interpreter that has the packages of `tests/requirements.txt`.
pub(crate) fn python_program() -> PathBuf {
    let program = target_dir().join("stories-python/bin/python");
    assert!(program.exists(), "no {}: run tests/run once, it makes the environment", program.display());
    program
}

/// A script of `tests/python`.
pub(crate) fn script_path(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
