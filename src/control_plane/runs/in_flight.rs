//! The writes under way in the data planes. Nobody waits for one that hangs: it ends in its own task, and wakes the
//! run it was for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::future::join_all;
use tokio::{task::JoinHandle, time::Instant};

use super::outcome::Outcome;
use crate::{
    api::Reason,
    control_plane::data_planes::view::ObjectKey,
    runtime::{backoff::delay, guard, sync::lock},
};

/// Writes of one run under way in one data plane at a time.
const WINDOW: usize = 256;
/// How long a pass waits for its own writes: the most are answered in that time, and their outcome is in the status
/// the pass writes.
const SHORTLY: Duration = Duration::from_millis(250);

/// A child: its data plane and its name there.
pub type Key = (String, ObjectKey);

/// Outcomes by child.
pub type Outcomes = HashMap<Key, Outcome>;

/// A write under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    pub data_plane: String,
    /// The child.
    pub key: ObjectKey,
    /// Its datacenter.
    pub place: ObjectKey,
    pub run_uid: String,
    /// Whether it puts one more datacenter to work.
    pub makes: bool,
}

enum Write {
    UnderWay(UnderWay),
    Ended { run_uid: String, outcome: Outcome, again_at: Option<Instant>, failures: u32 },
}

/// All writes of one kind of run that are under way, or whose outcome nobody has taken yet.
#[derive(Default)]
pub struct InFlightWrites {
    /// Held while counting what is at work and deciding what starts, so that two runs never take the same place.
    planning: Mutex<()>,
    table: Mutex<HashMap<Key, Write>>,
}

impl InFlightWrites {
    /// Held by whoever decides what starts, for as long as that takes.
    pub fn lock_planning(&self) -> MutexGuard<'_, ()> {
        lock(&self.planning)
    }

    /// Whether a write for a child is under way, or pauses after it was refused.
    pub fn is_busy(&self, plane: &str, key: &ObjectKey) -> bool {
        match lock(&self.table).get(&(plane.to_owned(), key.clone())) {
            Some(Write::UnderWay(_)) => true,
            Some(Write::Ended { again_at, .. }) => again_at.is_some_and(|at| Instant::now() < at),
            None => false,
        }
    }

    /// Whether a write for a child is under way.
    pub fn is_under_way(&self, plane: &str, key: &ObjectKey) -> bool {
        matches!(lock(&self.table).get(&(plane.to_owned(), key.clone())), Some(Write::UnderWay(_)))
    }

    /// Every child that is being made.
    pub fn under_way(&self) -> Vec<UnderWay> {
        let table = lock(&self.table);
        let making = table.values().filter_map(|write| match write {
            Write::UnderWay(what) => what.makes.then(|| what.clone()),
            Write::Ended { .. } => None,
        });
        making.collect()
    }

    /// The outcomes of a run's writes. One that is final is returned once; one that is to be tried again is returned until
    /// that is done.
    pub fn outcomes(&self, run_uid: &str) -> Outcomes {
        let now = Instant::now();
        let mut outcomes = Outcomes::new();
        lock(&self.table).retain(|key, write| match write {
            Write::Ended { run_uid: uid, outcome, again_at, failures } if uid == run_uid => {
                outcomes.insert(key.clone(), outcome.clone());
                // A caller that does not try it again now must not be woken for it once more.
                again_at.take_if(|at| *at <= now);
                *failures > 0
            }
            Write::Ended { .. } | Write::UnderWay(_) => true,
        });
        outcomes
    }

    /// When the next of a run's refused writes may be tried again.
    pub fn again_in(&self, run_uid: &str) -> Option<Duration> {
        let now = Instant::now();
        let table = lock(&self.table);
        let pauses = table.values().filter_map(|write| match write {
            Write::Ended { run_uid: uid, again_at, .. } if uid == run_uid => {
                again_at.map(|at| at.saturating_duration_since(now))
            }
            Write::Ended { .. } | Write::UnderWay(_) => None,
        });
        pauses.min()
    }

    /// Forgets what became of a run's writes.
    pub fn forget(&self, run_uid: &str) {
        lock(&self.table)
            .retain(|_, write| !matches!(write, Write::Ended { run_uid: uid, .. } if uid == run_uid));
    }

    /// Begins writes, as many as fit into each data plane's window; `wake` is called after each. The caller holds the lock of
    /// [`Self::lock_planning`], so that the writes count before another run decides what it starts.
    pub fn begin<F, W>(
        self: &Arc<Self>,
        writes: impl IntoIterator<Item = (UnderWay, F)>,
        wake: impl Fn() -> W,
    ) -> Vec<JoinHandle<()>>
    where
        F: Future<Output = Outcome> + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let mut table = lock(&self.table);
        let mut used: HashMap<(String, String), usize> = HashMap::new();
        for write in table.values() {
            if let Write::UnderWay(what) = write {
                *used.entry((what.run_uid.clone(), what.data_plane.clone())).or_default() += 1;
            }
        }
        let mut begun = Vec::new();
        for (what, write) in writes {
            let key = (what.data_plane.clone(), what.key.clone());
            let used = used.entry((what.run_uid.clone(), what.data_plane.clone())).or_default();
            let failures = match table.get(&key) {
                Some(Write::UnderWay(_)) => continue,
                Some(Write::Ended { failures, .. }) => *failures,
                None => 0,
            };
            if *used >= WINDOW {
                continue;
            }
            *used += 1;
            let run_uid = what.run_uid.clone();
            table.insert(key.clone(), Write::UnderWay(what));
            let (in_flight, wake) = (self.clone(), wake());
            begun.push(tokio::spawn(async move {
                let outcome = guard::keep("writes", write).await;
                let outcome =
                    outcome.unwrap_or_else(|panic| Outcome::NotNow(Reason::InternalError, panic.to_string()));
                in_flight.end(key, run_uid, outcome, failures);
                wake.await;
            }));
        }
        begun
    }

    fn end(&self, key: Key, run_uid: String, outcome: Outcome, failures: u32) {
        let pause = outcome.retry().map(|(first, longest)| delay(failures, first, longest));
        let again_at = pause.map(|pause| Instant::now() + pause);
        let failures = if pause.is_some() { failures.saturating_add(1) } else { 0 };
        lock(&self.table).insert(key, Write::Ended { run_uid, outcome, again_at, failures });
    }
}

/// Waits for writes, but not for one that hangs.
pub async fn wait_shortly(begun: Vec<JoinHandle<()>>) {
    if !begun.is_empty() {
        let _ = tokio::time::timeout(SHORTLY, join_all(begun)).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const DONE: Outcome = Outcome::There(None);

    /// One that waits longer than the first pause after a refusal.
    fn waits() -> Outcome {
        Outcome::NotNow(Reason::BackupRunning, "waits for a backup".to_owned())
    }

    fn refused() -> Outcome {
        Outcome::NotNow(Reason::WriteRefused, "not now".to_owned())
    }

    fn write(name: &str) -> (UnderWay, Key) {
        let key = ObjectKey::new("ns", name);
        let what = UnderWay {
            data_plane: "eu".to_owned(),
            key: key.clone(),
            place: ObjectKey::new("ns", "dc1"),
            run_uid: "run".to_owned(),
            makes: true,
        };
        (what, ("eu".to_owned(), key))
    }

    #[tokio::test]
    async fn an_end_is_handed_out_once_and_a_refusal_until_it_is_tried_again() {
        let in_flight: Arc<InFlightWrites> = Arc::default();
        for (name, end) in [("done", DONE), ("waits", waits()), ("due", refused())] {
            let (what, _) = write(name);
            let begun = in_flight.begin([(what, async move { end })], || async {});
            join_all(begun).await;
        }
        let (waiting, due) = (&write("waits").1, &write("due").1);
        // The pause of a refusal is real time; that it ends is waited for, and not for ever.
        let ends = async {
            while in_flight.is_busy("eu", &due.1) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ends).await.unwrap();
        assert!(in_flight.outcomes("other").is_empty());
        assert_eq!(in_flight.outcomes("run").len(), 3);
        assert!(in_flight.is_busy("eu", &waiting.1));
        let again = in_flight.again_in("run").unwrap();
        assert!(!again.is_zero(), "what is due and is not tried wakes nobody");
        let left = in_flight.outcomes("run");
        assert_eq!((left.len(), left.get(waiting)), (2, Some(&waits())));
        in_flight.forget("run");
        assert!(in_flight.outcomes("run").is_empty() && in_flight.again_in("run").is_none());
    }

    #[tokio::test]
    async fn a_write_that_hangs_counts_and_is_not_begun_twice() {
        let in_flight: Arc<InFlightWrites> = Arc::default();
        let (answer, answered) = oneshot::channel();
        let (what, key) = write("slow");
        let slow = async move { answered.await.unwrap_or(DONE) };
        let begun = in_flight.begin([(what.clone(), slow)], || async {});
        assert!(in_flight.is_busy("eu", &key.1) && in_flight.is_under_way("eu", &key.1));
        assert_eq!(in_flight.under_way(), std::slice::from_ref(&what));
        assert!(in_flight.begin([(what, async { DONE })], || async {}).is_empty());
        in_flight.forget("run");
        answer.send(DONE).unwrap();
        join_all(begun).await;
        assert!(!in_flight.is_under_way("eu", &key.1) && in_flight.under_way().is_empty());
        assert_eq!(in_flight.outcomes("run").len(), 1);
    }

    #[tokio::test]
    async fn a_write_that_panics_is_one_that_was_refused_and_is_tried_again() {
        let in_flight: Arc<InFlightWrites> = Arc::default();
        let (what, key) = write("broken");
        let broken = async {
            tokio::task::yield_now().await;
            panic!("broken")
        };
        let (woken, wakes) = oneshot::channel();
        let woken = Mutex::new(Some(woken));
        let begun = in_flight.begin([(what, broken)], || {
            let woken = lock(&woken).take().unwrap();
            async move { woken.send(()).unwrap() }
        });
        join_all(begun).await;
        assert!(wakes.await.is_ok(), "its run is woken");
        assert!(!in_flight.is_under_way("eu", &key.1) && in_flight.is_busy("eu", &key.1));
        let outcome = in_flight.outcomes("run").remove(&key);
        assert!(matches!(outcome, Some(Outcome::NotNow(Reason::InternalError, _))), "{outcome:?}");
    }
}
