//! What registries send: digests, sizes, documents that lie about themselves.

#[allow(dead_code, reason = "every test binary uses a part")]
mod fault_registry;

use std::error::Error as _;

use fault_registry::*;
use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::manifest::{Descriptor, Document, ManifestError};
use udocker_core::progress::Silent;
use udocker_transfer::fetch::{Blob, BlobSource, FetchError, fetch_during};
use udocker_transfer::registry::{Client, RegistryError};

const BLOB: &[u8] = b"a blob";

fn manifest() -> Vec<u8> {
    let d = format!(r#"{{"mediaType":"x","digest":"{}","size":6}}"#, Digest::sha256_of(BLOB));
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{d},"layers":[{d}]}}"#).into_bytes()
}

/// Serves one document under every address.
fn serving(reply: Reply) -> FaultRegistry {
    FaultRegistry::start(move |_, _| reply.clone())
}

struct Remote(Client);

impl BlobSource for Remote {
    fn open(&self, descriptor: &Descriptor) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        self.0.blob(REPOSITORY, descriptor).map_err(std::io::Error::other)
    }
}

/// Fetches into a file, as a pull does.
fn fetch(registry: &FaultRegistry, descriptor: &Descriptor) -> Result<Vec<u8>, FetchError> {
    let directory = tempfile::tempdir().unwrap();
    let blobs = [Blob::missing(descriptor.clone(), directory.path().join("blob")).unwrap()];
    fetch_during(&blobs, &Remote(registry.client()), 1, &Silent, || Ok::<_, FetchError>(()))?;
    Ok(std::fs::read(blobs[0].path()).unwrap())
}

#[test]
fn a_manifest_is_asked_for_by_its_types_and_verified() {
    let registry = serving(Reply::ok(&manifest()).with("Content-Type", OCI_MANIFEST));
    let digest = Digest::sha256_of(&manifest());
    let sha512: Digest = format!("sha512:{}", sha512_hex(&manifest())).parse().unwrap();
    for (selector, expected) in
        [("v1".to_owned(), &digest), (digest.to_string(), &digest), (sha512.to_string(), &sha512)]
    {
        let fetched = registry.client().manifest(REPOSITORY, &selector).unwrap();
        assert_eq!(fetched.bytes, manifest());
        assert_eq!(&fetched.digest, expected);
        assert!(
            matches!(&fetched.document, Document::Image(m) if m.layers == [Descriptor { media_type: "x".into(), ..descriptor(BLOB) }])
        );
    }
    let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                  application/vnd.docker.distribution.manifest.v2+json, \
                  application/vnd.docker.distribution.manifest.list.v2+json, \
                  application/vnd.docker.distribution.manifest.v1+prettyjws, \
                  application/vnd.docker.distribution.manifest.v1+json";
    assert_eq!(registry.headers("accept"), vec![Some(accept.to_owned()); 3]);
    let tag = "/v2/team/app/manifests/".to_owned();
    assert_eq!(registry.targets(), [format!("{tag}v1"), format!("{tag}{digest}"), format!("{tag}{sha512}")]);
}

fn sha512_hex(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_manifest_of_another_digest_is_refused() {
    let asked = Digest::sha256_of(b"another");
    let told = Reply::ok(&manifest()).with("Docker-Content-Digest", asked.to_string().as_str());
    for (selector, reply) in [(asked.to_string(), Reply::ok(&manifest())), ("v1".to_owned(), told)] {
        let registry = serving(reply);
        let error = registry.client().manifest(REPOSITORY, &selector).unwrap_err();
        let expected = format!(
            "{} sent other bytes for {asked}: their digest is {}",
            registry.host(),
            Digest::sha256_of(&manifest())
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(registry.requests().len(), 1);
    }
}

#[test]
fn a_manifest_of_more_than_4_mib_is_refused() {
    let large = vec![b' '; (4 << 20) + 1];
    for manner in [Manner::Whole, Manner::Chunked] {
        let registry = serving(Reply::ok(&large).sent(manner));
        let error = registry.client().manifest(REPOSITORY, "v1").unwrap_err();
        assert_eq!(error.to_string(), format!("tag `v1` from {} has more than 4194304 bytes", registry.host()));
        assert!(matches!(error, RegistryError::TooLarge { limit: 4_194_304, .. }));
        assert_eq!(registry.requests().len(), 1);
    }
    let mut largest = manifest();
    largest.resize(4 << 20, b' ');
    assert_eq!(serving(Reply::ok(&largest)).client().manifest(REPOSITORY, "v1").unwrap().bytes, largest);
}

#[test]
fn headers_of_more_than_64_kib_are_refused() {
    let mut reply = Reply::ok(&manifest());
    for number in 0..8 {
        reply = reply.with(&format!("X-{number}"), &"x".repeat(8 << 10));
    }
    let error = serving(reply).client().manifest(REPOSITORY, "v1").unwrap_err();
    let head = "the head of the answer for tag `v1`";
    assert!(matches!(&error, RegistryError::TooLarge { what, limit: 65536, .. } if what == head), "{error}");
}

#[test]
fn a_document_of_two_types_is_refused() {
    let both = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{0}","size":1}},"layers":[],"manifests":[]}}"#,
        descriptor(BLOB).digest
    );
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
    let sent_as = format!("it was sent as `{OCI_INDEX}` and calls itself `{OCI_MANIFEST}`");
    for (body, content_type, expected) in [
        (both.as_bytes(), OCI_MANIFEST, "it has both `layers` and `manifests`"),
        (&manifest()[..], OCI_INDEX, sent_as.as_str()),
        (br#"{"schemaVersion":2,"manifests":[]}"#, OCI_MANIFEST, &format!("its fields do not fit `{OCI_MANIFEST}`")),
        (br#"{"schemaVersion":2}"#, "application/json", "it has neither `config` and `layers` nor `manifests`"),
    ] {
        let registry = serving(Reply::ok(body).with("Content-Type", content_type));
        let error = registry.client().manifest(REPOSITORY, "v1").unwrap_err();
        let RegistryError::Manifest(ManifestError::Contradiction(what)) = &error else { panic!("{error}") };
        assert_eq!(what, expected);
        assert_eq!(registry.requests().len(), 1);
    }
    let fetched = serving(Reply::ok(index.as_bytes())).client().manifest(REPOSITORY, "v1").unwrap();
    assert!(matches!(fetched.document, Document::Index(index) if index.manifests.is_empty()));
}

#[test]
fn truncated_json_is_an_error_with_its_place() {
    let registry = serving(Reply::ok(&manifest()[..40]));
    let error = registry.client().manifest(REPOSITORY, "v1").unwrap_err();
    assert_eq!(error.to_string(), "the manifest cannot be read");
    assert!(matches!(error, RegistryError::Manifest(ManifestError::Json(_))));
    assert_eq!(error.source().unwrap().to_string(), "EOF while parsing a string at line 1 column 40");
    assert_eq!(registry.requests().len(), 1);
}

#[test]
fn a_digest_that_is_no_digest_is_refused() {
    for digest in ["sha256:../../../etc/passwd", "sha256:AB", "md5:00"] {
        let body = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":1}},"layers":[]}}"#);
        let error = serving(Reply::ok(body.as_bytes())).client().manifest(REPOSITORY, "v1").unwrap_err();
        assert!(matches!(error, RegistryError::Manifest(ManifestError::Json(_))), "{digest}: {error}");
    }
}

#[test]
fn an_unknown_tag_and_an_unknown_image_are_told_apart() {
    for (code, message) in [("MANIFEST_UNKNOWN", "manifest unknown"), ("NAME_UNKNOWN", "repository name not known")] {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":{{}}}}]}}"#);
        let registry = serving(Reply { body: body.into_bytes(), ..Reply::status(404) });
        let error = registry.client().manifest(REPOSITORY, "v9").unwrap_err();
        let host = registry.host();
        assert_eq!(error.to_string(), format!("the registry {host} answered 404 {code} ({message}) for tag `v9`"));
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let hint = format!("check the tag; `udocker search --list-tags {host}/team/app` lists those that exist");
        assert_eq!(error.hints(), [hint]);
        assert_eq!(registry.requests().len(), 1);
    }
}

#[test]
fn a_blob_with_other_bytes_is_refused() {
    let wanted = descriptor(BLOB);
    let actual = Digest::sha256_of(b"A blob");
    let registry = serving(Reply::ok(b"A blob"));
    let error = registry.client().small_blob(REPOSITORY, &wanted, 100).unwrap_err();
    assert!(matches!(&error, RegistryError::Digest { actual: a, .. } if *a == actual), "{error}");
    let error = fetch(&registry, &wanted).unwrap_err();
    assert_eq!(error.to_string(), format!("blob {} is corrupt: its bytes have the digest {actual}", wanted.digest));
    assert!(matches!(error, FetchError::Digest { .. }));
    assert_eq!(registry.requests().len(), 2);
}

#[test]
fn a_blob_of_another_size_is_refused_before_its_bytes() {
    for size in [3, 5, 7, 10] {
        let registry = serving(Reply::ok(&b"0123456789"[..size]));
        let wanted = descriptor(BLOB);
        let error = read_blob(&registry.client(), &wanted).unwrap_err();
        let (host, digest) = (registry.host(), &wanted.digest);
        let expected = format!("blob {digest} from {host} has {size} bytes where its descriptor says 6");
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(registry.requests().len(), 1);
    }
}

#[test]
fn a_small_blob_of_another_size_is_refused() {
    let short = serving(Reply::ok(b"a blo"));
    let error = short.client().small_blob(REPOSITORY, &descriptor(BLOB), 100).unwrap_err();
    assert!(matches!(error, RegistryError::Size { expected: 6, actual: 5, .. }), "{error}");
    let long = serving(Reply::ok(b"a blob!").sent(Manner::Chunked));
    let error = long.client().small_blob(REPOSITORY, &descriptor(BLOB), 100).unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { limit: 6, .. }), "{error}");
}

#[test]
fn a_small_blob_beyond_its_limit_is_not_asked_for() {
    let registry = serving(Reply::ok(BLOB));
    let wanted = Descriptor { size: (8 << 20) + 1, ..descriptor(BLOB) };
    let error = registry.client().small_blob(REPOSITORY, &wanted, 8 << 20).unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { limit: 8_388_608, .. }), "{error}");
    assert_eq!(registry.requests().len(), 0);
}

#[test]
fn a_blob_without_end_is_cut_at_its_descriptor() {
    let mut body = BLOB.to_vec();
    body.resize(100_000, b'x');
    let registry = serving(Reply::ok(&body).sent(Manner::Chunked));
    assert_eq!(read_blob(&registry.client(), &descriptor(BLOB)).unwrap(), BLOB);
    assert_eq!(fetch(&registry, &descriptor(BLOB)).unwrap(), BLOB);
}

#[test]
fn a_blob_that_ends_early_without_a_length_is_an_error() {
    let registry = serving(Reply::ok(&BLOB[..5]).sent(Manner::Chunked));
    let error = fetch(&registry, &descriptor(BLOB)).unwrap_err();
    let FetchError::Registry { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(source, RegistryError::Truncated { got: 5, size: Some(6), .. }), "{source}");
    assert_eq!(registry.requests().len(), 6);
}

#[test]
fn other_bytes_after_a_break_are_found_by_the_digest() {
    let whole = pattern(1000);
    let (sent, mut other) = (whole.clone(), whole.clone());
    other[900] ^= 1;
    let registry = FaultRegistry::start(move |request, number| match number {
        0 => Reply::ok(&sent).sent(Manner::CutAfter(500)),
        _ => Reply::ranged(request, &other),
    });
    assert!(matches!(fetch(&registry, &descriptor(&whole)), Err(FetchError::Digest { .. })));
}

#[test]
fn foreign_urls_are_never_asked() {
    let foreign = serving(Reply::ok(BLOB));
    let layer = Descriptor { urls: vec![foreign.url("/layer")], ..descriptor(BLOB) };
    let registry = FaultRegistry::start(|_, number| if number == 0 { Reply::status(404) } else { Reply::ok(BLOB) });
    let client = registry.client();
    let error = read_blob(&client, &layer).unwrap_err();
    let (host, digest) = (registry.host(), &layer.digest);
    let expected = format!("the registry {host} has not layer {digest}, and its other addresses are never asked");
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    // A registry may have it all the same.
    assert_eq!(read_blob(&client, &layer).unwrap(), BLOB);
    assert_eq!(foreign.requests().len(), 0);
}
