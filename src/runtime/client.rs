//! Kubernetes clients that cannot hang: every response must begin in time, and be one of Kubernetes within bounds.

use std::{
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
};

use http::{Request, StatusCode, Uri, Version};
use kube::{
    Client, Config,
    client::{AuthError, Body, ClientBuilder},
};
use thiserror::Error;
use tower::{service_fn, timeout::TimeoutLayer};

pub use super::multiplexed::WATCHES_SHARE;
use super::{
    fence::Fence,
    guard,
    kubeconfig::own::{self, Trouble},
    multiplexed::{self, Unfit},
    proxy,
    sync::{read, write},
    wire::{self, Bounds, is_watch},
};

/// How a client behaves when its API server is slow or gone.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until the connection is there.
    pub connect: Duration,
    /// Until the response's headers are there.
    pub response: Duration,
    /// How much it may answer, and how long that may take.
    pub bounds: Bounds,
    /// Whether 429, 503 and 504 are retried by the client itself.
    pub retry: bool,
    /// Whether all requests share one connection where the API server can do that.
    pub multiplexed: bool,
}

impl Timeouts {
    /// For the cluster a controller runs in, or a person's own.
    pub const HOME: Self = Self {
        connect: Duration::from_secs(10),
        response: Duration::from_secs(30),
        bounds: Bounds::HOME,
        retry: true,
        multiplexed: false,
    };
    /// For clusters far away: a sick one must be noticed, and our own schedule decides on retries.
    pub const REMOTE: Self = Self {
        connect: Duration::from_secs(5),
        response: Duration::from_secs(10),
        bounds: Bounds::REMOTE,
        retry: false,
        multiplexed: true,
    };
}

/// Why no client can be made of a configuration, for people.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Unusable(String);

/// A client for `config`, through the proxy that it names, or else the one of the environment.
///
/// # Errors
/// When the configuration's TLS or authentication material cannot be used, or the environment's proxy.
pub fn connect(mut config: Config, timeouts: Timeouts) -> Result<Client, Unusable> {
    config.connect_timeout = Some(timeouts.connect);
    config.default_retry = timeouts.retry;
    if config.proxy_url.is_none() {
        config.proxy_url = proxy::Environment::read().proxy_of(&config.cluster_url).map_err(Unusable)?;
    }
    let proxy = config.proxy_url.as_ref().map(proxy::shown);
    if timeouts.multiplexed && multiplexed::suits(&config) {
        let client = multiplexed::client(config, timeouts).map_err(|error| match error {
            Unfit::Kube(error) => Unusable(unusable(&error)),
            other @ Unfit::ServerName(_) => Unusable(other.to_string()),
        })?;
        return Ok(wire::guarded(client, timeouts.bounds, proxy));
    }
    // What was judged cannot make the library panic; what a program of `exec` prints can.
    let made = guard::whole(|| ClientBuilder::try_from(config));
    let builder = made
        .map_err(|_| Unusable("the token that was given cannot be sent as a header".to_owned()))?
        .map_err(|error| Unusable(unusable(&error)))?;
    let client = builder.with_layer(&TimeoutLayer::new(timeouts.response)).build();
    Ok(wire::guarded(client, timeouts.bounds, proxy))
}

/// Why the library made no client. What a program printed is left out, as a credential may be in it.
fn unusable(error: &kube::Error) -> String {
    let kube::Error::Auth(program) = error else { return error.to_string() };
    if let AuthError::AuthExecRun { out, .. } = program {
        return format!("the program of `exec` ended with {}; run it to see why", out.status);
    }
    let printed =
        matches!(program, AuthError::AuthExecParse(_) | AuthError::AuthExec(_) | AuthError::ParseTokenKey(_));
    if printed {
        return "the program of `exec` or `auth-provider` gave no credential that can be read; run it to see why"
            .to_owned();
    }
    error.to_string()
}

/// A client that can be replaced, such as for a new credential, while others use it: requests under way end as they began.
#[derive(Clone)]
pub struct Current(Arc<RwLock<Client>>);

impl Current {
    /// Begins with `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Arc::new(RwLock::new(client)))
    }

    /// Has every request from now on go through `client`. What is under way goes on as it was begun.
    pub fn replace(&self, client: Client) {
        *write(&self.0) = client;
    }

    fn client(&self) -> Client {
        read(&self.0).clone()
    }
}

/// Hears of the requests of a client.
pub trait Observer: Send + Sync + 'static {
    /// A request ended: with an HTTP status and in which version of HTTP, or with `None` when no answer came, or was not
    /// waited for any longer. Of a watch this is the beginning.
    fn answered(&self, answer: Option<(StatusCode, Version)>);

    /// What this address is of is being watched from now on.
    fn watches(&self, uri: &Uri);
}

/// A client that sends each request through the one that is current, what writes through `fence` if there is one, and tells
/// `observer`. All that is one layer: each client that the library makes has a queue of its own of 10 KB.
pub fn observed(current: Current, fence: Option<Fence>, observer: Arc<impl Observer>) -> Client {
    let namespace = current.client().default_namespace().to_owned();
    let service = service_fn(move |request: Request<Body>| {
        let (current, fence, observer) = (current.clone(), fence.clone(), observer.clone());
        async move {
            let watched = is_watch(&request).then(|| request.uri().clone());
            let mut sent = SentRequest { observer: &*observer, answer: None };
            let client = current.client();
            let answer = match &fence {
                Some(fence) => fence.send(&client, request).await,
                None => client.send(request).await,
            };
            sent.answer = answer.as_ref().ok().map(|answer| (answer.status(), answer.version()));
            let is_well = sent.answer.is_some_and(|(status, _)| status.is_success());
            drop(sent);
            if let Some(uri) = watched.filter(|_| is_well) {
                observer.watches(&uri);
            }
            answer
        }
    });
    Client::new(service, namespace)
}

/// A request that is told of when it is over, however it ends.
struct SentRequest<'a, O: Observer> {
    observer: &'a O,
    answer: Option<(StatusCode, Version)>,
}

impl<O: Observer> Drop for SentRequest<'_, O> {
    fn drop(&mut self) {
        self.observer.answered(self.answer);
    }
}

/// Configuration of a person or of a controller: from `kubeconfig` when given, else from
/// `KUBECONFIG`, `~/.kube/config` or the pod's service account.
///
/// # Errors
/// What was looked for and why it could not be used, for people.
pub fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, String> {
    if let Some(path) = kubeconfig {
        return own::read(path, context).map(|(access, _)| access.config());
    }
    match (own::read_default(context), context) {
        (Ok(access), _) => Ok(access.config()),
        (Err(Trouble::Unusable(why)), Some(_)) => Err(why),
        (Err(Trouble::None(why)), Some(_)) => Err(format!(
            "no kubeconfig to choose a context from; give --kubeconfig or set KUBECONFIG ({why})"
        )),
        (Err(trouble), None) => Config::incluster().map_err(|_| {
            let why = match trouble {
                Trouble::Unusable(why) => why,
                Trouble::None(why) => format!("{why}, and this is no pod"),
            };
            format!("no cluster to talk to; give --kubeconfig or set KUBECONFIG ({why})")
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Default)]
    struct Counts(Mutex<Vec<Option<StatusCode>>>);

    impl Observer for Counts {
        fn answered(&self, answer: Option<(StatusCode, Version)>) {
            self.0.lock().unwrap().push(answer.map(|(status, _)| status));
        }

        fn watches(&self, _uri: &Uri) {}
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_is_counted_as_one_without_an_answer() {
        // Accepts connections, and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
        let counts: Arc<Counts> = Arc::default();
        let client = connect(Config::new(url), Timeouts::REMOTE).unwrap();
        let client = observed(Current::new(client), None, counts.clone());
        let asked = client.apiserver_version();
        assert!(tokio::time::timeout(Duration::from_millis(300), asked).await.is_err(), "nobody answers");
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while counts.0.lock().unwrap().is_empty() {
            assert!(std::time::Instant::now() < end, "it was never counted");
            tokio::task::yield_now().await;
        }
        assert_eq!(*counts.0.lock().unwrap(), [None]);
    }
}
