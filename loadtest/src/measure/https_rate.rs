//! HTTPS, as hard as it goes: small responses on kept connections, or one full handshake for each.
//!
//! HTTP/1.1 written and read by hand, so that the client costs little and the same bytes go to every peer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::cpu_seconds;

/// What to ask of whom.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where.
    pub address: SocketAddr,
    /// Name in SNI.
    pub host: String,
    /// Host field, with its port.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// Cookie field, when logged in.
    pub cookie: Option<String>,
    /// TLS.
    pub tls: ClientConfig,
    /// At once.
    pub connections: usize,
    /// How long.
    pub duration: Duration,
    /// A new connection with a full handshake for each request.
    pub handshakes: bool,
    /// Processes of the peer whose processor time counts.
    pub pids: Vec<u32>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rate {
    /// Good answers.
    pub responses: u64,
    /// Seconds.
    pub seconds: f64,
    /// A second.
    pub per_second: f64,
    /// Processor seconds of the peer, when its processes are known.
    pub cpu_seconds: Option<f64>,
    /// Good answers for each of its processor seconds.
    pub per_cpu_second: Option<f64>,
}

/// Asks until the time is over. Any answer but 200 ends it.
///
/// # Errors
/// No connection, or another answer.
pub async fn run(mut question: Question) -> anyhow::Result<Rate> {
    if question.handshakes {
        question.tls.resumption = Resumption::disabled();
    }
    let request: Arc<[u8]> = request(&question).into_bytes().into();
    let connector = TlsConnector::from(Arc::new(question.tls.clone()));
    let question = Arc::new(question);
    let responses = Arc::new(AtomicU64::new(0));
    // One answer first, so that a wrong question is seen at once.
    ask(&mut connect(&question, &connector).await?, &request).await.context("the first answer")?;

    let cpu_before = cpu(&question.pids)?;
    let begin = Instant::now();
    let end = begin + question.duration;
    let mut tasks = JoinSet::new();
    for _ in 0..question.connections {
        let (question, connector) = (Arc::clone(&question), connector.clone());
        let (request, responses) = (Arc::clone(&request), Arc::clone(&responses));
        tasks.spawn(async move {
            let mut kept = None;
            while Instant::now() < end {
                let mut stream = match kept.take() {
                    Some(stream) => stream,
                    None => connect(&question, &connector).await?,
                };
                ask(&mut stream, &request).await?;
                responses.fetch_add(1, Ordering::Relaxed);
                kept = (!question.handshakes).then_some(stream);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let responses = responses.load(Ordering::Relaxed);
    let cpu_seconds = cpu(&question.pids)?.zip(cpu_before).map(|(after, before)| after - before);
    Ok(Rate {
        responses,
        seconds,
        per_second: responses as f64 / seconds,
        cpu_seconds,
        per_cpu_second: cpu_seconds.map(|cpu| responses as f64 / cpu.max(0.01)),
    })
}

fn request(question: &Question) -> String {
    let cookie = question.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
    let connection = if question.handshakes { "close" } else { "keep-alive" };
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\n{cookie}Connection: {connection}\r\n\r\n",
        question.path, question.authority
    )
}

fn cpu(pids: &[u32]) -> anyhow::Result<Option<f64>> {
    if pids.is_empty() {
        return Ok(None);
    }
    pids.iter().map(|&pid| cpu_seconds(pid)).sum::<anyhow::Result<f64>>().map(Some)
}

type Stream = TlsStream<TcpStream>;

async fn connect(question: &Question, connector: &TlsConnector) -> anyhow::Result<Stream> {
    let socket = TcpStream::connect(question.address).await.context("connect")?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(question.host.clone())?;
    connector.connect(name, socket).await.context("TLS")
}

async fn ask(stream: &mut Stream, request: &[u8]) -> anyhow::Result<()> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(4096);
    let mut needed = None;
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            bail!("closed in the middle of an answer");
        }
        if needed.is_none() {
            needed = length(&answer)?;
        }
        if needed.is_some_and(|needed| answer.len() >= needed) {
            return Ok(());
        }
        if answer.len() > ANSWER_MAX {
            bail!("the answer is larger than {ANSWER_MAX} bytes: this measures small ones");
        }
    }
}

/// Length of the whole answer once its head is there. Only `Content-Length` is understood: small answers have one.
fn length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default());
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("the answer is {status}");
    }
    let field = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Ok(Some(head + 4 + field.context("the answer has no Content-Length")?))
}

const ANSWER_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn only_whole_good_answers_count() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
        assert_eq!(length(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap(), Some(40));
        assert!(length(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n").is_err());
        assert!(length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
