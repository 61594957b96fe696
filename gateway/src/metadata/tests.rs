//! How often a source is asked.

use guichet_config::MetadataSource;

use super::*;

fn federation(source: MetadataSource) -> Federation {
    Federation {
        name: "local".to_owned(),
        source,
        signing_keys: Vec::new(),
        refresh: Duration::from_secs(3600),
        validity_max: Duration::from_secs(86400),
        dropped_percent_max: 50,
        keep_all: false,
    }
}

fn verified(valid_until: Option<u64>, cache_duration: Option<u64>) -> Verified {
    Verified {
        idps: HashMap::new(),
        valid_until: valid_until.map(|seconds| WallTime(seconds * 1000)),
        cache_duration: cache_duration.map(Duration::from_secs),
        entities: 0,
        others: Vec::new(),
    }
}

#[test]
fn a_document_may_ask_for_more_and_never_for_less_than_the_operator() {
    let fetched = federation(MetadataSource::Url { url: "https://source.example/".to_owned(), ca: None });
    let seconds = |one: &Federation, verified: Verified| period(one, &verified, WallTime(0)).as_secs();
    assert_eq!(seconds(&fetched, verified(None, None)), 3600);
    assert_eq!(seconds(&fetched, verified(None, Some(86400))), 3600);
    assert_eq!(seconds(&fetched, verified(None, Some(600))), 600);
    assert_eq!(seconds(&fetched, verified(None, Some(0))), 60, "and not without end");
    assert_eq!(seconds(&fetched, verified(Some(1000), Some(86400))), 500, "well before the end");
    let file = federation(MetadataSource::File("idps.xml".into()));
    assert_eq!(seconds(&file, verified(Some(1000), Some(600))), 3600, "a file is its owner's");
}

#[test]
fn a_source_that_fails_is_asked_sooner_and_then_less_and_less() {
    let waits: Vec<u64> = (1..=12).map(|n| back_off(n, Duration::from_secs(3600)).as_secs()).collect();
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]);
    assert_eq!(back_off(u32::MAX, Duration::from_secs(5)).as_secs(), 5);
}
