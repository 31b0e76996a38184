//! A stand-in for Docker Hub's search: repositories with numbers, by the API of version 2 or of version 1.

use serde_json::{Value, json};

use crate::web::{Answer, Request, WebServer};

/// Results of version 1 on a page.
const PAGE: usize = 25;

/// Serves `count` repositories `team/NAME-1`, `team/NAME-2` … for a search of NAME by Hub's own API.
pub fn start_hub(count: usize) -> WebServer {
    WebServer::start(move |host, request| match request.path() {
        "/v2/search/repositories" => {
            let size: usize = request.field("page_size").parse().expect("a number");
            let page: usize = request.fields("page").first().map_or(1, |page| page.parse().expect("a number"));
            if page > 1 && (page - 1) * size >= count {
                return Answer::not_found();
            }
            let next = (page * size < count).then(|| format!("http://{host}/v2/search/repositories?page={}", page + 1));
            let name = |number| format!("team/{}-{number}", request.field("query"));
            Answer::ok(json!({"count": count, "next": next, "results": results(count, page, size, "repo_name", name)}))
        }
        _ => Answer::not_found(),
    })
}

/// The same by the API of version 1.
pub fn start_hub_v1(count: usize) -> WebServer {
    WebServer::start(move |_, request| match request.path() {
        "/v1/search" => {
            let page: usize = request.field("page").parse().expect("a number");
            let name = |number| format!("team/{}-{number}", request.field("q"));
            Answer::ok(json!({"page": page, "num_pages": count.div_ceil(PAGE), "num_results": count,
                              "results": results(count, page, PAGE, "name", name)}))
        }
        _ => Answer::not_found(),
    })
}

fn results(count: usize, page: usize, size: usize, name: &str, name_of: impl Fn(usize) -> String) -> Vec<Value> {
    let numbers = ((page - 1) * size + 1)..=(page * size).min(count);
    let description = if name == "name" { "description" } else { "short_description" };
    numbers
        .map(|number| {
            json!({name: name_of(number), description: format!("Number {number}\nand more"), "star_count": number,
                   "is_official": number == 1})
        })
        .collect()
}

/// The targets that were asked for.
pub fn targets(server: &WebServer) -> Vec<String> {
    server.requests().into_iter().map(|Request { target, .. }| target).collect()
}
