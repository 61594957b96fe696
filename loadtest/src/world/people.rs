//! Who lives in the world: three institutions with a few named people and a crowd.

/// Someone with a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// `local@domain`.
    pub address: String,
    /// In the directory, and at cells that ask for the user's own password.
    pub password: String,
    /// At the institution's sign-in page.
    pub idp_login: String,
    /// At the institution's sign-in page.
    pub idp_password: String,
    /// `staff` or `student`.
    pub category: &'static str,
}

/// An institution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Institution {
    /// Tenant name.
    pub id: &'static str,
    /// Mail domain, also the IdP's scope.
    pub domain: &'static str,
    /// Shown to people, in French.
    pub name_fr: &'static str,
    /// Shown to people, in English.
    pub name_en: &'static str,
    /// Home cell.
    pub cell: &'static str,
    /// One password for everything: its IdP judges those of mail programs, too (ECP).
    pub one_password: bool,
    /// Its people.
    pub people: Vec<Person>,
}

/// Cells.
pub const CELLS: [&str; 2] = ["alpha", "beta"];

/// The institutions; `crowd` more people in each, every fourth of them staff.
pub fn institutions(crowd: usize) -> Vec<Institution> {
    vec![
        institution(
            "univ-a",
            "univ-a.example",
            "Université A",
            "University A",
            "alpha",
            &[("alice", "staff"), ("adam", "student")],
            crowd,
        ),
        institution(
            "univ-b",
            "univ-b.example",
            "Université B",
            "University B",
            "beta",
            &[("bob", "staff"), ("berthe", "student")],
            crowd,
        ),
        one_password(institution(
            "ecole-c",
            "ecole-c.example",
            "École C",
            "School C",
            "beta",
            &[("carole", "staff"), ("cyril", "student")],
            crowd,
        )),
    ]
}

fn one_password(mut institution: Institution) -> Institution {
    for person in &mut institution.people {
        person.password.clone_from(&person.idp_password);
    }
    Institution { one_password: true, ..institution }
}

fn institution(
    id: &'static str,
    domain: &'static str,
    name_fr: &'static str,
    name_en: &'static str,
    cell: &'static str,
    named: &[(&str, &'static str)],
    crowd: usize,
) -> Institution {
    let mut people: Vec<Person> = named.iter().map(|(login, category)| person(login, domain, category)).collect();
    people.extend(
        (1..=crowd).map(|n| person(&format!("user{n:03}"), domain, if n % 4 == 0 { "staff" } else { "student" })),
    );
    Institution { id, domain, name_fr, name_en, cell, one_password: false, people }
}

fn person(login: &str, domain: &str, category: &'static str) -> Person {
    Person {
        address: format!("{login}@{domain}"),
        password: format!("mail-{login}-1"),
        idp_login: login.to_owned(),
        idp_password: format!("idp-{login}-1"),
        category,
    }
}

/// The person with this address.
pub fn find<'a>(institutions: &'a [Institution], address: &str) -> Option<(&'a Institution, &'a Person)> {
    institutions.iter().find_map(|institution| {
        let person = institution.people.iter().find(|person| person.address.eq_ignore_ascii_case(address))?;
        Some((institution, person))
    })
}
