//! Where a dialogue meets a socket: bytes in, replies out, the deadline, STARTTLS, and the hand-off to the relay.

use std::{sync::Arc, time::Duration};

use guichet_auth::Identity;
use guichet_config::{Address, MailProtocol, MailTls};
use guichet_proto::{
    InputBuf, Step,
    imap::ImapDialogue,
    pop3::Pop3Dialogue,
    sieve::SieveDialogue,
    smtp::{Extensions, RelayProfile, SubmissionDialogue},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{
    cell::OpenCell,
    leg::Leg,
    live::{About, Traffic},
    login,
    offer::{Offer, Offered},
    relay::Relay,
    submission::Submission,
};
use crate::{
    app::{App, Snapshot},
    listener::{Peer, Seat, handshake},
    telemetry::event,
    tls::{policy::Negotiated, stream::TlsStream},
};

/// One connection of a client, before login.
pub(super) struct Visit {
    pub(super) app: Arc<App>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) peer: Peer,
    pub(super) offer: Offer,
    /// What submission cells have in common, as this client is shown it, before and after TLS and login alike.
    pub(super) extensions: Extensions,
    /// Names the connection in logs and to the cell.
    pub(super) name: String,
    /// What the handshake came to.
    pub(super) tls: Negotiated,
    /// Whose certificate the client showed in it.
    pub(super) holder: Option<Address>,
}

/// How a dialogue ended.
enum End {
    /// TLS comes next.
    Upgrade,
    /// Logged in. What waits in the input belongs to the cell.
    HandOff(Box<login::Opened>),
    /// Over.
    Closed(&'static str),
}

/// Serves one mail connection from its first byte. Returns at the hand-off: the relay is a task of its own, so that the
/// memory of all this is given back.
pub(crate) async fn serve(
    stream: TcpStream,
    offer: Offer,
    peer: Peer,
    seat: Seat,
    snapshot: Arc<Snapshot>,
    app: Arc<App>,
) {
    let name = app.session_name(peer.conn);
    let extensions = match offer.protocol {
        MailProtocol::Submission => app.cells.learnt(offer.protocol).extensions,
        _ => Extensions::default(),
    };
    let visit = Visit { app, snapshot, peer, offer, extensions, name, tls: Negotiated::default(), holder: None };
    match offer.protocol {
        MailProtocol::Imap => Box::pin(serve_by::<ImapDialogue>(stream, visit, seat)).await,
        MailProtocol::Pop3 => Box::pin(serve_by::<Pop3Dialogue>(stream, visit, seat)).await,
        MailProtocol::Sieve => Box::pin(serve_by::<SieveDialogue>(stream, visit, seat)).await,
        MailProtocol::Submission => Box::pin(serve_by::<SubmissionDialogue>(stream, visit, seat)).await,
    }
}

async fn serve_by<D: Offered>(mut stream: TcpStream, mut visit: Visit, seat: Seat) {
    let tls = visit.offer.tls;
    let mut input = InputBuf::new();
    let end = match tls {
        MailTls::Implicit => None,
        MailTls::StartTls => {
            let step = D::greet(D::profile(&visit, false), now());
            Some(Box::pin(talk(&mut stream, step, &mut input, &visit)).await)
        }
    };
    if let Some(End::Closed(reason)) = end {
        visit.closed(reason);
        return;
    }
    let config = visit.snapshot.tls.mail(visit.offer.protocol, &visit.peer.listener);
    let hands = Box::pin(handshake(&visit.peer, TlsStream::accept(stream, config)));
    let Some(mut stream) = hands.await else { return };
    visit.tls = Negotiated::of(stream.state());
    if !visit.see_certificate(stream.state()) {
        visit.closed("certificate");
        let _ = timeout(GOODBYE, stream.shutdown()).await;
        return;
    }
    // A fresh dialogue and a fresh buffer: nothing said before TLS counts (RFC 9051 §6.2.1).
    let mut input = InputBuf::new();
    let step = match tls {
        MailTls::Implicit => D::greet(D::profile(&visit, true), now()),
        MailTls::StartTls => D::after_starttls(D::profile(&visit, true), now()),
    };
    match Box::pin(talk(&mut stream, step, &mut input, &visit)).await {
        End::HandOff(opened) => hand_off(stream, &input, *opened, visit, seat),
        End::Closed(reason) => {
            visit.closed(reason);
            let _ = timeout(GOODBYE, stream.shutdown()).await;
        }
        End::Upgrade => visit.closed("protocol"),
    }
}

async fn talk<S, D>(stream: &mut S, first: Step<D>, input: &mut InputBuf, visit: &Visit) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: Offered,
{
    let mut step = first;
    loop {
        step = match step {
            Step::Wait { mut next, reply, deadline } => {
                let deadline = Instant::from_std(deadline);
                if !send(stream, &reply).await {
                    return End::Closed("gone");
                }
                if let Some(typed) = next.password_in_clear() {
                    visit.password_in_clear(&typed);
                    if !input.is_empty() {
                        step = next.on_bytes(input, now());
                        continue;
                    }
                }
                match timeout_at(deadline, read(stream, input)).await {
                    Ok(true) => next.on_bytes(input, now()),
                    Ok(false) => return End::Closed("gone"),
                    Err(_) => next.on_deadline(now()),
                }
            }
            Step::Ask { next, reply, login, deadline } => {
                if !send(stream, &reply).await {
                    return End::Closed("gone");
                }
                let deadline = Instant::from_std(deadline);
                let asked = Box::pin(login::login(visit, login, next.helo(), deadline));
                match timeout_at(deadline, asked).await {
                    Ok(Ok(opened)) => {
                        // Kept beside the dialogue: only its answer tells whether there is a hand-off.
                        match next.on_answer(opened.answer(), now()) {
                            Step::HandOff { reply } => {
                                if !send(stream, &reply).await {
                                    return End::Closed("gone");
                                }
                                // The client logs in again, at the new cell.
                                if !opened.still_placed(visit) {
                                    return End::Closed("moved");
                                }
                                return End::HandOff(opened);
                            }
                            other => other,
                        }
                    }
                    Ok(Err(answer)) => match next.on_answer(answer, now()) {
                        Step::Wait { next, reply, .. } if !input.is_empty() => {
                            if !send(stream, &reply).await {
                                return End::Closed("gone");
                            }
                            next.on_bytes(input, now())
                        }
                        other => other,
                    },
                    Err(_) => next.on_deadline(now()),
                }
            }
            Step::Upgrade { reply } => {
                return if send(stream, &reply).await { End::Upgrade } else { End::Closed("gone") };
            }
            Step::Close { reply, reason } => {
                send(stream, &reply).await;
                let _ = timeout(GOODBYE, stream.shutdown()).await;
                let _ = timeout(LINGER, discard(stream)).await;
                return End::Closed(reason.as_str());
            }
            // A dialogue hands off only in answer to `Opened`, above.
            Step::HandOff { .. } => return End::Closed("protocol"),
        };
    }
}

/// Reads once. `false`: the client is gone, or sends on while it must wait.
async fn read<S: AsyncRead + Unpin>(stream: &mut S, input: &mut InputBuf) -> bool {
    let mut chunk = zeroize::Zeroizing::new([0; READ_BYTES]);
    let room = input.room().min(READ_BYTES);
    let Some(chunk) = chunk.get_mut(..room).filter(|chunk| !chunk.is_empty()) else { return false };
    match stream.read(chunk).await {
        Ok(0) | Err(_) => false,
        Ok(read) => {
            input.extend(chunk.get(..read).unwrap_or_default());
            true
        }
    }
}

/// Reads on what the client still sends: a close over unread bytes is a reset, which may overtake our last words.
async fn discard<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut left = LINGER_BYTES_MAX;
    let mut chunk = zeroize::Zeroizing::new([0; READ_BYTES]);
    while let Ok(read @ 1..) = stream.read(chunk.as_mut_slice()).await {
        left = left.saturating_sub(read);
        if left == 0 {
            return;
        }
    }
}

/// Sends all of it, in one flight. `false`: the client is gone or does not read.
async fn send<S: AsyncWrite + Unpin>(stream: &mut S, reply: &[u8]) -> bool {
    if reply.is_empty() {
        return true;
    }
    let sent = timeout(SEND_TIMEOUT, async {
        stream.write_all(reply).await?;
        stream.flush().await
    });
    matches!(sent.await, Ok(Ok(())))
}

fn hand_off(stream: TlsStream, input: &InputBuf, opened: login::Opened, visit: Visit, seat: Seat) {
    // Not before: a client that goes away between the cell's welcome and here never had a session.
    opened.place.opened(Some(opened.took));
    let client = Leg::tls(stream);
    let login::Opened { place, cell, .. } = opened;
    if visit.offer.protocol == MailProtocol::Submission {
        let profile = RelayProfile {
            hostname: visit.snapshot.config.public.hostname.as_str().into(),
            offered: visit.extensions,
            cell: Extensions::read(&cell.capability.unwrap_or_default()),
            line_ends: visit.offer.line_ends,
        };
        let submission = Submission::new(client, cell.leg, profile, place, seat, &visit.app);
        let from_client = zeroize::Zeroizing::new(input.as_slice().to_vec());
        tokio::spawn(submission.run(from_client, cell.pending));
        return;
    }
    let relay = Relay::new(client, cell.leg, place, seat);
    tokio::spawn(relay.run(input.as_slice().into(), cell.pending.into()));
}

impl Visit {
    /// What stays of it behind the login.
    pub(super) fn about(&self, identity: &Identity, cell: &OpenCell) -> About {
        About {
            protocol: Traffic::Mail(self.offer.protocol),
            conn: self.peer.conn,
            listener: self.peer.listener.clone(),
            client: self.peer.client,
            tls: self.tls,
            user: Some((identity.address.clone(), identity.tenant.clone())),
            cell: cell.id.clone(),
            endpoint: cell.endpoint.clone(),
            inactivity: self.offer.inactivity(),
        }
    }

    fn password_in_clear(&self, typed: &str) {
        let address: Option<Address> = typed.parse().ok();
        event::PasswordInClear {
            protocol: self.offer.protocol.as_str(),
            session: &self.name,
            client: self.peer.client,
            address: address.as_ref(),
        }
        .emit();
    }

    fn closed(&self, reason: &'static str) {
        let Peer { listener, client, .. } = &self.peer;
        event::DialogueEnded { session: &self.name, listener, client: *client, reason }.emit();
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

const READ_BYTES: usize = 4096;
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(2);
/// For a client that is sent away and still talks.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
