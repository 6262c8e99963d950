//! Writes the copies of one data plane, whatever happens in the others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    apply::{self, CopyOutcome},
    controller::ReplicationContext,
    desired::{CopyKey, CopyKind, Desired, Wanted},
    plan::{self, Accepted, Action, Failures, Settled},
};
use crate::{
    api::{Reason, Seen, Why},
    control_plane::{
        data_planes::{
            fleet::{Change, Fleet, Member, Usable, ViewCell},
            meters::Copies,
            records::CopyRecord,
            remote::Remote,
            section::Section,
            undone::{self, By, Record, UndoneVerdict, Wish},
            view::{ObjectKey, View},
            watched::Kind,
        },
        identity::Identity,
    },
    runtime::{backoff::Backoff, guard, sync::lock},
};

/// First and longest pause before a failed write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The same for what is refused for what it is: it goes through only when it changes, or the cluster's limits do.
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(10));
/// Pause before a copy that is somebody else's is looked at again: we do not see when it changes.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How long it is remembered that something stood in a write's way: until then it is looked at before it is tried.
const REMEMBERED: Duration = Duration::from_mins(10);

/// What the workers share with each other and with who publishes what came of their work.
pub(super) struct Shared {
    pub(super) context: ReplicationContext,
    pub(super) failures: Mutex<Failures>,
    /// What was accepted in the place of copies, by data plane.
    pub(super) settled: Mutex<BTreeMap<String, Settled>>,
    /// Told when conditions may have changed: copies are wanted, were written, or could not be.
    pub(super) progress: Notify,
}

/// What a write is about: the source's uid and the hash of its content. A source that is made again with the same content
/// is another.
type Version = (String, String);

/// Until when a write is not tried again.
struct Pause {
    until: Instant,
    /// What it is about: another is tried at once.
    of: Option<Version>,
}

/// What a worker remembers of its writes.
struct Memory {
    /// The view of the data plane they were made in.
    of: Arc<ViewCell>,
    /// Writes under way, with what is remembered of each once it is made.
    in_flight: HashMap<CopyKey, Option<Record>>,
    pauses: HashMap<CopyKey, Pause>,
    /// The last write of each copy: who takes it back is noticed.
    written: HashMap<CopyKey, Record>,
    backoff: Backoff<CopyKey>,
    refused: Backoff<CopyKey>,
}

impl Memory {
    fn new(of: Arc<ViewCell>) -> Self {
        Self {
            of,
            in_flight: HashMap::new(),
            pauses: HashMap::new(),
            written: HashMap::new(),
            backoff: Backoff::new(RETRY.0, RETRY.1),
            refused: Backoff::new(REFUSED.0, REFUSED.1),
        }
    }

    /// What is remembered of a write of that content once it is made, or until when it waits and why: somebody takes it back
    /// each time. A removal is no such write.
    fn may_write(
        &self,
        key: &CopyKey,
        content: Option<&Version>,
        view: &View,
        now: Timestamp,
    ) -> Result<Option<Record>, (Timestamp, Why)> {
        let Some((uid, content)) = content.cloned() else { return Ok(None) };
        let by = taken_back(view, key, &content);
        let wish = Wish { uid, content, ..Wish::default() };
        match undone::pace(self.written.get(key), wish, by, now) {
            UndoneVerdict::Write(record) => Ok(Some(record)),
            UndoneVerdict::Conflict(record) => {
                let why = undone::conflict(key, &record.by, record.times.saturating_add(1));
                Err((undone::resumes(&record), why))
            }
        }
    }

    /// Who takes the copy back although it was written again.
    fn contested(&self, key: &CopyKey, now: Timestamp) -> Option<Why> {
        let record = self.written.get(key).filter(|record| undone::is_contested(record, now))?;
        Some(undone::conflict(key, &record.by, record.times))
    }

    /// Whether a write of that content has to wait.
    fn holds(&self, key: &CopyKey, content: Option<&Version>, now: Instant) -> bool {
        self.pauses.get(key).is_some_and(|pause| pause.until > now && pause.of.as_ref() == content)
    }
}

/// Who changed or deleted a copy that should hold `content`, and what of it, as far as that shows.
fn taken_back(view: &View, key: &CopyKey, content: &str) -> By {
    let Seen::Known(copy) = plan::copy(view, key) else { return By::default() };
    let field = match (copy.content_hash == content, key.kind) {
        (true, _) => ".metadata",
        (false, CopyKind::Secret) => ".data",
        (false, CopyKind::MedusaConfiguration) => ".spec",
    };
    By { manager: copy.changed_by.clone(), field: field.to_owned() }
}

/// Runs until the data plane is gone from the fleet. `news` is told when something changed in it that matters to its copies.
pub(super) async fn run(
    name: String,
    shared: Arc<Shared>,
    mut desired: watch::Receiver<Arc<Desired>>,
    news: Arc<Notify>,
) {
    let fleet = &shared.context.fleet;
    let mut writes: FuturesUnordered<BoxFuture<'static, Write>> = FuturesUnordered::new();
    let mut was_seen = false;
    let Some(member) = fleet.member(&name) else { return };
    let (uid, mut memory) = (member.uid, Memory::new(member.view));
    // Nothing that was learnt of another data plane of that name holds for this one.
    forget_all(&shared, &name);
    loop {
        // One that was made again under its name is another, and gets a worker of its own.
        let Some(member) = fleet.member(&name).filter(|member| member.uid == uid) else { return };
        // One moment for all that is decided: what has to wait is never past before it is waited for.
        let (now, time) = (Instant::now(), fleet.now());
        let wanted = desired.borrow_and_update().clone();
        let copies = wanted.copies.get(&name).cloned().unwrap_or_default();
        let (view, settled) = (member.view.get(), settled_of(&shared, &name));
        let actions = plan_now(&wanted, &name, &copies, &view, &settled, &shared.context.control_plane);
        // What is planned for a data plane that cannot be written to is only counted. Before it was seen for the first time
        // nothing is counted: nobody knows which copies are there.
        was_seen |= view.is_live();
        if was_seen {
            let failures = lock(&shared.failures);
            let has_failed = |key: &CopyKey| failures.get(&name).is_some_and(|of| of.contains_key(key));
            // The copies in a cluster that is registered twice are those of the other one.
            let is_twin = matches!(member.blocked, Some(Why { reason: Reason::DuplicateCluster, .. }));
            let counted = plan::tally(&view, &copies, &settled, &actions, has_failed);
            member.meters.set_copies(if is_twin { Copies::default() } else { counted });
        }
        if let Some(remote) = writable(fleet, &member, &view) {
            let planned: BTreeSet<CopyKey> = actions.iter().map(|action| action.key().clone()).collect();
            // What is shared is looked at again: it may change without our seeing it.
            let shared_ones = copies.keys().filter(|key| plan::shared_with(&view, key, &settled).is_some());
            let looks = shared_ones.map(|key| Action::Create(key.clone()));
            for action in actions.into_iter().chain(looks) {
                let key = action.key().clone();
                let wanted = copies.get(&key).cloned();
                let content = wanted.as_ref().and_then(|wanted| wanted.content.clone());
                if memory.holds(&key, content.as_ref(), now) || memory.in_flight.contains_key(&key) {
                    continue;
                }
                let record = match memory.may_write(&key, content.as_ref(), &view, time) {
                    Ok(record) => record,
                    Err((until, why)) => {
                        let wait = until.duration_since(time).unsigned_abs();
                        blame(&shared, &name, &key, why);
                        memory.pauses.insert(key, Pause { until: now + wait, of: content });
                        continue;
                    }
                };
                memory.in_flight.insert(key.clone(), record);
                let is_known = memory.pauses.contains_key(&key) || settled.contains_key(&key);
                let (remote, shared) = (remote.clone(), shared.clone());
                writes.push(Box::pin(async move {
                    let carried_out = apply::carry_out(&action, wanted, is_known, &remote, &shared);
                    let outcome = guard::keep("copies", carried_out).await.unwrap_or_else(|panic| {
                        CopyOutcome::Failed(Why::new(Reason::InternalError, panic.to_string()))
                    });
                    Write { key, content, outcome }
                }));
            }
            forget(&shared, &name, &copies, &planned);
            memory.written.retain(|key, _| copies.contains_key(key));
        }
        let stands =
            |key: &CopyKey| copies.get(key).is_none_or(|copy| plan::in_place(&view, key, copy, &settled));
        forget_conflicts(&shared, &name, |key| stands(key) && memory.contested(key, time).is_none());
        let contested =
            memory.written.values().filter_map(undone::contested_until).filter(|until| *until > time);
        let contested = contested.map(|until| now + until.duration_since(time).unsigned_abs());
        let paused = memory.pauses.values().map(|pause| pause.until).filter(|until| *until > now);
        let next = paused.chain(contested).min();
        if member.refusals.replace(refused_secrets(&shared, &name)) {
            fleet.announce(Change::objects(&name, Kind::Secrets));
        }
        let wake = next.unwrap_or_else(|| now + Duration::from_hours(1));
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { return },
            () = news.notified() => {}
            Some(done) = writes.next() => {
                let record = memory.in_flight.remove(&done.key).flatten();
                if let (CopyOutcome::Written(..), Some(record)) = (&done.outcome, record) {
                    memory.written.insert(done.key.clone(), record);
                }
                settle(&shared, &name, done, &mut memory);
            }
            () = tokio::time::sleep_until(wake) => {}
        }
        let now = Instant::now();
        memory.pauses.retain(|_, pause| pause.until + REMEMBERED > now);
    }
}

struct Write {
    key: CopyKey,
    /// What it was about; `None` for a removal.
    content: Option<Version>,
    outcome: CopyOutcome,
}

fn plan_now(
    wanted: &Desired,
    name: &str,
    copies: &BTreeMap<CopyKey, Wanted>,
    view: &View,
    settled: &Settled,
    control_plane: &Identity,
) -> Vec<Action> {
    let (no_namespaces, no_sources, nothing) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let removal = plan::Removal {
        is_known: wanted.complete_for.contains(name),
        held: wanted.held.get(name).unwrap_or(&no_namespaces),
        ending: wanted.ending.get(name).unwrap_or(&nothing),
        // Where nothing is wanted any more, nobody asks for anything.
        in_doubt: if wanted.leaving.contains(name) { &no_sources } else { &wanted.in_doubt },
        ways_in: &wanted.ways_in,
        keeps_inherited: !wanted.leaving.contains(name),
        control_plane,
    };
    plan::plan(view, copies, settled, removal)
}

/// The way to the data plane, when it may be written to. One that is being unregistered may: its
/// copies are taken back.
fn writable(fleet: &Fleet, member: &Member, view: &View) -> Option<Arc<Remote>> {
    let may = match fleet.usable(member, view) {
        Usable::Ready => true,
        Usable::NotReady { .. } => member.unregistering && view.is_live(),
        Usable::Unreachable { .. } | Usable::Connecting => false,
    };
    member.remote.clone().filter(|_| may)
}

fn settled_of(shared: &Shared, name: &str) -> Settled {
    let settled = lock(&shared.settled);
    settled.get(name).cloned().unwrap_or_default()
}

/// Drops what is known of copies that nobody wants any more, and of those that nobody has to take back either.
fn forget(shared: &Shared, name: &str, copies: &BTreeMap<CopyKey, Wanted>, planned: &BTreeSet<CopyKey>) {
    if let Some(of_plane) = lock(&shared.failures).get_mut(name) {
        of_plane.retain(|key, _| copies.contains_key(key) || planned.contains(key));
    }
    if let Some(of_plane) = lock(&shared.settled).get_mut(name) {
        of_plane.retain(|key, _| copies.contains_key(key));
    }
}

/// Why Secrets could not be copied, for those who wait for one.
fn refused_secrets(shared: &Shared, name: &str) -> BTreeMap<ObjectKey, Why> {
    let failures = lock(&shared.failures);
    let of_plane = failures.get(name).into_iter().flatten();
    let secrets = of_plane.filter(|(key, _)| key.kind == CopyKind::Secret);
    secrets.map(|(key, why)| (key.object.clone(), why.clone())).collect()
}

/// Drops what was said of copies that stand again.
fn forget_conflicts(shared: &Shared, name: &str, is_over: impl Fn(&CopyKey) -> bool) {
    let mut failures = lock(&shared.failures);
    let Some(of_plane) = failures.get_mut(name) else { return };
    let before = of_plane.len();
    of_plane.retain(|key, why| why.reason != Reason::Conflict || !is_over(key));
    if of_plane.len() < before {
        shared.progress.notify_one();
    }
}

/// Drops everything that is known of a data plane's copies.
fn forget_all(shared: &Shared, name: &str) {
    lock(&shared.failures).remove(name);
    lock(&shared.settled).remove(name);
}

/// Notes what came of a write, for the next pass and for who publishes it.
fn settle(shared: &Shared, name: &str, done: Write, memory: &mut Memory) {
    let Write { key, content, outcome } = done;
    let source = content.as_ref().map(|(uid, _)| uid.clone()).unwrap_or_default();
    let pause = |wait: Duration| Pause { until: Instant::now() + wait, of: content.clone() };
    let accept = |key: &CopyKey, accepted: Option<Accepted>| {
        let mut settled = lock(&shared.settled);
        let of_plane = settled.entry(name.to_owned()).or_default();
        match accepted {
            Some(accepted) => drop(of_plane.insert(key.clone(), accepted)),
            None => drop(of_plane.remove(key)),
        }
    };
    match outcome {
        CopyOutcome::Written(record, wanted) => {
            let is_other = record.content_hash != wanted;
            let made = || Accepted::Made { wanted, got: record.content_hash.clone() };
            accept(&key, is_other.then(made));
            memory.of.update(|view| remember(view, &key, *record, shared.context.fleet.now()));
            memory.pauses.remove(&key);
        }
        CopyOutcome::Shared { hash, with } => {
            accept(&key, Some(Accepted::Shared { hash, with }));
            memory.written.remove(&key);
            memory.pauses.insert(key.clone(), pause(LOOK_AGAIN));
        }
        CopyOutcome::Gone => {
            memory.of.update(|view| section(view, key.kind).remove(&key.object));
            memory.pauses.remove(&key);
        }
        CopyOutcome::PlanAgain => {
            let wait = memory.backoff.failed_as(&key, &source);
            memory.pauses.insert(key, pause(wait));
            return shared.progress.notify_one();
        }
        CopyOutcome::Failed(problem) => {
            accept(&key, None);
            let is_final = matches!(problem.reason, Reason::TooLarge | Reason::StillInUse);
            let backoff = if is_final { &mut memory.refused } else { &mut memory.backoff };
            let wait = backoff.failed_as(&key, &source);
            memory.pauses.insert(key.clone(), pause(wait));
            return blame(shared, name, &key, problem);
        }
    }
    memory.backoff.succeeded(&key);
    memory.refused.succeeded(&key);
    if let Some(conflict) = memory.contested(&key, shared.context.fleet.now()) {
        return blame(shared, name, &key, conflict);
    }
    if let Some(of_plane) = lock(&shared.failures).get_mut(name) {
        of_plane.remove(&key);
    }
    shared.progress.notify_one();
}

/// Says what is wrong with a copy.
fn blame(shared: &Shared, name: &str, key: &CopyKey, problem: Why) {
    let mut failures = lock(&shared.failures);
    let of_plane = failures.entry(name.to_owned()).or_default();
    if of_plane.get(key) != Some(&problem) {
        tracing::warn!(data_plane = name, copy = %key, reason = %problem.reason, "{}", problem.message);
    }
    of_plane.insert(key.clone(), problem);
    drop(failures);
    shared.progress.notify_one();
}

fn section(view: &mut View, kind: CopyKind) -> &mut Section<CopyRecord> {
    match kind {
        CopyKind::Secret => &mut view.secrets,
        CopyKind::MedusaConfiguration => &mut view.configurations,
    }
}

/// Puts our own write into the view at once, unless the watch already delivered something newer.
fn remember(view: &mut View, key: &CopyKey, record: CopyRecord, now: Timestamp) {
    let version = |record: &CopyRecord| record.resource_version.parse::<u64>().unwrap_or(0);
    let items = section(view, key.kind);
    let older = items.last(&key.object).is_none_or(|known| version(known) <= version(&record));
    if older {
        items.show(key.object.clone(), version(&record), Arc::new(record), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::data_planes::fleet::Fleet;

    #[test]
    fn who_changes_a_copy_each_time_it_was_written_is_named_and_meets_growing_pauses() {
        let fleet = Fleet::default();
        fleet.enrol("eu", "u", |_| {});
        let mut memory = Memory::new(fleet.member("eu").unwrap().view);
        let key = CopyKey { kind: CopyKind::Secret, object: ObjectKey::new("ns", "key") };
        let mut view = View::unknown();
        view.set_synced();
        let copy = CopyRecord { changed_by: "argocd-controller".to_owned(), ..CopyRecord::default() };
        view.secrets.put(key.object.clone(), Arc::new(copy));
        let at = |second| Timestamp::from_second(second).unwrap();
        let version = |uid: &str, hash: &str| (uid.to_owned(), hash.to_owned());
        let (a, b) = (version("u", "a"), version("u", "b"));
        for second in 0..2 {
            let record = memory.may_write(&key, Some(&a), &view, at(second)).unwrap().unwrap();
            memory.written.insert(key.clone(), record);
            assert_eq!(memory.contested(&key, at(second)), None);
        }
        let (until, why) = memory.may_write(&key, Some(&a), &view, at(2)).unwrap_err();
        assert!(until > at(2) && why.reason == Reason::Conflict, "{why:?}");
        for word in ["`argocd-controller` takes back `.data`", "ns/key", " 2 times in a row"] {
            assert!(why.message.contains(word), "{}", why.message);
        }
        let mut again = Memory::new(fleet.member("eu").unwrap().view);
        again.written.clone_from(&memory.written);
        let record = again.may_write(&key, Some(&a), &view, until).unwrap().unwrap();
        again.written.insert(key.clone(), record);
        assert_eq!(again.contested(&key, until), Some(why), "the same is said when it was written again");
        assert!(memory.may_write(&key, Some(&a), &view, until).is_ok(), "it is repaired all the same");
        assert!(memory.may_write(&key, Some(&b), &view, at(2)).is_ok(), "another content is written at once");
        let made_again = version("another", "a");
        assert!(memory.may_write(&key, Some(&made_again), &view, at(2)).is_ok(), "nobody took that back yet");
        let now = Instant::now();
        memory.pauses.insert(key.clone(), Pause { until: now + RETRY.1, of: Some(a.clone()) });
        assert!(memory.holds(&key, Some(&a), now) && !memory.holds(&key, Some(&made_again), now));
        assert!(memory.may_write(&key, None, &view, at(2)).is_ok(), "so is what is to be removed");
    }
}
