//! How much a list has brought so far, page by page.

use std::{collections::BTreeMap, sync::Mutex};

use http::Uri;

use super::{
    answer::{parameter, parameters},
    body::{List, Unbounded},
};
use crate::runtime::sync::lock;

/// Lists that are remembered: many more than anybody reads at a time.
const LISTS: usize = 256;
/// Objects of a page where nobody said how many it may have.
const UNASKED: usize = 1;

/// What every list under way has brought.
#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<BTreeMap<String, List>>);

impl Listings {
    /// `uri` was answered with a page of so many bytes. A page that goes on with no other begins its list anew; what has no
    /// pages is bounded by itself.
    ///
    /// # Errors
    /// When the list has brought more than it may.
    pub(super) fn add(&self, uri: &Uri, bytes: usize, most: List) -> Result<(), Unbounded> {
        let goes_on = parameter(uri, "continue").is_some_and(|token| !token.is_empty());
        let limit = parameter(uri, "limit").and_then(|limit| limit.parse().ok());
        if limit.is_none() && !goes_on {
            return Ok(());
        }
        // A page of fewer objects that is not the last is none of an API server.
        let objects = limit.unwrap_or(UNASKED);
        let list = identity(uri);
        let mut listings = lock(&self.0);
        if !goes_on {
            listings.remove(&list);
        }
        while listings.len() >= LISTS && !listings.contains_key(&list) {
            listings.pop_first();
        }
        let so_far = listings.entry(list).or_insert(List { objects: 0, bytes: 0 });
        // The page that passes a bound is read already; whether another follows is not known before it is asked for.
        if goes_on && (so_far.objects >= most.objects || so_far.bytes >= most.bytes) {
            return Err(Unbounded::List(*so_far));
        }
        so_far.objects = so_far.objects.saturating_add(objects);
        so_far.bytes = so_far.bytes.saturating_add(bytes);
        Ok(())
    }
}

/// Parameters that differ between the pages of one list.
const PAGE: [&str; 4] = ["continue", "limit", "resourceVersion", "resourceVersionMatch"];

/// What tells lists apart: everything but the page.
fn identity(uri: &Uri) -> String {
    let query = parameters(uri).filter(|(key, _)| !PAGE.contains(key));
    query.fold(uri.path().to_owned(), |mut text, (key, value)| {
        text.extend(["&", key, "=", value]);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: List = List { objects: 1000, bytes: 100 };

    fn pages(uris: &[(&str, usize)]) -> Vec<bool> {
        let listings = Listings::default();
        uris.iter().map(|(uri, bytes)| listings.add(&uri.parse().unwrap(), *bytes, MOST).is_ok()).collect()
    }

    #[test]
    fn a_list_ends_after_so_many_objects_or_bytes_and_begins_anew() {
        let (first, next) = ("/api/v1/secrets?limit=500", "/api/v1/secrets?limit=500&continue=a");
        assert_eq!(
            pages(&[(first, 9), (next, 9), (next, 9), (first, 9), (next, 9)]),
            [true, true, false, true, true]
        );
        let (first, next) = ("/api/v1/secrets?limit=1", "/api/v1/secrets?limit=1&continue=a");
        assert_eq!(pages(&[(first, 99), (next, 99), (next, 1)]), [true, true, false], "bytes count, too");
        let one = Listings::default();
        assert!(one.add(&"/api/v1/namespaces/kube-system".parse().unwrap(), 9_999, MOST).is_ok());
        assert!(one.0.lock().unwrap().is_empty(), "what has no pages is not remembered");
    }

    #[test]
    fn lists_are_told_apart_by_what_they_select() {
        let of = |label: &str, token: &str| {
            format!("/api/v1/secrets?labelSelector={label}&limit=500&continue={token}")
        };
        let (a, b) = (of("a", "x"), of("b", "y"));
        assert_eq!(pages(&[(&a, 9), (&b, 9), (&a, 9), (&b, 9), (&a, 9)]), [true, true, true, true, false]);
        let many: Vec<String> = (0..2 * LISTS).map(|n| of(&n.to_string(), "")).collect();
        let listings = Listings::default();
        for uri in &many {
            assert!(listings.add(&uri.parse().unwrap(), 1, MOST).is_ok());
        }
        assert_eq!(listings.0.lock().unwrap().len(), LISTS, "what is remembered is bounded");
    }
}
