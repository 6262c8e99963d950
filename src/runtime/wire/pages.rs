//! How many objects a page of a list may have, where the pages asked for are too long to be read.

use std::{collections::BTreeMap, sync::Mutex};

use http::{Method, Request, Uri};
use kube::client::Body;

use super::answer::{parameter, parameters};
use crate::runtime::sync::lock;

/// Parameter of a list request that says how many objects its page may have.
const LIMIT: &str = "limit";
/// By how much a page shrinks at a time.
const SHRINK: u32 = 4;
/// Paths whose pages are remembered: many more than there are kinds that anybody lists.
const PATHS: usize = 64;

/// Sizes of pages that could be read, by path. They do not grow again: objects rarely become smaller.
#[derive(Debug, Default)]
pub(super) struct Pages(Mutex<BTreeMap<String, u32>>);

impl Pages {
    /// `request` with as many objects to its page as could be read of that path before.
    pub(super) fn fit(&self, mut request: Request<Body>) -> Request<Body> {
        if let Some(asked) = asked(&request)
            && let Some(known) = self.known(request.uri().path()).filter(|known| *known < asked)
        {
            set(request.uri_mut(), known);
        }
        request
    }

    /// `request` was answered with more than can be read: the same for fewer objects, when there can be fewer.
    pub(super) fn shrink(&self, mut request: Request<Body>) -> Option<Request<Body>> {
        let fewer = asked(&request).map(|asked| asked / SHRINK).filter(|fewer| *fewer > 0)?;
        let mut sizes = lock(&self.0);
        if sizes.len() < PATHS || sizes.contains_key(request.uri().path()) {
            sizes.insert(request.uri().path().to_owned(), fewer);
        }
        drop(sizes);
        set(request.uri_mut(), fewer);
        Some(request)
    }

    fn known(&self, path: &str) -> Option<u32> {
        lock(&self.0).get(path).copied()
    }
}

/// How many objects a request for a page asks for.
fn asked(request: &Request<Body>) -> Option<u32> {
    if request.method() != Method::GET {
        return None;
    }
    parameter(request.uri(), LIMIT)?.parse().ok()
}

fn set(uri: &mut Uri, limit: u32) {
    let pairs = parameters(uri).map(|(key, value)| match key {
        LIMIT => format!("{LIMIT}={limit}"),
        _ => format!("{key}={value}"),
    });
    let query = pairs.collect::<Vec<_>>().join("&");
    if let Ok(changed) = format!("{}?{query}", uri.path()).parse() {
        *uri = changed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(uri: &str) -> Request<Body> {
        Request::get(uri).body(Body::empty()).unwrap()
    }

    #[test]
    fn a_page_that_is_too_long_shrinks_to_one_object_and_is_remembered_by_path() {
        let pages = Pages::default();
        let mut request = get("/api/v1/secrets?limit=10&continue=abc%3D");
        for limit in [2, 0] {
            let Some(smaller) = pages.shrink(request) else {
                assert_eq!(limit, 0);
                break;
            };
            request = smaller;
            assert_eq!(request.uri(), "/api/v1/secrets?limit=2&continue=abc%3D");
        }
        assert_eq!(pages.fit(get("/api/v1/secrets?limit=500")).uri(), "/api/v1/secrets?limit=2");
        assert_eq!(pages.fit(get("/api/v1/secrets?limit=1")).uri(), "/api/v1/secrets?limit=1");
        assert_eq!(pages.fit(get("/api/v1/configmaps?limit=500")).uri(), "/api/v1/configmaps?limit=500");
    }

    #[test]
    fn what_asks_for_no_page_does_not_become_one() {
        let pages = Pages::default();
        assert!(pages.shrink(get("/api/v1/secrets")).is_none(), "nobody would ask for the rest");
        assert!(pages.shrink(Request::post("/a?limit=9").body(Body::empty()).unwrap()).is_none());
    }
}
