//! Which values of a verified assertion name a user, tell a category and meet a requirement, and which never do.

use guichet_config::{AttributeName, Category, IdentifierSource, IdpOfTenant, Requirement, Tenant};
use proptest::prelude::*;

use super::{
    super::minter::{EPPN, IDP, MAIL, NOW, Recipe, consume_as, name_of, world},
    Refusal, is_identifier,
};
use crate::{Authenticator, Decision, DenyReason, UnavailableReason, Unidentified, chain, saml::Login};

const PAIRWISE: &str = "urn:oasis:names:tc:SAML:attribute:pairwise-id";
const ALIAS: &str = "urn:oid:1.3.6.1.4.1.7135.1.2.1.20";
const SCOPED_AFFILIATION: &str = "urn:oid:1.3.6.1.4.1.5923.1.1.1.9";
const PRIMARY_AFFILIATION: &str = "urn:oid:1.3.6.1.4.1.5923.1.1.1.5";
const ESTABLISHMENT: &str = "urn:oid:1.3.6.1.4.1.7135.1.2.1.14";
const ASSURANCE: &str = "urn:oid:1.3.6.1.4.1.5923.1.1.1.11";

/// A tenant that knows its IdP with these changes.
fn tenant(change: impl FnOnce(&mut IdpOfTenant)) -> Tenant {
    let mut idp = IdpOfTenant::new(IDP);
    change(&mut idp);
    Tenant { idp: Some(idp), ..world().tenant.clone() }
}

fn identified_by(word: &str) -> Tenant {
    tenant(|idp| {
        let attribute: AttributeName = word.parse().unwrap();
        let syntax = attribute.identifier_syntax().unwrap();
        idp.identifier =
            Some(IdentifierSource { attribute, syntax, directory_attribute: Some("labeledURI".to_owned()) });
    })
}

fn login(tenant: &Tenant, attributes: &[(&str, &[&str])]) -> Result<Login, Refusal> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let attributes = attributes.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect();
    consume_as(&Recipe { attributes, ..Recipe::default() }.xml(), tenant, NOW)
}

fn named(tenant: &Tenant, attributes: &[(&str, &[&str])]) -> Result<String, Refusal> {
    login(tenant, attributes).map(|login| name_of(&login).to_owned())
}

#[test]
fn the_order_of_the_address_attributes_decides_not_that_of_the_assertion() {
    let both: &[(&str, &[&str])] = &[(MAIL, &["a.lovelace@univ-a.example"]), (EPPN, &["ada@univ-a.example"])];
    assert_eq!(named(&tenant(|_| {}), both), Ok("a.lovelace@univ-a.example".to_owned()));
    let reversed = tenant(|idp| idp.address_attributes.reverse());
    assert_eq!(named(&reversed, both), Ok("ada@univ-a.example".to_owned()));
}

#[test]
fn a_friendly_name_never_decides() {
    let recipe =
        Recipe { attributes: vec![("urn:x".to_owned(), vec!["ada@univ-a.example".to_owned()])], ..Recipe::default() };
    let friendly = recipe.assertion().replacen("Name=\"urn:x\"", "Name=\"urn:x\" FriendlyName=\"mail\"", 1);
    assert_eq!(consume_as(&recipe.around(&friendly), &tenant(|_| {}), NOW).map(|_| ()), Err(Refusal::AddressMissing));
}

#[test]
fn an_identifier_is_taken_in_lower_case_and_within_the_scopes_of_the_idp() {
    let by_pairwise = identified_by("pairwise-id");
    let ask = |values: &[&str]| named(&by_pairwise, &[(PAIRWISE, values)]);
    assert_eq!(ask(&["HA2TKO=-7@Univ-A.example"]), Ok("ha2tko=-7@univ-a.example".to_owned()));
    assert_eq!(ask(&["x1@univ-a.example", "X1@UNIV-A.EXAMPLE"]), Ok("x1@univ-a.example".to_owned()));
    for (value, refusal) in [
        ("x1@univ-b.example", Refusal::Scope),
        ("x1@evil-univ-a.example", Refusal::Scope),
        ("x1@x.univ-a.example", Refusal::Scope),
        ("x1@univ-a", Refusal::Scope),
        ("x1@univ-a.example@univ-b.example", Refusal::Identifier),
        ("x1@univ-b.example@univ-a.example", Refusal::Identifier),
        ("x1@univ-\u{430}.example", Refusal::Identifier),
        ("\u{ff58}1@univ-a.example", Refusal::Identifier),
        ("x 1@univ-a.example", Refusal::Identifier),
        ("x*@univ-a.example", Refusal::Identifier),
        ("=x1@univ-a.example", Refusal::Identifier),
        ("-x1@univ-a.example", Refusal::Identifier),
        ("x_1@univ-a.example", Refusal::Identifier),
        ("x1@", Refusal::Identifier),
        ("@univ-a.example", Refusal::Identifier),
        ("x1", Refusal::Identifier),
        ("", Refusal::Identifier),
    ] {
        assert_eq!(ask(&[value]), Err(refusal), "{value}");
    }
    assert_eq!(ask(&["x1@univ-a.example", "x2@univ-a.example"]), Err(Refusal::Identifier), "two people");
    assert_eq!(ask(&["x1@univ-a.example", "x1@univ-b.example"]), Err(Refusal::Scope));
    assert_eq!(ask(&[]), Err(Refusal::IdentifierMissing));
}

#[test]
fn with_an_identifier_no_address_of_the_assertion_counts() {
    let by_pairwise = identified_by("pairwise-id");
    let mail: (&str, &[&str]) = (MAIL, &["ada@univ-a.example"]);
    assert_eq!(named(&by_pairwise, &[mail]), Err(Refusal::IdentifierMissing));
    assert_eq!(named(&by_pairwise, &[mail, (PAIRWISE, &["x1@univ-a.example"])]), Ok("x1@univ-a.example".to_owned()));
}

#[test]
fn a_login_without_scope_is_a_plain_word() {
    let by_alias = identified_by("supannAliasLogin");
    let ask = |value: &str| named(&by_alias, &[(ALIAS, &[value])]);
    assert_eq!(ask("J.Dupont"), Ok("j.dupont".to_owned()));
    let long = "x".repeat(128);
    for value in ["jdupont@univ-a.example", "j dupont", "j\u{e9}r\u{f4}me", "", long.as_str()] {
        assert_eq!(ask(value), Err(Refusal::Identifier), "{value}");
    }
}

#[test]
fn each_kind_of_identifier_has_its_own_form() {
    use guichet_config::IdentifierSyntax::{Plain, Scoped, SubjectId, UniqueId};
    let id = |length: usize| format!("{}@u.example", "a".repeat(length));
    assert!(is_identifier(&id(127), SubjectId) && !is_identifier(&id(128), SubjectId));
    assert!(is_identifier(&id(64), UniqueId) && !is_identifier(&id(65), UniqueId));
    assert!(!is_identifier("a-b@u.example", UniqueId) && is_identifier("a-b@u.example", SubjectId));
    assert!(is_identifier("a.b+c@u.example", Scoped) && !is_identifier("a.b+c@u.example", SubjectId));
    assert!(is_identifier("a.b+c", Plain) && !is_identifier("a.b+c@u.example", Plain));
    assert!(!is_identifier("a@u_x", Scoped) && !is_identifier("a@", Scoped) && !is_identifier("@u", Scoped));
}

proptest! {
    /// Whatever is sent, what is asked of a directory is printable ASCII without a space, and short.
    #[test]
    fn no_identifier_holds_what_a_directory_would_fold(value in "\\PC{0,40}(@(univ-a\\.example|\\PC{0,20}))?") {
        use guichet_config::IdentifierSyntax::{Plain, Scoped, SubjectId, UniqueId};
        for syntax in [Plain, Scoped, SubjectId, UniqueId] {
            if is_identifier(&value, syntax) {
                prop_assert!(value.bytes().all(|byte| byte.is_ascii_graphic()) && (1..=255).contains(&value.len()));
                prop_assert_eq!(value.matches('@').count(), usize::from(syntax != Plain));
            }
        }
    }
}

#[test]
fn the_first_attribute_that_tells_a_category_decides() {
    let asked = tenant(|idp| {
        idp.affiliation_attributes = ["eduPersonPrimaryAffiliation", "epsa"].map(|word| word.parse().unwrap()).to_vec();
    });
    let ask = |attributes: &[(&str, &[&str])]| {
        let mail: (&str, &[&str]) = (MAIL, &["ada@univ-a.example"]);
        login(&asked, &[&[mail], attributes].concat()).map(|login| login.category())
    };
    let staff = Ok(Category::Staff);
    let student = Ok(Category::Student);
    // A doctoral student who teaches, by her main affiliation; and where that tells nothing, by any.
    assert_eq!(ask(&[(PRIMARY_AFFILIATION, &["student"]), (SCOPED_AFFILIATION, &["staff@univ-a.example"])]), student);
    assert_eq!(ask(&[(PRIMARY_AFFILIATION, &["affiliate"]), (SCOPED_AFFILIATION, &["staff@univ-a.example"])]), staff);
    assert_eq!(ask(&[(SCOPED_AFFILIATION, &["student@univ-a.example", "employee@univ-a.example"])]), staff);
    // A scoped attribute without scope, or with another's, says nothing; nor does a look-alike.
    for value in [
        "staff",
        "staff@",
        "@univ-a.example",
        "staff@univ-b.example",
        "staff@evil-univ-a.example",
        "st\u{430}ff@univ-a.example",
    ] {
        assert_eq!(ask(&[(SCOPED_AFFILIATION, &[value])]), student, "{value}");
    }
    assert_eq!(ask(&[(PRIMARY_AFFILIATION, &["staff@univ-b.example"])]), student);
    assert_eq!(ask(&[]), student, "what the tenant takes for granted");
}

#[test]
fn a_tenant_says_which_affiliations_are_whose() {
    let asked = tenant(|idp| {
        idp.staff_affiliations = vec!["emeritus".to_owned()];
        idp.student_affiliations = vec!["alum".to_owned()];
    });
    let asked = Tenant { category: Category::Staff, ..asked };
    let ask = |value: &str| {
        let attributes: &[(&str, &[&str])] = &[(MAIL, &["ada@univ-a.example"]), (SCOPED_AFFILIATION, &[value])];
        login(&asked, attributes).unwrap().category()
    };
    assert_eq!(ask("Emeritus@univ-a.example"), Category::Staff);
    assert_eq!(ask("alum@univ-a.example"), Category::Student);
    assert_eq!(ask("student@univ-a.example"), Category::Staff, "no word of this tenant");
}

#[test]
fn every_requirement_has_to_be_met_letter_by_letter() {
    let require = |word: &str, values: &[&str]| Requirement {
        attribute: word.parse().unwrap(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    let one =
        tenant(|idp| idp.requirements = vec![require("supannEtablissement", &["{UAI}0350936C", "{UAI}0350937D"])]);
    let ask = |tenant: &Tenant, attributes: &[(&str, &[&str])]| {
        let mail: (&str, &[&str]) = (MAIL, &["ada@univ-a.example"]);
        named(tenant, &[&[mail], attributes].concat()).map(|_| ())
    };
    assert_eq!(ask(&one, &[(ESTABLISHMENT, &["{UAI}0350936C"])]), Ok(()));
    assert_eq!(ask(&one, &[(ESTABLISHMENT, &["{UAI}0000000A", "{UAI}0350937D"])]), Ok(()));
    let failed = |word: &str, released| Err(Refusal::Requirement { attribute: word.parse().unwrap(), released });
    for value in [
        "{UAI}0350936D",
        "{uai}0350936c",
        "{UAI}0350936C ,",
        "{UAI}0350936C{UAI}0350936C",
        "{UAI}035093",
        "0350936C",
        "{UAI}0350936\u{421}",
        "",
    ] {
        assert_eq!(ask(&one, &[(ESTABLISHMENT, &[value])]), failed("supannEtablissement", true), "{value}");
    }
    assert_eq!(ask(&one, &[("urn:x", &["{UAI}0350936C"])]), failed("supannEtablissement", false));
    let two = tenant(|idp| {
        idp.requirements = vec![
            require("supannEtablissement", &["{UAI}0350936C"]),
            require("eduPersonAssurance", &["https://refeds.org/assurance/IAP/medium"]),
        ];
    });
    assert_eq!(ask(&two, &[(ESTABLISHMENT, &["{UAI}0350936C"])]), failed("eduPersonAssurance", false));
    let assured: (&str, &[&str]) = (ASSURANCE, &["https://refeds.org/assurance/IAP/medium"]);
    assert_eq!(ask(&two, &[(ESTABLISHMENT, &["{UAI}0350936C"]), assured]), Ok(()));
    // A scoped value counts within the scopes of the IdP only, even where the configuration names another's.
    let foreign =
        tenant(|idp| idp.requirements = vec![require("epsa", &["staff@univ-b.example", "staff@univ-a.example"])]);
    assert_eq!(ask(&foreign, &[(SCOPED_AFFILIATION, &["staff@univ-b.example"])]), failed("epsa", true));
    assert_eq!(ask(&foreign, &[(SCOPED_AFFILIATION, &["staff@univ-a.example"])]), Ok(()));
}

#[test]
fn what_is_wrong_with_a_requirement_is_told_by_the_name_of_the_attribute() {
    let refusal = |released| Refusal::Requirement { attribute: ESTABLISHMENT.parse().unwrap(), released };
    assert_eq!(refusal(true).to_string(), "supannEtablissement has none of the values required");
    assert_eq!(refusal(false).to_string(), "supannEtablissement is required, and missing");
}

#[tokio::test]
async fn the_directory_tells_whose_an_identifier_is() {
    let authenticator: Authenticator = chain::tests::authenticator();
    let by_pairwise = identified_by("pairwise-id");
    let ask = async |value: &str| {
        let login = login(&by_pairwise, &[(PAIRWISE, &[value])]).unwrap();
        authenticator.complete_login(&login).await
    };
    let Ok(Decision::Allow(alice)) = ask("x1@univ-a.example").await else { panic!() };
    assert_eq!((alice.address.as_str(), alice.category), ("alice@univ-a.example", Category::Staff));
    assert_eq!(alice.cell.map(|cell| cell.to_string()).as_deref(), Some("beta"));
    assert_eq!(ask("nobody@univ-a.example").await, Err(Unidentified::Unknown));
    assert_eq!(ask("twice@univ-a.example").await, Err(Unidentified::Several));
    let away = Ok(Decision::Unavailable(UnavailableReason::Directory));
    assert_eq!(ask("away@univ-a.example").await, away, "silence is no word against anybody");
    assert_eq!(ask("strange@univ-a.example").await, away, "an address of another tenant is not believed");
    assert_eq!(ask("gone@univ-a.example").await, Ok(Decision::Deny(DenyReason::AccountRefused)));
}
