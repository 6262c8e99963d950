//! Whether an answer is one of a Kubernetes API server. Pure.
//!
//! Between us and an API server stand load balancers, proxies and login pages. What they answer says nothing about
//! the cluster: it is no contact, and no verdict on what was asked.

use std::fmt;

use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde::{Deserialize, de::IgnoredAny};

/// What kind of answer a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// One JSON document.
    Document,
    /// A stream of lines of JSON that the API server ends after so many seconds.
    Watch {
        /// Seconds; as long as the API server likes when the request does not say.
        seconds: Option<u64>,
    },
    /// Bytes that are not Kubernetes' own, such as a pod's log, or another protocol.
    Foreign,
}

impl Asked {
    /// What a request asks for.
    pub(super) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let is_log = uri.path().starts_with("/api/v1/namespaces/") && uri.path().ends_with("/log");
        if is_log || headers.contains_key(header::UPGRADE) {
            return Self::Foreign;
        }
        let is_watch = parameter(uri, "watch").is_some_and(|value| value == "true" || value == "1");
        if *method == Method::GET && is_watch {
            return Self::Watch { seconds: parameter(uri, "timeoutSeconds").and_then(|s| s.parse().ok()) };
        }
        Self::Document
    }
}

/// The parameters of a query, as they stand there.
pub(super) fn parameters(uri: &Uri) -> impl Iterator<Item = (&str, &str)> {
    uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='))
}

/// The parameter of that name, as it stands in a query.
pub(super) fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    parameters(uri).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// What came instead of Kubernetes' answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// A page for browsers.
    Html,
    /// Nothing.
    Empty,
    /// Text.
    Text,
    /// JSON that is no Kubernetes object, or broken.
    Json,
    /// A Kubernetes object of another kind than was asked for.
    OtherKind,
    /// The way to another server, with its host when that is another.
    Redirect(Option<String>),
    /// That TLS is spoken there.
    TlsWanted,
    /// Something packed, which nobody asked for and nobody unpacks: it may be as large as it likes.
    Packed,
}

/// An answer that no Kubernetes API server gave. It holds nothing of the body, which may repeat a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotKubernetes {
    /// The HTTP status.
    pub status: u16,
    /// What came.
    pub instead: Instead,
}

impl fmt::Display for NotKubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status;
        match &self.instead {
            Instead::Html => write!(f, "HTTP {status} with an HTML page"),
            Instead::Empty => write!(f, "HTTP {status} with an empty body"),
            Instead::Text => write!(f, "HTTP {status} with plain text"),
            Instead::Json => write!(f, "HTTP {status} with JSON that is no Kubernetes object"),
            Instead::OtherKind => {
                write!(f, "HTTP {status} with an object of another kind than was asked for")
            }
            Instead::Redirect(Some(host)) => write!(f, "HTTP {status}, a redirect to `{host}`"),
            Instead::Redirect(None) => write!(f, "HTTP {status}, a redirect"),
            Instead::Packed => write!(f, "HTTP {status} with a compressed body, which was not asked for"),
            Instead::TlsWanted => write!(f, "HTTP {status}, as the port speaks HTTPS and was asked in HTTP"),
        }?;
        f.write_str(
            ": this is no answer of a Kubernetes API server, but of something in front of it or in its place",
        )
    }
}

impl std::error::Error for NotKubernetes {}

/// What shows whose answer a document is.
#[derive(Deserialize)]
struct Envelope {
    kind: Option<String>,
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    #[serde(rename = "gitVersion")]
    version: Option<IgnoredAny>,
    openapi: Option<IgnoredAny>,
    paths: Option<IgnoredAny>,
}

/// What an API server answers without a Status: no such path, and too much to do.
const PLAIN: [&str; 2] = ["404 page not found", "Too many requests, please try again later."];

/// Judges by the head alone what need not be read, or cannot be read to its end: redirects, and streams.
///
/// # Errors
/// When it is no answer of an API server.
pub(super) fn head(status: StatusCode, headers: &HeaderMap, asked: Asked) -> Result<(), NotKubernetes> {
    let instead = |instead| Err(NotKubernetes { status: status.as_u16(), instead });
    if status.is_redirection() {
        let target = headers.get(header::LOCATION).and_then(|target| target.to_str().ok());
        let target = target.and_then(|target| target.parse::<Uri>().ok());
        return instead(Instead::Redirect(target.and_then(|uri| uri.host().map(str::to_owned))));
    }
    let is_packed = headers.get(header::CONTENT_ENCODING).is_some_and(|how| how != "identity");
    if is_packed && asked != Asked::Foreign {
        return instead(Instead::Packed);
    }
    if matches!(asked, Asked::Watch { .. }) && status.is_success() {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if text(header::CONTENT_TYPE).starts_with("text/html") {
            return instead(Instead::Html);
        }
        if text(header::CONTENT_LENGTH) == "0" || status == StatusCode::NO_CONTENT {
            return instead(Instead::Empty);
        }
    }
    Ok(())
}

/// Judges a whole document.
///
/// # Errors
/// When it is no answer of an API server.
pub(super) fn document(
    (method, uri): (&Method, &Uri),
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), NotKubernetes> {
    let path = uri.path();
    let text = body.trim_ascii();
    let envelope = if text.starts_with(b"{") { serde_json::from_slice::<Envelope>(text).ok() } else { None };
    let is_kubernetes = match &envelope {
        _ if status.is_informational() => true,
        Some(envelope) if status.is_success() => {
            envelope.kind.as_ref().is_some_and(|kind| !kind.is_empty())
                || (path == "/version" && envelope.version.is_some())
                || (path.starts_with("/openapi/") && (envelope.openapi.is_some() || envelope.paths.is_some()))
        }
        Some(envelope) => envelope.kind.as_deref() == Some("Status"),
        None if status.is_success() => false,
        // An API server marks each of its answers, also those of parts that do not speak JSON.
        None => {
            !text.starts_with(b"<")
                && !text.starts_with(b"{")
                && (headers.contains_key("audit-id") || PLAIN.iter().any(|plain| text == plain.as_bytes()))
        }
    };
    let is_other = method == Method::GET && status.is_success() && is_other_kind(path, envelope.as_ref());
    if is_kubernetes && is_other {
        return Err(NotKubernetes { status: status.as_u16(), instead: Instead::OtherKind });
    }
    if is_kubernetes {
        return Ok(());
    }
    Err(NotKubernetes { status: status.as_u16(), instead: instead(text) })
}

/// Whether what a GET of `path` brought cannot be what stands there: a list that is none, or an object of another group. Taken
/// for what was asked for, its lack of objects would say that there are none.
fn is_other_kind(path: &str, envelope: Option<&Envelope>) -> bool {
    /// Lists and objects without their content are of this group, whatever they are of.
    const META: &str = "meta.k8s.io/";
    let (Some((version, is_list)), Some(envelope)) = (resource(path), envelope) else { return false };
    let kind = envelope.kind.as_deref().unwrap_or_default();
    let said = envelope.api_version.as_deref().unwrap_or_default();
    let is_shaped = if is_list { kind.ends_with("List") || kind == "Table" } else { kind != "Status" };
    !is_shaped || (said != version && !said.starts_with(META))
}

/// Group and version of the resource at `path`, and whether all its objects are asked for; `None` where nothing of a resource
/// is, or a part of an object.
fn resource(path: &str) -> Option<(String, bool)> {
    let mut parts = path.trim_matches('/').split('/');
    let version = match parts.next()? {
        "api" => parts.next()?.to_owned(),
        "apis" => format!("{}/{}", parts.next()?, parts.next()?),
        _ => return None,
    };
    let rest: Vec<&str> = parts.collect();
    match rest.as_slice() {
        ["namespaces", _, "status" | "finalize"] => None,
        ["namespaces", _, _] | [_] => Some((version, true)),
        ["namespaces", _, _, _] | [_, _] => Some((version, false)),
        _ => None,
    }
}

/// Judges the first bytes of a stream; `None` while only white space came.
pub(super) fn beginning(status: StatusCode, bytes: &[u8]) -> Option<Result<(), NotKubernetes>> {
    let text = bytes.trim_ascii_start();
    let first = text.first()?;
    if *first == b'{' {
        return Some(Ok(()));
    }
    Some(Err(NotKubernetes { status: status.as_u16(), instead: instead(text) }))
}

fn instead(text: &[u8]) -> Instead {
    let says = |words: &[u8]| text.windows(words.len()).any(|window| window == words);
    match text.first() {
        None => Instead::Empty,
        Some(b'<') => Instead::Html,
        Some(b'{' | b'[' | b'"') => Instead::Json,
        Some(_) if text.len() < 512 && says(b"HTTP request to an HTTPS server") => Instead::TlsWanted,
        Some(_) => Instead::Text,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const STATUS: &str =
        r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"etcd","code":503}"#;

    fn judged(status: u16, path: &str, body: &str, marked: bool) -> Option<Instead> {
        let mut headers = HeaderMap::new();
        if marked {
            headers.insert("audit-id", "7c1d".parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let uri = path.parse().unwrap();
        document((&Method::GET, &uri), status, &headers, body.as_bytes()).err().map(|not| not.instead)
    }

    #[rstest]
    #[case::list("/api/v1/secrets", "v1", "SecretList", true)]
    #[case::in_a_namespace("/api/v1/namespaces/a/secrets", "v1", "SecretList", true)]
    #[case::custom(
        "/apis/medusa.k8ssandra.io/v1alpha1/medusabackups",
        "medusa.k8ssandra.io/v1alpha1",
        "MedusaBackupList",
        true
    )]
    #[case::without_content("/apis/a.io/v1/as", "meta.k8s.io/v1", "PartialObjectMetadataList", true)]
    #[case::object("/apis/a.io/v1/namespaces/n/as/x", "a.io/v1", "A", true)]
    #[case::namespace("/api/v1/namespaces/kube-system", "v1", "Namespace", true)]
    #[case::namespaces("/api/v1/namespaces", "v1", "NamespaceList", true)]
    #[case::a_kind_that_ends_so("/apis/a.io/v1/allowlists/x", "a.io/v1", "AllowList", true)]
    #[case::discovery("/apis/a.io/v1", "v1", "APIResourceList", true)]
    #[case::groups("/apis", "v1", "APIGroupList", true)]
    #[case::part("/apis/a.io/v1/namespaces/n/as/x/scale", "autoscaling/v1", "Scale", true)]
    #[case::success_of_nothing("/api/v1/secrets", "v1", "Status", false)]
    #[case::an_object_for_a_list("/api/v1/secrets", "v1", "Secret", false)]
    #[case::another_group("/apis/medusa.k8ssandra.io/v1alpha1/medusabackups", "v1", "PodList", false)]
    #[case::another_version("/apis/a.io/v1/as", "a.io/v2", "AList", false)]
    #[case::no_version("/apis/a.io/v1/as", "", "AList", false)]
    #[case::success_for_an_object("/api/v1/namespaces/kube-system", "v1", "Status", false)]
    fn what_answers_is_of_what_was_asked_for(
        #[case] path: &str,
        #[case] version: &str,
        #[case] kind: &str,
        #[case] fits: bool,
    ) {
        let body = format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{{}},"items":[]}}"#);
        assert_eq!(judged(200, path, &body, false), (!fits).then_some(Instead::OtherKind));
        if !fits {
            let uri = path.parse().unwrap();
            let ok = document((&Method::DELETE, &uri), StatusCode::OK, &HeaderMap::new(), body.as_bytes());
            assert_eq!(ok, Ok(()), "a deletion is answered with a Status");
        }
    }

    #[rstest]
    #[case::list(200, "/api/v1/secrets", r#"{"apiVersion":"v1","items":[{"kind":3}],"kind":"SecretList"}"#)]
    #[case::core(200, "/api/v1", r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[]}"#)]
    #[case::version(200, "/version", r#"{"major":"1","minor":"37","gitVersion":"v1.37.0"}"#)]
    #[case::fields(200, "/openapi/v3/apis/a/v1", r#"{"openapi":"3.0.0","info":{}}"#)]
    #[case::trouble(503, "/api", STATUS)]
    #[case::no_path(404, "/apis/none/v1", "404 page not found\n")]
    #[case::old_limit(429, "/api", "Too many requests, please try again later.\n")]
    fn answers_of_an_api_server_are_passed_on(#[case] status: u16, #[case] path: &str, #[case] body: &str) {
        assert_eq!(judged(status, path, body, false), None);
    }

    #[rstest]
    #[case::balancer(502, "<html><h1>502 Bad Gateway</h1></html>", Instead::Html)]
    #[case::shouting(503, "\n <!DOCTYPE HTML>", Instead::Html)]
    #[case::login(200, "<!doctype html><form action=login>", Instead::Html)]
    #[case::empty(200, "", Instead::Empty)]
    #[case::blank(200, " \r\n", Instead::Empty)]
    #[case::nothing(503, "", Instead::Empty)]
    #[case::words(503, "no healthy upstream", Instead::Text)]
    #[case::backend(404, "default backend - 404", Instead::Text)]
    #[case::gateway(404, r#"{"message":"no Route matched with those values"}"#, Instead::Json)]
    #[case::no_status(500, r#"{"kind":"Namespace"}"#, Instead::Json)]
    #[case::sso(200, r#"{"login":"https://sso"}"#, Instead::Json)]
    #[case::null(200, "null", Instead::Text)]
    #[case::array(200, "[]", Instead::Json)]
    #[case::no_kind(200, r#"{"kind":null}"#, Instead::Json)]
    #[case::version_elsewhere(200, r#"{"gitVersion":"v1"}"#, Instead::Json)]
    #[case::cut(200, r#"{"kind":"SecretList","items":[{"#, Instead::Json)]
    #[case::wrong_port(400, "Client sent an HTTP request to an HTTPS server.\n", Instead::TlsWanted)]
    fn answers_of_others_are_not(#[case] status: u16, #[case] body: &str, #[case] instead: Instead) {
        assert_eq!(judged(status, "/api/v1/namespaces/kube-system", body, false), Some(instead));
    }

    #[test]
    fn plain_words_count_only_with_the_mark_of_an_api_server_and_pages_never() {
        assert_eq!(judged(503, "/apis/metrics.k8s.io/v1", "service unavailable\n", true), None);
        assert_eq!(judged(503, "/api", "<html>", true), Some(Instead::Html));
        assert_eq!(judged(200, "/api", "fine", true), Some(Instead::Text));
    }

    #[test]
    fn a_redirect_tells_the_host_and_nothing_that_stands_in_its_query() {
        let mut headers = HeaderMap::new();
        headers.insert("location", "https://login.example/x?token=secret".parse().unwrap());
        let said = head(StatusCode::FOUND, &headers, Asked::Document).unwrap_err().to_string();
        assert!(said.contains("`login.example`") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn a_stream_is_judged_by_its_head_and_its_first_bytes() {
        let watch = Asked::Watch { seconds: None };
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(http::HeaderName::from_static(name), value.parse().unwrap())])
        };
        let ok = StatusCode::OK;
        assert!(head(ok, &headers("content-type", "application/json"), watch).is_ok());
        assert!(head(ok, &headers("content-type", "text/html; charset=utf-8"), watch).is_err());
        assert!(head(ok, &headers("content-length", "0"), watch).is_err());
        for asked in [watch, Asked::Document] {
            let packed = head(ok, &headers("content-encoding", "gzip"), asked).unwrap_err();
            assert_eq!(packed.instead, Instead::Packed);
            assert!(head(ok, &headers("content-encoding", "identity"), asked).is_ok());
        }
        assert_eq!(beginning(ok, b"\n "), None);
        assert_eq!(beginning(ok, b" {\"type\""), Some(Ok(())));
        assert!(beginning(ok, b"<html>").is_some_and(|judged| judged.is_err()));
    }

    #[rstest]
    #[case("/api/v1/secrets?limit=500", Asked::Document)]
    #[case("/api/v1/secrets?watch=true&timeoutSeconds=120", Asked::Watch { seconds: Some(120) })]
    #[case("/api/v1/namespaces/a/pods/b/log?follow=true", Asked::Foreign)]
    fn requests_say_what_they_ask_for(#[case] uri: &str, #[case] asked: Asked) {
        assert_eq!(Asked::of(&Method::GET, &uri.parse().unwrap(), &HeaderMap::new()), asked);
    }
}
