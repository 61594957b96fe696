//! What a relay carries.

use guichet_config::MailProtocol;

/// What a relay carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// A mail program's, behind its login.
    Mail(MailProtocol),
    /// Of a relay listener, where nobody logs in.
    Relay,
    /// A browser's, once a request has switched protocols (WebSocket).
    Web,
}

impl Traffic {
    /// As operators spell it, and for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mail(protocol) => protocol.as_str(),
            Self::Relay => "relay",
            Self::Web => "web",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        let mail = MailProtocol::ALL.into_iter().map(Self::Mail);
        mail.chain([Self::Relay, Self::Web]).find(|one| one.as_str() == name)
    }
}
