//! What is asked of identity providers.

use super::{Check, all, values::seconds};
use crate::{GuardedPath, LoginRequest, RequestBinding, StepUp, file};

impl Check {
    /// What every login asks.
    pub(super) fn login_request(&mut self, key: &str, file: &file::IdpSaml) -> Option<LoginRequest> {
        let authn_context = self.authn_context(&format!("{key}.authn_context"), &file.authn_context);
        Some(LoginRequest {
            binding: file.binding.map(|binding| match binding {
                file::RequestBinding::Redirect => RequestBinding::Redirect,
                file::RequestBinding::Post => RequestBinding::Post,
            }),
            force_authn: file.force_authn,
            authn_context: authn_context?,
        })
    }

    /// Pages that want more; only an identity provider can give it.
    pub(super) fn step_up(&mut self, tenant: &str, file: &file::Tenant) -> Option<Option<StepUp>> {
        let Some(step_up) = &file.step_up else { return Some(None) };
        let key = format!("{tenant}.step_up");
        if file.idp.is_none() {
            let hint = format!("add [{tenant}.idp.saml], or leave this table out");
            self.problem(&key, "the tenant has no identity provider that could ask its users again", hint);
        }
        let one = |(index, text): (usize, &String)| self.parse::<GuardedPath>(&format!("{key}.paths[{index}]"), text);
        let paths = all(step_up.paths.iter().enumerate().map(one).collect());
        let authn_context = self.authn_context(&format!("{key}.authn_context"), &step_up.authn_context);
        // Shorter, and a user who has just come back would be sent away again.
        let range = seconds(60)..=seconds(24 * 3600);
        let max_age = self.lapse(&format!("{key}.max_age"), &step_up.max_age, range);
        Some(Some(StepUp { paths: paths?, authn_context: authn_context?, max_age: max_age? }))
    }

    fn authn_context(&mut self, key: &str, texts: &[String]) -> Option<Vec<String>> {
        let one = |(index, text): (usize, &String)| {
            let key = format!("{key}[{index}]");
            let plain = text.bytes().all(|byte| byte.is_ascii_graphic()) && text.contains(':');
            if !plain || text.len() > CONTEXT_BYTES_MAX {
                let message = format!("{text:?} is not an authentication context");
                let hint = "it is a URI of at most 128 bytes, such as \"https://refeds.org/profile/mfa\"".to_owned();
                self.problem(&key, message, hint);
                return None;
            }
            if texts.iter().take(index).any(|before| before == text) {
                self.problem(&key, format!("{text:?} stands here twice"), None);
                return None;
            }
            Some(text.clone())
        };
        all(texts.iter().enumerate().map(one).collect())
    }
}

/// Four of them fit the cookie of a login under way; those in use have 60.
const CONTEXT_BYTES_MAX: usize = 128;
