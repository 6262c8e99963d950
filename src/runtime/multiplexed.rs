//! How a client shares one connection between all its requests and watches: HTTP/2, which every Kubernetes API server
//! speaks. Where what stands in front of one speaks HTTP/1.1 only, each watch has a connection of its own, as ever.
//!
//! A fleet of a thousand clusters with ten watches each would otherwise hold ten thousand connections, each with its
//! buffers and its share of TLS. A connection is asked for a sign of life when it has been quiet: one that is dead ends,
//! and everything that waits on it with it, so that no watch has to be doubted for being quiet.
//!
//! Must not read kubeconfigs or decide what is trusted: it is given a configuration that was judged.

use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{Builder, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt as _},
};
use thiserror::Error;
use tower::{BoxError, ServiceBuilder, timeout::TimeoutLayer};

use super::client::Timeouts;

/// How long a connection may be quiet before it is asked for a sign of life, and how long that may take: a cluster that
/// hangs is noticed within ten seconds.
const PING: Duration = Duration::from_secs(5);
/// How much may be on its way for one request, and for all together: what nobody reads yet is kept in memory.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 8 << 20;

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

/// Whether a client for `config` can share one connection: not through a proxy, and not where credentials come from a
/// program, as the library's own client knows how to do both.
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
    let client = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING)
        .http2_keep_alive_while_idle(true)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    let builder = ClientBuilder::new(service, config.default_namespace);
    Ok(builder.with_layer(&TimeoutLayer::new(timeouts.response)).build())
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
