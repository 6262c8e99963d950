//! How a client shares two connections between all its requests and watches: HTTP/2, which every Kubernetes API server
//! speaks. Where what stands in front of one speaks HTTP/1.1 only, each watch has a connection of its own, as ever. ADR 32.
//!
//! Watches have one of the two for themselves: what waits to be read of long answers, and a server that takes few requests
//! on one connection, never keep a question or a write waiting.
//!
//! Must not read kubeconfigs or decide what is trusted: it is given a configuration that was judged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Builder, Client as Connections, Error as Failed, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt as _},
};
use thiserror::Error;
use tokio::sync::Semaphore;
use tower::{BoxError, ServiceBuilder, service_fn, timeout::TimeoutLayer};

use super::{client::Timeouts, wire::is_watch};

/// How long a connection may be quiet before it is asked for a sign of life.
const PING: Duration = Duration::from_secs(2);
/// How long that may take. Where it takes longer the connection is given up, and the cluster asked on another one before
/// anything is concluded (`registry/link.rs`).
const PONG: Duration = Duration::from_secs(3);
/// How long the watches' connection is one that further watches take, after the last of them began: longer than any lasts, or
/// each that is renewed late would have another connection made beside the one that the others still use.
pub const WATCHES_SHARE: Duration = Duration::from_mins(6);
/// How much may be on its way for one request, and for all together: what nobody reads yet is kept in memory. The windows of
/// as many requests fit as an API server takes at a time, which is a hundred.
const STREAM_WINDOW: u32 = 160 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Why no such client can be made of a configuration.
#[derive(Debug, Error)]
pub(super) enum Unfit {
    /// Its TLS or authentication material cannot be used.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// `tls-server-name` is no name that a certificate can have.
    #[error("`tls-server-name`: `{0}` is no name of a server")]
    ServerName(String),
}

/// Whether a client for `config` can share connections: not through a proxy, and not where credentials come from a program,
/// as the library's own client knows how to do both.
pub(super) fn suits(config: &Config) -> bool {
    config.proxy_url.is_none() && config.auth_info.exec.is_none() && config.auth_info.auth_provider.is_none()
}

/// A client for `config`. It retries nothing by itself.
///
/// # Errors
/// When the configuration cannot be used.
pub(super) fn client(config: Config, timeouts: Timeouts) -> Result<Client, Unfit> {
    let mut connector = TimeoutConnector::new(connector(&config)?);
    connector.set_connect_timeout(Some(timeouts.connect));
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PONG)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW);
    let others = Arc::new(SharedConnection::new(builder.build(connector.clone())));
    builder.http2_keep_alive_while_idle(true).pool_idle_timeout(WATCHES_SHARE);
    let watches = Arc::new(SharedConnection::new(builder.build(connector)));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(service_fn(move |request: Request<Body>| {
            let shared = if is_watch(&request) { watches.clone() } else { others.clone() };
            async move { shared.send(request).await }
        }));
    let builder = ClientBuilder::new(service, config.default_namespace);
    Ok(builder.with_layer(&TimeoutLayer::new(timeouts.response)).build())
}

/// A connection that requests share once it is there.
struct SharedConnection {
    client: Connections<TimeoutConnector<HttpsConnector<HttpConnector>>, Body>,
    is_open: AtomicBool,
    opening: Semaphore,
}

impl SharedConnection {
    fn new(client: Connections<TimeoutConnector<HttpsConnector<HttpConnector>>, Body>) -> Self {
        Self { client, is_open: AtomicBool::new(false), opening: Semaphore::new(1) }
    }

    /// Sends a request. One goes alone as long as there is no connection: each of several would make one of its own, before
    /// it shows that one is enough.
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failed> {
        let is_open = || self.is_open.load(Ordering::Acquire);
        let place = if is_open() { None } else { self.opening.acquire().await.ok() };
        let alone = place.filter(|_| !is_open());
        let answer = self.client.request(request).await;
        self.is_open.store(answer.is_ok(), Ordering::Release);
        drop(alone);
        answer
    }
}

fn connector(config: &Config) -> Result<HttpsConnector<HttpConnector>, Unfit> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut tls =
        HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let server = name.clone().try_into().map_err(|_| Unfit::ServerName(name.clone()))?;
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(server));
    }
    Ok(tls.enable_all_versions().wrap_connector(tcp))
}
