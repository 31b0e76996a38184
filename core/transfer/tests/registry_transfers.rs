//! Repetition, waiting, resumption and stalls.

#[allow(dead_code, reason = "every test binary uses a part")]
mod fault_registry;

use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use fault_registry::*;
use udocker_core::error::{ErrorKind, Explain};
use udocker_core::settings::RegistrySettings;
use udocker_transfer::registry::{Client, Limits, RegistryError};

const BLOB: &[u8] = b"a blob";

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| if text.is_empty() { None } else { Some((*text).to_owned()) }).collect()
}

fn hasty(registry: &FaultRegistry, retries: u32) -> Client {
    let settings = RegistrySettings { retries, ..settings() };
    Client::with_limits(&settings, &registry.host(), limits()).unwrap()
}

#[test]
fn a_failing_server_is_asked_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        let registry = FaultRegistry::start(move |_, number| match number {
            0 | 1 => Reply::status(status),
            _ => Reply::ok(BLOB),
        });
        assert_eq!(read_blob(&registry.client(), &descriptor(BLOB)).unwrap(), BLOB, "{status}");
        assert_eq!(registry.requests().len(), 3, "{status}");
    }
}

#[test]
fn five_repetitions_are_enough() {
    let registry = FaultRegistry::start(|_, _| Reply {
        body: br#"{"errors":[{"code":"UNAVAILABLE","message":"down\u001b[31m"}]}"#.to_vec(),
        ..Reply::status(503)
    });
    let error = read_blob(&registry.client(), &descriptor(BLOB)).unwrap_err();
    let (host, digest) = (registry.host(), descriptor(BLOB).digest);
    let expected = format!("the registry {host} answered 503 UNAVAILABLE (down[31m) for blob {digest}");
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, RegistryError::Status { status: 503, .. }));
    assert!(error.is_retryable());
    assert_eq!(registry.requests().len(), 6);
}

#[test]
fn what_repeating_does_not_change_is_asked_once() {
    for status in [400, 403, 404, 405, 451] {
        let registry = FaultRegistry::start_tls(&Authority::new(), move |_, _| Reply::status(status));
        let settings = RegistrySettings { insecure: vec![registry.host()], ..settings() };
        let error = read_blob(&client(&settings, &registry.host()), &descriptor(BLOB)).unwrap_err();
        assert!(matches!(error, RegistryError::Status { status: s, .. } if s == status), "{error}");
        assert_eq!(registry.requests().len(), 1, "{status}");
    }
}

#[test]
fn retry_after_is_waited_for() {
    let date = || httpdate::fmt_http_date(SystemTime::now() + Duration::from_millis(2100));
    for (status, in_seconds) in [(429, true), (503, true), (429, false)] {
        let registry = FaultRegistry::start(move |_, number| match number {
            0 if in_seconds => Reply::status(status).with("Retry-After", "1"),
            0 => Reply::status(status).with("Retry-After", &date()),
            _ => Reply::ok(BLOB),
        });
        let start = Instant::now();
        assert_eq!(read_blob(&registry.client(), &descriptor(BLOB)).unwrap(), BLOB);
        // A date has whole seconds.
        assert!(start.elapsed() >= Duration::from_secs(1), "{status} {in_seconds}: {:?}", start.elapsed());
        assert_eq!(registry.requests().len(), 2);
    }
}

#[test]
fn a_retry_after_of_more_than_a_minute_is_a_failure_that_says_so() {
    let registry = FaultRegistry::start(|_, _| Reply::status(429).with("Retry-After", "61"));
    let error = read_blob(&registry.client(), &descriptor(BLOB)).unwrap_err();
    let (host, digest) = (registry.host(), descriptor(BLOB).digest);
    let expected =
        format!("the registry {host} answered 429 for blob {digest} and asks to wait 61 s, longer than 60 s");
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, RegistryError::Busy { status: 429, .. }));
    assert!(error.is_retryable());
    assert_eq!(registry.requests().len(), 1);
}

#[test]
fn a_cut_body_is_taken_up_where_it_ended() {
    for (etag, if_range) in [("\"v1\"", "\"v1\""), ("W/\"v1\"", "")] {
        let whole = pattern(300_000);
        let sent = whole.clone();
        let registry = FaultRegistry::start(move |request, number| {
            let reply = Reply::ranged(request, &sent).with("ETag", etag);
            match number {
                0 | 1 => reply.sent(Manner::CutAfter(100_000)),
                _ => reply,
            }
        });
        assert_eq!(read_blob(&registry.client(), &descriptor(&whole)).unwrap(), whole);
        assert_eq!(registry.headers("range"), some(&["", "bytes=100000-", "bytes=200000-"]));
        assert_eq!(registry.headers("if-range"), some(&["", if_range, if_range]));
    }
}

#[test]
fn a_server_without_ranges_is_read_from_zero() {
    let whole = pattern(300_000);
    let sent = whole.clone();
    let registry = FaultRegistry::start(move |_, number| match number {
        0 => Reply::ok(&sent).sent(Manner::CutAfter(200_000)),
        // Also while what is there is skipped.
        1 => Reply::ok(&sent).sent(Manner::CutAfter(100_000)),
        _ => Reply::ok(&sent),
    });
    assert_eq!(read_blob(&registry.client(), &descriptor(&whole)).unwrap(), whole);
    assert_eq!(registry.headers("range"), some(&["", "bytes=200000-", "bytes=200000-"]));
}

#[test]
fn a_refused_or_wrong_range_is_read_from_zero() {
    let whole = pattern(300_000);
    for wrong in [
        Reply::status(416),
        Reply::ok(&whole[5..]).with("Content-Range", "bytes 5-299999/300000"),
        Reply::ok(&whole[5..]),
    ] {
        let (sent, status) = (whole.clone(), wrong.status);
        let registry = FaultRegistry::start(move |request, number| match number {
            0 => Reply::ok(&sent).sent(Manner::CutAfter(200_000)),
            1 if status == 416 => wrong.clone(),
            1 => Reply { status: 206, ..wrong.clone() },
            _ if request.header("range").is_some() => Reply::status(500),
            _ => Reply::ok(&sent),
        });
        assert_eq!(read_blob(&registry.client(), &descriptor(&whole)).unwrap(), whole);
        assert_eq!(registry.headers("range"), some(&["", "bytes=200000-", ""]));
    }
}

#[test]
fn a_body_that_always_ends_early_is_an_error_after_five_repetitions() {
    let whole = pattern(1000);
    let sent = whole.clone();
    let registry = FaultRegistry::start(move |request, _| Reply::ranged(request, &sent).sent(Manner::CutAfter(10)));
    let error = read_blob(&registry.client(), &descriptor(&whole)).unwrap_err();
    let (host, digest) = (registry.host(), descriptor(&whole).digest);
    assert_eq!(error.to_string(), format!("the registry {host} broke off blob {digest} after 60 of 1000 bytes"));
    assert!(matches!(error, RegistryError::Truncated { got: 60, size: Some(1000), .. }));
    assert!(error.is_retryable());
    assert_eq!(registry.requests().len(), 6);
}

#[test]
fn a_long_transfer_may_break_off_more_often() {
    let whole = pattern(9 << 20);
    let sent = whole.clone();
    let registry = FaultRegistry::start(move |request, _| {
        let reply = Reply::ranged(request, &sent);
        let cut = reply.body.len().min((1 << 20) + 1);
        reply.sent(Manner::CutAfter(cut))
    });
    assert_eq!(read_blob(&registry.client(), &descriptor(&whole)).unwrap(), whole);
    assert_eq!(registry.requests().len(), 9);
}

#[test]
fn a_cut_document_is_asked_for_again() {
    let registry = FaultRegistry::start(|_, number| match number {
        0 => Reply::ok(BLOB).sent(Manner::CutAfter(3)),
        1 => Reply::ok(BLOB).sent(Manner::HangUp),
        _ => Reply::ok(BLOB),
    });
    // The scheme is known before the server hangs up: https is not tried.
    assert_eq!(registry.client().small_blob(REPOSITORY, &descriptor(BLOB), 100).unwrap(), BLOB);
    assert_eq!(registry.requests().len(), 3);
}

#[test]
fn a_silent_server_is_given_up() {
    let registry = FaultRegistry::start(|_, _| Reply::ok(BLOB).sent(Manner::Silent));
    let start = Instant::now();
    let error = read_blob(&hasty(&registry, 1), &descriptor(BLOB)).unwrap_err();
    let (host, digest) = (registry.host(), descriptor(BLOB).digest);
    assert_eq!(error.to_string(), format!("the registry {host} sent no answer for blob {digest} within 0.4 s"));
    assert!(matches!(error, RegistryError::Silent { .. }));
    assert!(error.is_retryable());
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(registry.requests().len(), 2);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(800) && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_server_that_answers_at_last_is_taken() {
    let registry = FaultRegistry::start(|_, number| match number {
        0 => Reply::ok(BLOB).sent(Manner::Silent),
        _ => Reply::ok(BLOB),
    });
    assert_eq!(read_blob(&hasty(&registry, 1), &descriptor(BLOB)).unwrap(), BLOB);
}

#[test]
fn a_body_that_stalls_is_given_up_and_says_so() {
    // Nothing more after 100 bytes, and a byte now and then.
    for pause in [Duration::from_secs(60), Duration::from_millis(20)] {
        let whole = pattern(5000);
        let sent = whole.clone();
        let registry =
            FaultRegistry::start(move |request, _| Reply::ranged(request, &sent).sent(Manner::Trickle(100, pause)));
        let start = Instant::now();
        let error = read_blob(&hasty(&registry, 0), &descriptor(&whole)).unwrap_err();
        let took = start.elapsed();
        let RegistryError::Stalled { got, slowest: 1024, window, .. } = &error else { panic!("{error}") };
        assert_eq!(*window, Duration::from_millis(300));
        assert!((100..400).contains(got), "{got}");
        let (host, digest) = (registry.host(), descriptor(&whole).digest);
        let expected = format!(
            "the transfer of blob {digest} from {host} stalled after {got} bytes: below 1024 bytes/s for 0.3 s"
        );
        assert_eq!(error.to_string(), expected);
        assert!(error.is_retryable());
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(registry.requests().len(), 1);
    }
}

#[test]
fn a_stalled_body_is_taken_up_by_a_new_request() {
    let whole = pattern(5000);
    let sent = whole.clone();
    let registry = FaultRegistry::start(move |request, number| {
        let reply = Reply::ranged(request, &sent);
        if number == 0 { reply.sent(Manner::Trickle(100, Duration::from_secs(60))) } else { reply }
    });
    assert_eq!(read_blob(&hasty(&registry, 1), &descriptor(&whole)).unwrap(), whole);
    assert_eq!(registry.headers("range"), some(&["", "bytes=100-"]));
}

#[test]
fn a_stalled_document_is_an_error() {
    let registry = FaultRegistry::start(|_, _| Reply::ok(BLOB).sent(Manner::Trickle(3, Duration::from_secs(60))));
    let error = hasty(&registry, 1).small_blob(REPOSITORY, &descriptor(BLOB), 100).unwrap_err();
    assert!(matches!(error, RegistryError::Stalled { got: 3, .. }), "{error}");
    assert_eq!(registry.requests().len(), 2);
}

#[test]
fn slow_but_steady_is_no_stall() {
    // 100 bytes a second, above the limit here; longer than the window and than the silence that is borne.
    let whole = pattern(120);
    let sent = whole.clone();
    let registry =
        FaultRegistry::start(move |_, _| Reply::ok(&sent).sent(Manner::Trickle(0, Duration::from_millis(10))));
    let limits = Limits { slowest: 10, ..limits() };
    let client = Client::with_limits(&RegistrySettings { retries: 0, ..settings() }, &registry.host(), limits).unwrap();
    assert_eq!(read_blob(&client, &descriptor(&whole)).unwrap(), whole);
}

#[test]
fn a_slow_reader_is_no_stall() {
    use std::io::Read as _;
    let whole = pattern(3000);
    let sent = whole.clone();
    let registry = FaultRegistry::start(move |_, _| Reply::ok(&sent));
    let client = hasty(&registry, 0);
    let mut reader = client.blob(REPOSITORY, &descriptor(&whole)).unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 1000]);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(500));
        let count = reader.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(bytes, whole);
}

#[test]
fn threads_share_a_client() {
    let registry = FaultRegistry::start(|_, _| Reply::ok(BLOB));
    let client = registry.client();
    let (sender, receiver) = mpsc::channel();
    for _ in 0..8 {
        let (client, sender) = (client.clone(), sender.clone());
        std::thread::spawn(move || sender.send(read_blob(&client, &descriptor(BLOB)).unwrap()));
    }
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), vec![BLOB; 8]);
}
