//! A fence before everything a process writes: while another may lead, no write leaves it, whoever began it.
//!
//! It is asked before every step of every request that changes something, and it goes by a deadline: nobody has to
//! notice in time that it has passed. A process that was stopped and goes on finds it down.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use thiserror::Error;
use tokio::{sync::watch, time::Instant};
use tower::service_fn;

use super::election::DURATION;

/// How long after it was given up a write may still be carried out: as long as a Lease stays that nobody renews.
const FORGOTTEN: Duration = DURATION;

/// Why a request was not sent, or not waited for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this process does not lead (any more) and writes nothing")]
pub struct NotLeading;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is no election: everything passes.
    Open,
    /// Everything passes until then.
    Until(Instant),
    /// What is under way passes until then, nothing new does.
    Draining(Instant),
    /// Nothing passes.
    Down,
}

/// The fence of a process; clones are the same fence.
#[derive(Clone, Debug)]
pub struct Fence {
    state: Arc<watch::Sender<State>>,
    /// Writes under way.
    under_way: Arc<watch::Sender<UnderWay>>,
}

/// Writes that were begun.
#[derive(Debug, Default)]
struct UnderWay {
    /// How many are not answered yet.
    count: usize,
    /// When one was last given up: it may still be carried out.
    given_up: Option<Instant>,
}

impl Fence {
    fn new(state: State) -> Self {
        Self { state: Arc::new(watch::Sender::new(state)), under_way: Arc::default() }
    }

    /// One that lets everything pass: for a process that is alone.
    #[must_use]
    pub fn open() -> Self {
        Self::new(State::Open)
    }

    /// One that lets no write pass yet.
    #[must_use]
    pub fn down() -> Self {
        Self::new(State::Down)
    }

    /// Lets writes pass until then.
    pub fn lift(&self, until: Instant) {
        self.state.send_replace(State::Until(until));
    }

    /// Lets nothing pass from now on, and gives up what is under way.
    pub fn close(&self) {
        self.state.send_replace(State::Down);
    }

    /// Whether a new write passes now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match *self.state.borrow() {
            State::Open => true,
            State::Until(until) => Instant::now() < until,
            State::Draining(_) | State::Down => false,
        }
    }

    /// Lets no new write pass, and waits until those under way are answered. Says whether nothing that was begun can still
    /// be carried out: not when the fence goes down, or `patience` ends, before, nor when one was given up lately.
    pub async fn drain(&self, patience: Duration) -> bool {
        let give_up = Instant::now() + patience;
        let until = match *self.state.borrow() {
            State::Until(until) | State::Draining(until) => until.min(give_up),
            State::Open => give_up,
            State::Down => Instant::now(),
        };
        self.state.send_replace(State::Draining(until));
        let mut under_way = self.under_way.subscribe();
        let all = under_way.wait_for(|writes| writes.count == 0);
        let ended = tokio::time::timeout_at(until, all).await.is_ok();
        self.close();
        ended && self.under_way.borrow().given_up.is_none_or(|at| at.elapsed() > FORGOTTEN)
    }

    /// A client that does what `client` does, except that what changes something passes this fence.
    #[must_use]
    pub fn guard(&self, client: Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let fence = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let (client, fence) = (client.clone(), fence.clone());
            async move { fence.send(&client, request).await }
        });
        Client::new(service, namespace)
    }

    /// Sends a request through `client`; one that changes something has to pass this fence.
    ///
    /// # Errors
    /// Those of the client, and [`NotLeading`].
    pub async fn send(&self, client: &Client, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if reads {
            return client.send(request).await;
        }
        let sent = self.pass(client.send(request)).await;
        sent.unwrap_or_else(|down| Err(kube::Error::Service(Box::new(down))))
    }

    /// Carries out `write` for as long as the fence lets it pass. It is asked before each step, also after a pause in
    /// which the whole process stood still: a timer alone would fire too late then.
    ///
    /// # Errors
    /// When another process may lead. What was begun may still be carried out then.
    pub async fn pass<T>(&self, write: impl Future<Output = T>) -> Result<T, NotLeading> {
        if !self.is_up() {
            return Err(NotLeading);
        }
        let mut begun = Begun::new(&self.under_way);
        let mut changes = self.state.subscribe();
        let mut write = pin!(write);
        loop {
            let until = match *changes.borrow_and_update() {
                State::Open => None,
                State::Until(until) | State::Draining(until) => Some(until),
                State::Down => return Err(NotLeading),
            };
            let step = poll_fn(|context| {
                if until.is_some_and(|until| Instant::now() >= until) {
                    return Poll::Ready(None);
                }
                write.as_mut().poll(context).map(Some)
            });
            tokio::select! {
                biased;
                _ = changes.changed() => {}
                answer = step => {
                    begun.is_answered = answer.is_some();
                    return answer.ok_or(NotLeading);
                }
                () = past(until) => return Err(NotLeading),
            }
        }
    }
}

async fn past(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// A write under way, however it ends.
struct Begun<'a> {
    under_way: &'a watch::Sender<UnderWay>,
    is_answered: bool,
}

impl<'a> Begun<'a> {
    fn new(under_way: &'a watch::Sender<UnderWay>) -> Self {
        under_way.send_modify(|writes| writes.count += 1);
        Self { under_way, is_answered: false }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.under_way.send_modify(|writes| {
            writes.count = writes.count.saturating_sub(1);
            if !self.is_answered {
                writes.given_up = Some(Instant::now());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, api::PostParams};

    use super::*;

    /// A client whose API server never answers, and how many requests it was sent.
    fn silent() -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let service = service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            pending::<Result<Response<Body>, std::io::Error>>()
        });
        (Client::new(service, "ns"), asked)
    }

    fn is_fenced(answer: &Result<ConfigMap, kube::Error>) -> bool {
        matches!(answer, Err(kube::Error::Service(why)) if why.downcast_ref() == Some(&NotLeading))
    }

    async fn write(client: &Client) -> Result<ConfigMap, kube::Error> {
        let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
        api.create(&PostParams::default(), &ConfigMap::default()).await
    }

    const SOON: Duration = Duration::from_millis(150);

    #[tokio::test]
    async fn nothing_is_sent_while_it_is_down_but_reads() {
        let (client, asked) = silent();
        let client = Fence::down().guard(client);
        assert!(is_fenced(&write(&client).await));
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let read = tokio::time::timeout(SOON, api.get("x")).await;
        assert!(read.is_err() && asked.load(Ordering::SeqCst) == 1, "a read is sent");
    }

    #[tokio::test]
    async fn what_is_under_way_is_given_up_at_the_deadline_and_not_at_an_earlier_one() {
        let (client, asked) = silent();
        let fence = Fence::down();
        let client = fence.guard(client);
        let begun = Instant::now();
        fence.lift(begun + SOON * 2);
        let renew = async {
            tokio::time::sleep(SOON).await;
            fence.lift(begun + SOON * 4);
        };
        let (answer, ()) = tokio::join!(write(&client), renew);
        assert!(is_fenced(&answer));
        assert!(begun.elapsed() >= SOON * 4, "{:?}", begun.elapsed());
        assert!(is_fenced(&write(&client).await), "nor does anything new pass");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn who_awakes_after_the_deadline_takes_no_further_step() {
        let fence = Fence::down();
        fence.lift(Instant::now() + SOON);
        let mut steps = 0;
        // The whole process stands still; then something else than the timer wakes the write.
        let passed = fence.pass(poll_fn(|context| {
            steps += 1;
            std::thread::sleep(SOON * 2);
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        assert_eq!(passed.await, Err(NotLeading));
        assert_eq!(steps, 1);
    }

    #[tokio::test]
    async fn who_leaves_waits_for_what_is_under_way_and_begins_nothing() {
        let long = Duration::from_mins(1);
        let fence = Fence::down();
        fence.lift(Instant::now() + long);
        let leave = async {
            let (drained, late) = tokio::join!(fence.drain(long), fence.pass(async {}));
            (drained, late)
        };
        let (slow, (drained, late)) = tokio::join!(fence.pass(tokio::time::sleep(SOON)), leave);
        assert_eq!((slow, drained, late), (Ok(()), true, Err(NotLeading)));

        let fence = Fence::down();
        fence.lift(Instant::now() + long);
        let (hung, drained) = tokio::join!(fence.pass(pending::<()>()), fence.drain(SOON));
        assert_eq!((hung, drained), (Err(NotLeading), false));

        let fence = Fence::down();
        fence.lift(Instant::now() + long);
        let given_up = tokio::time::timeout(SOON, fence.pass(pending::<()>())).await;
        assert!(given_up.is_err() && !fence.drain(SOON).await, "that one may still be carried out");
    }
}
