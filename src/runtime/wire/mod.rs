//! Where answers enter: only Kubernetes' own, within bounds.
//!
//! A client that is [`guarded`] hands on nothing but what an API server said. Everything else, from a proxy's page to an
//! endless body, is an error without a status: nobody can take it for a verdict.

mod answer;
mod body;
mod listing;
mod pages;

use std::{fmt, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, header};
use kube::{Client, client::Body, core::Status};
use tokio::sync::Semaphore;
use tower::{BoxError, service_fn};

use self::{answer::Asked, listing::Listings, pages::Pages};

use super::cause::{self, Denier};

pub use self::{
    answer::{Instead, NotKubernetes},
    body::{Bounds, List, Unbounded},
};

type WireAnswer = Response<axum::body::Body>;

/// Whether a request asks for a watch.
pub fn is_watch<B>(request: &Request<B>) -> bool {
    matches!(Asked::of(request.method(), request.uri(), request.headers()), Asked::Watch { .. })
}

/// How long a watch may go on that was not told when to end: as long as an API server lets any.
const WATCH: Duration = Duration::from_hours(1);
/// What is logged when an API server refuses something for want of rights.
pub const NO_RIGHT: &str = "the account has no right to this";

/// An error on the way through a proxy.
#[derive(Debug)]
pub struct Proxied {
    /// Host and port of the proxy.
    pub proxy: String,
    /// What went wrong behind or at it.
    pub(super) source: BoxError,
}

impl fmt::Display for Proxied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "through proxy `{}`", self.proxy)
    }
}

impl std::error::Error for Proxied {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

struct Wire {
    client: Client,
    bounds: Bounds,
    /// One long answer at a time.
    turn: Semaphore,
    pages: Pages,
    listings: Listings,
    proxy: Option<String>,
}

/// A client that does what `client` does, within `bounds`, and takes only an API server's answers for answers. `proxy`
/// is the host and port of the proxy that `client` goes through, if it does, for errors to name.
pub fn guarded(client: Client, bounds: Bounds, proxy: Option<String>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let (pages, listings) = (Pages::default(), Listings::default());
    let wire = Arc::new(Wire { client, bounds, turn: Semaphore::new(1), pages, listings, proxy });
    let service = service_fn(move |request: Request<Body>| {
        let wire = wire.clone();
        async move {
            wire.carry(request).await.map_err(|error| match &wire.proxy {
                Some(proxy) => Proxied { proxy: proxy.clone(), source: error }.into(),
                None => error,
            })
        }
    });
    Client::new(service, namespace)
}

impl Wire {
    async fn carry(&self, request: Request<Body>) -> Result<WireAnswer, BoxError> {
        let mut request = self.pages.fit(request);
        loop {
            let again = repeatable(&request);
            match self.once(request).await {
                Err(error) if matches!(error.downcast_ref(), Some(Unbounded::Body(_))) => {
                    match again.and_then(|again| self.pages.shrink(again)) {
                        Some(smaller) => request = smaller,
                        None => return Err(error),
                    }
                }
                other => return other,
            }
        }
    }

    async fn once(&self, request: Request<Body>) -> Result<WireAnswer, BoxError> {
        let asked = Asked::of(request.method(), request.uri(), request.headers());
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let (mut head, body) = self.client.send(request).await?.into_parts();
        answer::head(head.status, &head.headers, asked)?;
        let body = axum::body::Body::new(body);
        let body = match asked {
            Asked::Foreign if head.status.is_success() || head.status.is_informational() => body,
            Asked::Watch { seconds } if head.status.is_success() => {
                let time = seconds.map_or(WATCH, Duration::from_secs);
                let lines = body::lines(body.into_data_stream(), head.status, self.bounds, time);
                axum::body::Body::from_stream(lines)
            }
            Asked::Document | Asked::Foreign | Asked::Watch { .. } => {
                let whole = body::whole(body.into_data_stream(), &self.bounds, &self.turn).await?;
                answer::document((&method, &uri), head.status, &head.headers, &whole)?;
                if head.status == StatusCode::FORBIDDEN && lacks_rights(&whole) {
                    tracing::debug!(%method, path = uri.path(), "{NO_RIGHT}");
                }
                if method == Method::GET && head.status.is_success() {
                    self.listings.add(&uri, whole.len(), self.bounds.list)?;
                }
                head.headers.remove(header::TRANSFER_ENCODING);
                whole.into()
            }
        };
        Ok(Response::from_parts(head, body))
    }
}

/// Whether a refusal is for want of rights, and not a policy's, a quota's or a namespace's.
fn lacks_rights(body: &[u8]) -> bool {
    let status = serde_json::from_slice::<Status>(body).ok();
    status.and_then(|status| cause::denied(&status)).is_some_and(|(who, _)| who == Denier::Permissions)
}

/// The same request once more, when asking twice is as good as once.
fn repeatable(request: &Request<Body>) -> Option<Request<Body>> {
    if request.method() != Method::GET {
        return None;
    }
    let mut again = Request::get(request.uri().clone()).body(Body::empty()).ok()?;
    again.headers_mut().clone_from(request.headers());
    again.extensions_mut().clone_from(request.extensions());
    Some(again)
}

#[cfg(test)]
mod tests;
