//! FleetBackupSchedules: on a clock that the test turns, and Delegated ones over real data planes.
//!
//! The schedules' controller runs alone here, with links to data planes where a test asks for them, in a runtime that is ended where it stands, so that a run goes on until
//! the test ends it. Slots are read from the schedule's status and the clock is set to them: nothing depends on what
//! time it is. Each test has a namespace of its own, and shares the API server of its fleet.

mod crash;
pub(crate) mod delegated;
mod delegated_crash;
mod delegated_results;
mod delegated_switch;
mod history;
mod program;
mod run_watches;
mod slots;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::support::{
    Fleet, condition, eventually,
    fake_clock::FakeClock,
    gate::Gate,
    rights,
    uids::{self, Uids},
};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use medusa_fleet::{
    api::{
        fleet::{FleetBackupJob, FleetBackupSchedule, FleetBackupScheduleStatus, Limits},
        labels,
    },
    control_plane::{
        data_planes::{
            fleet::Fleet as Planes, membership::ListedDatacenters, published::Published, remote::Remote,
        },
        identity::{FleetRecord, Identity},
        inventory::expectation::Expectations,
        registry::{Link, LinkOptions},
        runs::RunContext,
        schedules::{self, ScheduleContext},
    },
    runtime::events::Events,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The schedules' controller, in a runtime of its own, so that it can be ended like a process.
struct Controller {
    runtime: Option<tokio::runtime::Runtime>,
    gate: Gate,
}

impl Controller {
    /// Ends it where it stands: memory, timers and connections are gone.
    fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A namespace of a fleet's control plane, and a clock.
struct ClockedNamespace<'a> {
    fleet: &'a Fleet,
    ns: String,
    fake_clock: FakeClock,
    /// How the control plane connects to its own cluster.
    home: Config,
    /// And to data planes, by name.
    data_planes: Vec<(String, Config)>,
}

impl<'a> ClockedNamespace<'a> {
    async fn new(fleet: &'a Fleet, ns: &str) -> Self {
        fleet.home().namespace(ns).await.unwrap();
        rights::grant_in(fleet.home(), ns).await;
        let mut data_planes = Vec::new();
        for cluster in fleet.clusters().skip(1) {
            data_planes.push((cluster.name.clone(), rights::config(cluster).await));
        }
        let clocked = Self {
            fleet,
            ns: ns.to_owned(),
            fake_clock: FakeClock::at(Timestamp::UNIX_EPOCH),
            home: rights::config(fleet.home()).await,
            data_planes,
        };
        clocked.to_the_present();
        clocked
    }

    /// Sets the clock to the time the API server stamps new schedules with.
    fn to_the_present(&self) {
        let now = medusa_fleet::runtime::clock::now();
        self.fake_clock.set(Timestamp::from_second(now.as_second()).unwrap());
    }

    fn controller(&self) -> Controller {
        self.controller_with(Gate::default())
    }

    fn controller_with(&self, gate: Gate) -> Controller {
        self.controller_over(gate, 0)
    }

    /// One that is linked to the fleet's first so many data planes. What it writes there goes through the gate, too.
    fn controller_over(&self, gate: Gate, data_planes: usize) -> Controller {
        let home = self.home.clone();
        let remotes: Vec<(String, Config)> = self.data_planes.iter().take(data_planes).cloned().collect();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (seen, ns, clock) = (gate.clone(), self.ns.clone(), self.fake_clock.clock());
        runtime.spawn(async move {
            let client = seen.client(home);
            let events = Events::new(client.clone(), labels::MANAGER_CONTROL_PLANE);
            let planes = Arc::new(Planes::default());
            let links =
                remotes.into_iter().map(|(name, config)| link(&planes, &name, seen.client(config), &ns));
            let _links: Vec<Link> = links.collect();
            planes.set_listing(ListedDatacenters::new());
            planes.set_enrolled();
            // Several of these share the data planes.
            let control_plane = Identity::new(FleetRecord::default(), &ns);
            let (published, keep_published) = Published::follow(&client, &ns);
            let runs = RunContext {
                client,
                namespace: ns,
                fleet: planes,
                control_plane,
                events,
                published,
                claims: Arc::default(),
                meters: Arc::default(),
                since: tokio::time::Instant::now(),
            };
            let mut context = ScheduleContext::new(runs, Expectations::default());
            context.clock = clock;
            context.check = Duration::from_millis(100);
            tokio::select! {
                () = keep_published => {}
                () = schedules::run(context, CancellationToken::new()) => {}
            }
        });
        Controller { runtime: Some(runtime), gate }
    }

    fn client(&self) -> Client {
        self.fleet.home().client.clone()
    }

    fn schedules(&self) -> Api<FleetBackupSchedule> {
        Api::namespaced(self.client(), &self.ns)
    }

    fn jobs(&self) -> Api<FleetBackupJob> {
        Api::namespaced(self.client(), &self.ns)
    }

    /// Creates a schedule of every five minutes, unless `spec` says otherwise.
    async fn schedule(&self, name: &str, spec: Value) {
        self.fleet.home().create(schedule(&self.ns, name, spec)).await;
    }

    async fn edit(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.schedules().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn status(&self, name: &str) -> FleetBackupScheduleStatus {
        self.schedules().get(name).await.unwrap().status.unwrap_or_default()
    }

    /// Waits for a status in which `wanted` finds something.
    async fn until<T>(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&FleetBackupScheduleStatus) -> Option<T>,
    ) -> T {
        eventually(format!("{}/{name}: {what}", self.ns), async || {
            let status = self.status(name).await;
            wanted(&status).ok_or_else(|| format!("{status:?}"))
        })
        .await
    }

    /// Waits until condition `Ready` has that reason; returns its message.
    async fn ready(&self, name: &str, reason: &str) -> String {
        self.until(name, reason, |status| {
            let (_, found, message) = condition(&status.conditions, "Ready");
            (found == reason).then_some(message)
        })
        .await
    }

    /// Waits for the next slot, which is after `after`, if that is given.
    async fn next(&self, name: &str, after: Option<Timestamp>) -> Timestamp {
        self.until(name, "there is a next slot", |status| {
            let next = status.next_schedule_time.as_ref()?.0;
            after.is_none_or(|after| next > after).then_some(next)
        })
        .await
    }

    /// Sets the clock to the next slot and waits until it is written down and its run let go.
    async fn run_next(&self, name: &str) -> Timestamp {
        let last = self.status(name).await.last_schedule_time.map(|time| time.0);
        let slot = self.next(name, last).await;
        self.fake_clock.set(slot);
        self.ran(name, slot).await;
        slot
    }

    /// Waits until the slot is written down and its run let go, or gone.
    async fn ran(&self, name: &str, slot: Timestamp) {
        self.until(name, "the slot ran", |s| s.last_schedule_time.clone().filter(|last| last.0 == slot))
            .await;
        eventually("the run is let go", async || match self.jobs().get_opt(&of(name, slot)).await.unwrap() {
            Some(job) if labels::is_held(job.finalizers()) => Err(format!("{:?}", job.metadata)),
            Some(_) | None => Ok(()),
        })
        .await;
    }

    /// Names of the runs that are there.
    async fn runs(&self) -> BTreeSet<String> {
        let jobs = self.jobs().list(&ListParams::default()).await.unwrap();
        jobs.iter().map(kube::ResourceExt::name_any).collect()
    }

    /// Ends a run, as the fan-out does.
    async fn end(&self, name: &str, phase: &str) {
        let at = self.fake_clock.clock().now().to_string();
        let patch = Patch::Merge(json!({"status": {"phase": phase, "startTime": at, "finishTime": at}}));
        self.jobs().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn delete_run(&self, name: &str) {
        self.jobs().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Watches which runs are ever let go.
    async fn watch(&self) -> Uids {
        uids::follow(self.jobs(), |job| !labels::is_held(job.finalizers())).await
    }
}

fn schedule(ns: &str, name: &str, spec: Value) -> Value {
    let mut whole = json!({"schedule": "*/5 * * * *", "template": {"backupType": "full"}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupSchedule",
        "metadata": {"name": name, "namespace": ns}, "spec": whole
    })
}

/// Links `planes` to a data plane.
fn link(planes: &Arc<Planes>, name: &str, client: Client, control_plane: &str) -> Link {
    let remote = Arc::new(Remote::new(client, &Limits::default()));
    planes.enrol(name, name, |member| member.remote = Some(remote.clone()));
    let options = LinkOptions {
        name: name.to_owned(),
        fingerprint: String::new(),
        address: String::new(),
        current: None,
        control_plane: Identity::new(FleetRecord::default(), control_plane),
        local: false,
        within: BTreeSet::new(),
        controllers_in: BTreeSet::new(),
        starts: Arc::new(tokio::sync::Semaphore::new(1)),
        heard: Arc::default(),
    };
    Link::start(options, remote, planes.member(name).unwrap().view, planes.clone())
}

/// Name of the run of `schedule` for `slot`.
fn of(schedule: &str, slot: Timestamp) -> String {
    format!("{schedule}-{}", slot.as_second())
}

fn set<const N: usize>(names: [String; N]) -> BTreeSet<String> {
    names.into_iter().collect()
}
