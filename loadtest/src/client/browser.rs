//! A browser without JavaScript: cookies, forms, redirects one by one.

use std::sync::Arc;

use reqwest::{
    Client, Response, StatusCode,
    cookie::{CookieStore as _, Jar},
    header::{ACCEPT, LOCATION, ORIGIN, REFRESH},
    redirect::Policy,
};
use url::Url;

use super::{Failure, Target};
use crate::demo::{DemoTenant, DemoUser};

/// One browser with its cookies.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    jar: Arc<Jar>,
    origin: Url,
}

impl Browser {
    /// A fresh one.
    ///
    /// # Errors
    /// The target's origin is no URL.
    pub fn new(target: &Target) -> Result<Self, Failure> {
        let jar = Arc::new(Jar::default());
        let client = Client::builder()
            .tls_backend_preconfigured(target.web_tls.clone())
            .cookie_provider(Arc::clone(&jar))
            .redirect(Policy::none())
            .build()?;
        let origin = Url::parse(&target.demo.web).map_err(|error| Failure::wrong(error.to_string()))?;
        Ok(Self { client, jar, origin })
    }

    /// The gateway's page at `path`.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&self, path: &str) -> Result<Page, Failure> {
        let url = self.url(path)?;
        self.visit(url).await
    }

    /// Goes to a page that needs a login, through the institution's IdP, and checks that it names the user.
    ///
    /// # Errors
    /// Anything but that page.
    pub async fn log_in_by_idp(&self, tenant: &DemoTenant, user: &DemoUser) -> Result<(), Failure> {
        let chooser = self.get("/").await?.follow(self).await?;
        let next = chooser.field("next").unwrap_or_else(|| "/".to_owned());
        let fields = [("address", user.address.as_str()), ("next", next.as_str())];
        let form = self.post(self.url("/login/start")?, &fields, &self.origin).await?.follow(self).await?;
        if !form.url.as_str().starts_with(&tenant.idp) {
            return Err(Failure::wrong(format!("sent to {} instead of the institution's page", form.url)));
        }
        self.sign_in_at_idp(form, user).await
    }

    /// From the IdP's form to the page asked for.
    async fn sign_in_at_idp(&self, form: Page, user: &DemoUser) -> Result<(), Failure> {
        form.expect(StatusCode::OK)?;
        let mut fields = form.fields();
        fields.retain(|(name, _)| name == "request_id" || name == "RelayState");
        fields.push(("idp_login".to_owned(), user.idp_login.clone()));
        fields.push(("idp_password".to_owned(), user.idp_password.clone()));
        let action = form.action()?;
        let idp_origin = form.url.clone();
        let handover = self.post(action, &fields, &idp_origin).await?;
        handover.expect(StatusCode::OK)?;
        let fields = handover.fields();
        if !fields.iter().any(|(name, _)| name == "SAMLResponse") {
            return Err(Failure::new("refused", "the institution's page took no login"));
        }
        let home = self.post(handover.action()?, &fields, &idp_origin).await?.follow(self).await?;
        home.names(user)
    }

    /// The login page of a tenant, after its redirects.
    ///
    /// # Errors
    /// No answer.
    pub async fn login_page(&self, tenant: &DemoTenant) -> Result<Page, Failure> {
        self.get(&format!("/login?tenant={}", tenant.id)).await
    }

    /// Logs in with the directory password on a page that offers it.
    ///
    /// # Errors
    /// Anything but the user's page.
    pub async fn log_in_by_fallback(
        &self,
        tenant: &DemoTenant,
        user: &DemoUser,
        password: &str,
    ) -> Result<(), Failure> {
        let page = self.login_page(tenant).await?;
        if !page.offers_password() {
            return Err(Failure::new("refused", "the login page does not offer the directory password"));
        }
        let next = page.field("next").unwrap_or_else(|| "/".to_owned());
        let fields =
            [("tenant", tenant.id.as_str()), ("next", &next), ("address", &user.address), ("password", password)];
        let home = self.post(self.url("/login/password")?, &fields, &self.origin).await?.follow(self).await?;
        home.names(user)
    }

    /// The cookies for the gateway, as a header value.
    pub fn cookies(&self) -> Option<String> {
        self.jar.cookies(&self.origin).and_then(|value| value.to_str().map(str::to_owned).ok())
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        self.origin.join(path).map_err(|error| Failure::wrong(error.to_string()))
    }

    async fn visit(&self, url: Url) -> Result<Page, Failure> {
        let response = self.client.get(url).header(ACCEPT, "text/html").send().await?;
        Page::read(response).await
    }

    async fn post<T: serde::Serialize + ?Sized>(&self, url: Url, fields: &T, from: &Url) -> Result<Page, Failure> {
        let origin = from.origin().ascii_serialization();
        let response =
            self.client.post(url).header(ACCEPT, "text/html").header(ORIGIN, origin).form(fields).send().await?;
        Page::read(response).await
    }
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it came from.
    pub url: Url,
    /// Status.
    pub status: StatusCode,
    /// Body.
    pub body: String,
    /// Where it leads, by a redirect or as a page that leads on.
    location: Option<String>,
}

impl Page {
    async fn read(response: Response) -> Result<Self, Failure> {
        let field = |name| response.headers().get(name).and_then(|value| value.to_str().map(str::to_owned).ok());
        let location = match response.status().is_redirection() {
            true => field(LOCATION),
            false => field(REFRESH).and_then(|value| value.strip_prefix("0; url=").map(str::to_owned)),
        };
        Ok(Self { url: response.url().clone(), status: response.status(), location, body: response.text().await? })
    }

    /// Goes where it sends, at most ten times.
    ///
    /// # Errors
    /// No answer, or a circle.
    pub async fn follow(self, browser: &Browser) -> Result<Self, Failure> {
        let mut page = self;
        for _ in 0..REDIRECTS_MAX {
            let Some(location) = page.location.as_deref() else { return Ok(page) };
            let next = page.url.join(location).map_err(|error| Failure::wrong(format!("{location}: {error}")))?;
            page = browser.visit(next).await?;
        }
        Err(Failure::wrong(format!("sent in circles, last to {}", page.url)))
    }

    /// Whether it has a form for the directory password.
    pub fn offers_password(&self) -> bool {
        self.body.contains("action=\"/login/password\"")
    }

    /// Checks the status.
    ///
    /// # Errors
    /// Another one.
    pub fn expect(&self, status: StatusCode) -> Result<(), Failure> {
        let kind = match self.status {
            seen if seen == status => return Ok(()),
            StatusCode::SERVICE_UNAVAILABLE => "later",
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => "refused",
            _ => "wrong answer",
        };
        Err(Failure::new(kind, format!("{} from {}", self.status, self.url.path())))
    }

    /// Checks that it is the mail page of `user`, and of nobody else.
    ///
    /// # Errors
    /// It is not.
    pub fn names(&self, user: &DemoUser) -> Result<(), Failure> {
        self.expect(StatusCode::OK)?;
        if self.body.contains(&format!("<strong id=\"user\">{}</strong>", user.address)) {
            return Ok(());
        }
        let title = self.body.split("<title>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default();
        Err(Failure::wrong(format!("{} (\"{title}\") is not the page of its user", self.url.path())))
    }

    fn action(&self) -> Result<Url, Failure> {
        let action = self.body.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).map(unescape);
        let action = action.ok_or_else(|| Failure::wrong(format!("{} has no form", self.url.path())))?;
        self.url.join(&action).map_err(|error| Failure::wrong(error.to_string()))
    }

    fn fields(&self) -> Vec<(String, String)> {
        form_fields(&self.body)
    }

    fn field(&self, name: &str) -> Option<String> {
        self.fields().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Name and value of every `<input>` that has both.
pub fn form_fields(html: &str) -> Vec<(String, String)> {
    let attribute = |tag: &str, name: &str| {
        let rest = tag.split_once(&format!(" {name}=\""))?.1;
        rest.split('"').next().map(unescape)
    };
    html.split("<input")
        .skip(1)
        .filter_map(|rest| {
            let tag = rest.split('>').next()?;
            Some((attribute(tag, "name")?, attribute(tag, "value")?))
        })
        .collect()
}

fn unescape(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&#x2F;", "/")
        .replace("&lt;", "<")
        .replace("&#60;", "<")
        .replace("&gt;", ">")
        .replace("&#62;", ">")
        .replace("&#38;", "&")
        .replace("&amp;", "&")
}

const REDIRECTS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_with_their_values() {
        let html = r#"<form><input type="hidden" name="a" value="1 &amp; 2"><input name="b"><input name="c" value="">"#;
        assert_eq!(form_fields(html), [("a".into(), "1 & 2".into()), ("c".into(), String::new())]);
    }
}
