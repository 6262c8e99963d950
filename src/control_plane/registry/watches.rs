//! The watches of one data plane: which there are, what each keeps, and whom it tells.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, Resource, ResourceExt, core::DeserializeGuard};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::Notify as Signal, task::JoinSet, time::Instant};

use super::{
    kinds::{Extra, Kind, Runs},
    watch::{self, Answered, News, Place, Room},
};
use crate::{
    api::{
        cassandra::CassandraDatacenter,
        labels,
        medusa::{
            MedusaBackup, MedusaBackupJob, MedusaBackupSchedule, MedusaConfiguration, MedusaRestoreJob,
            MedusaTask, TaskOperation,
        },
        names,
    },
    control_plane::data_planes::{
        copies::{config_map_record, configuration_record, secret_record},
        fleet::{Change, Fleet, ViewCell},
        records::{BackupRecord, RunRecord},
        section::Section,
        view::{Contact, ObjectKey, View},
    },
    runtime::guard::again,
};

struct Running {
    _task: JoinSet<()>,
    failed: Arc<AtomicBool>,
    since: Instant,
}

/// The running watches of one data plane; dropping them ends them.
pub(super) struct Watches {
    name: String,
    control_plane: String,
    fleet: Arc<Fleet>,
    view: Arc<ViewCell>,
    running: BTreeMap<Kind, Running>,
    schedules: Arc<Signal>,
}

impl Watches {
    pub(super) fn new(name: &str, control_plane: &str, fleet: Arc<Fleet>, view: Arc<ViewCell>) -> Self {
        Self {
            name: name.to_owned(),
            control_plane: control_plane.to_owned(),
            fleet,
            view,
            running: BTreeMap::new(),
            schedules: Arc::default(),
        }
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
        let view = self.view.get();
        let mut kinds = Kind::ALL.into_iter();
        kinds.all(|kind| kind.is_wanted(&view, hosts_none) == self.running.contains_key(&kind))
    }

    /// The cluster answers, and nothing of it is listed yet.
    pub(super) fn begin(&mut self) {
        self.stop();
        self.view.update(|view| {
            view.contact = Contact::Live;
            view.connected_at = Some(self.fleet.now());
            for kind in Kind::ALL {
                kind.trust(view).begin();
            }
        });
    }

    /// Ends all of them.
    pub(super) fn stop(&mut self) {
        self.running.clear();
    }

    /// Starts what is missing, and anew what failed before it caught up ([`Kind::starts_anew`]). Ends what has nothing to
    /// watch any more. Until a watch has listed, nothing of its kind counts as absent.
    pub(super) fn keep(&mut self, client: &Client, hosts_none: bool) {
        for kind in Kind::ALL {
            let wanted = kind.is_wanted(&self.view.get(), hosts_none);
            if !wanted {
                let ended = self.running.remove(&kind).is_some();
                if self.view.update(|view| kind.settle(view)) || ended {
                    self.tell_contact();
                }
                continue;
            }
            match self.running.get(&kind) {
                Some(running) => {
                    let failed = running.failed.load(Ordering::Acquire);
                    let age = running.since.elapsed();
                    if !self.view.update(|view| kind.starts_anew(kind.trust(view), failed, age)) {
                        continue;
                    }
                }
                None => self.view.update(|view| {
                    kind.trust(view).begin();
                    view.connected_at = Some(self.fleet.now());
                }),
            }
            let running = self.start(kind, client.clone());
            self.running.insert(kind, running);
        }
    }

    fn start(&self, kind: Kind, client: Client) -> Running {
        let copies = format!("{}={}", labels::CONTROL_PLANE, self.control_plane);
        match kind {
            Kind::Datacenters => {
                let notify = self.notify();
                self.spawn(
                    (kind, client),
                    "",
                    |view| &mut view.datacenters,
                    trimmed::<CassandraDatacenter>,
                    move |news| {
                        notify.tell(&news, Change::Datacenters);
                    },
                )
            }
            Kind::Jobs => {
                let notify = self.notify();
                self.spawn(
                    (kind, client),
                    labels::JOB_UID,
                    |view| &mut view.jobs,
                    trimmed::<MedusaBackupJob>,
                    move |news| {
                        notify
                            .tell_child(&news, |data_plane, job| Some(Change::Job { data_plane, job: job? }));
                    },
                )
            }
            Kind::Backups => {
                let notify = self.notify();
                self.spawn(
                    (kind, client),
                    "",
                    |view| &mut view.backups,
                    |backup: &MedusaBackup| BackupRecord::from(backup),
                    move |news| {
                        notify.tell(&news, Change::Backups);
                        if let News::Changed(key, _) = news {
                            notify.tell_job(key);
                        }
                    },
                )
            }
            Kind::Secrets => {
                let notify = self.notify();
                self.spawn(
                    (kind, client),
                    &copies,
                    |view| &mut view.secrets,
                    |s: &Secret| secret_record(s),
                    move |news| {
                        notify.tell(&news, Change::Copies);
                    },
                )
            }
            Kind::Configurations => {
                let notify = self.notify();
                self.spawn(
                    (kind, client),
                    &copies,
                    |view| &mut view.configurations,
                    |configuration: &MedusaConfiguration| configuration_record(configuration),
                    move |news| notify.tell(&news, Change::Copies),
                )
            }
            Kind::Extra(extra) => self.start_extra(extra, client, &copies),
            Kind::Runs(runs) => self.start_runs(runs, client),
        }
    }

    /// Both controllers put the datacenter's label on what their schedules make, and nothing else that tells both
    /// (upstream: Schedules): the name says whether one of ours made it.
    fn start_runs(&self, runs: Runs, client: Client) -> Running {
        let selector = format!("{},!{}", labels::CASSANDRA_DATACENTER, labels::JOB_UID);
        let notify = self.notify();
        let tell = move |news: &News<'_, RunRecord>| {
            notify.tell(news, Change::ScheduledRuns);
        };
        let kind = Kind::Runs(runs);
        match runs {
            Runs::Backups => self.spawn_some(
                (kind, client),
                &selector,
                |view| &mut view.scheduled_jobs,
                move |job: &MedusaBackupJob| {
                    names::is_slot_of_child(&job.name_any()).then(|| RunRecord::from(job))
                },
                move |news| tell(&news),
            ),
            Runs::Purges => self.spawn_some(
                (kind, client),
                &selector,
                |view| &mut view.scheduled_tasks,
                move |task: &MedusaTask| {
                    let is_purge = task.spec.operation == TaskOperation::Purge;
                    (is_purge && names::is_slot_of_child(&task.name_any())).then(|| RunRecord::from(task))
                },
                move |news| tell(&news),
            ),
        }
    }

    fn start_extra(&self, extra: Extra, client: Client, copies: &str) -> Running {
        let kind = Kind::Extra(extra);
        match extra {
            Extra::Schedules => {
                let (notify, changed) = (self.notify(), self.schedules.clone());
                self.spawn(
                    (kind, client),
                    "",
                    |view| &mut view.schedules,
                    trimmed::<MedusaBackupSchedule>,
                    move |news| {
                        notify.tell(&news, Change::Schedules);
                        changed.notify_one();
                    },
                )
            }
            Extra::Tasks => {
                let notify = self.notify();
                self.spawn(
                    (kind, client),
                    labels::JOB_UID,
                    |view| &mut view.tasks,
                    trimmed::<MedusaTask>,
                    move |news| {
                        notify.tell_child(&news, |data_plane, job| {
                            Some(Change::Task { data_plane, job: job? })
                        });
                    },
                )
            }
            Extra::Restores => {
                let notify = self.notify();
                self.spawn(
                    (kind, client),
                    "",
                    |view| &mut view.restores,
                    trimmed::<MedusaRestoreJob>,
                    move |news| {
                        notify.tell_child(&news, |data_plane, job| Some(Change::Restore { data_plane, job }));
                    },
                )
            }
            Extra::ConfigMaps => {
                let notify = self.notify();
                self.spawn(
                    (kind, client),
                    copies,
                    |view| &mut view.config_maps,
                    |map: &ConfigMap| config_map_record(map),
                    move |news| {
                        notify.tell(&news, Change::ConfigMaps);
                    },
                )
            }
        }
    }

    fn spawn<K, T>(
        &self,
        (kind, client): (Kind, Client),
        selector: &str,
        section: fn(&mut View) -> &mut Section<T>,
        keep: impl Fn(&K) -> T + Send + Sync + 'static,
        tell: impl Fn(News<'_, T>) + Send + Sync + 'static,
    ) -> Running
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        T: Serialize + Send + Sync + 'static,
    {
        self.spawn_some((kind, client), selector, section, move |object| Some(keep(object)), tell)
    }

    /// [`Self::spawn`], keeping only the objects of which `keep` makes something.
    fn spawn_some<K, T>(
        &self,
        (kind, client): (Kind, Client),
        selector: &str,
        section: fn(&mut View) -> &mut Section<T>,
        keep: impl Fn(&K) -> Option<T> + Send + Sync + 'static,
        tell: impl Fn(News<'_, T>) + Send + Sync + 'static,
    ) -> Running
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        T: Serialize + Send + Sync + 'static,
    {
        let failed = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(Answered::default());
        let api: Api<DeserializeGuard<K>> = Api::all(answered.heard_through(&client));
        let place = Place {
            cell: self.view.clone(),
            failed: failed.clone(),
            answered,
            clock: self.fleet.clock(),
            room: Room::USUAL,
        };
        let notify = self.notify();
        let hear = move |news: News<'_, T>| {
            notify.note(&news, kind);
            tell(news);
        };
        let mut task = JoinSet::new();
        let config = watch::config(selector);
        task.spawn(async move {
            again("watch", || {
                // After an internal error nothing of the kind counts as absent until it was listed anew.
                place.cell.update(|view| section(view).trust.begin());
                watch::run(api.clone(), config.clone(), place.clone(), section, &keep, &hear)
            })
            .await;
        });
        Running { _task: task, failed, since: Instant::now() }
    }

    fn notify(&self) -> Notify {
        Notify { name: self.name.clone(), fleet: self.fleet.clone(), view: self.view.clone() }
    }

    fn tell_contact(&self) {
        self.fleet.announce(Change::Contact(self.name.clone()));
    }
}

/// Tells the fleet what changed here.
struct Notify {
    name: String,
    fleet: Arc<Fleet>,
    view: Arc<ViewCell>,
}

impl Notify {
    fn tell<T>(&self, news: &News<'_, T>, change: fn(String) -> Change) {
        match news {
            News::Listed => {
                self.fleet.announce(change(self.name.clone()));
                self.tell_if_live();
            }
            News::Changed(..) => self.fleet.announce(change(self.name.clone())),
            News::Blurred | News::Interrupted(_) | News::Refused(_) | News::Failed(..) | News::Resumed => {}
        }
    }

    /// About an object a fleet object made, as far as its label says.
    fn tell_child<T: ResourceExt>(
        &self,
        news: &News<'_, T>,
        change: fn(String, Option<String>) -> Option<Change>,
    ) {
        match news {
            News::Listed => self.tell_if_live(),
            News::Changed(_, child) => {
                let job = View::fleet_job(child.as_ref()).map(str::to_owned);
                if let Some(change) = change(self.name.clone(), job) {
                    self.fleet.announce(change);
                }
            }
            News::Blurred | News::Interrupted(_) | News::Refused(_) | News::Failed(..) | News::Resumed => {}
        }
    }

    /// About the MedusaBackup `key`, to whom its job belongs.
    fn tell_job(&self, key: &ObjectKey) {
        let view = self.view.get();
        if let Some(job) = view.jobs.last(key).and_then(|job| View::fleet_job(job.as_ref())) {
            self.fleet.announce(Change::Job { data_plane: self.name.clone(), job: job.to_owned() });
        }
    }

    /// The last listing to complete makes the data plane usable: everyone looks again.
    fn tell_if_live(&self) {
        if self.view.get().is_live() {
            self.fleet.announce(Change::Contact(self.name.clone()));
        }
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
            self.fleet.announce(Change::Contact(self.name.clone()));
        }
    }
}

/// The object without what the API server keeps about its writers: most of its size, and nothing decides by it.
fn trimmed<K: ResourceExt + Clone>(object: &K) -> K {
    let mut object = object.clone();
    object.meta_mut().managed_fields = None;
    object
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;

    use super::*;
    use crate::control_plane::data_planes::records::CopyRecord;

    #[tokio::test]
    async fn watches_that_failed_go_on_by_themselves_however_often_they_are_looked_at() {
        let failing = tower::service_fn(|_: Request<Body>| async {
            Response::builder().status(500).body(Body::empty())
        });
        let client = Client::new(failing, "default");
        let fleet = Arc::new(Fleet::default());
        fleet.enrol("eu", "uid", |_| {});
        let view = fleet.member("eu").unwrap().view;
        let mut watches = Watches::new("eu", "cp", fleet, view);
        watches.begin();
        watches.keep(&client, false);
        let begun = |watches: &Watches| watches.running.values().map(|r| r.since).collect::<Vec<_>>();
        let first = begun(&watches);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !watches.running.values().all(|running| running.failed.load(Ordering::Acquire)) {
            assert!(std::time::Instant::now() < end, "not all have failed");
            tokio::task::yield_now().await;
        }
        watches.keep(&client, false);
        assert!(watches.are_current(false));
        assert_eq!(begun(&watches), first);
    }

    #[tokio::test]
    async fn a_watch_that_panics_over_an_object_begins_anew_and_its_kind_is_not_believed() {
        let listing = tower::service_fn(|_: Request<Body>| async {
            let list = r#"{"kind": "SecretList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
                "items": [{"metadata": {"name": "poison", "namespace": "ns", "uid": "u"}}]}"#;
            Response::builder().status(200).body(Body::from(list.as_bytes().to_vec()))
        });
        let client = Client::new(listing, "default");
        let fleet = Arc::new(Fleet::default());
        fleet.enrol("eu", "u", |_| {});
        let view = fleet.member("eu").unwrap().view;
        view.update(|view| view.secrets.trust.follow());
        let watches = Watches::new("eu", "cp", fleet, view.clone());
        let (seen, mut sees) = tokio::sync::mpsc::unbounded_channel();
        let keep = move |_: &Secret| -> Option<CopyRecord> {
            seen.send(()).unwrap();
            panic!("over what was read")
        };
        let _running =
            watches.spawn_some((Kind::Secrets, client), "", |view| &mut view.secrets, keep, |_| {});
        for _ in 0..2 {
            let again = tokio::time::timeout(std::time::Duration::from_secs(30), sees.recv()).await;
            assert!(again.is_ok_and(|seen| seen.is_some()), "it is not begun anew");
            assert!(!view.get().secrets.trust.is_listed());
        }
    }
}
