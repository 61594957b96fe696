//! A raw dialogue, line by line: over `openssl s_client`, our own TLS, or plain TCP.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, mpsc},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::wait::PATIENCE;

/// Both directions of a connection.
trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// A connection that a story speaks on, bytes in and lines out.
pub struct Dialogue {
    wire: Box<dyn Wire>,
    unread: Vec<u8>,
    /// Everything received, for panics and for looking at.
    transcript: Vec<u8>,
}

impl std::fmt::Debug for Dialogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialogue").field("transcript", &String::from_utf8_lossy(&self.transcript)).finish()
    }
}

impl Dialogue {
    /// Plain TCP to loopback.
    pub fn plain(port: u16) -> Self {
        Self::over(tcp(port))
    }

    /// TLS to loopback, the certificate checked for `host` against `ca`.
    pub fn tls(port: u16, host: &str, ca: &Path) -> Self {
        Self::over(tls_over(tcp(port), host, ca))
    }

    /// TLS on a connection that spoke something else first.
    pub fn tls_after(stream: TcpStream, host: &str, ca: &Path) -> Self {
        Self::over(tls_over(stream, host, ca))
    }

    /// Through `openssl s_client` with these options.
    pub fn openssl(options: &[&str]) -> Self {
        Self::over(SClient::start(options))
    }

    fn over(wire: impl Wire + 'static) -> Self {
        Self { wire: Box::new(wire), unread: Vec::new(), transcript: Vec::new() }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A peer that has closed shows in what is read next.
        let _ = self.wire.write_all(bytes.as_ref()).and_then(|()| self.wire.flush());
    }

    /// Next line without its end; `None` when the peer has closed.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            let mut buffer = [0; 4096];
            let n = match self.wire.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => n,
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    panic!("nothing came for {PATIENCE:?} after: {self:?}")
                }
                Err(_) => return None,
            };
            let got = buffer.get(..n).expect("read within the buffer");
            self.unread.extend_from_slice(got);
            self.transcript.extend_from_slice(got);
        }
    }

    /// Next line that starts with `prefix`; the lines before it are skipped. Panics when the peer closes first.
    pub fn expect(&mut self, prefix: &str) -> String {
        loop {
            match self.line() {
                Some(line) if line.starts_with(prefix) => return line,
                Some(_) => {}
                None => panic!("closed before {prefix:?}: {self:?}"),
            }
        }
    }

    /// Sends `TAG COMMAND` and returns all lines up to the tagged answer.
    pub fn ask(&mut self, tag: &str, command: &str) -> Vec<String> {
        self.send(format!("{tag} {command}\r\n"));
        let mut lines = Vec::new();
        loop {
            let line = self.line().unwrap_or_else(|| panic!("closed after {command:?}: {self:?}"));
            let tagged = line.starts_with(&format!("{tag} "));
            lines.push(line);
            if tagged {
                return lines;
            }
        }
    }

    /// Sends `TAG COMMAND` and returns the tagged answer.
    pub fn answer(&mut self, tag: &str, command: &str) -> String {
        self.ask(tag, command).pop().expect("the tagged line")
    }

    /// Reads to the end; everything that still came.
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.line()).collect()
    }

    /// All that was received so far.
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.transcript).into_owned()
    }
}

/// A connection to loopback whose reads end after [`PATIENCE`].
pub(crate) fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap_or_else(|e| panic!("port {port}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

fn tls_over(stream: TcpStream, host: &str, ca: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("CA file") {
        roots.add(certificate.expect("PEM")).expect("root");
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).expect("host name");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("client"), stream)
}

/// One question to `openssl s_client`: sends `input`, returns all it printed (its own lines too).
pub fn openssl(options: &[&str], input: &[u8]) -> String {
    let output = crate::world::run_with_input(Command::new("openssl").arg("s_client").args(options), input);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `openssl s_client -quiet`, its output read by a thread so that a read has a bound.
struct SClient {
    child: Child,
    stdin: ChildStdin,
    chunks: mpsc::Receiver<Vec<u8>>,
    left: Vec<u8>,
}

impl SClient {
    fn start(options: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_quiet", "-verify_return_error"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let stdin = child.stdin.take().expect("piped");
        let mut stdout = child.stdout.take().expect("piped");
        let (sender, chunks) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = stdout.read(&mut buffer) {
                let chunk = buffer.get(..n).unwrap_or_default().to_vec();
                if chunk.is_empty() || sender.send(chunk).is_err() {
                    break;
                }
            }
        });
        Self { child, stdin, chunks, left: Vec::new() }
    }
}

impl Read for SClient {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_empty() {
            match self.chunks.recv_timeout(PATIENCE) {
                Ok(chunk) => self.left = chunk,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(0),
                Err(mpsc::RecvTimeoutError::Timeout) => return Err(std::io::ErrorKind::TimedOut.into()),
            }
        }
        let n = self.left.as_slice().read(buffer)?;
        self.left.drain(..n);
        Ok(n)
    }
}

impl Write for SClient {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stdin.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stdin.flush()
    }
}

impl Drop for SClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
