//! People arrive at work: half open the webmail through their institution, half have a mail program that does.

use std::sync::Arc;

use super::{Crowd, Settings, Threshold};
use crate::{
    client::{Browser, ImapClient, Target},
    engine::{self, Visit},
    record::Recorder,
};

pub(super) const THRESHOLDS: &[Threshold] = &[
    Threshold { step: "saml login", p99_ms: 2000.0, failed_share: 0.001 },
    Threshold { step: "webmail page", p99_ms: 500.0, failed_share: 0.001 },
    Threshold { step: "imap login", p99_ms: 1000.0, failed_share: 0.001 },
    Threshold { step: "imap read", p99_ms: 500.0, failed_share: 0.001 },
];

pub(super) async fn run(target: &Target, settings: &Settings, recorder: &Arc<Recorder>, crowd: &Arc<Crowd>) {
    engine::run(settings.plan(), recorder, |mut visit| {
        let (target, crowd) = (target.clone(), Arc::clone(crowd));
        async move {
            if visit.chance.unit() < 0.5 {
                webmail(&mut visit, &target, &crowd).await;
            } else {
                mail_program(&mut visit, &target, &crowd).await;
            }
        }
    })
    .await;
}

async fn webmail(visit: &mut Visit, target: &Target, crowd: &Crowd) -> Option<()> {
    let (tenant, user) = crowd.anyone(&mut visit.chance)?;
    let login = async {
        let browser = Browser::new(target)?;
        browser.log_in_by_idp(&tenant, &user).await?;
        Ok(browser)
    };
    let browser = visit.step("saml login", login).await?;
    for page in ["/inbox", "/calendar", "/contacts"] {
        visit.step("webmail page", async { browser.get(page).await?.names(&user) }).await?;
    }
    Some(())
}

async fn mail_program(visit: &mut Visit, target: &Target, crowd: &Crowd) -> Option<()> {
    let (_, user) = crowd.anyone(&mut visit.chance)?;
    let login = async {
        let mut client = ImapClient::connect(target).await?;
        client.login(&user).await?;
        Ok(client)
    };
    let mut client = visit.step("imap login", login).await?;
    visit.step("imap read", client.read_inbox(&user)).await?;
    visit.step("imap logout", client.logout()).await
}
