//! Sees every write of a client but those of Events and Leases, and can stop at one of them: where a client hangs just
//! before or just after a write, killing its process is killing it between two steps.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Method, Request};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tokio::sync::Notify;
use tower::{Layer, Service};

use super::harness::DEADLINE;

/// At which write to stop.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// Before the nth write, counted from 1, has been sent.
    Before(usize),
    /// After it has been answered, before the client knows.
    After(usize),
    /// Before the nth write has been sent, until the test lets it go on.
    Hold(usize),
}

/// What a client wrote.
#[derive(Clone, Default)]
pub struct Gate {
    writes: Arc<Mutex<Vec<String>>>,
    stop: Option<Stop>,
    /// A part of the paths of those writes that are counted; all when absent.
    only: Option<&'static str>,
    reached: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Gate {
    pub fn stopping(stop: Stop) -> Self {
        Self { stop: Some(stop), ..Self::default() }
    }

    /// One that stands before its nth write until [`Self::go_on`].
    pub fn holding(write: usize) -> Self {
        Self::stopping(Stop::Hold(write))
    }

    /// Counts nothing but writes to paths with this part.
    pub fn only(self, part: &'static str) -> Self {
        Self { only: Some(part), ..self }
    }

    /// Lets the client go on.
    pub fn go_on(&self) {
        self.go_on.notify_one();
    }

    /// The writes so far, as `METHOD path`.
    pub fn writes(&self) -> Vec<String> {
        self.writes.lock().unwrap().clone()
    }

    /// Waits until the client has come to the stop; fails when it does not.
    pub async fn reached(&self) {
        let reached = tokio::time::timeout(DEADLINE, self.reached.notified()).await;
        reached.unwrap_or_else(|_| panic!("{:?} was not reached: {:#?}", self.stop, self.writes()));
    }

    pub fn client(&self, config: Config) -> Client {
        ClientBuilder::try_from(config).unwrap().with_layer(self).build()
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, gate: self.clone() }
    }
}

#[derive(Clone)]
pub struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_write = !matches!(*request.method(), Method::GET | Method::HEAD);
        let path = request.uri().path().to_owned();
        let is_ours = [
            "/apis/medusa.k8ssandra.io/",
            "/apis/fleet.k8ssandra.io/",
            "/apis/cassandra.datastax.com/",
            "/secrets/",
        ]
        .iter()
        .any(|part| path.contains(part));
        let is_counted = self.gate.only.is_none_or(|part| path.contains(part));
        if !is_write || !is_ours || !is_counted {
            return Box::pin(self.inner.call(request));
        }
        let count = {
            let mut writes = self.gate.writes.lock().unwrap();
            writes.push(format!("{} {path}", request.method()));
            writes.len()
        };
        let reached = Arc::clone(&self.gate.reached);
        let stop = async move {
            reached.notify_one();
            std::future::pending::<()>().await;
        };
        match self.gate.stop {
            Some(Stop::Hold(n)) if n == count => {
                // Nothing is sent before the future is polled.
                let (gate, sent) = (self.gate.clone(), self.inner.call(request));
                Box::pin(async move {
                    gate.reached.notify_one();
                    gate.go_on.notified().await;
                    sent.await
                })
            }
            Some(Stop::Before(n)) if n == count => Box::pin(async move {
                stop.await;
                unreachable!()
            }),
            Some(Stop::After(n)) if n == count => {
                let sent = self.inner.call(request);
                Box::pin(async move {
                    let answer = sent.await;
                    stop.await;
                    answer
                })
            }
            _ => Box::pin(self.inner.call(request)),
        }
    }
}
