//! One side of a relay: a socket, its TLS state and what it did not take yet.

use std::{
    cell::RefCell,
    io::{self, BufRead, IoSlice, Write},
    net::Shutdown,
    time::Duration,
};

use rustls::Connection;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

/// One side of a relay.
pub(super) struct Leg {
    pub(super) tcp: TcpStream,
    tls: Option<Box<Connection>>,
    /// Taken from the other side and not sent yet; only without TLS, which keeps its own.
    unsent: Vec<u8>,
    /// Will send nothing more.
    pub(super) ended: Option<Ending>,
    /// close_notify is queued or not wanted; FIN follows when all is sent.
    closing: bool,
    /// FIN is sent.
    pub(super) shut: bool,
}

/// How a side stopped sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// close_notify; or FIN where there is no TLS.
    Clean,
    /// FIN without close_notify: what came may be cut short.
    Bare,
}

impl Leg {
    pub(super) fn new(tcp: TcpStream, tls: Option<Connection>) -> Self {
        let mut ended = None;
        let tls = tls.map(|mut tls| {
            // What may wait in it is bounded here: nothing is added while something waits.
            tls.set_buffer_limit(None);
            // An end that came with the last words before the hand-off.
            if tls.process_new_packets().is_ok_and(|state| state.peer_has_closed()) {
                ended = Some(Ending::Clean);
            }
            Box::new(tls)
        });
        Self { tcp, tls, unsent: Vec::new(), ended, closing: false, shut: false }
    }

    /// Something waits for the socket to take it.
    pub(super) fn blocked(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write()) || !self.unsent.is_empty()
    }

    /// Takes bytes for this side; all of them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            return tls.writer().write_all(bytes);
        }
        let mut rest = bytes;
        while self.unsent.is_empty() && !rest.is_empty() {
            match self.tcp.try_write(rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.extend_from_slice(rest);
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it. Whether it took anything.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let mut moved = false;
        while self.blocked() {
            let sent = match &mut self.tls {
                Some(tls) => tls.write_tls(&mut Outlet(&self.tcp)),
                None => self.tcp.try_write(&self.unsent),
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) if self.tls.is_none() => {
                    moved = true;
                    self.unsent.drain(..sent);
                    if self.unsent.is_empty() {
                        // An idle relay holds no buffer.
                        self.unsent = Vec::new();
                    }
                }
                Ok(_) => moved = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    /// Ends our sending, when all is sent: close_notify if the other side ended cleanly, then FIN.
    pub(super) fn close(&mut self, how: Ending) -> io::Result<()> {
        if !self.closing {
            self.closing = true;
            if let (Some(tls), Ending::Clean) = (&mut self.tls, how) {
                tls.send_close_notify();
            }
        }
        self.flush()?;
        if !self.blocked() && !self.shut {
            self.shut = true;
            SockRef::from(&self.tcp).shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Neither side of it sends anything more.
    pub(super) fn over(&self) -> bool {
        self.shut && self.ended.is_some()
    }

    /// The drop that follows sends RST instead of FIN.
    pub(super) fn abort(&self) {
        let _ = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
    }

    /// What is worth waiting for on this socket.
    pub(super) fn interest(&self, readable: bool) -> Option<Interest> {
        match (readable && self.ended.is_none(), self.blocked()) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    /// One read, all of it into `sink`. Plaintext bytes read; `None`: nothing to read now.
    pub(super) fn pump(
        &mut self,
        scratch: &mut [u8],
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Option<usize>> {
        let read = match self.tcp.try_read(scratch) {
            Ok(0) => {
                self.ended = Some(if self.tls.is_some() { Ending::Bare } else { Ending::Clean });
                return Ok(Some(0));
            }
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes: &[u8] = scratch.get(..read).unwrap_or_default();
        let Some(tls) = &mut self.tls else {
            sink(bytes)?;
            return Ok(Some(read));
        };
        let mut moved = 0;
        while !bytes.is_empty() {
            // Takes at most 4 KiB at a time, into a buffer that shrinks again.
            if tls.read_tls(&mut bytes)? == 0 {
                break;
            }
            let state = match tls.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // Its alert, as far as it goes.
                    let _ = tls.write_tls(&mut Outlet(&self.tcp));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            };
            moved += drain(tls, &mut sink)?;
            if state.peer_has_closed() {
                self.ended = Some(Ending::Clean);
                break;
            }
        }
        Ok(Some(moved))
    }

    /// Moves the plaintext that the TLS state holds already.
    pub(super) fn drain(&mut self, sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<usize> {
        self.tls.as_mut().map_or(Ok(0), |tls| drain(tls, sink))
    }
}

fn drain(tls: &mut Connection, mut sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<usize> {
    let mut moved = 0;
    loop {
        let mut reader = tls.reader();
        let length = match reader.fill_buf() {
            Ok(chunk) => {
                sink(chunk)?;
                chunk.len()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // The other side is gone without close_notify; the socket will say so again, behind what is left to move.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok(moved);
        }
        reader.consume(length);
        moved += length;
    }
}

/// Lets rustls write to a socket without waiting.
struct Outlet<'a>(&'a TcpStream);

impl Write for Outlet<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    /// One for each worker, for all its relays: nothing stays in it between two looks.
    pub(super) static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// Four full TLS records.
const SCRATCH_BYTES: usize = 64 * 1024;
