//! `/livez`, `/readyz` and `/metrics` (docs/metrics.md).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use kube::Client;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{guard, sync::lock};

/// Pause between two questions whether the cluster the controller runs in answers, and how long one may take.
const ASK_EVERY: Duration = Duration::from_secs(5);
const ASK_WITHIN: Duration = Duration::from_secs(4);

/// How long the cluster the controller runs in may be silent before the process says that it is not ready: as long as
/// another needs to take over.
const SILENCE: Duration = super::election::DURATION;

/// What has to be up before the process is ready: one gate per part, and a cluster that answers.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<ReadinessState>);

#[derive(Debug)]
struct ReadinessState {
    parts: Mutex<BTreeMap<String, bool>>,
    /// When the cluster last answered; at first, when the process began to ask.
    answered: Mutex<Instant>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(ReadinessState { parts: Mutex::default(), answered: Mutex::new(Instant::now()) }))
    }
}

impl Readiness {
    /// Declares a part that is not ready yet.
    pub fn expect(&self, part: &str) {
        self.set(part, false);
    }

    /// Declares a part ready.
    pub fn ready(&self, part: &str) {
        self.set(part, true);
    }

    fn set(&self, part: &str, ready: bool) {
        lock(&self.0.parts).insert(part.to_owned(), ready);
    }

    /// The cluster the controller runs in has just answered.
    pub fn answered(&self) {
        *lock(&self.0.answered) = Instant::now();
    }

    /// Why the process is not ready at `now`; nothing when it is.
    #[must_use]
    pub fn problems(&self, now: Instant) -> Vec<String> {
        let parts = lock(&self.0.parts);
        let missing: Vec<&str> =
            parts.iter().filter(|(_, ready)| !**ready).map(|(part, _)| part.as_str()).collect();
        let answered = *lock(&self.0.answered);
        let silent = now.saturating_duration_since(answered);
        let mut problems = Vec::new();
        if silent > SILENCE {
            problems.push(format!(
                "the API server of the cluster this runs in has not answered for {} s",
                silent.as_secs()
            ));
        }
        if !missing.is_empty() {
            problems.push(format!("waiting for: {}", missing.join(", ")));
        }
        problems
    }
}

/// Asks the cluster the controller runs in, now and then and for ever, whether it answers.
pub async fn ask(client: Client, readiness: Readiness) {
    loop {
        match tokio::time::timeout(ASK_WITHIN, client.apiserver_version()).await {
            // Who may not ask is told so by Kubernetes all the same.
            Ok(Ok(_)) => readiness.answered(),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403 | 429) => {
                readiness.answered();
            }
            Ok(Err(error)) => tracing::debug!(%error, "the cluster this runs in does not answer"),
            Err(_) => tracing::debug!("the cluster this runs in does not answer in time"),
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Binds `address` and serves until `shutdown`. Returns the bound address.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    registry: Arc<Registry>,
    shutdown: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new()
        .route("/livez", get(|| async { livez() }))
        .route("/readyz", get(move || async move { readyz(&readiness) }))
        .route("/metrics", get(move || async move { metrics(&registry) }));
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "metrics server ended");
        }
    });
    Ok(bound)
}

fn readyz(readiness: &Readiness) -> (StatusCode, String) {
    let problems = readiness.problems(Instant::now());
    if problems.is_empty() {
        (StatusCode::OK, "ok".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, problems.join("; "))
    }
}

/// Whether every part goes on. Whether any cluster answers has nothing to do with it: a restart would not mend that.
fn livez() -> (StatusCode, String) {
    let stuck: Vec<&str> = guard::stuck().into_iter().collect();
    if stuck.is_empty() {
        (StatusCode::OK, "ok".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}", stuck.join(", ")))
    }
}

fn metrics(registry: &Registry) -> impl IntoResponse + use<> {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => (
            StatusCode::OK,
            [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_while_nothing_is_missing_and_the_cluster_answers() {
        let readiness = Readiness::default();
        let begun = Instant::now();
        readiness.expect("inventory");
        assert_eq!(readiness.problems(begun), ["waiting for: inventory"]);
        readiness.ready("inventory");
        assert_eq!(readiness.problems(begun + SILENCE - Duration::from_secs(1)), Vec::<String>::new());
        let silent = "the API server of the cluster this runs in has not answered for 16 s";
        assert_eq!(readiness.problems(begun + SILENCE + Duration::from_secs(1)), [silent]);
        readiness.answered();
        assert_eq!(readiness.problems(Instant::now()), Vec::<String>::new());
    }
}
