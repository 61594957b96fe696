//! A cell's IMAP side: IMAP4rev1 (RFC 3501) with one read-only INBOX, enough for real clients. IDLE tells of new mail.

mod fetch;
mod session;

use std::sync::Arc;

use tokio::net::TcpListener;

use super::{
    Cell,
    wire::{self, COMMAND_LINE_MAX, Literals, Wire},
};
use session::{After, Session};

/// Accepts until the task ends; its connections end with it.
pub async fn serve(listener: TcpListener, cell: Arc<Cell>) {
    wire::serve(listener, cell, converse).await;
}

async fn converse(mut wire: Wire, cell: Arc<Cell>) -> std::io::Result<()> {
    let mut session = Session::new(&cell);
    wire.say(&session.greeting()).await?;
    loop {
        let Some(command) = wire.command(LITERALS).await? else { return Ok(()) };
        let mut after = session.on_command(&command);
        loop {
            answer(&mut wire, &mut session).await?;
            match after {
                After::Next => break,
                After::Bye => return wire.close().await,
                After::Line => {
                    if !await_line(&mut wire, &mut session).await? {
                        return Ok(());
                    }
                    let Some(line) = wire.line(COMMAND_LINE_MAX).await? else { return Ok(()) };
                    after = session.on_line(&line);
                }
            }
        }
    }
}

/// Waits for the client's line; what arrives in the mailbox meanwhile is told. False when no line will come.
async fn await_line(wire: &mut Wire, session: &mut Session<'_>) -> std::io::Result<bool> {
    loop {
        tokio::select! {
            readable = wire.readable() => return readable,
            () = session.news() => session.on_news(),
        }
        answer(wire, session).await?;
    }
}

async fn answer(wire: &mut Wire, session: &mut Session<'_>) -> std::io::Result<()> {
    for piece in session.take_reply() {
        wire.write(&piece).await?;
    }
    wire.flush().await
}

const LITERALS: Literals =
    Literals { bytes_max: 64 * 1024, go_on: "+ go on\r\n", too_long: "* BYE literal too long\r\n" };
