//! A TCP relay on loopback that a story can cut, silence or close: faults on the way to a peer.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread,
};

use crate::wait;

const PASS: u8 = 0;
const SILENT: u8 = 1;
const REFUSE: u8 = 2;

/// Forwards every connection to one address.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    mode: AtomicU8,
    accepted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Starts one towards `port` on loopback.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback port");
        let own = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared {
            to: SocketAddr::from(([127, 0, 0, 1], port)),
            mode: AtomicU8::new(PASS),
            accepted: AtomicUsize::new(0),
            open: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.mode.load(Ordering::SeqCst) == REFUSE {
                    return;
                }
                accepting.accepted.fetch_add(1, Ordering::SeqCst);
                if let Ok(server) = TcpStream::connect(accepting.to) {
                    accepting.join(&client, &server);
                }
            }
        });
        Self { port: own, shared }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Everything passes.
    pub fn pass(&self) {
        self.shared.mode.store(PASS, Ordering::SeqCst);
    }

    /// Connections stay open, no byte passes any more.
    pub fn silence(&self) {
        self.shared.mode.store(SILENT, Ordering::SeqCst);
    }

    /// For good: open connections are cut, the port is closed.
    pub fn refuse(&self) {
        self.shared.mode.store(REFUSE, Ordering::SeqCst);
        // Wakes the accepting thread, which takes the port along as it ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        wait::until("the relay's port closed", || TcpStream::connect(("127.0.0.1", self.port)).is_err().then_some(()));
        self.cut();
    }

    /// Open connections are closed; new ones pass.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().expect("no panic holds it").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn join(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        for (from, to) in [(client, server), (server, client)] {
            let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
            self.open.lock().expect("no panic holds it").extend(from.try_clone());
            let shared = Arc::clone(self);
            thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                while let Ok(n) = from.read(&mut buffer) {
                    let Some(bytes) = buffer.get(..n).filter(|b| !b.is_empty()) else { break };
                    wait::until("the relay passes again", || {
                        (shared.mode.load(Ordering::SeqCst) != SILENT).then_some(())
                    });
                    if to.write_all(bytes).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    }
}
