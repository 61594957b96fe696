//! Names of SAML attributes: what an assertion calls them, and the words people know them by. The one table of both.

use std::{borrow::Cow, fmt, str::FromStr};

use crate::NameError;

/// An attribute by the `Name` that an assertion gives it, such as `urn:oid:0.9.2342.19200300.100.1.3`. A configuration may
/// write a word of the table instead (`mail`); a `FriendlyName` never decides.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeName(Cow<'static, str>);

impl AttributeName {
    /// `mail`
    pub const MAIL: Self = Self(Cow::Borrowed("urn:oid:0.9.2342.19200300.100.1.3"));
    /// `eduPersonPrincipalName`
    pub const PRINCIPAL_NAME: Self = Self(Cow::Borrowed("urn:oid:1.3.6.1.4.1.5923.1.1.1.6"));
    /// `eduPersonScopedAffiliation`
    pub const SCOPED_AFFILIATION: Self = Self(Cow::Borrowed("urn:oid:1.3.6.1.4.1.5923.1.1.1.9"));
    /// `eduPersonAssurance`
    pub const ASSURANCE: Self = Self(Cow::Borrowed("urn:oid:1.3.6.1.4.1.5923.1.1.1.11"));

    /// The `Name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The word people know it by, else the `Name`.
    pub fn known_as(&self) -> &str {
        self.row().and_then(|row| row.words.first()).copied().unwrap_or(&self.0)
    }

    /// Whether its values say `value@scope`, where the scope must be one that the federation registered for the IdP.
    pub fn is_scoped(&self) -> bool {
        self.row().is_some_and(|row| row.scoped)
    }

    /// How its one value is read where it identifies a user; `None` where it cannot.
    pub fn identifier_syntax(&self) -> Option<IdentifierSyntax> {
        self.row().and_then(|row| row.identifies)
    }

    /// Words that [`AttributeName::from_str`] knows, of all attributes or of those that can identify a user.
    pub fn words(identifying: bool) -> impl Iterator<Item = &'static str> {
        let rows = TABLE.iter().filter(move |row| !identifying || row.identifies.is_some());
        rows.flat_map(|row| row.words).copied()
    }

    fn row(&self) -> Option<&'static Row> {
        TABLE.iter().find(|row| *row.name == *self.0)
    }
}

impl FromStr for AttributeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let named = |row: &&Row| row.words.iter().any(|word| word.eq_ignore_ascii_case(text));
        if let Some(row) = TABLE.iter().find(named) {
            return Ok(Self(Cow::Borrowed(row.name)));
        }
        if !["urn:", "http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(NameError("it is neither a word we know nor a name such as \"urn:oid:…\""));
        }
        if text.len() > NAME_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NameError("a name has at most 256 bytes, without spaces"));
        }
        Ok(Self(Cow::Owned(text.to_owned())))
    }
}

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.known_as())
    }
}

impl fmt::Debug for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.known_as())
    }
}

/// How the value of an identifying attribute is read. All of them compare without regard to case by their definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentifierSyntax {
    /// `id@scope` of the SAML V2.0 Subject Identifier Attributes Profile §3.3.1 and §3.4.1.
    SubjectId,
    /// `id@scope` of eduPersonUniqueId: up to 64 letters and digits before the `@`.
    UniqueId,
    /// `name@scope` of eduPersonPrincipalName.
    Scoped,
    /// A login or a number without scope: the IdP's own word, good within its tenant.
    Plain,
}

struct Row {
    name: &'static str,
    scoped: bool,
    identifies: Option<IdentifierSyntax>,
    /// The first is the well-known one.
    words: &'static [&'static str],
}

const fn plain(name: &'static str, words: &'static [&'static str]) -> Row {
    Row { name, scoped: false, identifies: None, words }
}

const fn identifying(name: &'static str, syntax: IdentifierSyntax, words: &'static [&'static str]) -> Row {
    Row { name, scoped: !matches!(syntax, IdentifierSyntax::Plain), identifies: Some(syntax), words }
}

/// SAML V2.0 Subject Identifier Attributes Profile; eduPerson 2022-11; SUPANN (arc 1.3.6.1.4.1.7135.1.2.1); SCHAC;
/// RFC 2798, 4519 and 4524. Names by the SAML V2.0 X.500/LDAP Attribute Profile.
const TABLE: [Row; 36] = [
    identifying("urn:oasis:names:tc:SAML:attribute:subject-id", IdentifierSyntax::SubjectId, &["subject-id"]),
    identifying("urn:oasis:names:tc:SAML:attribute:pairwise-id", IdentifierSyntax::SubjectId, &["pairwise-id"]),
    identifying("urn:oid:1.3.6.1.4.1.5923.1.1.1.6", IdentifierSyntax::Scoped, &["eduPersonPrincipalName", "eppn"]),
    identifying("urn:oid:1.3.6.1.4.1.5923.1.1.1.13", IdentifierSyntax::UniqueId, &["eduPersonUniqueId", "epuid"]),
    Row {
        name: "urn:oid:1.3.6.1.4.1.5923.1.1.1.9",
        scoped: true,
        identifies: None,
        words: &["eduPersonScopedAffiliation", "epsa"],
    },
    plain("urn:oid:1.3.6.1.4.1.5923.1.1.1.1", &["eduPersonAffiliation"]),
    plain("urn:oid:1.3.6.1.4.1.5923.1.1.1.5", &["eduPersonPrimaryAffiliation"]),
    plain("urn:oid:1.3.6.1.4.1.5923.1.1.1.7", &["eduPersonEntitlement"]),
    plain("urn:oid:1.3.6.1.4.1.5923.1.1.1.10", &["eduPersonTargetedID"]),
    plain("urn:oid:1.3.6.1.4.1.5923.1.1.1.11", &["eduPersonAssurance"]),
    plain("urn:oid:1.3.6.1.4.1.5923.1.1.1.16", &["eduPersonOrcid"]),
    plain("urn:oid:1.3.6.1.4.1.5923.1.5.1.1", &["isMemberOf"]),
    plain("urn:oid:1.3.6.1.4.1.7135.1.2.1.2", &["supannActivite"]),
    plain("urn:oid:1.3.6.1.4.1.7135.1.2.1.3", &["supannOrganisme"]),
    plain("urn:oid:1.3.6.1.4.1.7135.1.2.1.8", &["supannEntiteAffectation"]),
    identifying("urn:oid:1.3.6.1.4.1.7135.1.2.1.10", IdentifierSyntax::Plain, &["supannEtuId"]),
    identifying("urn:oid:1.3.6.1.4.1.7135.1.2.1.11", IdentifierSyntax::Plain, &["supannEmpId"]),
    plain("urn:oid:1.3.6.1.4.1.7135.1.2.1.13", &["supannEntiteAffectationPrincipale"]),
    plain("urn:oid:1.3.6.1.4.1.7135.1.2.1.14", &["supannEtablissement"]),
    identifying("urn:oid:1.3.6.1.4.1.7135.1.2.1.20", IdentifierSyntax::Plain, &["supannAliasLogin"]),
    plain("urn:oid:1.3.6.1.4.1.7135.1.2.1.21", &["supannRole"]),
    plain("urn:oid:1.3.6.1.4.1.7135.1.2.1.23", &["supannRoleGenerique"]),
    plain("urn:oid:1.3.6.1.4.1.7135.1.2.1.34", &["supannAutreMail"]),
    plain("urn:oid:1.3.6.1.4.1.7135.1.2.1.35", &["supannEmpCorps"]),
    plain("urn:oid:1.3.6.1.4.1.25178.1.2.9", &["schacHomeOrganization"]),
    plain("urn:oid:1.3.6.1.4.1.25178.1.2.14", &["schacPersonalUniqueCode"]),
    plain("urn:oid:0.9.2342.19200300.100.1.3", &["mail"]),
    identifying("urn:oid:0.9.2342.19200300.100.1.1", IdentifierSyntax::Plain, &["uid"]),
    plain("urn:oid:2.16.840.1.113730.3.1.241", &["displayName"]),
    identifying("urn:oid:2.16.840.1.113730.3.1.3", IdentifierSyntax::Plain, &["employeeNumber"]),
    plain("urn:oid:2.16.840.1.113730.3.1.39", &["preferredLanguage"]),
    plain("urn:oid:2.5.4.3", &["cn", "commonName"]),
    plain("urn:oid:2.5.4.4", &["sn", "surname"]),
    plain("urn:oid:2.5.4.42", &["givenName"]),
    plain("urn:oid:2.5.4.10", &["o"]),
    plain("urn:oid:2.5.4.11", &["ou"]),
];

/// Real names are far shorter.
const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_word_and_a_name_are_the_same_attribute() {
        for (text, name) in [
            ("mail", "urn:oid:0.9.2342.19200300.100.1.3"),
            ("eppn", "urn:oid:1.3.6.1.4.1.5923.1.1.1.6"),
            ("edupersonprincipalname", "urn:oid:1.3.6.1.4.1.5923.1.1.1.6"),
            ("supannEtablissement", "urn:oid:1.3.6.1.4.1.7135.1.2.1.14"),
            ("pairwise-id", "urn:oasis:names:tc:SAML:attribute:pairwise-id"),
            ("urn:oid:2.5.4.4", "urn:oid:2.5.4.4"),
            ("https://idp.example/attributes/x", "https://idp.example/attributes/x"),
        ] {
            assert_eq!(text.parse::<AttributeName>().map(|known| known.as_str().to_owned()).as_deref(), Ok(name));
        }
        assert_eq!(
            "urn:oid:1.3.6.1.4.1.5923.1.1.1.6".parse::<AttributeName>().unwrap().known_as(),
            "eduPersonPrincipalName"
        );
        assert_eq!("urn:x".parse::<AttributeName>().unwrap().known_as(), "urn:x");
    }

    #[test]
    fn other_words_are_no_attributes() {
        let long = format!("urn:{}", "x".repeat(300));
        for text in ["", "email", "mail ", "m\u{430}il", "1.3.6.1", "oid:1.3", "urn:a b", "urn:é", long.as_str()] {
            assert!(text.parse::<AttributeName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_name_and_each_word_stands_once() {
        let mut seen = HashSet::new();
        for row in &TABLE {
            assert!(seen.insert(row.name.to_ascii_lowercase()), "{}", row.name);
            assert!(row.name.parse::<AttributeName>().is_ok() && !row.words.is_empty());
            for word in row.words {
                assert!(seen.insert(word.to_ascii_lowercase()), "{word}");
            }
        }
        for known in [
            AttributeName::MAIL,
            AttributeName::PRINCIPAL_NAME,
            AttributeName::SCOPED_AFFILIATION,
            AttributeName::ASSURANCE,
        ] {
            assert_ne!(known.known_as(), known.as_str());
        }
    }

    #[test]
    fn what_has_a_scope_is_known() {
        let scoped: Vec<&str> = TABLE.iter().filter(|row| row.scoped).map(|row| row.words[0]).collect();
        let expected =
            ["subject-id", "pairwise-id", "eduPersonPrincipalName", "eduPersonUniqueId", "eduPersonScopedAffiliation"];
        assert_eq!(scoped, expected);
        assert_eq!("mail".parse::<AttributeName>().unwrap().identifier_syntax(), None);
    }
}
