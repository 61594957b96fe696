//! Who is signed in at an IdP: a cookie in the browser, a bounded table here.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::{HeaderMap, header};
use jiff::Timestamp;

use crate::world::saml::{SamlError, random_id};

/// One browser's session at one IdP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Login of the person.
    pub login: String,
    /// NameID told to the service provider.
    pub name_id: String,
    /// SessionIndex told to the service provider.
    pub index: String,
    /// AuthnContextClassRef: how the person signed in.
    pub context: String,
    /// AuthnInstant.
    pub began: Timestamp,
}

/// The sessions of all IdPs.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    by_cookie: HashMap<String, Session>,
    order: VecDeque<String>,
}

impl Sessions {
    /// Opens a session: its cookie as a header value, and what it is.
    pub(super) fn open(&self, tenant: &str, login: &str, context: &str) -> Result<(String, Session), SamlError> {
        let id = random_id()?;
        let session = Session {
            login: login.to_owned(),
            name_id: random_id()?,
            index: random_id()?,
            context: context.to_owned(),
            began: Timestamp::now(),
        };
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.order.len() >= SESSIONS_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            table.by_cookie.remove(&oldest);
        }
        table.order.push_back(key(tenant, &id));
        table.by_cookie.insert(key(tenant, &id), session.clone());
        // Plain HTTP on loopback: no `Secure`.
        Ok((format!("{NAME}={id}; Path=/{tenant}/; HttpOnly; SameSite=Lax"), session))
    }

    /// The browser's session at this IdP.
    pub(super) fn of(&self, tenant: &str, headers: &HeaderMap) -> Option<Session> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.by_cookie.get(&key(tenant, &cookie(headers)?)).cloned()
    }

    /// Ends the browser's session at this IdP.
    pub(super) fn end(&self, tenant: &str, headers: &HeaderMap) -> Option<Session> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.by_cookie.remove(&key(tenant, &cookie(headers)?))
    }

    /// Ends the session that is known to the service provider by this name.
    pub(super) fn end_named(&self, name_id: &str) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.by_cookie.retain(|_, session| session.name_id != name_id);
    }
}

fn key(tenant: &str, id: &str) -> String {
    format!("{tenant} {id}")
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, value)| value.to_owned())
}

const NAME: &str = "demo-idp";
/// The oldest goes when a load test opens more.
const SESSIONS_MAX: usize = 100_000;
