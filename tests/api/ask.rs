//! Requests, and the properties that every response must have.

use diesel::{Connection, PgConnection, SqliteConnection};
use fanfare::db::AnyConnection;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::support::Service;
use crate::support::api::Api;

/// A response, read to its end.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// Returns a header, or an empty string.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header of ASCII"))
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text))
    }

    /// Returns the body of a success, and panics if the status differs.
    pub fn success(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/json");
        self.json()
    }

    /// Returns the body of a complete RFC 9457 problem, and panics if the status differs.
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        assert!(!self.header("x-request-id").is_empty(), "an error without a request id");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        for (member, prefix) in [("type", "/problems/"), ("title", ""), ("detail", "")] {
            let text = problem[member].as_str().unwrap_or_else(|| panic!("{member}: {problem}"));
            assert!(text.starts_with(prefix) && text.len() > prefix.len(), "{member}: {problem}");
        }
        if status == 422 {
            assert!(!fields(&problem).is_empty(), "a 422 names the wrong fields: {problem}");
        }
        problem
    }
}

/// Sends a request and reads the response.
pub async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.expect("a body") }
}

/// Builds a request to a path under the API's root.
pub fn request(service: &Api, method: &str, path: &str) -> RequestBuilder {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    service.http.request(method, service.url(path))
}

/// Sends a request with an optional JSON body to a path under the API's root.
pub async fn ask(service: &Api, method: &str, path: &str, body: Option<Value>) -> Answer {
    let request = request(service, method, path);
    send(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

/// Sends a POST that is refused with 422 and returns the names of the invalid fields.
pub async fn wrong_fields(service: &Api, path: &str, body: Value) -> Vec<String> {
    fields(&ask(service, "POST", path, Some(body)).await.problem(422))
}

/// Returns the sorted names of the invalid fields.
pub fn fields(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().map_or(&[][..], Vec::as_slice);
    let mut names: Vec<String> = errors
        .iter()
        .map(|error| {
            assert!(error["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{problem}");
            error["field"].as_str().expect("a field's name").to_owned()
        })
        .collect();
    names.sort();
    names
}

/// Reads all items of a list in pages of this size. Panics if a page is larger or the list does not end.
pub async fn all_pages(service: &Api, path: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    for _ in 0..1000 {
        let separator = if path.contains('?') { '&' } else { '?' };
        let page = service.get(&format!("{path}{separator}limit={limit}{cursor}")).await;
        let found = page["items"].as_array().expect("items");
        assert!(found.len() <= limit, "{} items of at most {limit}", found.len());
        items.extend(found.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
    panic!("{path} does not end");
}

/// Returns the values of the field `name` of a list's items.
pub fn texts(items: &[Value], name: &str) -> Vec<String> {
    items.iter().map(|item| item[name].as_str().expect("a text").to_owned()).collect()
}

/// Returns the id of a resource.
pub fn id_of(thing: &Value) -> String {
    thing["id"].as_str().expect("an id").to_owned()
}

/// Opens a separate connection to the service's database.
pub fn database(service: &Service) -> AnyConnection {
    let url = &service.db.url;
    match url.strip_prefix("sqlite://") {
        Some(path) => AnyConnection::Sqlite(SqliteConnection::establish(path).expect("the SQLite file")),
        None => AnyConnection::Postgres(PgConnection::establish(url).expect("the database")),
    }
}
