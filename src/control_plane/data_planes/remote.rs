//! The way to one data plane: a client with limits of its own, so that a slow cluster costs the others
//! nothing.

use std::{
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Preconditions},
};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::view::ObjectKey;
use crate::{
    api::fleet::Limits,
    runtime::{
        cause::{self, Cause, Kind},
        follow::Followed,
        sync::lock,
    },
};

/// Longest one request may take altogether, waiting for the limits not counted.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Time a list may take, all its pages together.
pub const LIST_TIMEOUT: Duration = Duration::from_mins(1);

/// Why a request to an API server brought nothing.
#[derive(Debug, Error)]
pub enum CallError {
    /// No answer in time; what was asked may still happen.
    #[error("no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    TimedOut,
    /// A list of several pages went on and on.
    #[error("its list does not end within {} s", LIST_TIMEOUT.as_secs())]
    Endless,
    /// An object was shown without what a write has to hold to: nothing is written or deleted on such a word.
    #[error(
        "what is there was shown without uid or resourceVersion, as Kubernetes never does: it is left as it is"
    )]
    Inexact,
    /// The API server or the way to it said no.
    #[error("{}", cause::words(.0))]
    Kube(#[from] kube::Error),
}

impl CallError {
    /// What is behind it.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::TimedOut => Cause::new(Kind::TimedOut, self.to_string()),
            Self::Endless => Cause::new(Kind::Unbounded, self.to_string()),
            Self::Inexact => Cause::new(Kind::NotKubernetes, self.to_string()),
            Self::Kube(error) => Cause::of(error),
        }
    }

    /// The API server's answer, when it gave one.
    #[must_use]
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status),
            Self::Kube(_) | Self::TimedOut | Self::Endless | Self::Inexact => None,
        }
    }

    /// The API server's own words, where it gave some; else what went wrong on the way to it.
    #[must_use]
    pub fn answer(&self) -> String {
        self.status().map_or_else(|| self.to_string(), |status| status.message.clone())
    }

    /// The HTTP status of the API server's answer, when it gave one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }
}

/// A client with a request rate and a number of requests in flight of its own.
pub struct Remote {
    client: Client,
    in_flight: Semaphore,
    rate: Mutex<Rate>,
    calls: AtomicUsize,
}

/// One call that has begun; its end is counted also when it is given up.
struct Call<'a>(&'a AtomicUsize);

impl<'a> Call<'a> {
    fn begin(calls: &'a AtomicUsize) -> Self {
        calls.fetch_add(1, Ordering::AcqRel);
        Self(calls)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Remote {
    /// `client` within `limits`; missing limits get the defaults of [`Limits`].
    #[must_use]
    pub fn new(client: Client, limits: &Limits) -> Self {
        let positive = |value: Option<i32>, default: u32| {
            value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0).unwrap_or(default)
        };
        let in_flight = positive(limits.max_in_flight, 32);
        Self {
            client,
            in_flight: Semaphore::new(usize::try_from(in_flight).unwrap_or(32)),
            rate: Mutex::new(Rate::new(
                f64::from(positive(limits.qps, 100)),
                f64::from(positive(limits.burst, 400)),
                Instant::now(),
            )),
            calls: AtomicUsize::new(0),
        }
    }

    /// Whether a request is waiting or under way whose effect is not known yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.calls.load(Ordering::Acquire) > 0
    }

    /// The bare client, for watches: they are few, long and not counted.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A way of its own to the same cluster for the few small questions whether it is well: they must not wait for the
    /// work that the limits hold back, which would make our own limits its fault.
    #[must_use]
    pub fn for_questions(&self) -> Self {
        let limits = Limits { qps: Some(20), burst: Some(100), max_in_flight: Some(4), ..Limits::default() };
        Self::new(self.client.clone(), &limits)
    }

    /// Runs one request within the limits and the time.
    ///
    /// # Errors
    /// The request's own error, or that it took too long.
    pub async fn call<T, F>(&self, request: impl FnOnce(Client) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let _call = Call::begin(&self.calls);
        let wait = lock(&self.rate).take(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let _permit = self.in_flight.acquire().await;
        in_time(request(self.client.clone())).await
    }

    /// The metadata of an object; `None` when there is none.
    ///
    /// # Errors
    /// Those of [`Self::call`].
    pub async fn metadata<K: Followed>(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, CallError> {
        self.call(|client| async move {
            let found = Api::<K>::namespaced(client, &key.namespace).get_metadata_opt(&key.name).await?;
            Ok(found.map(|found| found.metadata))
        })
        .await
    }

    /// Deletes an object in exactly the version `seen`. That it is gone is no error.
    ///
    /// # Errors
    /// Those of [`Self::call`]; 409 when it has changed since; [`CallError::Inexact`].
    pub async fn delete<K: Followed>(&self, key: &ObjectKey, seen: ObjectMeta) -> Result<(), CallError> {
        let seen = Preconditions { uid: seen.uid, resource_version: seen.resource_version };
        if [&seen.uid, &seen.resource_version].iter().any(|said| said.as_ref().is_none_or(String::is_empty)) {
            return Err(CallError::Inexact);
        }
        let params = DeleteParams::default().preconditions(seen);
        let deleted = self
            .call(|client| async move {
                Api::<K>::namespaced(client, &key.namespace).delete(&key.name, &params).await
            })
            .await;
        match deleted {
            Err(error) if error.code() != Some(404) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Runs one request within [`REQUEST_TIMEOUT`].
///
/// # Errors
/// The request's own error, or that it took too long.
pub async fn in_time<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::TimedOut),
    }
}

/// A token bucket that hands out waiting times.
#[derive(Debug)]
struct Rate {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Rate {
    fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        Self { per_second, burst, tokens: burst, at: now }
    }

    /// Takes one token and says how long to wait until it is there.
    fn take(&mut self, now: Instant) -> Duration {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst) - 1.0;
        self.at = now;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.tokens / self.per_second)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut rate = Rate::new(10.0, 2.0, start);
        assert!(rate.take(start).is_zero() && rate.take(start).is_zero());
        assert_eq!(rate.take(start), Duration::from_millis(100));
        assert_eq!(rate.take(start), Duration::from_millis(200));
        assert!(rate.take(start + Duration::from_secs(1)).is_zero());
    }

    #[tokio::test]
    async fn nothing_is_deleted_that_was_not_seen_in_a_version() {
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("it was asked"))
        });
        let remote = Remote::new(Client::new(nobody, "default"), &Limits::default());
        let key = ObjectKey::new("ns", "n");
        for (uid, version) in
            [(None, Some("7")), (Some("u"), None), (Some(""), Some("7")), (Some("u"), Some(""))]
        {
            let seen = ObjectMeta {
                uid: uid.map(str::to_owned),
                resource_version: version.map(str::to_owned),
                ..ObjectMeta::default()
            };
            let deleted = remote.delete::<k8s_openapi::api::core::v1::Secret>(&key, seen).await;
            assert!(matches!(deleted, Err(CallError::Inexact)), "{deleted:?}");
        }
    }

    async fn version(remote: &Remote) -> Result<k8s_openapi::apimachinery::pkg::version::Info, CallError> {
        remote.call(|client| async move { client.apiserver_version().await }).await
    }

    #[tokio::test]
    async fn questions_do_not_wait_for_work_that_our_own_limits_hold_back() {
        let answering = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            let version = r#"{"major":"1","minor":"37","gitVersion":"v1.37.0","gitCommit":"","gitTreeState":"",
                "buildDate":"","goVersion":"","compiler":"","platform":""}"#;
            http::Response::builder().body(kube::client::Body::from(version.as_bytes().to_vec()))
        });
        let tight = Limits { qps: Some(1), burst: Some(1), max_in_flight: Some(1), ..Limits::default() };
        let remote = Remote::new(Client::new(answering, "default"), &tight);
        let questions = remote.for_questions();
        let work = (0..1000).map(|_| version(&remote));
        let asked = tokio::time::timeout(Duration::from_secs(5), version(&questions));
        tokio::select! {
            biased;
            _ = futures::future::join_all(work) => panic!("a thousand requests at one a second are done"),
            answer = asked => assert_eq!(answer.expect("it waits").unwrap().git_version, "v1.37.0"),
        }
    }
}
