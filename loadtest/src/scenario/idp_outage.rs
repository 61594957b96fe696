//! An institution's IdP goes down: nobody is offered the fallback before the outage is proven, everybody after; the other institution
//! notices nothing; when the IdP is back, the fallback ends.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{Crowd, Settings, Threshold};
use crate::{
    client::{Browser, Failure, Target},
    demo::{DemoTenant, DemoUser},
    engine::{self, Plan, Visit},
    record::Recorder,
};

pub(super) const THRESHOLDS: &[Threshold] = &[
    Threshold { step: "saml login before", p99_ms: 2000.0, failed_share: 0.001 },
    Threshold { step: "fallback offered", p99_ms: 75_000.0, failed_share: 0.0 },
    Threshold { step: "wrong password refused", p99_ms: 2000.0, failed_share: 0.0 },
    Threshold { step: "fallback login", p99_ms: 2000.0, failed_share: 0.001 },
    Threshold { step: "saml login elsewhere", p99_ms: 2000.0, failed_share: 0.001 },
    Threshold { step: "fallback withdrawn", p99_ms: 180_000.0, failed_share: 0.0 },
    Threshold { step: "saml login after", p99_ms: 2000.0, failed_share: 0.001 },
];

pub(super) async fn run(target: &Target, settings: &Settings, recorder: &Arc<Recorder>, crowd: &Arc<Crowd>) {
    let Some(tenant) = target.demo.tenants.first() else { return };
    let outage = Outage { target, tenant, recorder, settings };
    let finished = outage.happen(crowd).await;
    // Whatever happened, the world is left as it was found.
    let restored = outage.switch("up").await;
    if finished.is_none() || restored.is_err() {
        recorder.note("the scenario ended early");
    }
}

struct Outage<'a> {
    target: &'a Target,
    tenant: &'a DemoTenant,
    recorder: &'a Arc<Recorder>,
    settings: &'a Settings,
}

impl Outage<'_> {
    async fn happen(&self, crowd: &Crowd) -> Option<()> {
        let (inside, outside) = crowd.split(&self.tenant.id);
        let (inside, outside) = (Arc::new(inside), Arc::new(outside));
        let calm = Plan { duration: CALM, ..self.settings.plan() };
        self.saml_logins("saml login before", calm, &inside).await;

        let down = async {
            if self.fallback_offered().await? {
                return Err(Failure::wrong("the fallback is offered although the IdP is up"));
            }
            self.switch("down").await
        };
        self.visit().step("idp taken down", down).await?;
        self.recorder.note(format!("IdP of {} taken down", self.tenant.id));
        let took = self.until(true, "fallback offered", OFFER_MAX).await?;
        self.recorder.note(format!("fallback offered after {:.1} s", took.as_secs_f64()));

        let (_, user) = inside.at(0)?;
        self.visit().step("wrong password refused", self.refuses_wrong_password(user)).await;
        let during = self.settings.plan();
        tokio::join!(self.fallback_logins(during, &inside), self.saml_logins("saml login elsewhere", during, &outside));

        self.visit().step("idp brought back", self.switch("up")).await?;
        self.recorder.note(format!("IdP of {} brought back", self.tenant.id));
        let took = self.until(false, "fallback withdrawn", WITHDRAW_MAX).await?;
        self.recorder.note(format!("fallback withdrawn after {:.1} s", took.as_secs_f64()));
        self.saml_logins("saml login after", calm, &inside).await;
        Some(())
    }

    fn visit(&self) -> Visit {
        Visit::new(Arc::clone(self.recorder), Instant::now(), self.settings.seed)
    }

    /// Takes the IdP down or up.
    async fn switch(&self, word: &str) -> Result<(), Failure> {
        let url = format!("{}/{word}?tenant={}", self.target.demo.idp_control, self.tenant.id);
        let answer = reqwest::Client::new().post(url).send().await?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(Failure::wrong(format!("the IdP's switch says {}", answer.status())))
        }
    }

    async fn fallback_offered(&self) -> Result<bool, Failure> {
        Ok(Browser::new(self.target)?.login_page(self.tenant).await?.offers_password())
    }

    /// Looks at the login page until it offers the fallback, or no longer does; the time that takes is the step's latency.
    async fn until(&self, offered: bool, step: &'static str, bound: Duration) -> Option<Duration> {
        let begin = Instant::now();
        let looking = async {
            while !matches!(self.fallback_offered().await, Ok(seen) if seen == offered) {
                sleep(LOOK_EVERY).await;
            }
        };
        let seen = timeout(bound, looking).await;
        let took = begin.elapsed();
        if seen.is_ok() {
            self.recorder.success(step, took, took);
            return Some(took);
        }
        self.recorder.failure(step, &Failure::new("timeout", format!("not within {} s", bound.as_secs())));
        None
    }

    async fn refuses_wrong_password(&self, user: &DemoUser) -> Result<(), Failure> {
        let browser = Browser::new(self.target)?;
        if browser.log_in_by_fallback(self.tenant, user, "not the password").await.is_ok() {
            return Err(Failure::wrong("a wrong password logged in"));
        }
        if browser.get("/inbox").await?.names(user).is_ok() {
            return Err(Failure::wrong("a wrong password opened a session"));
        }
        Ok(())
    }

    async fn saml_logins(&self, step: &'static str, plan: Plan, crowd: &Arc<Crowd>) {
        engine::run(plan, self.recorder, |mut visit| {
            let (target, crowd) = (self.target.clone(), Arc::clone(crowd));
            async move {
                let Some((tenant, user)) = crowd.anyone(&mut visit.chance) else { return };
                visit.step(step, async { Browser::new(&target)?.log_in_by_idp(&tenant, &user).await }).await;
            }
        })
        .await;
    }

    async fn fallback_logins(&self, plan: Plan, crowd: &Arc<Crowd>) {
        engine::run(plan, self.recorder, |mut visit| {
            let (target, crowd) = (self.target.clone(), Arc::clone(crowd));
            async move {
                let Some((tenant, user)) = crowd.anyone(&mut visit.chance) else { return };
                let login = async {
                    let browser = Browser::new(&target)?;
                    browser.log_in_by_fallback(&tenant, &user, &user.password).await?;
                    Ok(browser)
                };
                let Some(browser) = visit.step("fallback login", login).await else { return };
                visit.step("webmail page", async { browser.get("/inbox").await?.names(&user) }).await;
            }
        })
        .await;
    }
}

const CALM: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const OFFER_MAX: Duration = Duration::from_secs(240);
const WITHDRAW_MAX: Duration = Duration::from_secs(240);
