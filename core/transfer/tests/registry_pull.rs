//! The whole road from a bad registry into a store.

#[allow(dead_code, reason = "every test binary uses a part")]
mod fault_registry;

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fault_registry::*;
use udocker_core::digest::Digest;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::progress::Silent;
use udocker_core::run::PullPolicy;
use udocker_core::schema1::Schema1;
use udocker_core::settings::{Settings, StoreKind, StoreSettings};
use udocker_core::store::{Record, Store};
use udocker_transfer::lease::EXPIRES_AFTER;
use udocker_transfer::pull::{DigestTag, PullError, pull};

/// An image of one layer with one file of 200 kB, as documents and blobs.
struct Image {
    file: Vec<u8>,
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    index: Vec<u8>,
}

impl Image {
    /// `urls` is JSON for the layer's foreign URLs.
    fn new(urls: &str) -> Self {
        let file = pattern(200_000);
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none()));
        let mut header = tar::Header::new_ustar();
        header.set_size(file.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, "data", &file[..]).unwrap();
        let mut gzip = tar.into_inner().unwrap();
        gzip.flush().unwrap();
        let layer = gzip.finish().unwrap();
        let diff_id = {
            let mut raw = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&layer[..]), &mut raw).unwrap();
            Digest::sha256_of(&raw)
        };
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        )
        .into_bytes();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{},"urls":{urls}}}]}}"#,
            Digest::sha256_of(&config),
            config.len(),
            Digest::sha256_of(&layer),
            layer.len()
        )
        .into_bytes();
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
            Digest::sha256_of(&manifest),
            manifest.len()
        )
        .into_bytes();
        Self { file, layer, config, manifest, index }
    }

    fn reply(&self, request: &Request) -> Reply {
        let target = &request.target["/v2/team/app/".len()..];
        let is = |bytes: &[u8]| target.ends_with(Digest::sha256_of(bytes).hex());
        match target {
            "manifests/v1" => Reply::ok(&self.index).with("Content-Type", OCI_INDEX),
            _ if is(&self.manifest) => Reply::ok(&self.manifest).with("Content-Type", OCI_MANIFEST),
            _ if is(&self.config) => Reply::ok(&self.config),
            _ if is(&self.layer) => Reply::ranged(request, &self.layer),
            _ => Reply::status(404),
        }
    }
}

/// An index of `entries`: bytes, media type and, of images, the architecture.
fn index_of(entries: &[(&[u8], &str, Option<&str>)]) -> Vec<u8> {
    let entries: Vec<_> = entries
        .iter()
        .map(|(bytes, media_type, architecture)| {
            let platform = architecture.map(|a| format!(r#","platform":{{"os":"linux","architecture":"{a}"}}"#));
            format!(
                r#"{{"mediaType":"{media_type}","digest":"{}","size":{}{}}}"#,
                Digest::sha256_of(bytes),
                bytes.len(),
                platform.unwrap_or_default()
            )
        })
        .collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, entries.join(",")).into_bytes()
}

#[test]
fn an_index_may_lead_to_others() {
    let mut image = Image::new("[]");
    let arm = index_of(&[(b"arm", OCI_MANIFEST, Some("arm64"))]);
    let amd = index_of(&[(&image.manifest, OCI_MANIFEST, Some("amd64"))]);
    let inner = index_of(&[(&arm, OCI_INDEX, None), (&amd, OCI_INDEX, None)]);
    image.index = index_of(&[(b"docs", OCI_MANIFEST, None), (&inner, OCI_INDEX, None)]);
    let outer = Digest::sha256_of(&image.index);
    let more = [arm, amd, inner];
    let manifest = Digest::sha256_of(&image.manifest);
    let registry = FaultRegistry::start(move |request, _| {
        let found = more.iter().find(|bytes| request.target.ends_with(Digest::sha256_of(bytes).hex()));
        found.map_or_else(|| image.reply(request), |bytes| Reply::ok(bytes).with("Content-Type", OCI_INDEX))
    });
    let directory = tempfile::tempdir().unwrap();
    let (_, record) = pull_into(&directory, &registry);
    let record = record.unwrap();
    assert_eq!((record.manifest, record.index), (manifest, Some(outer)));
}

#[test]
fn indexes_without_an_end_are_left() {
    let mut image = Image::new("[]");
    let mut chain = vec![index_of(&[(&image.manifest, OCI_MANIFEST, Some("amd64"))])];
    for _ in 0..4 {
        chain.push(index_of(&[(chain.last().unwrap(), OCI_INDEX, None)]));
    }
    image.index = chain.pop().unwrap();
    let registry = FaultRegistry::start(move |request, _| {
        let found = chain.iter().find(|bytes| request.target.ends_with(Digest::sha256_of(bytes).hex()));
        found.map_or_else(|| image.reply(request), |bytes| Reply::ok(bytes).with("Content-Type", OCI_INDEX))
    });
    let directory = tempfile::tempdir().unwrap();
    let (_, result) = pull_into(&directory, &registry);
    let error = result.unwrap_err();
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "no image for linux/amd64 was found within 64 documents and 4 indexes that lead to each other"
    );
    assert_eq!((error.kind(), registry.requests().len()), (ErrorKind::Unsupported, 5));
}

/// The image as a manifest of schema 1 with an empty layer above, its payload and its signed form.
fn schema_1(image: &Image, more: &str) -> (Vec<u8>, Vec<u8>) {
    use base64::Engine as _;
    let base64 = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let head = format!(
        r#"{{"schemaVersion":1,"name":"team/app","tag":"v1","architecture":"amd64","fsLayers":[{{"blobSum":"{}"}},{{"blobSum":"{}"}}],"history":[{{"v1Compatibility":"{{\"os\":\"linux\",\"config\":{{\"Cmd\":[\"hi\"]}}}}"}},{{"v1Compatibility":"{{}}"}}]"#,
        Schema1::empty_layer(),
        Digest::sha256_of(&image.layer)
    );
    let protected = base64(&format!(r#"{{"formatLength":{},"formatTail":"{}"}}"#, head.len(), base64("\n}")));
    let signed =
        format!(r#"{head}{more},"signatures":[{{"header":{{}},"protected":"{protected}","signature":"x"}}]}}"#);
    (format!("{head}\n}}").into_bytes(), signed.into_bytes())
}

#[test]
fn schema_1_is_pulled_and_kept_as_it_came() {
    let image = Image::new("[]");
    let (payload, signed) = schema_1(&image, "");
    let (layer, file) = (Digest::sha256_of(&image.layer), image.file.clone());
    let served = signed.clone();
    let registry = FaultRegistry::start(move |request, _| match request.target.contains("/manifests/") {
        true => Reply::ok(&served)
            .with("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
            .with("Docker-Content-Digest", &Digest::sha256_of(&payload).to_string()),
        false if request.header("range") == Some("bytes=0-0") => Reply {
            body: image.layer[..1].to_vec(),
            ..Reply::status(206).with("Content-Range", &format!("bytes 0-0/{}", image.layer.len()))
        },
        false => image.reply(request),
    });
    let directory = tempfile::tempdir().unwrap();
    let (store, record) = pull_into(&directory, &registry);
    let record = record.unwrap();
    assert_eq!((record.layers, record.config.cmd.as_slice()), (1, ["hi".to_owned()].as_slice()));
    assert_eq!(std::fs::read(store.tree(&record.tree).join("data")).unwrap(), file);
    let tag = store.tags().unwrap().remove(0);
    assert_eq!(std::fs::read(tag.directory.join("manifest")).unwrap(), signed);
    for blob in [&layer, &Schema1::empty_layer(), &record.config_digest] {
        let bytes = std::fs::read(tag.directory.join(blob.to_string())).unwrap();
        assert_eq!(Digest::sha256_of(&bytes), *blob);
    }
}

#[test]
fn schema_1_says_nothing_beyond_what_its_digest_covers() {
    let image = Image::new("[]");
    for more in [r#","fsLayers":[]"#, r#","name":"other","architecture":"s390x""#] {
        let (payload, signed) = schema_1(&image, more);
        let told = Digest::sha256_of(&payload).to_string();
        let registry = FaultRegistry::start(move |_, _| {
            Reply::ok(&signed)
                .with("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
                .with("Docker-Content-Digest", &told)
        });
        let directory = tempfile::tempdir().unwrap();
        let (store, result) = pull_into(&directory, &registry);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt, "{more}");
        assert!(store.tags().unwrap().is_empty());
    }
}

/// A store of its own and what a pull of `v1` from `registry` makes of it.
fn pull_into(directory: &tempfile::TempDir, registry: &FaultRegistry) -> (Store, Result<Record, PullError>) {
    let settings = settings_in(directory.path());
    let store = Store::create(&settings.stores[0]).unwrap();
    let result = pull_of_v1(&store, registry, PullPolicy::Always, &settings);
    (store, result)
}

/// With one store.
fn settings_in(directory: &Path) -> Settings {
    let store = StoreSettings {
        name: "user".into(),
        path: directory.join("store"),
        parts: Default::default(),
        kind: StoreKind::User,
        readonly: false,
        keep_layers: true,
        sync: false,
        access: Default::default(),
    };
    Settings { stores: vec![store], registries: settings(), ..Settings::default() }
}

fn pull_of_v1(
    store: &Store,
    registry: &FaultRegistry,
    policy: PullPolicy,
    settings: &Settings,
) -> Result<Record, PullError> {
    let reference = format!("{}/{REPOSITORY}:v1", registry.host()).parse().unwrap();
    pull(store, &reference, &"linux/amd64".parse().unwrap(), policy, DigestTag::Write, settings, &Silent)
}

#[test]
fn of_a_cluster_one_process_asks_the_registry() {
    let image = Arc::new(Image::new("[]"));
    let served = Arc::clone(&image);
    let registry = FaultRegistry::start(move |request, _| {
        std::thread::sleep(Duration::from_millis(100));
        served.reply(request)
    });
    let directory = tempfile::tempdir().unwrap();
    let settings = settings_in(directory.path());
    let store = Store::create(&settings.stores[0]).unwrap();
    // Each node has a run directory of its own, and so no lock with another one; two of its processes pull.
    let of_node =
        |node: usize| Settings { run_dirs: vec![directory.path().join(format!("run{node}"))], ..settings.clone() };
    let pull_on_all = || {
        std::thread::scope(|scope| {
            let pull_on = |number: usize| pull_of_v1(&store, &registry, PullPolicy::Missing, &of_node(number / 2));
            let pulls: Vec<_> = (0..32).map(|number| scope.spawn(move || pull_on(number))).collect();
            for pull in pulls {
                assert_eq!(pull.join().unwrap().unwrap().manifest, Digest::sha256_of(&image.manifest));
            }
        });
    };
    pull_on_all();
    let targets = || registry.requests().iter().map(|request| request.target.clone()).collect::<Vec<_>>();
    let digest = |bytes: &[u8]| Digest::sha256_of(bytes);
    let once = [
        "/v2/team/app/manifests/v1".to_owned(),
        format!("/v2/team/app/manifests/{}", digest(&image.manifest)),
        format!("/v2/team/app/blobs/{}", digest(&image.config)),
        format!("/v2/team/app/blobs/{}", digest(&image.layer)),
    ];
    assert_eq!(targets(), once);
    pull_on_all();
    assert_eq!(targets(), once);
    pull_of_v1(&store, &registry, PullPolicy::Always, &settings).unwrap();
    assert_eq!(targets()[4..], once[..2]);
}

#[test]
fn a_holder_that_lost_its_lease_leaves_the_tag_of_the_next() {
    let image = Arc::new(Image::new("[]"));
    let directory = tempfile::tempdir().unwrap();
    let settings = settings_in(directory.path());
    let store = Store::create(&settings.stores[0]).unwrap();
    let (go, resumed) = std::sync::mpsc::channel::<()>();
    let resumed = std::sync::Mutex::new(resumed);
    let served = Arc::clone(&image);
    // The first pull stands still at the image's manifest, its second question.
    let registry = FaultRegistry::start(move |request, number| {
        if number == 1 {
            resumed.lock().unwrap().recv().unwrap();
        }
        served.reply(request)
    });
    let tag = || std::fs::metadata(store.tags().unwrap()[0].directory.join("manifest")).unwrap().ino();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| pull_of_v1(&store, &registry, PullPolicy::Missing, &settings));
        while registry.requests().len() < 2 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let lease = std::fs::read_dir(store.path().join("leases")).unwrap().next().unwrap().unwrap().path();
        let ago = SystemTime::now() - EXPIRES_AFTER - Duration::from_secs(1);
        std::fs::File::options().write(true).open(&lease).unwrap().set_modified(ago).unwrap();
        pull_of_v1(&store, &registry, PullPolicy::Missing, &settings).unwrap();
        let published = tag();
        go.send(()).unwrap();
        assert_eq!(first.join().unwrap().unwrap().manifest, Digest::sha256_of(&image.manifest));
        assert_eq!(tag(), published);
    });
    assert_eq!(std::fs::read_dir(store.path().join("leases")).unwrap().count(), 0);
}

#[test]
fn an_image_arrives_whole_through_every_fault_that_passes() {
    let image = Arc::new(Image::new("[]"));
    let served = Arc::clone(&image);
    // Every second answer is bad.
    let registry = FaultRegistry::start(move |request, number| match number {
        0 => Reply::status(503),
        2 => served.reply(request).sent(Manner::CutAfter(10)),
        4 => Reply::status(429).with("Retry-After", "0"),
        6 => served.reply(request).sent(Manner::CutAfter(70_000)),
        7 => Reply::status(500),
        _ => served.reply(request),
    });
    let directory = tempfile::tempdir().unwrap();
    let (store, record) = pull_into(&directory, &registry);
    let record = record.unwrap();
    assert_eq!(record.manifest, Digest::sha256_of(&image.manifest));
    assert_eq!(record.index, Some(Digest::sha256_of(&image.index)));
    assert_eq!(std::fs::read(store.tree(&record.tree).join("data")).unwrap(), image.file);
    assert_eq!(std::fs::read(store.blob(&Digest::sha256_of(&image.layer))).unwrap(), image.layer);
    let ranges: Vec<_> = registry.headers("range").into_iter().flatten().collect();
    assert_eq!(ranges, ["bytes=70000-", "bytes=70000-"]);
    assert_eq!(registry.requests().len(), 9);
}

#[test]
fn an_image_with_other_bytes_leaves_nothing_listed() {
    let image = Image::new("[]");
    let registry = FaultRegistry::start(move |request, _| {
        let mut reply = image.reply(request);
        if reply.body == image.layer {
            // In the middle of a stored block: still a legal archive.
            reply.body[100_000] ^= 1;
        }
        reply
    });
    let directory = tempfile::tempdir().unwrap();
    let (store, result) = pull_into(&directory, &registry);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(store.tags().unwrap().is_empty());
}

#[test]
fn an_image_with_a_foreign_layer_is_refused_by_name() {
    let foreign = FaultRegistry::start(|_, _| Reply::ok(b""));
    let image = Image::new(&format!(r#"["{}"]"#, foreign.url("/layer")));
    let layer = Digest::sha256_of(&image.layer);
    let registry = FaultRegistry::start(move |request, _| image.reply(request));
    let directory = tempfile::tempdir().unwrap();
    let (store, result) = pull_into(&directory, &registry);
    let cause = std::error::Error::source(&result.unwrap_err()).unwrap().to_string();
    assert!(cause.contains(&layer.to_string()), "{cause}");
    assert_eq!(foreign.requests().len(), 0);
    assert!(store.tags().unwrap().is_empty());
}

#[test]
fn an_index_that_tells_another_size_of_its_manifest_is_refused() {
    let mut image = Image::new("[]");
    let told = format!("\"size\":{}", image.manifest.len());
    let text = String::from_utf8(image.index.clone()).unwrap().replace(' ', "");
    assert!(text.contains(&told), "{text}");
    image.index = text.replace(&told, "\"size\":7").into_bytes();
    let (manifest, actual) = (Digest::sha256_of(&image.manifest), image.manifest.len());
    let registry = FaultRegistry::start(move |request, _| image.reply(request));
    let directory = tempfile::tempdir().unwrap();
    let (store, result) = pull_into(&directory, &registry);
    let cause = std::error::Error::source(&result.unwrap_err()).unwrap().to_string();
    assert_eq!(cause, format!("the manifest {manifest} has {actual} bytes where the index says 7"));
    assert!(store.tags().unwrap().is_empty());
}
