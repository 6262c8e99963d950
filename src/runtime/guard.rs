//! The edges at which a panic ends: the work for one object or one data plane, never the process.
//!
//! Work inside an edge is also watched: `/livez` names what holds its thread for too long, and what should have ended and
//! makes no progress. The counts are the whole process's. What follows from a panic is for the caller to decide.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use thiserror::Error;

use super::{backoff, sync::lock};

/// How long work may hold its thread.
const HOLDS: Duration = Duration::from_mins(2);
/// How long nothing may happen to work that waits for answers only: each of them has a deadline far shorter.
const IDLES: Duration = Duration::from_mins(5);

/// First and longest pause before work that panicked begins anew.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Work inside an edge panicked. It says where, in our own words: what the panic says may quote what was read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "an internal error{} ended this; it is tried again, later each time. Everything else goes on. Please report it with \
     the controller's log", .place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default()
)]
pub struct Panicked {
    place: Option<String>,
}

/// A part of the process, as metrics name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

/// What is remembered of work under way.
struct Pulse {
    part: &'static str,
    /// Whether something has to happen to it now and then.
    ends: bool,
    /// Whether it has its thread now.
    holds: AtomicBool,
    /// When that changed, in milliseconds since [`ORIGIN`].
    since: AtomicU64,
}

impl Pulse {
    fn turn(&self, holds: bool) {
        self.since.store(now(), Ordering::Release);
        self.holds.store(holds, Ordering::Release);
    }
}

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
static PANICS: LazyLock<Family<PartLabel, Counter>> = LazyLock::new(Family::default);
static PULSES: LazyLock<Mutex<BTreeMap<u64, Arc<Pulse>>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Where the last panic of this thread was.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn pulses() -> MutexGuard<'static, BTreeMap<u64, Arc<Pulse>>> {
    lock(&PULSES)
}

fn now() -> u64 {
    u64::try_from(ORIGIN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Logs where panics happen, and not what they say, from now on.
pub fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let place = note_place(info);
        tracing::error!(place, "panic: an internal error; please report it");
    }));
}

/// Keeps what panics say off the terminal: it may quote what was read. Who catches one says where it was.
pub fn silence_panics() {
    panic::set_hook(Box::new(|info| drop(note_place(info))));
}

/// Puts down where a panic is, for whoever catches it.
fn note_place(info: &PanicHookInfo<'_>) -> Option<String> {
    let place = info.location().map(|at| format!("{}:{}", short(at.file()), at.line()));
    PLACE.set(place.clone());
    place
}

/// Does `work` to its end.
///
/// # Errors
/// When it panicked: where, if that is known.
pub fn whole<T>(work: impl FnOnce() -> T) -> Result<T, Option<String>> {
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_| PLACE.take())
}

/// A source file without the folders of the machine it was compiled on.
fn short(file: &str) -> &str {
    let Some(at) = file.rfind("/src/") else { return file };
    let krate = file.get(..at).and_then(|before| before.rfind('/')).map_or(0, |slash| slash + 1);
    file.get(krate..).unwrap_or(file)
}

/// Makes the counter appear in `registry`, for these parts from the beginning.
pub fn register(registry: &mut Registry, parts: &[&'static str]) {
    for part in parts {
        drop(PANICS.get_or_create(&PartLabel { part }));
    }
    registry.register("panics", "Internal errors, by the part they ended", PANICS.clone());
}

/// Work under way; it is forgotten when it is dropped, however it ended.
struct Watched {
    number: u64,
    pulse: Arc<Pulse>,
}

impl Watched {
    fn begin(part: &'static str, ends: bool) -> Self {
        let pulse =
            Arc::new(Pulse { part, ends, holds: AtomicBool::new(false), since: AtomicU64::new(now()) });
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        pulses().insert(number, pulse.clone());
        Self { number, pulse }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        pulses().remove(&self.number);
    }
}

/// Does `work`, which ends by itself and waits for nothing without a deadline.
///
/// # Errors
/// When it panicked.
pub fn work<T>(
    part: &'static str,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Panicked>> {
    edge(part, true, work)
}

/// Does `work`, which may wait for as long as nothing happens.
///
/// # Errors
/// When it panicked.
pub fn keep<T>(
    part: &'static str,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Panicked>> {
    edge(part, false, work)
}

/// Does work that goes on for ever, and begins it anew when it panicked, later each time.
pub async fn again<F: Future>(part: &'static str, mut begin: impl FnMut() -> F) -> F::Output {
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        match keep(part, begin()).await {
            Ok(output) => return output,
            Err(panic) => {
                failures = if begun.elapsed() > PAUSES.1 { 0 } else { failures };
                let pause = backoff::delay(failures, PAUSES.0, PAUSES.1);
                failures = failures.saturating_add(1);
                tracing::error!(part, ?pause, "{panic}");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Does `work`; `ends` says whether it is [`work`] or [`keep`].
///
/// # Errors
/// When it panicked.
pub fn edge<T>(
    part: &'static str,
    ends: bool,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Panicked>> {
    let mut work = Box::pin(work);
    async move {
        let watched = Watched::begin(part, ends);
        poll_fn(|context| {
            watched.pulse.turn(true);
            let step = panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
            watched.pulse.turn(false);
            match step {
                Ok(step) => step.map(Ok),
                Err(_) => Poll::Ready(Err(panicked(part))),
            }
        })
        .await
    }
}

fn panicked(part: &'static str) -> Panicked {
    PANICS.get_or_create(&PartLabel { part }).inc();
    Panicked { place: PLACE.take() }
}

/// The parts in which something is stuck.
#[must_use]
pub fn stuck() -> BTreeSet<&'static str> {
    let now = now();
    let pulses = pulses();
    pulses.values().filter(|pulse| is_stuck(pulse, now)).map(|pulse| pulse.part).collect()
}

fn is_stuck(pulse: &Pulse, now: u64) -> bool {
    let for_now = Duration::from_millis(now.saturating_sub(pulse.since.load(Ordering::Acquire)));
    if pulse.holds.load(Ordering::Acquire) { for_now > HOLDS } else { pulse.ends && for_now > IDLES }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(part: &'static str) -> u64 {
        PANICS.get_or_create(&PartLabel { part }).get()
    }

    #[tokio::test]
    async fn a_panic_ends_at_its_edge_is_counted_and_says_nothing_of_what_was_read() {
        let secret = "hunter2";
        let ended: Result<(), Panicked> = work("test-edge", async {
            tokio::task::yield_now().await;
            panic!("cannot parse {secret}");
        })
        .await;
        let said = ended.unwrap_err().to_string();
        assert!(!said.contains(secret) && said.contains("tried again"), "{said}");
        assert_eq!(count("test-edge"), 1);
        assert_eq!(keep("test-edge", async { 5 }).await, Ok(5));
        assert!(!pulses().values().any(|pulse| pulse.part == "test-edge"), "nothing is left of it");
    }

    #[tokio::test]
    async fn what_goes_on_for_ever_begins_anew_after_a_panic() {
        let mut begun = 0;
        let output = again("test-again", || {
            begun += 1;
            let fails = begun == 1;
            async move {
                tokio::task::yield_now().await;
                assert!(!fails, "the first time");
                begun
            }
        });
        assert_eq!(output.await, 2);
        assert_eq!(count("test-again"), 1);
    }

    #[test]
    fn work_is_stuck_when_it_holds_its_thread_or_nothing_happens_to_it() {
        let pulse =
            |ends, holds| Pulse { part: "x", ends, holds: AtomicBool::new(holds), since: AtomicU64::new(5) };
        let at = |d: Duration| u64::try_from(d.as_millis()).unwrap();
        assert!(!is_stuck(&pulse(true, true), at(HOLDS)));
        assert!(is_stuck(&pulse(false, true), at(HOLDS) + 6), "it holds its thread");
        assert!(!is_stuck(&pulse(true, false), at(IDLES)), "it waits for an answer");
        assert!(is_stuck(&pulse(true, false), at(IDLES) + 6), "that never comes");
        assert!(!is_stuck(&pulse(false, false), at(IDLES) * 9), "it waits for news");
    }

    #[test]
    fn a_place_has_no_folders_of_a_machine() {
        assert_eq!(short("src/api/cron.rs"), "src/api/cron.rs");
        assert_eq!(short("/home/me/.cargo/registry/src/idx/kube-5.0.0/src/lib.rs"), "kube-5.0.0/src/lib.rs");
    }
}
