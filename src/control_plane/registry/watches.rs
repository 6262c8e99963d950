//! The watches of one data plane: which there are, what each keeps, and whom it tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{StatusCode, Uri, Version};
use kube::{Client, Resource as _, api::WatchParams, core::DeserializeGuard};
use tokio::{sync::Notify as Signal, task::JoinSet, time::Instant};

use super::watch::{self, Answered, News, Room, WatchContext};
use crate::{
    control_plane::{
        data_planes::{
            fleet::{Change, Fleet, ViewCell},
            meters::PlaneMeters,
            view::{Contact, Shown},
            watched::{self, Kind, watched_kinds},
        },
        identity::Identity,
    },
    runtime::{client::Observer, guard::again, scope, sync::lock},
};

struct Running {
    _task: JoinSet<()>,
    failed: Arc<AtomicBool>,
    since: Instant,
}

/// Hears of the requests to one data plane, for its meters and for the watches that show all there is of a kind.
#[derive(Default)]
pub struct HeardRequests {
    meters: Arc<PlaneMeters>,
    /// The watches by what their requests have in common ([`watch_of`]).
    watches: Mutex<BTreeMap<String, Weak<Answered>>>,
}

impl HeardRequests {
    /// Nothing was heard yet.
    #[must_use]
    pub fn new(meters: Arc<PlaneMeters>) -> Self {
        Self { meters, watches: Mutex::default() }
    }

    /// Whether watches share a connection that says by itself when it is dead.
    pub(super) fn shares_connections(&self) -> bool {
        self.meters.shares_connections()
    }

    /// From now on requests to watch the objects below `path` that `selector` selects (all when empty) are those of this watch.
    fn expect(&self, path: &str, selector: &str, answered: &Arc<Answered>) {
        let params = WatchParams {
            label_selector: Some(selector.to_owned()).filter(|s| !s.is_empty()),
            ..WatchParams::default()
        };
        // As the library itself asks.
        if let Ok(request) = kube::core::Request::new(path).watch(&params, "0") {
            lock(&self.watches).insert(watch_of(request.uri()), Arc::downgrade(answered));
        }
    }
}

/// What all requests of one watch have in common and no other watch has: path and label selector, as they stand in the address.
fn watch_of(uri: &Uri) -> String {
    let selector = uri.query().unwrap_or_default().split('&').find(|part| part.starts_with("labelSelector="));
    format!("{}?{}", uri.path(), selector.unwrap_or_default())
}

impl Observer for HeardRequests {
    fn answered(&self, answer: Option<(StatusCode, Version)>) {
        self.meters.answered(answer);
    }

    fn watches(&self, uri: &Uri) {
        let watch = lock(&self.watches).get(&watch_of(uri)).and_then(Weak::upgrade);
        if let Some(watch) = watch {
            watch.hear();
        }
    }
}

/// The running watches of one data plane; dropping them ends them.
pub(super) struct Watches {
    notify: Notify,
    control_plane: Identity,
    /// The namespaces that are watched; every one when empty.
    within: BTreeSet<String>,
    running: BTreeMap<Kind, Running>,
    schedules: Arc<Signal>,
    doubt: Arc<Signal>,
    heard: Arc<HeardRequests>,
}

impl Watches {
    pub(super) fn new(
        name: &str,
        control_plane: &Identity,
        within: &BTreeSet<String>,
        fleet: Arc<Fleet>,
        view: Arc<ViewCell>,
        heard: Arc<HeardRequests>,
    ) -> Self {
        Self {
            notify: Notify { name: name.to_owned(), fleet, view },
            control_plane: control_plane.clone(),
            within: within.clone(),
            running: BTreeMap::new(),
            schedules: Arc::default(),
            doubt: Arc::default(),
            heard,
        }
    }

    /// Told when one of them is interrupted: perhaps the cluster does not answer any more.
    pub(super) fn doubt(&self) -> Arc<Signal> {
        self.doubt.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for news of the schedules: they say what else is watched.
    pub(super) async fn schedules_changed(&self) {
        self.schedules.notified().await;
    }

    /// Whether what runs is what [`Self::keep`] would have run.
    pub(super) fn are_current(&self, hosts_none: bool) -> bool {
        let view = self.notify.view.get();
        let mut kinds = Kind::ALL.iter();
        kinds.all(|kind| kind.is_wanted(&view, hosts_none) == self.running.contains_key(kind))
    }

    /// Begins with a cluster that answers: nothing of it is listed yet.
    pub(super) fn begin(&mut self) {
        self.stop();
        self.notify.view.update(|view| {
            view.contact = Contact::Live;
            view.connected_at = Some(self.notify.fleet.now());
            view.within = Arc::new(self.within.clone());
            for kind in Kind::ALL {
                view.section_mut(*kind).trust_mut().begin();
            }
        });
    }

    pub(super) fn stop(&mut self) {
        self.running.clear();
    }

    /// Starts what is missing, and anew what failed before it caught up ([`Kind::starts_anew`]). Ends what has nothing to
    /// watch any more. Until a watch has listed, nothing of its kind counts as absent. Those that begin where `is_shared`
    /// may be quiet for longer: their connection shows by itself that it is dead.
    pub(super) fn keep(&mut self, client: &Client, hosts_none: bool, is_shared: bool) {
        for &kind in Kind::ALL {
            let wanted = kind.is_wanted(&self.notify.view.get(), hosts_none);
            if !wanted {
                let ended = self.running.remove(&kind).is_some();
                if self.notify.view.update(|view| kind.settle(view)) || ended {
                    self.notify.tell_contact();
                }
                continue;
            }
            match self.running.get(&kind) {
                Some(running) => {
                    let failed = running.failed.load(Ordering::Acquire);
                    let age = running.since.elapsed();
                    let view = self.notify.view.get();
                    if !kind.starts_anew(view.section(kind).trust(), failed, age) {
                        continue;
                    }
                }
                None => self.notify.view.update(|view| {
                    view.section_mut(kind).trust_mut().begin();
                    view.connected_at = Some(self.notify.fleet.now());
                }),
            }
            let running = start(self, kind, client, is_shared);
            self.running.insert(kind, running);
        }
    }

    fn spawn<W: Shown>(&self, client: &Client, is_shared: bool) -> Running {
        let failed = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(Answered::within(&self.within));
        let (within, selector) = (self.within.clone(), W::WHICH.selector(&self.control_plane));
        let client = if within.is_empty() {
            self.heard.expect(&W::Object::url_path(&(), None), &selector, &answered);
            client.clone()
        } else {
            answered.heard_through(client)
        };
        let place = WatchContext {
            cell: self.notify.view.clone(),
            failed: failed.clone(),
            answered,
            clock: self.notify.fleet.clock(),
            room: Room::USUAL,
        };
        let (notify, changed, doubt) = (self.notify.clone(), self.schedules.clone(), self.doubt.clone());
        let hear = move |news: News<'_, W::Kept>| {
            if matches!(news, News::Interrupted(_)) {
                doubt.notify_one();
            }
            notify.note(&news, W::KIND);
            notify.tell::<W>(&news);
            if W::KIND == Kind::Schedules {
                changed.notify_one();
            }
        };
        let mut task = JoinSet::new();
        let config =
            watch::config(&selector, watch::lasts((&self.notify.name, &W::Object::plural(&())), is_shared));
        task.spawn(async move {
            let begin = || scope::events::<DeserializeGuard<W::Object>>(&client, &within, &config);
            again("watch", || {
                // After an internal error nothing of the kind counts as absent until it was listed anew.
                place.cell.update(|view| W::section(view).trust.begin());
                watch::run(begin, place.clone(), W::section, &W::keep, &hear)
            })
            .await;
        });
        Running { _task: task, failed, since: Instant::now() }
    }
}

/// Tells the fleet what changed in one data plane.
#[derive(Clone)]
struct Notify {
    name: String,
    fleet: Arc<Fleet>,
    view: Arc<ViewCell>,
}

impl Notify {
    /// Tells whoever follows the kind, or is concerned by the object that changed.
    fn tell<W: Shown>(&self, news: &News<'_, W::Kept>) {
        let (is_listed, changed) = match news {
            News::Listed => (true, None),
            News::Changed(key, object) => (false, Some((key, object))),
            News::Blurred | News::Interrupted(_) | News::Refused(_) | News::Failed(..) | News::Resumed => {
                return;
            }
        };
        match (W::MADE_FOR, changed) {
            (None, _) => self.fleet.announce(Change::objects(&self.name, W::KIND)),
            (Some(made_for), Some((_, child))) => self.tell_run(W::KIND, made_for(child)),
            (Some(_), None) => {}
        }
        // A MedusaBackup is news for the run that its MedusaBackupJob belongs to.
        if let (Kind::Backups, Some((key, _))) = (W::KIND, changed) {
            let view = self.view.get();
            let job = view.jobs.last(key);
            self.tell_run(Kind::Jobs, job.and_then(|job| watched::made_for(job.as_ref())));
        }
        // The last listing to complete makes the data plane usable.
        if is_listed && self.view.get().is_live() {
            self.tell_contact();
        }
    }

    fn tell_run(&self, kind: Kind, made_for: Option<&str>) {
        if let Some(run) = made_for {
            let change = Change::objects(&self.name, kind);
            self.fleet.announce(Change { made_for: Some(run.to_owned()), ..change });
        }
    }

    /// Tells everyone to look at the data plane again: what can be done with it, or believed of it, has changed.
    fn tell_contact(&self) {
        self.fleet.announce(Change::contact(&self.name));
    }

    /// Remembers how far the watch of a kind can be trusted.
    fn note<T>(&self, news: &News<'_, T>, kind: Kind) {
        let changed = match news {
            News::Changed(..) => false,
            News::Blurred => true,
            News::Listed => self.view.update(|view| kind.permit(view)),
            News::Resumed => self.view.update(|view| kind.resume(view)),
            News::Interrupted(why) => self.view.update(|view| kind.interrupt(view, why, self.fleet.now())),
            News::Refused(why) => self.view.update(|view| kind.refuse(view, why, self.fleet.now())),
            News::Failed(since, why) => self.view.update(|view| kind.fail(view, *since, why)),
        };
        if changed {
            self.tell_contact();
        }
    }
}

macro_rules! starts {
    ($($(#[$doc:meta])* $section:ident: $kind:ident,)*) => {
        fn start(watches: &Watches, kind: Kind, client: &Client, is_shared: bool) -> Running {
            match kind {
                $(Kind::$kind => watches.spawn::<watched::$kind>(client, is_shared),)*
            }
        }
    };
}
watched_kinds!(starts);

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::Secret;
    use kube::client::Body;

    use super::*;
    use crate::control_plane::data_planes::{
        records::CopyRecord,
        section::Section,
        view::View,
        watched::{Wanted, Watched},
    };

    #[tokio::test]
    async fn watches_that_failed_go_on_by_themselves_however_often_they_are_looked_at() {
        let failing = tower::service_fn(|_: Request<Body>| async {
            Response::builder().status(500).body(Body::empty())
        });
        let client = Client::new(failing, "default");
        let fleet = Arc::new(Fleet::default());
        fleet.enrol("eu", "uid", |_| {});
        let view = fleet.member("eu").unwrap().view;
        let mut watches =
            Watches::new("eu", &Identity::named("cp"), &BTreeSet::new(), fleet, view, Arc::default());
        watches.begin();
        watches.keep(&client, false, false);
        let begun = |watches: &Watches| watches.running.values().map(|r| r.since).collect::<Vec<_>>();
        let first = begun(&watches);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !watches.running.values().all(|running| running.failed.load(Ordering::Acquire)) {
            assert!(std::time::Instant::now() < end, "not all have failed");
            tokio::task::yield_now().await;
        }
        watches.keep(&client, false, false);
        assert!(watches.are_current(false));
        assert_eq!(begun(&watches), first);
    }

    /// Secrets over which what reads them panics.
    enum Poisoned {}

    impl Watched for Poisoned {
        type Object = Secret;
        type Kept = CopyRecord;
        const WANTED: Wanted = Wanted::Always;

        fn keep(_: &Secret) -> Option<CopyRecord> {
            panic!("over what was read")
        }
    }

    impl Shown for Poisoned {
        const KIND: Kind = Kind::Secrets;

        fn section(view: &mut View) -> &mut Section<CopyRecord> {
            &mut view.secrets
        }
    }

    #[tokio::test]
    async fn a_watch_that_panics_over_an_object_begins_anew_and_its_kind_is_not_believed() {
        let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
        let listing = tower::service_fn(move |_: Request<Body>| {
            asked.send(()).unwrap();
            let list = r#"{"kind": "SecretList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
                "items": [{"metadata": {"name": "poison", "namespace": "ns", "uid": "u"}}]}"#;
            std::future::ready(Response::builder().status(200).body(Body::from(list.as_bytes().to_vec())))
        });
        let client = Client::new(listing, "default");
        let fleet = Arc::new(Fleet::default());
        fleet.enrol("eu", "u", |_| {});
        let view = fleet.member("eu").unwrap().view;
        view.update(|view| view.secrets.trust.follow());
        let watches =
            Watches::new("eu", &Identity::named("cp"), &BTreeSet::new(), fleet, view.clone(), Arc::default());
        let _running = watches.spawn::<Poisoned>(&client, false);
        for _ in 0..3 {
            let again = tokio::time::timeout(std::time::Duration::from_secs(30), asks.recv()).await;
            assert!(again.is_ok_and(|asked| asked.is_some()), "it is not begun anew");
            assert!(!view.get().secrets.trust.is_listed());
        }
    }

    #[test]
    fn a_watch_hears_of_its_own_requests_and_one_that_has_ended_of_none() {
        let heard = HeardRequests::default();
        let (old, new) =
            (Arc::new(Answered::within(&BTreeSet::new())), Arc::new(Answered::within(&BTreeSet::new())));
        let asks = |query: &str| {
            let uri = format!("/api/v1/secrets?{query}watch=true&resourceVersion=7").parse().unwrap();
            heard.watches(&uri);
        };
        heard.expect("/api/v1/secrets", "a=b,c", &old);
        heard.expect("/api/v1/secrets", "", &new);
        asks("labelSelector=c&");
        heard.watches(&Uri::from_static("/api/v1/configmaps?watch=true"));
        assert!(!old.are_all() && !new.are_all());
        asks("timeoutSeconds=9&labelSelector=a%3Db%2Cc&");
        assert!(old.are_all() && !new.are_all());
        asks("");
        assert!(new.are_all());
        drop(old);
        asks("labelSelector=a%3Db%2Cc&");
    }
}
