//! Where documents come from, and what is kept of them.

use super::{
    super::{
        super::minter::{NOW, at, world},
        tests::{aggregate, entity, signed},
    },
    *,
};

const IDP_A: &str = "https://idp.a.example";

/// A signed aggregate with one IdP that ends `seconds` from now.
fn document(seconds: i64) -> String {
    signed(
        &aggregate(&format!("ID=\"_r\" cacheDuration=\"PT2H\" validUntil=\"{}\"", at(seconds)), &entity(IDP_A, "")),
        "_r",
    )
}

fn federation(dir: &Path, source: MetadataSource) -> Federation {
    let pin = dir.join("pin.pem");
    fs::write(&pin, &world().signing.certificate_pem).unwrap();
    Federation {
        name: "local".to_owned(),
        source,
        signing_keys: vec![pin],
        refresh: Duration::from_secs(3600),
        validity_max: Duration::from_secs(86400),
        dropped_percent_max: 50,
        keep_all: true,
    }
}

fn by_url() -> MetadataSource {
    MetadataSource::Url { url: "https://source.example/idps.xml".to_owned(), ca: None }
}

fn id() -> DocumentId {
    DocumentId { federation: "local".to_owned(), entity_id: None }
}

#[test]
fn a_fetched_document_needs_an_end_that_is_not_too_far_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let federation = federation(dir.path(), by_url());
    let reader = Reader::with_idps(&federation, dir.path(), None).unwrap();
    let read = |xml: &str| reader.read(&id(), xml.as_bytes(), NOW).map_err(|error| error.message);
    let verified = read(&document(86400)).unwrap();
    assert_eq!(verified.cache_duration, Some(Duration::from_secs(7200)));
    assert_eq!(verified.valid_until, Some(WallTime(NOW.0 / 1000 * 1000).plus(Duration::from_secs(86400))));
    assert!(read(&document(86400 + 3600)).unwrap_err().contains("further ahead"));
    assert!(read(&document(-1)).unwrap_err().contains("expired"));
    let endless = signed(&aggregate("ID=\"_r\"", &entity(IDP_A, "")), "_r");
    assert!(read(&endless).unwrap_err().contains("no end"));
    let unreadable = signed(&aggregate("ID=\"_r\" validUntil=\"soon\"", &entity(IDP_A, "")), "_r");
    assert!(read(&unreadable).unwrap_err().contains("expired"));
}

#[test]
fn only_what_is_wanted_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let federation = federation(dir.path(), by_url());
    let both = format!("{}{}", entity(IDP_A, ""), entity("https://idp.b.example", ""));
    let xml = signed(&aggregate(&format!("ID=\"_r\" validUntil=\"{}\"", at(60)), &both), "_r");
    let idps = |wanted| {
        let reader = Reader::with_idps(&federation, dir.path(), wanted).unwrap();
        let verified = reader.read(&id(), xml.as_bytes(), NOW).unwrap();
        assert_eq!(verified.entities, 2);
        verified.idps.len()
    };
    assert_eq!((idps(None), idps(Some(HashSet::from([IDP_A.to_owned()]))), idps(Some(HashSet::new()))), (2, 1, 0));
}

#[test]
fn a_copy_is_kept_whole_and_verified_again_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let federation = federation(dir.path(), by_url());
    let reader = Reader::with_idps(&federation, dir.path(), None).unwrap();
    assert!(reader.stored(&id(), NOW).unwrap().is_none(), "nothing was fetched yet");
    let hour = Duration::from_secs(3600);
    reader.keep(&id(), document(7200).as_bytes(), NOW).unwrap();
    let copy = dir.path().join("metadata/local.xml");
    let names: Vec<_> = fs::read_dir(dir.path().join("metadata")).unwrap().map(|one| one.unwrap().path()).collect();
    assert_eq!(names, [copy.clone()], "nothing is left beside it");
    let (verified, since) = reader.stored(&id(), NOW.plus(hour)).unwrap().unwrap();
    assert_eq!((verified.idps.len(), since.seconds()), (1, NOW.seconds()));
    reader.keep_unchanged(&id(), NOW.plus(hour)).unwrap();
    let (_, since) = reader.stored(&id(), NOW.plus(hour)).unwrap().unwrap();
    assert_eq!(since.seconds(), NOW.plus(hour).seconds(), "the source stood by it");

    assert!(reader.stored(&id(), NOW.plus(hour * 2)).unwrap_err().message.contains("expired"));
    let changed = document(7200).replacen("lab.univ-a.example", "lab.univ-b.example", 1);
    fs::write(&copy, changed).unwrap();
    assert!(reader.stored(&id(), NOW).unwrap_err().message.contains("was changed"));
    fs::write(&copy, &document(7200)[..1000]).unwrap();
    assert!(reader.stored(&id(), NOW).is_err());
}

#[test]
fn a_file_of_a_gigabyte_is_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("idps.xml");
    let federation = federation(dir.path(), MetadataSource::File(path.clone()));
    let reader = Reader::with_idps(&federation, dir.path(), None).unwrap();
    File::create(&path).unwrap().set_len(1 << 30).unwrap();
    assert!(reader.stored(&id(), NOW).unwrap_err().message.contains("larger than 128 MiB"));
    fs::write(&path, document(60)).unwrap();
    assert_eq!(reader.stored(&id(), NOW).unwrap().unwrap().1, NOW);
    fs::remove_file(&path).unwrap();
    assert!(reader.stored(&id(), NOW).is_err(), "an owner's file must be there");
}

#[test]
fn pins_that_are_no_keys_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let federation = federation(dir.path(), by_url());
    fs::write(dir.path().join("pin.pem"), "nothing").unwrap();
    assert!(Reader::with_idps(&federation, dir.path(), None).unwrap_err().message.contains("no PEM"));
}

#[test]
fn an_entity_is_asked_for_by_its_digest_and_nothing_else_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mdq = |base: &str| MetadataSource::Mdq { base: base.to_owned(), ca: None };
    let id = |entity_id: &str| DocumentId { federation: "local".to_owned(), entity_id: Some(entity_id.to_owned()) };
    // The example of draft-young-md-query-saml §3.1.
    let example = id("http://example.org/service");
    assert_eq!(
        example.url(&mdq("https://mdq.example/global/")).as_deref(),
        Some("https://mdq.example/global/entities/%7Bsha1%7D11d72e8cf351eb6c75c721e838f469677ab41bdb")
    );
    assert_eq!(
        example.url(&mdq("https://store.example/entities/{sha1}.xml")).as_deref(),
        Some("https://store.example/entities/11d72e8cf351eb6c75c721e838f469677ab41bdb.xml")
    );
    let federation = federation(dir.path(), mdq("https://mdq.example"));
    let reader = Reader::with_idps(&federation, dir.path(), None).unwrap();
    let xml = document(60);
    assert_eq!(reader.read(&id(IDP_A), xml.as_bytes(), NOW).unwrap().idps.len(), 1);
    let other = reader.read(&id("https://idp.b.example"), xml.as_bytes(), NOW);
    assert!(other.unwrap_err().message.contains("does not hold"));
}
