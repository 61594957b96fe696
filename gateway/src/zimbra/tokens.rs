//! The tokens that cells gave, kept for their life: one for each user and cell, asked for once however many logins wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use guichet_config::{Address, CellId, CellZimbra, Domain, Endpoint};
use guichet_proto::SecretText;
use http::StatusCode;
use moka::{Expiry, future::Cache};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::{
    door::Door,
    exchange::{self, Answered},
    preauth::{self, Given, Question, Withheld},
};
use crate::{
    app::{App, Snapshot},
    cell::{Chosen, DialError, Service},
    telemetry::{chain, event},
    tls::client,
};

/// What opens a cell for one user.
#[derive(Debug)]
pub(crate) struct Token {
    /// The token itself.
    pub(crate) secret: SecretText,
    /// When it was asked for.
    pub(crate) asked: Instant,
    kept: Duration,
}

/// Why there is no token. Never the user's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// The configuration has none for the user's domain, or none at all.
    #[error("there is no PreAuth key for the user's domain")]
    NoKey,
    /// No endpoint answers in time.
    #[error("no token service answers: {0}")]
    Away(String),
    /// It answers, but not as Zimbra does.
    #[error("the token service does not answer as Zimbra does: {0}")]
    Garbage(String),
    /// It gives none for this user, or none at all.
    #[error("the cell gives no token: {0}")]
    Refused(String),
    /// It refused before, and is not asked again so soon.
    #[error("the cell refused a token lately and is not asked again so soon")]
    Held,
}

impl TokenError {
    /// For the metric.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoKey => "token_no_key",
            Self::Away(_) => "token_away",
            Self::Garbage(_) => "token_garbage",
            Self::Refused(_) => "token_refused",
            Self::Held => "token_held",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    cell: CellId,
    user: Address,
}

/// The tokens of a node. Survive reloads.
#[derive(Debug)]
pub(crate) struct Tokens {
    kept: Cache<Name, Arc<Token>>,
    /// By cell, of one configuration: another may have another key.
    doors: Mutex<(u64, HashMap<CellId, Arc<Door>>)>,
}

struct Life;

impl Expiry<Name, Arc<Token>> for Life {
    fn expire_after_create(&self, _: &Name, token: &Arc<Token>, _: std::time::Instant) -> Option<Duration> {
        Some(token.kept)
    }
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self { kept: Cache::builder().max_capacity(TOKENS_MAX).expire_after(Life).build(), doors: Mutex::default() }
    }

    /// The user's token for a cell, kept or new. Those who ask at once for one user share one question.
    pub(crate) async fn of(
        &self,
        app: &App,
        snapshot: &Snapshot,
        cell: &CellId,
        user: &Address,
    ) -> Result<Arc<Token>, TokenError> {
        let name = Name { cell: cell.clone(), user: user.clone() };
        let asked = Box::pin(self.ask(app, snapshot, cell, user));
        self.kept.try_get_with(name, asked).await.map_err(|error: Arc<TokenError>| (*error).clone())
    }

    /// The cell took this token no more: a password was changed, or an administrator ended it.
    pub(crate) async fn forget(&self, cell: &CellId, user: &Address, token: &Arc<Token>) {
        let name = Name { cell: cell.clone(), user: user.clone() };
        // Not a newer one that somebody else was given meanwhile.
        if self.kept.get(&name).await.is_some_and(|kept| Arc::ptr_eq(&kept, token)) {
            self.kept.invalidate(&name).await;
        }
    }

    /// A user has logged out: what is kept for them at these cells goes.
    pub(crate) async fn forget_user(&self, cells: impl Iterator<Item = &CellId>, user: &Address) {
        for cell in cells {
            self.kept.invalidate(&Name { cell: cell.clone(), user: user.clone() }).await;
        }
    }

    async fn ask(
        &self,
        app: &App,
        snapshot: &Snapshot,
        cell: &CellId,
        user: &Address,
    ) -> Result<Arc<Token>, TokenError> {
        let zimbra = snapshot.config.cells.get(cell).and_then(|cell| cell.zimbra.as_ref()).ok_or(TokenError::NoKey)?;
        let key = key_of(zimbra, user).ok_or(TokenError::NoKey)?;
        let door = self.door(cell, snapshot.generation);
        let asked = Instant::now();
        let given = if door.admits(user, asked) {
            let question = async {
                // Closed by nobody.
                let _seat = door.seats.acquire().await;
                somewhere(app, snapshot, cell, zimbra, key, user).await
            };
            timeout(ASK_TIMEOUT, question).await.unwrap_or_else(|_| Err(TokenError::Away("no answer in time".into())))
        } else {
            Err(TokenError::Held)
        };
        let result = match &given {
            Ok(_) => {
                door.on_given(user, asked);
                "given"
            }
            Err(TokenError::Refused(code)) => {
                if code.starts_with(AUTH_FAILED) && door.on_refused(user, asked) {
                    event::PreauthInDoubt { cell, detail: code }.emit();
                }
                "refused"
            }
            Err(TokenError::Held) => "held",
            Err(_) => "failed",
        };
        event::TokenAsked { cell, user, result, took: asked.elapsed() }.emit();
        let Given { token: secret, life } = given?;
        let kept = life.min(zimbra.token_life).saturating_sub(LIFE_MARGIN);
        Ok(Arc::new(Token { secret, asked, kept }))
    }

    fn door(&self, cell: &CellId, generation: u64) -> Arc<Door> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        // A login that began before a reload is judged by what came after.
        if doors.0 < generation {
            *doors = (generation, HashMap::new());
        }
        doors.1.entry(cell.clone()).or_insert_with(|| Arc::new(Door::new())).clone()
    }
}

/// The key of the user's domain.
fn key_of<'a>(zimbra: &'a CellZimbra, user: &Address) -> Option<&'a str> {
    let own = user.domain().parse::<Domain>().ok().and_then(|domain| zimbra.keys.get(&domain));
    own.or(zimbra.key.as_ref()).map(|key| key.expose().as_str())
}

/// Asks one endpoint, and one other when that one cannot say.
async fn somewhere(
    app: &App,
    snapshot: &Snapshot,
    cell: &CellId,
    zimbra: &CellZimbra,
    key: &str,
    user: &Address,
) -> Result<Given, TokenError> {
    let mut failed: Option<(Endpoint, TokenError)> = None;
    for _ in 0..ENDPOINTS_MAX {
        let before = failed.as_ref().map(|(endpoint, _)| endpoint);
        let Some(chosen) = app.cells.choose_other(cell, Service::Zimbra, before).await else { break };
        let now = app.clock.now();
        let question =
            Question { account: user.as_str(), key, timestamp: now.0, expires: now.plus(zimbra.token_life).0 };
        match timeout(ENDPOINT_TIMEOUT, at(snapshot, zimbra, &chosen, &question)).await {
            Ok(Ok(answered)) => {
                app.cells.on_success(cell, Service::Zimbra, &chosen.endpoint);
                let skew = answered.clock.and_then(|clock| clock.checked_sub_unsigned(now.0)).unwrap_or(0) / 1000;
                match judge(&answered, skew) {
                    Err(error @ TokenError::Garbage(_)) => failed = Some((chosen.endpoint, error)),
                    judged => return judged,
                }
            }
            Ok(Err(Unasked::NoSource)) => {
                failed = Some((chosen.endpoint, TokenError::Away("no source address".into())))
            }
            Ok(Err(Unasked::Broken(error))) => {
                app.cells.on_failure(cell, Service::Zimbra, &chosen.endpoint, &error);
                failed = Some((chosen.endpoint, TokenError::Away(error)));
            }
            Err(_) => {
                app.cells.on_failure(cell, Service::Zimbra, &chosen.endpoint, "no token in time");
                failed = Some((chosen.endpoint, TokenError::Away("no answer in time".into())));
            }
        }
    }
    Err(failed.map_or_else(|| TokenError::Away("no endpoint is in rotation".into()), |(_, error)| error))
}

enum Unasked {
    NoSource,
    Broken(String),
}

async fn at(
    snapshot: &Snapshot,
    zimbra: &CellZimbra,
    chosen: &Chosen,
    question: &Question<'_>,
) -> Result<Answered, Unasked> {
    let stream = chosen.connect().await.map_err(|error| match error {
        DialError::NoSource => Unasked::NoSource,
        DialError::Refused(error) => Unasked::Broken(error),
    })?;
    let posted = match &zimbra.tls {
        None => exchange::post(stream, &chosen.label, question.body()).await,
        Some(tls) => {
            let config = snapshot.client_tls.of(tls).ok_or(Unasked::Broken("no TLS roots are loaded".into()))?;
            let name = client::server_name(tls, &chosen.endpoint).map_err(Unasked::Broken)?;
            let stream = TlsConnector::from(config).connect(name, stream).await;
            let stream = stream.map_err(|error| Unasked::Broken(format!("TLS: {}", chain(&error))))?;
            exchange::post(stream, &chosen.label, question.body()).await
        }
    };
    posted.map_err(Unasked::Broken)
}

/// `skew`: how many seconds the cell's clock is ahead of ours.
fn judge(answered: &Answered, skew: i64) -> Result<Given, TokenError> {
    match answered.status {
        StatusCode::OK | StatusCode::INTERNAL_SERVER_ERROR => {}
        status => return Err(TokenError::Garbage(format!("status {}", status.as_u16()))),
    }
    preauth::read(&answered.body).map_err(|withheld| match withheld {
        Withheld::Garbage(what) => TokenError::Garbage(what.to_owned()),
        Withheld::Fault(code) if skew.abs() >= SKEW_TOLD => {
            TokenError::Refused(format!("{code}; the cell's clock is {skew} s ahead of ours"))
        }
        Withheld::Fault(code) => TokenError::Refused(code),
    })
}

/// The fault that Zimbra counts as a failed login.
const AUTH_FAILED: &str = "account.AUTH_FAILED";
/// About a kilobyte each.
const TOKENS_MAX: u64 = 262_144;
/// A token is not used up to its last moment: a login with it takes its time.
const LIFE_MARGIN: Duration = Duration::from_secs(30);
/// The one chosen and one other.
const ENDPOINTS_MAX: usize = 2;
/// Connect, TLS and answer at one endpoint.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(4);
/// All of it, the wait for a seat included.
const ASK_TIMEOUT: Duration = Duration::from_secs(9);
/// Zimbra allows 300 seconds; a difference of one minute is worth a word.
const SKEW_TOLD: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn kept_tokens_do_not_show_and_only_the_one_that_failed_is_forgotten() {
        let tokens = Tokens::new();
        let (cell, user): (CellId, Address) = ("alpha".parse().unwrap(), "alice@univ.example".parse().unwrap());
        let name = || Name { cell: cell.clone(), user: user.clone() };
        let token = |text: &str| {
            let kept = Duration::from_secs(60);
            Arc::new(Token { secret: SecretText::new(text.to_owned()), asked: Instant::now(), kept })
        };
        let (old, new) = (token("0_old"), token("0_new"));
        tokens.kept.insert(name(), new.clone()).await;
        let shown = format!("{tokens:?} {new:?}");
        assert!(!shown.contains("0_new"), "{shown}");
        tokens.forget(&cell, &user, &old).await;
        assert!(tokens.kept.get(&name()).await.is_some());
        tokens.forget(&cell, &user, &new).await;
        assert!(tokens.kept.get(&name()).await.is_none());
        tokens.kept.insert(name(), new.clone()).await;
        tokens.forget_user([cell.clone()].iter(), &"bob@univ.example".parse().unwrap()).await;
        assert!(tokens.kept.get(&name()).await.is_some());
        tokens.forget_user([cell.clone()].iter(), &user).await;
        assert!(tokens.kept.get(&name()).await.is_none());
    }

    #[tokio::test]
    async fn a_token_is_kept_for_its_life_and_not_at_all_when_it_has_none() {
        let tokens = Tokens::new();
        let name = Name { cell: "alpha".parse().unwrap(), user: "alice@univ.example".parse().unwrap() };
        let secret = SecretText::new("0_a".to_owned());
        let token = Arc::new(Token { secret, asked: Instant::now(), kept: Duration::ZERO });
        tokens.kept.insert(name.clone(), token).await;
        assert!(tokens.kept.get(&name).await.is_none());
    }
}
