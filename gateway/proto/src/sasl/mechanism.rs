//! Which mechanisms there are, and which a listener offers.

use crate::Mechanism;

impl Mechanism {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 6] =
        [Self::Login, Self::Plain, Self::SaslLogin, Self::XOAuth2, Self::OAuthBearer, Self::External];

    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Plain => "plain",
            Self::SaslLogin => "sasl_login",
            Self::XOAuth2 => "xoauth2",
            Self::OAuthBearer => "oauthbearer",
            Self::External => "external",
        }
    }

    /// Its registered name; none for the protocol's own command.
    pub fn sasl_name(self) -> Option<&'static str> {
        match self {
            Self::Login => None,
            Self::Plain => Some("PLAIN"),
            Self::SaslLogin => Some("LOGIN"),
            Self::XOAuth2 => Some("XOAUTH2"),
            Self::OAuthBearer => Some("OAUTHBEARER"),
            Self::External => Some("EXTERNAL"),
        }
    }

    /// The mechanism a client names, in any case.
    pub fn of_sasl_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.sasl_name().is_some_and(|known| name.eq_ignore_ascii_case(known.as_bytes())))
    }

    fn bit(self) -> u8 {
        match self {
            Self::Login => 1,
            Self::Plain => 2,
            Self::SaslLogin => 4,
            Self::XOAuth2 => 8,
            Self::OAuthBearer => 16,
            Self::External => 32,
        }
    }
}

/// The mechanisms a listener offers under TLS. Without TLS none is, whatever this says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mechanisms(u8);

impl Mechanisms {
    /// None at all: for a listener that only leads to STARTTLS.
    pub const NONE: Self = Self(0);
    /// A password by the protocol's own command, PLAIN or LOGIN.
    pub const PASSWORD: Self = Self(7);

    /// This set and one more.
    #[must_use]
    pub fn with(self, mechanism: Mechanism) -> Self {
        Self(self.0 | mechanism.bit())
    }

    /// This set without one.
    #[must_use]
    pub fn without(self, mechanism: Mechanism) -> Self {
        Self(self.0 & !mechanism.bit())
    }

    /// Whether it is offered.
    pub fn contains(self, mechanism: Mechanism) -> bool {
        self.0 & mechanism.bit() != 0
    }

    /// The SASL mechanism a client names, when it is offered.
    pub fn offered(self, sasl_name: &[u8]) -> Option<Mechanism> {
        Mechanism::of_sasl_name(sasl_name).filter(|mechanism| self.contains(*mechanism))
    }

    /// Registered names of the SASL mechanisms among them.
    pub fn sasl_names(self) -> impl Iterator<Item = &'static str> {
        Mechanism::ALL.into_iter().filter(move |mechanism| self.contains(*mechanism)).filter_map(Mechanism::sasl_name)
    }
}

impl FromIterator<Mechanism> for Mechanisms {
    fn from_iter<I: IntoIterator<Item = Mechanism>>(mechanisms: I) -> Self {
        mechanisms.into_iter().fold(Self::NONE, Self::with)
    }
}

impl std::fmt::Debug for Mechanisms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(Mechanism::ALL.into_iter().filter(|mechanism| self.contains(*mechanism))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        for mechanism in Mechanism::ALL {
            let set = Mechanisms::from_iter([mechanism]);
            assert!(Mechanism::ALL.into_iter().all(|other| set.contains(other) == (other == mechanism)));
            assert_eq!(set.without(mechanism), Mechanisms::NONE);
        }
        assert_eq!(format!("{:?}", Mechanisms::PASSWORD), "{Login, Plain, SaslLogin}");
        assert_eq!(Mechanisms::PASSWORD.sasl_names().collect::<Vec<_>>(), ["PLAIN", "LOGIN"]);
    }

    #[test]
    fn only_what_is_offered_is_found() {
        assert_eq!(Mechanisms::PASSWORD.offered(b"plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanisms::PASSWORD.offered(b"LOGIN"), Some(Mechanism::SaslLogin));
        for name in [&b"XOAUTH2"[..], b"EXTERNAL", b"GSSAPI", b"", b"PLAINX"] {
            assert_eq!(Mechanisms::PASSWORD.offered(name), None);
        }
    }
}
