//! Tags, catalogues and searches, page by page.

#[allow(dead_code, reason = "every test binary uses a part")]
mod fault_registry;

use fault_registry::*;
use udocker_core::settings::RegistrySettings;
use udocker_transfer::registry::{Found, RegistryError, Search, Searched};

/// Every result of a search.
fn search(settings: &RegistrySettings, places: &[Searched], expression: &str) -> Result<Vec<Found>, RegistryError> {
    let mut search = Search::start(settings, places, expression, 2)?;
    let mut all = Vec::new();
    while let Some(page) = search.next_page()? {
        all.extend(page);
    }
    assert!(search.next_page()?.is_none());
    Ok(all)
}

fn named(name: &str) -> Found {
    Found { name: name.into(), official: false, description: String::new(), stars: None }
}

#[test]
fn tags_follow_their_links() {
    let registry = FaultRegistry::start(|request, _| match request.target.as_str() {
        "/v2/team/app/tags/list?n=1000" => Reply::ok(br#"{"name":"team/app","tags":["a","b"]}"#)
            .with("Link", "</v2/team/app/tags/list?last=b&n=2>; rel=\"next\""),
        "/v2/team/app/tags/list?last=b&n=2" => {
            let link = format!("<http://{}/v2/team/app/tags/list?last=c>; rel=next", request.header("host").unwrap());
            Reply::ok(br#"{"tags":["c"]}"#).with("Link", &link)
        }
        "/v2/team/app/tags/list?last=c" => Reply::ok(br#"{"tags":null}"#),
        _ => Reply::status(404),
    });
    assert_eq!(registry.client().tags(REPOSITORY).unwrap(), ["a", "b", "c"]);
    assert_eq!(registry.requests().len(), 3);
}

#[test]
fn pages_that_lead_away_or_nowhere_end_the_list() {
    let foreign = FaultRegistry::start(|_, _| Reply::ok(br#"{"tags":["evil"]}"#));
    for link in [format!("<http://elsewhere.test:{}/x>", foreign.address().port()), "<?n=1000>".to_owned()] {
        let (shown, link) = (link.trim_matches(['<', '>']).to_owned(), format!("{link}; rel=\"next\""));
        let registry = FaultRegistry::start(move |_, _| Reply::ok(br#"{"tags":["a"]}"#).with("Link", &link));
        let error = registry.client().tags(REPOSITORY).unwrap_err();
        assert!(matches!(&error, RegistryError::Link { link, .. } if *link == shown), "{error}");
        assert_eq!(registry.requests().len(), 1);
    }
    assert_eq!(foreign.requests().len(), 0);
}

#[test]
fn the_hubs_api_is_asked_page_by_page() {
    let index = FaultRegistry::start(|request, _| {
        match request.target.as_str() {
        "/v2/search/repositories?query=a+b%26&page_size=2" => Reply::ok(
            br#"{"count":3,"next":"x","results":[{"repo_name":"one","short_description":"first","is_official":true,"star_count":7},{"repo_name":"two","short_description":null}]}"#,
        ),
        "/v2/search/repositories?query=a+b%26&page_size=2&page=2" => {
            Reply::ok(br#"{"count":3,"next":null,"results":[{"repo_name":"three"}]}"#)
        }
        _ => Reply::status(404),
    }
    });
    let one = Found { official: true, description: "first".into(), stars: Some(7), ..named("one") };
    let found = search(&settings(), &[Searched::Index(index.url(""))], "a b&").unwrap();
    assert_eq!(found, [one, named("two"), named("three")]);
}

#[test]
fn the_older_api_is_taken_where_it_is_alone() {
    let index = FaultRegistry::start(|request, _| {
        match request.target.as_str() {
        "/v1/search?q=x&page=1" => Reply::ok(
            br#"{"num_pages":2,"page":1,"results":[{"name":"a/x","description":"d","is_official":false,"star_count":1}]}"#,
        ),
        "/v1/search?q=x&page=2" => Reply::ok(br#"{"num_pages":2,"page":2,"results":[{"name":"b/x"}]}"#),
        _ => Reply::status(404),
    }
    });
    let first = Found { description: "d".into(), stars: Some(1), ..named("a/x") };
    for (path, requests) in [("", 3), ("/v1/", 2)] {
        let before = index.requests().len();
        let found = search(&settings(), &[Searched::Index(index.url(path))], "x").unwrap();
        assert_eq!(found, [first.clone(), named("b/x")], "{path}");
        assert_eq!(index.requests().len() - before, requests, "{path}");
    }
}

#[test]
fn a_registry_without_a_search_has_a_catalogue() {
    let registry = FaultRegistry::start(|request, _| match request.target.as_str() {
        "/v2/_catalog?n=1000" => {
            Reply::ok(br#"{"repositories":["a/x","b"]}"#).with("Link", "</v2/_catalog?last=b&n=2>; rel=\"next\"")
        }
        "/v2/_catalog?last=b&n=2" => Reply::ok(br#"{"repositories":["x/c"]}"#),
        _ => Reply::status(404),
    });
    let places = [Searched::Registry(registry.host())];
    assert_eq!(search(&settings(), &places, "x").unwrap(), [named("a/x"), named("x/c")]);
    assert_eq!(search(&settings(), &places, "").unwrap(), [named("a/x"), named("b"), named("x/c")]);
    let nothing = FaultRegistry::start(|_, _| Reply::status(404));
    let both = [Searched::Index(nothing.url("")), Searched::Registry(registry.host())];
    assert_eq!(search(&settings(), &both, "b").unwrap(), [named("b")]);
    let gone = RegistrySettings { retries: 0, ..settings() };
    let both_gone = [Searched::Index("http://127.0.0.1:1".into()), both[1].clone()];
    assert_eq!(search(&gone, &both_gone, "b").unwrap(), [named("b")]);
    let error = search(&gone, &[both_gone[0].clone(), both[0].clone()], "b").unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
    let error = search(&settings(), &both[..1], "b").unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 404, .. }), "{error}");
    let unreadable = FaultRegistry::start(|_, _| Reply::ok(b"<html>"));
    let error = search(&settings(), &[Searched::Index(unreadable.url("/v1"))], "b").unwrap_err();
    assert!(matches!(error, RegistryError::Unreadable { .. }), "{error}");
}
