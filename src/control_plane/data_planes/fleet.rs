//! The data planes of this process: one shared table, read by snapshot.
//!
//! No lock here is ever held across I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast;

use super::{
    membership::{Known, ListedDatacenters, MayJoin, Membership},
    meters::PlaneMeters,
    remote::Remote,
    view::{Contact, ObjectKey, View},
    watched::Kind,
};
use crate::{
    api::{Reason, Why},
    runtime::{
        clock::Clock,
        sync::{lock, read, write},
    },
};

/// How long after connecting a data plane's first listings may take before it counts as not ready.
const LISTING_TIME: SignedDuration = SignedDuration::from_secs(30);

/// What changed in a data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Whether it answers, who it is, or what it is allowed: its DataPlane has news.
    Contact,
    /// Objects of this kind, or what they mean.
    Objects(Kind),
}

/// Something changed in a data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The data plane.
    pub data_plane: String,
    /// What.
    pub what: What,
    /// Name of the fleet object that the changed object was made for, of kinds that have one
    /// ([`super::watched::Watched::MADE_FOR`]).
    pub made_for: Option<String>,
}

impl Change {
    /// Its DataPlane has news.
    #[must_use]
    pub fn contact(data_plane: &str) -> Self {
        Self { data_plane: data_plane.to_owned(), what: What::Contact, made_for: None }
    }

    /// Objects of `kind` changed.
    #[must_use]
    pub fn objects(data_plane: &str, kind: Kind) -> Self {
        Self { data_plane: data_plane.to_owned(), what: What::Objects(kind), made_for: None }
    }

    /// Whether its DataPlane has news, or objects of one of those kinds changed.
    #[must_use]
    pub fn is_contact_or(&self, kinds: &[Kind]) -> bool {
        match self.what {
            What::Contact => true,
            What::Objects(kind) => kinds.contains(&kind),
        }
    }
}

/// What is seen of one data plane, shared by the watches that write it and everyone who reads it. It
/// outlives a rotated credential.
#[derive(Debug)]
pub struct ViewCell {
    view: Mutex<Arc<View>>,
    /// About how many bytes of memory the objects take that listings under way have brought, of all kinds together.
    pub arriving: AtomicUsize,
}

impl ViewCell {
    fn new(view: View) -> Self {
        Self { view: Mutex::new(Arc::new(view)), arriving: AtomicUsize::new(0) }
    }

    /// The view as it is now.
    #[must_use]
    pub fn get(&self) -> Arc<View> {
        lock(&self.view).clone()
    }

    /// Changes the view.
    pub fn update<R>(&self, change: impl FnOnce(&mut View) -> R) -> R {
        change(Arc::make_mut(&mut lock(&self.view)))
    }
}

/// Whether work may be sent to a data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usable {
    /// Yes.
    Ready,
    /// Not yet: the connection is being made. Nothing may be concluded from that.
    Connecting,
    /// No, because it does not answer.
    Unreachable {
        /// Since when, when it once answered.
        since: Option<Timestamp>,
        /// Why, for people.
        why: String,
    },
    /// No, for another reason.
    NotReady {
        /// Why, for machines.
        reason: Reason,
        /// Why, for people.
        why: String,
    },
}

/// One registered data plane.
#[derive(Clone)]
pub struct Member {
    /// Uid of its DataPlane: one that is made again under its name is another member.
    pub uid: String,
    /// Labels of its DataPlane.
    pub labels: BTreeMap<String, String>,
    /// What keeps it from being used although it may answer: paused, a duplicate, being unregistered,
    /// a refused kubeconfig.
    pub blocked: Option<Why>,
    /// Whether its copies are to be taken back.
    pub unregistering: bool,
    /// The clusters its datacenters may join by their labels, where somebody says so.
    pub may_join: Option<Arc<MayJoin>>,
    /// When its credential stops working, when it says.
    pub credential_expires_at: Option<Timestamp>,
    /// When the control plane renews its credential by itself, if it does.
    pub credential_renewal_at: Option<Timestamp>,
    /// Most datacenters backed up at a time, when there is a limit.
    pub max_concurrent_backups: Option<usize>,
    /// The namespaces that are worked in; every one when empty.
    pub within: Arc<BTreeSet<String>>,
    /// How to talk to it; absent while its kubeconfig is not usable.
    pub remote: Option<Arc<Remote>>,
    /// What is seen of it.
    pub view: Arc<ViewCell>,
    /// What is counted of it.
    pub meters: Arc<PlaneMeters>,
    /// Which Secrets could not be copied there.
    pub refusals: Arc<Refusals>,
}

/// Why Secrets could not be copied into a data plane, by the copy, as the replication last found: what waits for one says
/// who denies it.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Arc<BTreeMap<ObjectKey, Why>>>);

impl Refusals {
    /// Replaces them; says whether that is news.
    pub fn replace(&self, all: BTreeMap<ObjectKey, Why>) -> bool {
        let mut held = lock(&self.0);
        let is_news = **held != all;
        *held = Arc::new(all);
        is_news
    }

    /// The reasons as they are now.
    #[must_use]
    pub fn get(&self) -> Arc<BTreeMap<ObjectKey, Why>> {
        lock(&self.0).clone()
    }
}

/// One data plane at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// Name of the DataPlane.
    pub name: String,
    /// Uid of the DataPlane.
    pub uid: String,
    /// Labels of the DataPlane.
    pub labels: BTreeMap<String, String>,
    /// Whether work may be sent to it.
    pub usable: Usable,
    /// Whether its copies are to be taken back.
    pub unregistering: bool,
    /// When its credential stops working, when it says.
    pub credential_expires_at: Option<Timestamp>,
    /// When the control plane renews its credential by itself, if it does.
    pub credential_renewal_at: Option<Timestamp>,
    /// Most datacenters backed up at a time, when there is a limit.
    pub max_concurrent_backups: Option<usize>,
    /// The namespaces that are worked in; every one when empty.
    pub within: Arc<BTreeSet<String>>,
    /// How to talk to it.
    pub remote: Option<Arc<Remote>>,
    /// What is seen of it.
    pub view: Arc<View>,
    /// What is counted of it.
    pub meters: Arc<PlaneMeters>,
    /// Why Secrets could not be copied there, by the copy.
    pub refusals: Arc<BTreeMap<ObjectKey, Why>>,
    /// Its datacenters that K8ssandraClusters list, each with its K8ssandraCluster.
    pub listing: Listed,
    /// What else decides which clusters its datacenters belong to.
    pub membership: Membership,
}

impl Snapshot {
    /// Whether it has a CassandraDatacenter of that name that cannot be read: one that is neither known nor absent.
    #[must_use]
    pub fn cannot_read(&self, namespace: &str, name: &str) -> bool {
        let unreadable = self.view.datacenters.unreadable();
        !unreadable.is_empty() && unreadable.contains_key(&ObjectKey::new(namespace, name))
    }
}

/// A data plane's datacenters that K8ssandraClusters list, each with its K8ssandraCluster.
pub type Listed = Arc<BTreeMap<ObjectKey, ObjectKey>>;

/// All registered data planes.
pub struct Fleet {
    clock: Clock,
    members: RwLock<BTreeMap<String, Member>>,
    enrolled: AtomicBool,
    listing: RwLock<Option<BTreeMap<String, Listed>>>,
    known: RwLock<Arc<Known>>,
    changes: broadcast::Sender<Change>,
}

impl Default for Fleet {
    fn default() -> Self {
        // A receiver that falls this far behind is told so and looks at everything.
        Self {
            clock: Clock::system(),
            members: RwLock::default(),
            enrolled: AtomicBool::new(false),
            listing: RwLock::default(),
            known: RwLock::default(),
            changes: broadcast::Sender::new(4096),
        }
    }
}

impl Fleet {
    /// One that goes by this clock.
    #[must_use]
    pub fn by(clock: Clock) -> Self {
        Self { clock, ..Self::default() }
    }

    /// The time by which the control plane decides: one clock, so that a test can turn it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Its clock, for who works on without it.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Tells everyone who subscribed.
    pub fn announce(&self, change: Change) {
        // Nobody listening is no error: consumers start after the registry.
        let _ = self.changes.send(change);
    }

    /// Changes from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Enters a DataPlane, of which nothing is known but what `fill` writes. Returns `None`, and changes nothing, when it is in
    /// the table already. Otherwise returns the uid of the DataPlane of the same name that it replaced, if there was one.
    pub fn enrol(&self, name: &str, uid: &str, fill: impl FnOnce(&mut Member)) -> Option<Option<String>> {
        let mut members = write(&self.members);
        let old = members.get(name).map(|member| member.uid.clone());
        if old.as_deref() == Some(uid) {
            return None;
        }
        let mut member = Member {
            uid: uid.to_owned(),
            labels: BTreeMap::new(),
            blocked: None,
            unregistering: false,
            may_join: None,
            credential_expires_at: None,
            credential_renewal_at: None,
            max_concurrent_backups: None,
            within: Arc::default(),
            remote: None,
            view: Arc::new(ViewCell::new(View::unknown())),
            meters: Arc::default(),
            refusals: Arc::default(),
        };
        fill(&mut member);
        members.insert(name.to_owned(), member);
        Some(old)
    }

    /// Changes a data plane, if the one in the table has that uid; says whether it has.
    pub fn update(&self, name: &str, uid: &str, change: impl FnOnce(&mut Member)) -> bool {
        let mut members = write(&self.members);
        let member = members.get_mut(name).filter(|member| member.uid == uid);
        member.map(change).is_some()
    }

    /// Forgets what is seen of a data plane, if the one in the table has that uid, and how to talk to it.
    pub fn forget_view(&self, name: &str, uid: &str) {
        self.update(name, uid, |member| {
            member.remote = None;
            member.view.update(|view| *view = View::unknown());
        });
    }

    /// Says that every DataPlane that existed at the start is in the table.
    pub fn set_enrolled(&self) {
        self.enrolled.store(true, Ordering::Release);
    }

    /// Whether the table is whole, and known which datacenters belong together: before that, a missing data
    /// plane means nothing.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        let listed = read(&self.listing).is_some();
        listed && self.enrolled.load(Ordering::Acquire)
    }

    /// Learns which K8ssandraClusters there are. One that is known now is not joined by labels any more, by whomever.
    pub fn set_known(&self, known: Known) {
        let mut held = write(&self.known);
        if **held == known {
            return;
        }
        *held = Arc::new(known);
        drop(held);
        let members = read(&self.members);
        let names: Vec<String> = members.keys().cloned().collect();
        drop(members);
        for name in names {
            self.announce(Change::objects(&name, Kind::Datacenters));
        }
    }

    /// Learns which datacenters K8ssandraClusters list.
    pub fn set_listing(&self, new: ListedDatacenters) {
        let mut listing = write(&self.listing);
        let old = listing.get_or_insert_default();
        let names: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
        let changed: Vec<String> =
            names.into_iter().filter(|name| old.get(name).map(AsRef::as_ref) != new.get(name)).collect();
        *old = new.into_iter().map(|(name, part)| (name, Arc::new(part))).collect();
        drop(listing);
        for name in changed {
            self.announce(Change::objects(&name, Kind::Datacenters));
        }
    }

    /// Forgets a data plane, if the one in the table has that uid; says whether it had.
    pub fn remove(&self, name: &str, uid: &str) -> bool {
        let mut members = write(&self.members);
        let is_it = members.get(name).is_some_and(|member| member.uid == uid);
        if is_it {
            members.remove(name);
        }
        is_it
    }

    /// Names and uids of all data planes.
    #[must_use]
    pub fn uids(&self) -> BTreeMap<String, String> {
        let members = read(&self.members);
        members.iter().map(|(name, member)| (name.clone(), member.uid.clone())).collect()
    }

    /// One data plane.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<Member> {
        read(&self.members).get(name).cloned()
    }

    /// Whether a data plane can be worked with now.
    #[must_use]
    pub fn usable(&self, member: &Member, view: &View) -> Usable {
        usable(member, view, self.now())
    }

    /// Whether a connection by which that is seen is still being made.
    #[must_use]
    pub fn is_connecting(&self, view: &View) -> bool {
        answering(view, self.now()) == Usable::Connecting
    }

    /// All data planes, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let now = self.now();
        let listing = read(&self.listing);
        let listed = |name: &String| listing.as_ref().and_then(|l| l.get(name)).cloned().unwrap_or_default();
        let known = read(&self.known).clone();
        let members = read(&self.members);
        let peers: Arc<BTreeSet<String>> = Arc::new(members.keys().cloned().collect());
        members
            .iter()
            .map(|(name, member)| {
                let view = member.view.get();
                Snapshot {
                    name: name.clone(),
                    uid: member.uid.clone(),
                    labels: member.labels.clone(),
                    usable: usable(member, &view, now),
                    unregistering: member.unregistering,
                    credential_expires_at: member.credential_expires_at,
                    credential_renewal_at: member.credential_renewal_at,
                    max_concurrent_backups: member.max_concurrent_backups,
                    within: member.within.clone(),
                    remote: member.remote.clone(),
                    view,
                    meters: member.meters.clone(),
                    refusals: member.refusals.get(),
                    listing: listed(name),
                    membership: Membership {
                        known: known.clone(),
                        peers: peers.clone(),
                        may_join: member.may_join.clone(),
                    },
                }
            })
            .collect()
    }
}

fn usable(member: &Member, view: &View, now: Timestamp) -> Usable {
    if let Some(Why { reason, message }) = &member.blocked {
        return Usable::NotReady { reason: *reason, why: message.clone() };
    }
    answering(view, now)
}

/// Whether work may be sent to a data plane of which that is seen.
fn answering(view: &View, now: Timestamp) -> Usable {
    let listing = || view.connected_at.is_some_and(|at| now.duration_since(at) < LISTING_TIME);
    match &view.contact {
        Contact::NotTried => Usable::Connecting,
        Contact::Never { why } => Usable::Unreachable { since: None, why: why.clone() },
        Contact::Lost { since, why } => Usable::Unreachable { since: Some(*since), why: why.clone() },
        Contact::Live if view.is_live() => Usable::Ready,
        Contact::Live if listing() => Usable::Connecting,
        Contact::Live => Usable::NotReady {
            reason: Reason::WatchesStale,
            why: view.unshown().into_iter().collect::<Vec<_>>().join("; "),
        },
    }
}
