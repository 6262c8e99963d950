//! Kubernetes clients that cannot hang: every response header must arrive in time.

use std::{path::Path, time::Duration};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tower::{service_fn, timeout::TimeoutLayer};

/// How a client behaves when its API server is slow or gone.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until the connection is there.
    pub connect: Duration,
    /// Until the response's headers are there; the body of a watch may take as long as it likes.
    pub response: Duration,
    /// Whether 429, 503 and 504 are retried by the client itself.
    pub retry: bool,
}

impl Patience {
    /// For the cluster a controller runs in, or a person's own.
    pub const HOME: Self =
        Self { connect: Duration::from_secs(10), response: Duration::from_secs(30), retry: true };
    /// For clusters far away: a sick one must be noticed, and our own schedule decides on retries.
    pub const REMOTE: Self =
        Self { connect: Duration::from_secs(5), response: Duration::from_secs(10), retry: false };
}

/// A client for `config`.
///
/// # Errors
/// When the configuration's TLS or authentication material cannot be used.
pub fn connect(mut config: Config, patience: Patience) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(patience.connect);
    config.default_retry = patience.retry;
    Ok(ClientBuilder::try_from(config)?.with_layer(&TimeoutLayer::new(patience.response)).build())
}

/// A client that does what `client` does, and tells `count` how each request was answered, watches too: with the
/// HTTP status, or `None` when no answer came.
pub fn counted(client: Client, count: impl Fn(Option<u16>) + Clone + Send + 'static) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = service_fn(move |request| {
        let (client, count) = (client.clone(), count.clone());
        async move {
            let answer = client.send(request).await;
            count(answer.as_ref().ok().map(|answer| answer.status().as_u16()));
            answer
        }
    });
    Client::new(service, namespace)
}

/// Configuration of a person or of a controller: from `kubeconfig` when given, else from
/// `KUBECONFIG`, `~/.kube/config` or the pod's service account.
///
/// # Errors
/// What was looked for and why it could not be used, for people.
pub async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, String> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| {
                format!("cannot read kubeconfig `{}`: {}", path.display(), unreadable(&error))
            })?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|error| format!("cannot use kubeconfig `{}`: {error}", path.display()))
        }
        None if context.is_some() => Config::from_kubeconfig(&options)
            .await
            .map_err(|error| format!("cannot use the default kubeconfig: {}", unreadable(&error))),
        None => Config::infer().await.map_err(|error| {
            // Its source is why no kubeconfig serves, which a person can mend.
            let why = std::error::Error::source(&error).and_then(|source| source.downcast_ref());
            let why = why.map_or_else(|| "and this is no pod".to_owned(), unreadable);
            format!("no cluster to talk to; give --kubeconfig or set KUBECONFIG ({why})")
        }),
    }
}

/// Why a kubeconfig cannot be read, without quoting it: the parser shows the lines around a mistake, and
/// there tokens stand.
#[must_use]
pub fn unreadable(error: &KubeconfigError) -> String {
    if let KubeconfigError::Parse(parser) = error {
        let place = parser.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
        return format!("it is not a kubeconfig in YAML{}", place.unwrap_or_default());
    }
    error.to_string()
}
