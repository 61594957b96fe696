//! A cell that speaks as well as it must to be taken for one, and then does what its fault says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{
    pki::{Files, Pki},
    world::World,
};

/// When a fault shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the first byte, that of TLS too.
    Connect,
    /// In place of the first words.
    Greeting,
    /// In place of the answer to our login.
    Login,
    /// Behind that answer: the user is in.
    Session,
}

/// What is wrong with a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Bytes that are nobody's protocol.
    Garbage(Moment),
    /// Nothing at all, for as long as one waits.
    Silence(Moment),
    /// The end of the connection.
    Close(Moment),
    /// It does not know the user, or the password.
    Refusal,
    /// Its certificate is for another name.
    WrongName,
    /// Its certificate is from nobody we trust.
    UnknownAuthority,
}

/// The words of a protocol, as little as a login needs.
#[derive(Clone, Copy, Debug)]
struct Words {
    greeting: &'static str,
    /// Answers by the first word that the command has (IMAP: behind the tag, which `TAG` stands for).
    answers: &'static [(&'static str, &'static str)],
    /// A tag stands before each command.
    tagged: bool,
    /// How a login starts, is taken and is refused.
    login: &'static str,
    welcome: &'static str,
    refusal: &'static str,
    /// Said when it closes in the middle of a session; nothing where a server speaks only when asked.
    farewell: &'static str,
    /// The answer after which TLS starts; `None`: TLS comes first.
    starttls: Option<&'static str>,
    /// The greeting comes again behind TLS.
    greets_again: bool,
}

/// A running one, for one mail protocol.
#[derive(Debug)]
pub struct Scripted {
    name: String,
    protocol: &'static str,
    port: u16,
    ca: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    words: Words,
    fault: Fault,
    misbehaves: AtomicBool,
    open: AtomicUsize,
    taken: AtomicUsize,
    good: Arc<ServerConfig>,
    bad: Arc<ServerConfig>,
}

impl Scripted {
    /// Starts the `protocol` (`imap`, `pop3`, `sieve`, `submission`) of cell `name`. It behaves until
    /// [`Scripted::misbehave`], so that it is taken into rotation.
    pub fn start(world: &World, name: &str, protocol: &'static str, fault: Fault) -> Self {
        let file = format!("{name}-{protocol}");
        let host = format!("{name}.cell.test");
        let pki = world.pki();
        let good = pki.server(&file, &[&host]);
        let bad = match fault {
            Fault::WrongName => pki.server(&format!("{file}-other"), &["elsewhere.cell.test"]),
            Fault::UnknownAuthority => {
                let folder = world.folder(&format!("{file}-stranger"));
                Pki::new(&folder).server(&file, &[&host])
            }
            _ => good.clone(),
        };
        let shared = Arc::new(Shared {
            words: words(protocol),
            fault,
            misbehaves: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            good: server_config(&good),
            bad: server_config(&bad),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback port");
        let port = listener.local_addr().expect("bound").port();
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                shared.open.fetch_add(1, Ordering::SeqCst);
                shared.taken.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let _ = shared.serve(stream);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { name: name.to_owned(), protocol, port, ca: pki.ca(), shared }
    }

    /// `[cell.NAME.PROTOCOL]`, entered with the user's password; checked once, when the gateway starts, and never put out
    /// of rotation.
    pub fn config(&self) -> String {
        self.config_with(&[])
    }

    /// As [`Scripted::config`], with more ports behind its own.
    pub fn config_with(&self, others: &[u16]) -> String {
        let (name, protocol) = (&self.name, self.protocol);
        let ports = std::iter::once(&self.port).chain(others);
        let endpoints: Vec<_> = ports.map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        let tls = if self.shared.words.starttls.is_some() { "starttls" } else { "implicit" };
        format!(
            "[cell.{name}.{protocol}]\nendpoints = [{}]\nclient_address = \"none\"\n\
             health = {{ interval = \"1h\", timeout = \"5s\", failures = 100, successes = 1 }}\n\
             tls.{tls} = {{ ca = \"{}\", name = \"{name}.cell.test\" }}\n[cell.{name}.{protocol}.login.password]\n",
            endpoints.join(", "),
            self.ca.display(),
        )
    }

    /// Name of the cell.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From here on its fault shows.
    pub fn misbehave(&self) {
        self.shared.misbehaves.store(true, Ordering::SeqCst);
    }

    /// Connections that nobody has closed.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Connections taken so far.
    pub fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::SeqCst)
    }
}

/// Both directions of a connection.
trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let bad = self.misbehaves.load(Ordering::SeqCst);
        let (words, fault) = (self.words, bad.then_some(self.fault));
        if self.shows(fault, Moment::Connect, &mut stream)? {
            return Ok(());
        }
        let config = Arc::clone(if bad { &self.bad } else { &self.good });
        let tls = ServerConnection::new(config).expect("a server's configuration");
        if words.starttls.is_none() {
            return self.speak(fault, StreamOwned::new(tls, stream), true).map(drop);
        }
        match self.speak(fault, stream, true)? {
            Some(stream) => self.speak(fault, StreamOwned::new(tls, stream), words.greets_again).map(drop),
            None => Ok(()),
        }
    }

    /// Answers until the end; returns the stream when TLS has to start.
    fn speak<W: Wire>(&self, fault: Option<Fault>, wire: W, greets: bool) -> std::io::Result<Option<W>> {
        let words = self.words;
        let mut wire = BufReader::new(wire);
        if greets {
            if self.shows(fault, Moment::Greeting, wire.get_mut())? {
                return Ok(None);
            }
            say(wire.get_mut(), words.greeting)?;
        }
        loop {
            let mut line = String::new();
            if wire.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let (tag, command) = match words.tagged {
                true => line.trim_end().split_once(' ').unwrap_or_default(),
                false => ("", line.trim_end()),
            };
            let reply = |text: &str| text.replace("TAG", tag);
            if command == "STARTTLS" {
                say(wire.get_mut(), words.starttls.expect("asked only where it is offered"))?;
                return Ok(Some(wire.into_inner()));
            }
            if command.starts_with(words.login) {
                if self.shows(fault, Moment::Login, wire.get_mut())? {
                    return Ok(None);
                }
                if fault == Some(Fault::Refusal) {
                    say(wire.get_mut(), &reply(words.refusal))?;
                    continue;
                }
                say(wire.get_mut(), &reply(words.welcome))?;
                if self.shows(fault, Moment::Session, wire.get_mut())? {
                    return Ok(None);
                }
                continue;
            }
            let answer = words.answers.iter().find(|(word, _)| command.starts_with(word));
            say(wire.get_mut(), &reply(answer.map_or("?\r\n", |(_, answer)| answer)))?;
        }
    }

    /// Whether the fault shows at this moment; it has been shown then.
    fn shows(&self, fault: Option<Fault>, moment: Moment, wire: &mut impl Wire) -> std::io::Result<bool> {
        match fault {
            Some(Fault::Garbage(when)) if when == moment => {
                wire.write_all(&[b"\0\x16\xff\xfe%n{99999999999}\n".as_slice(); 1024].concat())?;
                wire.write_all(&[0xa5; 64 * 1024])?;
                wire.flush()?;
            }
            Some(Fault::Silence(when)) if when == moment => {}
            Some(Fault::Close(when)) if when == moment => {
                if moment == Moment::Session {
                    say(wire, self.words.farewell)?;
                }
                return Ok(true);
            }
            _ => return Ok(false),
        }
        // The end is for the other side to find.
        std::io::copy(wire, &mut std::io::sink())?;
        Ok(true)
    }
}

fn say(wire: &mut impl Write, text: &str) -> std::io::Result<()> {
    wire.write_all(text.as_bytes())?;
    wire.flush()
}

fn server_config(files: &Files) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&files.certificate).expect("certificate");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("key");
    Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a pair"))
}

fn words(protocol: &str) -> Words {
    match protocol {
        "imap" => Words {
            greeting: "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] cell\r\n",
            answers: &[("LOGOUT", "* BYE\r\nTAG OK bye\r\n")],
            tagged: true,
            login: "AUTHENTICATE ",
            welcome: "TAG OK [CAPABILITY IMAP4rev1 IDLE] in\r\n",
            refusal: "TAG NO [AUTHENTICATIONFAILED] Unknown user or wrong password\r\n",
            farewell: "* BYE going down\r\n",
            starttls: None,
            greets_again: false,
        },
        "pop3" => Words {
            greeting: "+OK cell\r\n",
            answers: &[("CAPA", "+OK\r\nSASL PLAIN\r\nUIDL\r\n.\r\n"), ("QUIT", "+OK bye\r\n")],
            tagged: false,
            login: "AUTH PLAIN ",
            welcome: "+OK in\r\n",
            refusal: "-ERR [AUTH] Unknown user or wrong password\r\n",
            farewell: "-ERR going down\r\n",
            starttls: None,
            greets_again: false,
        },
        "sieve" => Words {
            greeting: "\"IMPLEMENTATION\" \"cell\"\r\n\"SIEVE\" \"fileinto\"\r\n\"SASL\" \"PLAIN\"\r\n\"STARTTLS\"\r\nOK \"cell\"\r\n",
            answers: &[("LOGOUT", "OK \"bye\"\r\n")],
            tagged: false,
            login: "AUTHENTICATE \"PLAIN\" ",
            welcome: "OK \"in\"\r\n",
            refusal: "NO \"Unknown user or wrong password\"\r\n",
            farewell: "BYE \"going down\"\r\n",
            starttls: Some("OK \"begin\"\r\n"),
            greets_again: true,
        },
        "submission" => Words {
            greeting: "220 cell ESMTP\r\n",
            answers: &[("EHLO", "250-cell\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"), ("QUIT", "221 2.0.0 bye\r\n")],
            tagged: false,
            login: "AUTH PLAIN ",
            welcome: "235 2.7.0 in\r\n",
            refusal: "535 5.7.8 Unknown user or wrong password\r\n",
            farewell: "",
            starttls: Some("220 2.0.0 begin\r\n"),
            greets_again: false,
        },
        other => panic!("no words of {other}"),
    }
}
