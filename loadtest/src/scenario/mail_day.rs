//! An ordinary day of mail: programs that stay in IDLE, phones that poll, people who write to each other and edit their filters.

use std::sync::Arc;

use super::{Crowd, Settings, Threshold};
use crate::{
    client::{ImapClient, Pop3Client, SieveClient, SmtpClient, Target},
    demo::DemoUser,
    engine::{self, Visit},
    record::Recorder,
};

pub(super) const THRESHOLDS: &[Threshold] = &[
    Threshold { step: "imap login", p99_ms: 1000.0, failed_share: 0.001 },
    Threshold { step: "imap read", p99_ms: 500.0, failed_share: 0.001 },
    Threshold { step: "imap idle", p99_ms: 500.0, failed_share: 0.001 },
    Threshold { step: "pop3 login", p99_ms: 1000.0, failed_share: 0.001 },
    Threshold { step: "pop3 poll", p99_ms: 500.0, failed_share: 0.001 },
    Threshold { step: "submission login", p99_ms: 1000.0, failed_share: 0.001 },
    Threshold { step: "submission", p99_ms: 500.0, failed_share: 0.001 },
    Threshold { step: "mail told in idle", p99_ms: 500.0, failed_share: 0.001 },
    Threshold { step: "sieve login", p99_ms: 1000.0, failed_share: 0.001 },
    Threshold { step: "sieve upload", p99_ms: 500.0, failed_share: 0.001 },
];

pub(super) async fn run(target: &Target, settings: &Settings, recorder: &Arc<Recorder>, crowd: &Arc<Crowd>) {
    engine::run(settings.plan(), recorder, |mut visit| {
        let (target, crowd) = (target.clone(), Arc::clone(crowd));
        async move {
            let Some((_, user)) = crowd.anyone(&mut visit.chance) else { return };
            match visit.chance.unit() {
                kind if kind < READS => read(&mut visit, &target, &user).await,
                kind if kind < READS + POLLS => poll(&mut visit, &target, &user).await,
                kind if kind < READS + POLLS + WRITES => match crowd.anyone(&mut visit.chance) {
                    Some((_, other)) => write(&mut visit, &target, &user, &other).await,
                    None => None,
                },
                _ => filter(&mut visit, &target, &user).await,
            };
        }
    })
    .await;
}

/// A mail program: it logs in, reads, waits in IDLE for a moment, and leaves.
async fn read(visit: &mut Visit, target: &Target, user: &DemoUser) -> Option<()> {
    let mut client = visit.step("imap login", imap(target, user)).await?;
    visit.step("imap read", client.read_inbox(user)).await?;
    let idle = async {
        client.idle().await?;
        client.done().await
    };
    visit.step("imap idle", idle).await?;
    visit.step("imap logout", client.logout()).await
}

/// A phone that looks whether there is mail.
async fn poll(visit: &mut Visit, target: &Target, user: &DemoUser) -> Option<()> {
    let login = async {
        let mut client = Pop3Client::connect(target).await?;
        client.login(user).await?;
        Ok(client)
    };
    let mut client = visit.step("pop3 login", login).await?;
    visit.step("pop3 poll", client.poll(user)).await?;
    visit.step("pop3 quit", client.quit()).await
}

/// One writes, and the other's mail program, in IDLE, is told and finds the message.
async fn write(visit: &mut Visit, target: &Target, from: &DemoUser, to: &DemoUser) -> Option<()> {
    let mut reader = visit.step("imap login", imap(target, to)).await?;
    let idle = async {
        reader.select().await?;
        reader.idle().await
    };
    visit.step("imap idle", idle).await?;
    let login = async {
        let mut client = SmtpClient::connect(target).await?;
        client.login(from).await?;
        Ok(client)
    };
    let mut writer = visit.step("submission login", login).await?;
    let subject = format!("Rehearsal {:016x}", visit.chance.bits());
    visit.step("submission", writer.submit(from, to, &subject)).await?;
    let told = async {
        loop {
            let count = reader.news().await?;
            reader.done().await?;
            // Others write to them too: the message is among the last, if it is not told of later.
            if reader.has_subject(count.saturating_sub(AMONG_LAST).max(1), &subject).await? {
                return Ok(());
            }
            reader.idle().await?;
        }
    };
    visit.step("mail told in idle", told).await?;
    visit.step("submission quit", writer.quit()).await?;
    visit.step("imap logout", reader.logout()).await
}

/// A filter editor.
async fn filter(visit: &mut Visit, target: &Target, user: &DemoUser) -> Option<()> {
    let login = async {
        let mut client = SieveClient::connect(target).await?;
        client.login(user).await?;
        Ok(client)
    };
    let mut client = visit.step("sieve login", login).await?;
    visit.step("sieve upload", client.upload("rehearsal", SCRIPT)).await?;
    visit.step("sieve logout", client.logout()).await
}

async fn imap(target: &Target, user: &DemoUser) -> Result<ImapClient, crate::client::Failure> {
    let mut client = ImapClient::connect(target).await?;
    client.login(user).await?;
    Ok(client)
}

/// Shares of the visits; the rest edit filters.
const READS: f64 = 0.45;
const POLLS: f64 = 0.30;
const WRITES: f64 = 0.15;
const AMONG_LAST: usize = 32;
const SCRIPT: &str =
    "require [\"fileinto\"];\r\nif header :contains \"subject\" \"Rehearsal\" {\r\n  fileinto \"Rehearsals\";\r\n}\r\n";
