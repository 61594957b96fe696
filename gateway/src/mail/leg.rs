//! One side of a relay: a socket, its TLS state and what it did not take yet.

use std::{cell::RefCell, io, net::Shutdown, time::Duration};

use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use crate::tls::stream::{Session, TlsStream, sealed_max};

/// One side of a relay.
pub(super) struct Leg {
    pub(super) tcp: TcpStream,
    tls: Option<Box<Session>>,
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
    /// A side without TLS.
    pub(super) fn plain(tcp: TcpStream) -> Self {
        Self { tcp, tls: None, unsent: Vec::new(), ended: None, closing: false, shut: false }
    }

    /// A side with TLS.
    pub(super) fn tls(stream: TlsStream) -> Self {
        let (tcp, tls) = stream.into_parts();
        // The end may have come with the last words before the hand-off.
        let ended = tls.peer_has_closed().then_some(Ending::Clean);
        Self { ended, tls: Some(tls), ..Self::plain(tcp) }
    }

    /// Something waits for the socket to take it.
    pub(super) fn blocked(&self) -> bool {
        !self.waiting().is_empty()
    }

    fn waiting(&self) -> &[u8] {
        self.tls.as_ref().map_or(&self.unsent, |tls| tls.unsent())
    }

    /// Takes bytes for this side; all of them. Sends what the socket takes at once.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            let sent = if self.unsent.is_empty() { send(&self.tcp, bytes)? } else { 0 };
            self.unsent.extend_from_slice(bytes.get(sent..).unwrap_or_default());
            return Ok(());
        };
        SEALED.with_borrow_mut(|sealed| {
            for piece in bytes.chunks(SCRATCH_BYTES) {
                let length = tls.seal(piece, sealed)?;
                let sealed = sealed.get(..length).unwrap_or_default();
                // What waits goes first.
                let sent = if tls.unsent().is_empty() { send(&self.tcp, sealed)? } else { 0 };
                tls.keep(sealed.get(sent..).unwrap_or_default());
            }
            Ok(())
        })
    }

    /// Sends what waits, as far as the socket takes it. Whether it took anything.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let sent = send(&self.tcp, self.waiting())?;
        if sent == 0 {
            return Ok(false);
        }
        match &mut self.tls {
            Some(tls) => tls.sent(sent),
            // An idle relay holds no buffer.
            None if sent == self.unsent.len() => self.unsent = Vec::new(),
            None => drop(self.unsent.drain(..sent)),
        }
        Ok(true)
    }

    /// Ends our sending, when all is sent: close_notify if the other side ended cleanly, then FIN.
    pub(super) fn close(&mut self, how: Ending) -> io::Result<()> {
        if !self.closing {
            self.closing = true;
            if let (Some(tls), Ending::Clean) = (&mut self.tls, how) {
                tls.close();
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
        let kept = self.tls.as_ref().map_or(0, |tls| tls.resume(scratch));
        let read = match self.tcp.try_read(scratch.get_mut(kept..).unwrap_or_default()) {
            Ok(0) => {
                self.ended = Some(if self.tls.is_some() { Ending::Bare } else { Ending::Clean });
                return Ok(Some(0));
            }
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = scratch.get_mut(..kept + read).unwrap_or_default();
        let Some(tls) = &mut self.tls else {
            sink(bytes)?;
            return Ok(Some(read));
        };
        let opened = tls.open(bytes, sink);
        if opened.is_err() {
            // An alert, as far as it goes.
            let _ = self.tcp.try_write(tls.unsent());
        }
        if tls.peer_has_closed() {
            self.ended = Some(Ending::Clean);
        }
        opened.map(Some)
    }

    /// Moves the plaintext that the TLS state holds already.
    pub(super) fn drain(&mut self, sink: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<usize> {
        self.tls.as_mut().map_or(Ok(0), |tls| tls.drain(sink))
    }
}

/// Writes as long as the socket takes it. How much it took.
fn send(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match tcp.try_write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => sent += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

thread_local! {
    /// One for each worker, for all its relays: nothing stays in it between two looks.
    pub(super) static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
    /// What that becomes on the way to a side with TLS.
    static SEALED: RefCell<Box<[u8]>> = RefCell::new(vec![0; sealed_max(SCRATCH_BYTES)].into());
}

/// Four full TLS records.
const SCRATCH_BYTES: usize = 64 * 1024;
