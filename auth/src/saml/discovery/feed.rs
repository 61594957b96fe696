//! The institutions as a feed for discovery interfaces of others, in the shape that Shibboleth's discovery feed gave it:
//! an array of IdPs, each with texts by language and logos.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::Serialize;

use super::{
    super::{IdpMetadata, metadata::Logo},
    Institution,
};

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "entityID")]
    entity_id: &'a str,
    #[serde(rename = "DisplayNames")]
    display_names: Vec<Text<'a>>,
    #[serde(flatten)]
    about: About,
}

/// What the metadata adds.
#[derive(Default, Serialize)]
struct About {
    #[serde(rename = "Keywords", skip_serializing_if = "Vec::is_empty")]
    keywords: Vec<Text<'static>>,
    #[serde(rename = "InformationURLs", skip_serializing_if = "Vec::is_empty")]
    information_urls: Vec<Text<'static>>,
    #[serde(rename = "PrivacyStatementURLs", skip_serializing_if = "Vec::is_empty")]
    privacy_urls: Vec<Text<'static>>,
    #[serde(rename = "Logos", skip_serializing_if = "Vec::is_empty")]
    logos: Vec<Picture>,
}

#[derive(Serialize)]
struct Text<'a> {
    value: Cow<'a, str>,
    lang: Cow<'a, str>,
}

/// Width and height are texts there, too.
#[derive(Serialize)]
struct Picture {
    value: String,
    height: String,
    width: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lang: Option<String>,
}

/// The feed. Names are those of the configuration, which people see here, too. Bounded as the configuration and the
/// metadata are.
pub(super) fn json(all: &[Institution], idp: impl Fn(&str) -> Option<Arc<IdpMetadata>>) -> String {
    let mut entries = Vec::new();
    let mut seen = HashSet::new();
    for one in all.iter().filter(|one| one.shown_to_others) {
        let Some(entity_id) = one.tenant.idp.as_ref().map(|idp| idp.entity_id.as_str()) else { continue };
        // Several tenants may share an IdP; a feed names it once.
        if !seen.insert(entity_id) {
            continue;
        }
        let name = &one.tenant.name;
        let text = |value, lang| Text { value: Cow::Borrowed(value), lang: Cow::Borrowed(lang) };
        let mut display_names = vec![text(name.fr.as_str(), "fr")];
        if name.en != name.fr && !name.en.is_empty() {
            display_names.push(text(&name.en, "en"));
        }
        let about = idp(entity_id).map(|idp| about(&idp)).unwrap_or_default();
        entries.push(Entry { entity_id, display_names, about });
    }
    serde_json::to_string(&entries).expect("strings have a JSON form")
}

fn about(idp: &IdpMetadata) -> About {
    let joined: HashMap<String, String> =
        idp.keywords.iter().map(|(lang, words)| (lang.clone(), words.join(" "))).collect();
    let picture = |logo: &Logo| Picture {
        value: logo.url.clone(),
        height: logo.height.to_string(),
        width: logo.width.to_string(),
        lang: logo.language.clone(),
    };
    About {
        keywords: by_language(&joined),
        information_urls: by_language(&idp.information_urls),
        privacy_urls: by_language(&idp.privacy_urls),
        logos: idp.logos.iter().map(picture).collect(),
    }
}

/// In the order of the languages, so that the feed is the same for the same metadata.
fn by_language(texts: &HashMap<String, String>) -> Vec<Text<'static>> {
    let text = |(lang, value): (&String, &String)| Text { value: value.clone().into(), lang: lang.clone().into() };
    let mut texts: Vec<_> = texts.iter().map(text).collect();
    texts.sort_by(|a, b| a.lang.cmp(&b.lang));
    texts
}
