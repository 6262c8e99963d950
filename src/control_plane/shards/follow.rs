//! Puts what the replicas publish of the data planes in the place of what this process would see by watches of its own.
//!
//! What is published counts while the replica that wrote it holds the shard. Otherwise nobody knows how the data plane
//! stands: work there waits, nothing is concluded, and after [`PATIENCE`] it is said. It writes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::SignedDuration;
use kube::{
    Api, Client, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::{sync::broadcast::error::RecvError, time::Instant};

use super::{
    judge::{WatchedPlane, judge},
    member::{Holder, Replicas},
};
use crate::{
    api::fleet::DataPlaneView,
    control_plane::{
        data_planes::{
            encoded::{self, Changes, Taken},
            fleet::{Change, Fleet, Member, What},
            view::{Contact, View},
        },
        registry::reports::{Answer, Health, PlaneReport, Reports, shard_of},
    },
    runtime::{
        cause::{Cause, Kind},
        sync::lock,
    },
};

/// How long nothing is said of a data plane that no replica watches: another takes over, or the first one has just begun.
const PATIENCE: Duration = Duration::from_mins(1);
/// Pause between two looks at who holds what.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is noted that a data plane answers of which there is no news.
const NOTED_EVERY: Duration = Duration::from_secs(20);
/// How long a replica may take to publish that a data plane does not answer any more.
const SILENCE: SignedDuration = SignedDuration::from_secs(30);

/// How the view of one data plane stands.
#[derive(Debug)]
enum Knowledge {
    /// It is what the replica sees that holds its shard.
    Current {
        /// That replica's epoch.
        epoch: i32,
    },
    /// Nobody knows, since then.
    Awaited(Instant),
}

struct Followed {
    uid: String,
    shard: u32,
    knowledge: Knowledge,
    /// What stood in the way last.
    why: String,
    taken: Taken,
    /// The version of the object that was taken over last.
    version: String,
}

/// Follows what the replicas publish.
pub struct Follower {
    /// The fleet that is decided about.
    pub fleet: Arc<Fleet>,
    /// What is said of reaching each data plane.
    pub reports: Arc<Reports>,
    /// Who holds what.
    pub replicas: Arc<Replicas>,
    /// The control plane's own cluster.
    pub client: Client,
    /// The controller's namespace.
    pub namespace: String,
}

/// The objects that were published, by name.
type Objects = BTreeMap<String, Arc<DataPlaneView>>;

impl Follower {
    /// Runs for ever.
    pub async fn run(&self) {
        let api: Api<DeserializeGuard<DataPlaneView>> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut changes = self.fleet.changes();
        let (mut objects, mut listing) = (Objects::new(), Objects::new());
        let mut followed: BTreeMap<String, Followed> = BTreeMap::new();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut noted = Instant::now();
        let mut holders: BTreeMap<u32, Option<Holder>> = BTreeMap::new();
        let mut told = String::new();
        loop {
            let due: BTreeSet<String> = tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(event)) => note(event, &mut objects, &mut listing),
                    Ok(None) => return,
                    Err(error) => {
                        let why = error.to_string();
                        if told != why {
                            tracing::warn!(
                                "cannot watch DataPlaneViews: {why}; it is tried again. Their definition has to be \
                                 installed, and get, list and watch on them granted"
                            );
                            told = why;
                        }
                        BTreeSet::new()
                    }
                },
                entered = self.reports.entered() => entered,
                change = changes.recv() => match change {
                    // One that was made again under its name begins with nothing.
                    Ok(change) if change.what == What::Contact => [change.data_plane].into(),
                    Ok(_) => continue,
                    Err(RecvError::Lagged(_)) => self.fleet.uids().into_keys().collect(),
                    Err(RecvError::Closed) => return,
                },
                () = self.replicas.changed() => self.moved(&mut holders, &followed),
                _ = looks.tick() => {
                    if noted.elapsed() >= NOTED_EVERY {
                        noted = Instant::now();
                        self.note_answers(&followed);
                        self.fleet.uids().into_keys().collect()
                    } else {
                        self.moved(&mut holders, &followed)
                    }
                }
            };
            for name in due {
                self.look(&name, objects.get(&name), &mut followed);
            }
        }
    }

    /// The data planes whose replica is another than in `holders`, which is noted, and those of which nobody knows.
    fn moved(
        &self,
        holders: &mut BTreeMap<u32, Option<Holder>>,
        followed: &BTreeMap<String, Followed>,
    ) -> BTreeSet<String> {
        let now: BTreeMap<u32, Option<Holder>> =
            (0..self.replicas.shards).map(|shard| (shard, self.replicas.holder(shard))).collect();
        let moved: BTreeSet<u32> = now
            .iter()
            .filter(|(shard, holder)| holders.get(shard) != Some(holder))
            .map(|(s, _)| *s)
            .collect();
        *holders = now;
        let is_due = |known: &Followed| {
            moved.contains(&known.shard) || matches!(known.knowledge, Knowledge::Awaited(_))
        };
        followed.iter().filter(|(_, known)| is_due(known)).map(|(name, _)| name.clone()).collect()
    }

    fn look(
        &self,
        name: &str,
        object: Option<&Arc<DataPlaneView>>,
        followed: &mut BTreeMap<String, Followed>,
    ) {
        // Without a link nobody asks: what is in the way is said elsewhere.
        let member = self.fleet.member(name);
        let found = member.and_then(|member| Some((self.reports.of(&member.uid)?, member)));
        let Some((report, member)) = found else {
            followed.remove(name);
            return;
        };
        let is_same = followed.get(name).is_some_and(|known| known.uid == member.uid);
        if !is_same {
            let known = Followed {
                uid: member.uid.clone(),
                shard: shard_of(name, self.replicas.shards),
                knowledge: Knowledge::Awaited(Instant::now()),
                why: String::new(),
                taken: Taken::default(),
                version: String::new(),
            };
            followed.insert(name.to_owned(), known);
        }
        let Some(known) = followed.get_mut(name) else { return };
        let plane =
            WatchedPlane { name, uid: &member.uid, shard: known.shard, address_hash: &report.address_hash };
        let holder = self.replicas.holder(known.shard);
        let judged = judge(plane, holder.as_ref(), object.map(|object| &object.spec));
        match judged.and_then(|epoch| Ok((object.ok_or_else(String::new)?, epoch))) {
            Ok((object, epoch)) => {
                let version = object.resource_version().unwrap_or_default();
                let is_current =
                    matches!(known.knowledge, Knowledge::Current { epoch: known } if known == epoch);
                let runs_ahead = member.view.get().runs_ahead();
                if is_current && known.version == version && !runs_ahead {
                    return;
                }
                match self.take(name, &member, &report, object, &mut known.taken) {
                    Ok(()) => {
                        known.version = version;
                        known.knowledge = Knowledge::Current { epoch };
                        known.why.clear();
                    }
                    Err(why) => self.wait(name, &member, &report, known, &why),
                }
            }
            Err(why) => {
                let why = format!("{why} (shard {} of {})", known.shard, self.replicas.shards);
                self.wait(name, &member, &report, known, &why);
            }
        }
    }

    fn take(
        &self,
        name: &str,
        member: &Member,
        report: &PlaneReport,
        object: &DataPlaneView,
        taken: &mut Taken,
    ) -> Result<(), String> {
        let unread = |why: &dyn std::fmt::Display| {
            format!("what replica `{}` says of it cannot be read: {why}", object.spec.holder)
        };
        let bytes = STANDARD.decode(&object.spec.data).map_err(|error| unread(&error))?;
        let encoded = encoded::decode(&bytes).map_err(|error| unread(&error))?;
        let health: Health = encoded.health().map_err(|error| unread(&error))?;
        let now = self.fleet.now();
        let applied = member.view.update(|view| encoded.apply(view, taken, now));
        let mut changes = applied.map_err(|error| unread(&error))?;
        let mut held = lock(&report.health);
        let last_contact = health.last_contact.max(held.last_contact);
        let new = Health { last_contact, ..health };
        changes.contact |= held.without_times() != new.without_times();
        *held = new;
        drop(held);
        self.announce(name, changes);
        Ok(())
    }

    fn announce(&self, name: &str, changes: Changes) {
        if changes.contact {
            self.fleet.announce(Change::contact(name));
        }
        for kind in changes.kinds {
            self.fleet.announce(Change::objects(name, kind));
        }
        for (kind, run) in changes.runs {
            self.fleet.announce(Change { made_for: Some(run), ..Change::objects(name, kind) });
        }
    }

    /// Nobody knows how a data plane stands, for this reason.
    fn wait(&self, name: &str, member: &Member, report: &PlaneReport, known: &mut Followed, why: &str) {
        let since = match known.knowledge {
            Knowledge::Awaited(since) => since,
            Knowledge::Current { .. } => {
                let now = Instant::now();
                known.knowledge = Knowledge::Awaited(now);
                now
            }
        };
        let (now, is_late) = (self.fleet.now(), since.elapsed() >= PATIENCE);
        let changed = member.view.update(|view| {
            let contact = match (&view.contact, is_late) {
                (Contact::NotTried, false) => return false,
                (_, false) => Contact::NotTried,
                (Contact::Lost { since, .. }, true) => Contact::Lost { since: *since, why: why.to_owned() },
                (_, true) if view.last_contact.is_some() => Contact::Lost { since: now, why: why.to_owned() },
                (_, true) => Contact::Never { why: why.to_owned() },
            };
            let changed = view.contact != contact;
            view.contact = contact;
            changed
        });
        if is_late {
            let mut health = lock(&report.health);
            health.answer = Answer::Lost(Cause::new(Kind::Unreachable, why));
            let since = health.last_contact.unwrap_or(now);
            health.disconnected_since.get_or_insert(since);
        }
        if known.why != why && is_late {
            tracing::warn!(data_plane = name, "{why}");
            why.clone_into(&mut known.why);
        }
        if changed {
            self.fleet.announce(Change::contact(name));
        }
    }

    /// A replica publishes news; that a data plane answers as before is none. Who is silent for [`SILENCE`] is said to be.
    fn note_answers(&self, followed: &BTreeMap<String, Followed>) {
        let Some(at) = self.fleet.now().checked_sub(SILENCE).ok() else { return };
        for (name, known) in followed {
            let Knowledge::Current { .. } = known.knowledge else { continue };
            let Some(member) = self.fleet.member(name).filter(|member| member.uid == known.uid) else {
                continue;
            };
            let is_older = |last: Option<jiff::Timestamp>| last.is_none_or(|last| last < at);
            let view = member.view.get();
            if view.contact != Contact::Live || !is_older(view.last_contact) {
                continue;
            }
            drop(view);
            member.view.update(|view: &mut View| view.last_contact = Some(at));
            if let Some(report) = self.reports.of(&known.uid) {
                let mut health = lock(&report.health);
                health.last_contact = health.last_contact.max(Some(at));
            }
        }
    }
}

/// Takes an event in; returns the data planes it says something new about.
fn note(
    event: Event<DeserializeGuard<DataPlaneView>>,
    objects: &mut Objects,
    listing: &mut Objects,
) -> BTreeSet<String> {
    let read = |object: DeserializeGuard<DataPlaneView>| {
        let name = object.name_any();
        match object.0 {
            Ok(mut object) => {
                object.metadata.managed_fields = None;
                Some((name, Arc::new(object)))
            }
            Err(error) => {
                tracing::warn!(data_plane = name, %error, "its DataPlaneView cannot be read");
                None
            }
        }
    };
    match event {
        Event::Init => {
            listing.clear();
            BTreeSet::new()
        }
        Event::InitApply(object) => {
            listing.extend(read(object));
            BTreeSet::new()
        }
        Event::InitDone => {
            let before = std::mem::replace(objects, std::mem::take(listing));
            before.into_keys().chain(objects.keys().cloned()).collect()
        }
        Event::Apply(object) => {
            let name = object.name_any();
            match read(object) {
                Some((name, object)) => drop(objects.insert(name, object)),
                None => drop(objects.remove(&name)),
            }
            [name].into()
        }
        Event::Delete(object) => {
            let name = object.name_any();
            objects.remove(&name);
            [name].into()
        }
    }
}
