//! Kubernetes clients that cannot hang: every response must begin in time, and be one of Kubernetes within bounds.

use std::{path::Path, time::Duration};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tower::{service_fn, timeout::TimeoutLayer};

use super::wire::{self, Bounds};

/// How a client behaves when its API server is slow or gone.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until the connection is there.
    pub connect: Duration,
    /// Until the response's headers are there.
    pub response: Duration,
    /// How much it may answer, and how long that may take.
    pub bounds: Bounds,
    /// Whether 429, 503 and 504 are retried by the client itself.
    pub retry: bool,
}

impl Patience {
    /// For the cluster a controller runs in, or a person's own.
    pub const HOME: Self = Self {
        connect: Duration::from_secs(10),
        response: Duration::from_secs(30),
        bounds: Bounds::HOME,
        retry: true,
    };
    /// For clusters far away: a sick one must be noticed, and our own schedule decides on retries.
    pub const REMOTE: Self = Self {
        connect: Duration::from_secs(5),
        response: Duration::from_secs(10),
        bounds: Bounds::REMOTE,
        retry: false,
    };
}

/// A client for `config`.
///
/// # Errors
/// When the configuration's TLS or authentication material cannot be used.
pub fn connect(mut config: Config, patience: Patience) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(patience.connect);
    config.default_retry = patience.retry;
    // Without the credentials that may stand before its host.
    let authority = config.proxy_url.as_ref().and_then(http::Uri::authority).map(ToString::to_string);
    let proxy = authority.map(|authority| match authority.rsplit_once('@') {
        Some((_, place)) => place.to_owned(),
        None => authority,
    });
    let timely = TimeoutLayer::new(patience.response);
    let client = ClientBuilder::try_from(config)?.with_layer(&timely).build();
    Ok(wire::guarded(client, patience.bounds, proxy))
}

/// A client that does what `client` does, and tells `count` how each request was answered, watches too: with the
/// HTTP status, or `None` when no answer came, or was not waited for any longer.
pub fn counted(client: Client, count: impl Fn(Option<u16>) + Clone + Send + 'static) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = service_fn(move |request| {
        let (client, count) = (client.clone(), count.clone());
        async move {
            let mut asked = Asked { count, status: None };
            let answer = client.send(request).await;
            asked.status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            answer
        }
    });
    Client::new(service, namespace)
}

/// A request that is counted when it is over, however it ends.
struct Asked<F: Fn(Option<u16>)> {
    count: F,
    status: Option<u16>,
}

impl<F: Fn(Option<u16>)> Drop for Asked<F> {
    fn drop(&mut self) {
        (self.count)(self.status);
    }
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn a_request_that_is_given_up_is_counted_as_one_without_an_answer() {
        // Accepts connections, and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
        let counts: Arc<Mutex<Vec<Option<u16>>>> = Arc::default();
        let client = connect(Config::new(url), Patience::REMOTE).unwrap();
        let client = counted(client, {
            let counts = counts.clone();
            move |status| counts.lock().unwrap().push(status)
        });
        let asked = client.apiserver_version();
        assert!(tokio::time::timeout(Duration::from_millis(300), asked).await.is_err(), "nobody answers");
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while counts.lock().unwrap().is_empty() {
            assert!(std::time::Instant::now() < end, "it was never counted");
            tokio::task::yield_now().await;
        }
        assert_eq!(*counts.lock().unwrap(), [None]);
    }
}
