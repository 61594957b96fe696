//! Institutions are found as people look for them.

use guichet_config::{IdpOfTenant, Text};
use proptest::prelude::*;

use super::*;
use crate::saml::{metadata::Logo, minter};

fn tenant(id: &str, fr: &str, en: &str, domains: &[&str], idp: Option<&str>) -> Arc<Tenant> {
    let known = &minter::world().tenant;
    let of = |entity_id: &str| IdpOfTenant { entity_id: entity_id.to_owned(), ..known.idp.clone().unwrap() };
    Arc::new(Tenant {
        id: id.parse().unwrap(),
        name: Text { fr: fr.to_owned(), en: en.to_owned() },
        domains: domains.iter().map(|domain| domain.parse().unwrap()).collect(),
        idp: idp.map(of),
        ..known.clone()
    })
}

fn institutions(tenants: &[Arc<Tenant>]) -> Institutions {
    let domains = tenants.iter().flat_map(|one| one.domains.iter().map(|domain| (domain.clone(), one.id.clone())));
    let idps = [
        IdpMetadata {
            entity_id: "https://idp.evry.example".to_owned(),
            names: HashMap::from([("fr".to_owned(), "Portail du Val d’Essonne".to_owned())]),
            keywords: HashMap::from([("fr".to_owned(), vec!["UEVE".to_owned(), "Paris Saclay".to_owned()])]),
            logos: vec![Logo {
                url: "https://idp.evry.example/l.png".to_owned(),
                width: 80,
                height: 60,
                language: None,
            }],
            ..IdpMetadata::default()
        },
        IdpMetadata {
            entity_id: "https://idp.hidden.example".to_owned(),
            hide_from_discovery: true,
            ..IdpMetadata::default()
        },
    ];
    let idp = |id: &str| idps.iter().find(|idp| idp.entity_id == id).cloned().map(Arc::new);
    Institutions::of(tenants.iter(), &domains.collect(), idp)
}

fn few() -> Institutions {
    institutions(&[
        tenant(
            "evry",
            "Université d’Évry",
            "University of Évry",
            &["univ-evry.example"],
            Some("https://idp.evry.example"),
        ),
        tenant(
            "oeuvre",
            "Œuvre des Écoles",
            "Schools’ Charity",
            &["œuvre.example"],
            Some("https://idp.hidden.example"),
        ),
        tenant(
            "rennes",
            "Université de Rennes",
            "University of Rennes",
            &["univ-rennes.example"],
            Some("https://idp.shared.example"),
        ),
        tenant(
            "rennes-2",
            "Université Rennes 2",
            "Rennes 2 University",
            &["rennes2.example"],
            Some("https://idp.shared.example"),
        ),
        tenant("labo", "Laboratoire d’océanographie", "Oceanography laboratory", &["labo.example"], None),
    ])
}

fn found(typed: &str) -> Vec<String> {
    let all = few();
    all.search(typed, false, 1, |_| true).rows.iter().map(|one| one.tenant.id.to_string()).collect()
}

#[test]
fn accents_and_capitals_do_not_matter_and_any_word_of_any_name_does() {
    for (typed, expected) in [
        ("evry", &["evry"][..]),
        ("ÉVRY", &["evry"]),
        ("universite rennes", &["rennes-2", "rennes"]),
        ("rennes université", &["rennes-2", "rennes"]),
        ("oeuvre", &["oeuvre"]),
        ("Œuvre", &["oeuvre"]),
        ("charity", &["oeuvre"]),
        ("ueve", &["evry"]),
        ("paris-saclay", &["evry"]),
        ("essonne", &["evry"]),
        ("rennes-2", &["rennes-2"]),
        ("univ-rennes.example", &["rennes"]),
        ("etu.univ-rennes.example", &["rennes"]),
        ("someone@univ-evry.example", &["evry"]),
        ("@labo.example", &["labo"]),
        ("ocean", &["labo"]),
        ("graphie", &["labo"]),
        ("  ", &["labo", "oeuvre", "evry", "rennes", "rennes-2"]),
        ("", &["labo", "oeuvre", "evry", "rennes", "rennes-2"]),
        ("ie", &[]),
        ("lyon", &[]),
        ("!?", &[]),
        ("rennes lyon", &[]),
    ] {
        let hits = found(typed);
        let same = hits.len() == expected.len() && expected.iter().all(|id| hits.iter().any(|hit| hit == id));
        assert!(same, "{typed:?}: {hits:?}");
    }
}

#[test]
fn what_the_name_says_comes_before_what_stands_elsewhere() {
    let all = institutions(&[
        tenant("a", "Archives de Paris", "Archives", &["lyon.example"], None),
        tenant("z", "Zone de Lyon", "Zone of Lyon", &["zone.example"], None),
    ]);
    let ids: Vec<_> = all.search("lyon", false, 1, |_| true).rows.iter().map(|one| one.tenant.id.to_string()).collect();
    assert_eq!(ids, ["z", "a"]);
}

#[test]
fn the_order_is_that_of_the_language() {
    let names = |english| {
        let all = few();
        let rows = all.search("", english, 1, |_| true).rows;
        rows.iter().map(|one| one.tenant.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(false), ["labo", "oeuvre", "evry", "rennes", "rennes-2"]);
    assert_eq!(names(true), ["labo", "rennes-2", "oeuvre", "evry", "rennes"]);
}

#[test]
fn hundreds_come_page_by_page() {
    let many: Vec<_> = (0..430)
        .map(|n| {
            tenant(&format!("u{n}"), &format!("Université {n:03}"), "University", &[&format!("u{n}.example")], None)
        })
        .collect();
    let all = institutions(&many);
    let mut seen = Vec::new();
    for page in 1..=9 {
        let found = all.search("universite", false, page, |_| true);
        assert_eq!((found.total, found.page, found.pages), (430, page, 9));
        assert!(found.rows.len() <= 50);
        seen.extend(found.rows.iter().map(|one| one.tenant.id.clone()));
    }
    seen.dedup();
    assert_eq!(seen.len(), 430);
    for (asked, shown) in [(0, 1), (10, 9), (usize::MAX, 9)] {
        assert_eq!(all.search("", false, asked, |_| true).page, shown);
    }
    assert_eq!(all.search("universite", false, 1, |one| one.shown_to_others).total, 0);
}

#[test]
fn the_feed_lists_each_idp_once_and_none_that_the_federation_hides() {
    let feed: serde_json::Value = serde_json::from_str(few().feed()).unwrap();
    let ids: Vec<_> = feed.as_array().unwrap().iter().map(|entry| entry["entityID"].as_str().unwrap()).collect();
    assert_eq!(ids, ["https://idp.evry.example", "https://idp.shared.example"]);
    let evry = &feed[0];
    assert_eq!(evry["DisplayNames"][0], serde_json::json!({"value": "Université d’Évry", "lang": "fr"}));
    assert_eq!(evry["DisplayNames"][1]["lang"], "en");
    assert_eq!(evry["Keywords"][0]["value"], "UEVE Paris Saclay");
    let logo = serde_json::json!({"value": "https://idp.evry.example/l.png", "height": "60", "width": "80"});
    assert_eq!(evry["Logos"], serde_json::json!([logo]));
    assert!(feed[1].get("Logos").is_none());
}

proptest! {
    #[test]
    fn any_search_ends_with_rows_that_exist(typed in "\\PC{0,140}", page in any::<usize>()) {
        let all = few();
        let found = all.search(&typed, true, page, |_| true);
        prop_assert!(found.rows.len() <= found.total && found.total <= all.len());
        prop_assert!((1..=found.pages).contains(&found.page));
    }
}
