//! The institutions of a configuration as people look for them, and as the feed for other services lists them.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use guichet_config::{Config, Domain, Tenant, TenantId};

use super::{
    super::{IdpMetadata, MetadataIndex},
    feed, fold,
};

/// All institutions, ready to be searched. Made once for a configuration and its metadata.
#[derive(Debug, Default)]
pub struct Institutions {
    /// By French name.
    all: Vec<Institution>,
    domains: HashMap<Domain, TenantId>,
    feed: Arc<str>,
}

/// One institution.
#[derive(Debug)]
pub struct Institution {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// It has an IdP, and the federation does not ask to hide it: others may be told of it.
    pub shown_to_others: bool,
    /// What the lists of the two languages are sorted by: the words of the name, folded.
    sorted_fr: String,
    sorted_en: String,
    /// Everything it is found by, folded.
    words: Vec<Box<str>>,
    /// Words of its names.
    name_words: Vec<Box<str>>,
}

/// What a search found: a page of the list.
#[derive(Debug)]
pub struct Found<'a> {
    /// The institutions of the page.
    pub rows: Vec<&'a Institution>,
    /// How many there are on all pages.
    pub total: usize,
    /// This page, from 1.
    pub page: usize,
    /// Pages.
    pub pages: usize,
}

impl Institutions {
    /// Of a configuration, with what the metadata says of the tenants' IdPs.
    pub fn new(config: &Config, idps: &MetadataIndex) -> Self {
        Self::of(config.tenants.values(), &config.domains, |id| idps.idp(id))
    }

    fn of<'a>(
        tenants: impl Iterator<Item = &'a Arc<Tenant>>,
        domains: &HashMap<Domain, TenantId>,
        idp: impl Fn(&str) -> Option<Arc<IdpMetadata>>,
    ) -> Self {
        let known = |tenant: &Tenant| tenant.idp.as_ref().and_then(|of| idp(&of.entity_id));
        let mut all: Vec<_> = tenants.map(|tenant| Institution::new(tenant, known(tenant).as_deref())).collect();
        all.sort_by(|a, b| a.sorted_by(false).cmp(&b.sorted_by(false)));
        Self { feed: feed::json(&all, idp).into(), all, domains: domains.clone() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Page `page` (from 1) of those of which `wanted` holds and that `typed` finds, all of them when nothing is typed.
    ///
    /// Every word typed must begin a word of the institution's (names in both languages, domains, tenant id, and what its
    /// IdP's metadata says), or stand inside one when it is long enough. Those with all of them in the name come first,
    /// then it goes by name. A whole address or domain finds its institution alone.
    pub fn search(&self, typed: &str, english: bool, page: usize, wanted: impl Fn(&Institution) -> bool) -> Found<'_> {
        let typed: String = typed.chars().take(TYPED_CHARS_MAX).collect();
        let mut hits: Vec<(Reverse<u8>, &Institution)> = match self.of_domain(&typed) {
            Some(id) => self.all.iter().filter(|one| one.tenant.id == *id).map(|one| (Reverse(0), one)).collect(),
            None => {
                let typed = fold::folded(&typed);
                let words: Vec<&str> = fold::words(&typed).take(WORDS_MAX).collect();
                let nothing = words.is_empty() && !typed.trim().is_empty();
                let ranked = self.all.iter().filter(|_| !nothing).filter_map(|one| Some((one.rank(&words)?, one)));
                ranked.map(|(rank, one)| (Reverse(rank), one)).collect()
            }
        };
        hits.retain(|(_, one)| wanted(one));
        hits.sort_by(|(rank, a), (other, b)| {
            rank.cmp(other).then_with(|| a.sorted_by(english).cmp(&b.sorted_by(english)))
        });
        let total = hits.len();
        let pages = total.div_ceil(PAGE_ROWS).max(1);
        let page = page.clamp(1, pages);
        let rows = hits.into_iter().skip((page - 1) * PAGE_ROWS).take(PAGE_ROWS).map(|(_, one)| one).collect();
        Found { rows, total, page, pages }
    }

    /// The feed for other services: a JSON array as the common discovery interfaces read it.
    pub fn feed(&self) -> &str {
        &self.feed
    }

    /// The tenant of a whole domain or address, also of a host of the domain.
    fn of_domain(&self, typed: &str) -> Option<&TenantId> {
        let domain: Domain = typed.trim().rsplit('@').next()?.parse().ok()?;
        let above = std::iter::successors(Some(domain.as_str()), |name| name.split_once('.').map(|(_, above)| above));
        above.filter_map(|name| name.parse().ok()).find_map(|domain: Domain| self.domains.get(&domain))
    }
}

impl Institution {
    fn sorted_by(&self, english: bool) -> (&str, &TenantId) {
        (if english { &self.sorted_en } else { &self.sorted_fr }, &self.tenant.id)
    }

    fn new(tenant: &Arc<Tenant>, idp: Option<&IdpMetadata>) -> Self {
        let (name_fr, name_en) = (fold::folded(&tenant.name.fr), fold::folded(&tenant.name.en));
        let mut texts = vec![fold::folded(tenant.id.as_str())];
        for domain in &tenant.domains {
            texts.push(domain.as_str().to_owned());
            texts.push(fold::folded(&idna::domain_to_unicode(domain.as_str()).0));
        }
        if let Some(idp) = idp {
            let keywords = idp.keywords.values().flatten();
            texts.extend(idp.names.values().chain(keywords).map(|text| fold::folded(text)));
        }
        Self {
            name_words: words_of([&name_fr, &name_en].into_iter()),
            words: words_of(texts.iter()),
            shown_to_others: tenant.idp.is_some() && !idp.is_some_and(|idp| idp.hide_from_discovery),
            tenant: Arc::clone(tenant),
            sorted_fr: fold::words(&name_fr).collect::<Vec<_>>().join(" "),
            sorted_en: fold::words(&name_en).collect::<Vec<_>>().join(" "),
        }
    }

    /// How well the words find it: 3 when all begin words of the name, 1 when one only stands inside a word; `None` when
    /// one is not there.
    fn rank(&self, words: &[&str]) -> Option<u8> {
        let of_one = |typed: &&str| {
            let begins = |known: &Box<str>| known.starts_with(*typed);
            if self.name_words.iter().any(begins) {
                return Some(3);
            }
            if self.words.iter().any(begins) {
                return Some(2);
            }
            let long = typed.chars().count() >= INSIDE_CHARS_MIN;
            let inside = |known: &Box<str>| long && known.contains(*typed);
            (self.name_words.iter().any(inside) || self.words.iter().any(inside)).then_some(1)
        };
        words.iter().map(of_one).try_fold(3, |worst: u8, rank| rank.map(|rank| worst.min(rank)))
    }
}

/// The words of folded texts, each once.
fn words_of<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<Box<str>> {
    let mut words: Vec<Box<str>> = texts.flat_map(|text| fold::words(text)).map(Box::from).collect();
    words.sort_unstable();
    words.dedup();
    words.truncate(INSTITUTION_WORDS_MAX);
    words
}

/// Rows of one page.
const PAGE_ROWS: usize = 50;
/// More than any name.
const TYPED_CHARS_MAX: usize = 100;
const WORDS_MAX: usize = 8;
/// Shorter ones stand inside too many words.
const INSIDE_CHARS_MIN: usize = 3;
/// Metadata may bring any number of keywords.
const INSTITUTION_WORDS_MAX: usize = 256;

#[cfg(test)]
#[path = "institutions_tests.rs"]
mod tests;
