//! Keeps the list of wanted copies, and one worker per data plane.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::Client;
use tokio::{
    sync::{Notify, broadcast, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    desired::{Desired, Places, desired},
    publish,
    worker::{self, Shared},
};
use crate::{
    api::cassandra::CassandraDatacenter,
    control_plane::{
        data_planes::{
            fleet::{Fleet, Snapshot},
            records::CopyRecord,
            view::ObjectKey,
            watched::Kind,
        },
        deployment::{observe::deployed_for, report::Reports},
        identity::Identity,
        sources::{SourceObjects, Sources, datacenters_of},
    },
    runtime::{events::Events, guard::again},
};

/// How long what changes in data planes is gathered before all copies that are wanted are worked out anew.
const GATHER: Duration = Duration::from_millis(100);

/// What replication needs.
#[derive(Clone)]
pub struct ReplicationContext {
    /// The control plane's own cluster.
    pub client: Client,
    /// The data planes.
    pub fleet: Arc<Fleet>,
    /// What people ask for.
    pub sources: Arc<Sources>,
    /// What the deployment of Medusa has come to.
    pub deployed: watch::Receiver<Reports>,
    /// Who this control plane is.
    pub control_plane: Identity,
    /// Where Events go.
    pub events: Events,
}

/// Runs for ever.
pub async fn run(context: ReplicationContext) {
    let (wanted, publisher) = watch::channel(Arc::new(Desired::default()));
    let shared = Arc::new(Shared {
        context,
        failures: Mutex::default(),
        settled: Mutex::default(),
        progress: Notify::new(),
    });
    tokio::select! {
        () = copy(&shared, &wanted) => {}
        () = publish::run(&shared, publisher) => {}
    }
}

/// Keeps the list of wanted copies and the workers.
async fn copy(shared: &Arc<Shared>, wanted: &watch::Sender<Arc<Desired>>) {
    let context = &shared.context;
    let mut changes = context.fleet.changes();
    let mut asked = context.sources.changes();
    let mut deployed = context.deployed.clone();
    let mut workers: BTreeMap<String, Worker> = BTreeMap::new();
    loop {
        let objects = context.sources.objects();
        let planes = context.fleet.snapshot();
        let new = desired(&objects, &places(&planes, &objects, context));
        wanted.send_if_modified(|old| {
            let news = **old != new;
            if news {
                *old = Arc::new(new);
            }
            news
        });
        for plane in &planes {
            let gone = workers.get(&plane.name).is_none_or(|worker| worker.task.is_finished());
            if gone {
                workers.insert(plane.name.clone(), Worker::start(&plane.name, shared, wanted));
            }
        }
        workers.retain(|name, _| planes.iter().any(|p| p.name == *name));
        shared.progress.notify_one();
        // When to look again for what changed in data planes.
        let mut due: Option<Instant> = None;
        loop {
            let look = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                changed = deployed.changed() => if changed.is_err() { return } else { break },
                changed = asked.changed() => if changed.is_err() { return } else { break },
                change = changes.recv() => match change {
                    Ok(change) => {
                        let is_of_copies = change.is_contact_or(super::COPIES);
                        if is_of_copies && let Some(worker) = workers.get(&change.data_plane) {
                            worker.news.notify_one();
                            shared.progress.notify_one();
                        }
                        if change.is_contact_or(&[Kind::Datacenters, Kind::ConfigMaps]) {
                            due.get_or_insert_with(|| Instant::now() + GATHER);
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        for worker in workers.values() {
                            worker.news.notify_one();
                        }
                        break;
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                () = look => break,
            }
        }
    }
}

/// Who writes the copies of one data plane.
struct Worker {
    task: JoinHandle<()>,
    /// Told of what happens there.
    news: Arc<Notify>,
}

impl Worker {
    fn start(name: &str, shared: &Arc<Shared>, wanted: &watch::Sender<Arc<Desired>>) -> Self {
        let news = Arc::new(Notify::new());
        let (name, shared, wanted, told) =
            (name.to_owned(), shared.clone(), wanted.subscribe(), news.clone());
        let work = async move {
            let run = || worker::run(name.clone(), shared.clone(), wanted.clone(), told.clone());
            again("copies", run).await;
        };
        Self { task: tokio::spawn(work), news }
    }
}

fn places(planes: &[Snapshot], sources: &SourceObjects, context: &ReplicationContext) -> Places {
    let mut places = Places::default();
    let reports = context.deployed.borrow();
    for plane in planes {
        if plane.unregistering {
            places.leaving.insert(plane.name.clone());
        } else {
            let hosting: BTreeSet<String> = plane.view.datacenter_namespaces().map(str::to_owned).collect();
            places.hosting.insert(plane.name.clone(), hosting);
        }
        places.within.insert(plane.name.clone(), plane.within.clone());
        // Where Medusa was deployed its pods mount the copies, also when the data plane is unregistered.
        let uses = |(object, datacenter): (&ObjectKey, &Arc<CassandraDatacenter>)| {
            let cluster = deployed_for(&datacenter.metadata, &context.control_plane)?;
            let needs = plane.unregistering || !reports.is_settled(&cluster, sources, &plane.name, object);
            needs.then(|| object.namespace.clone())
        };
        let unreadable = plane.view.datacenters.unreadable().keys().map(|object| object.namespace.clone());
        let readable = plane.view.datacenters.last_known().iter().filter_map(uses);
        places.held.insert(plane.name.clone(), readable.chain(unreadable).collect());
        // Where Medusa was taken out its ConfigMap goes when nothing refers to it or to what was copied for it: until then
        // that stays.
        let config_maps = plane.view.config_maps.last_known().iter().filter(|_| !plane.unregistering);
        let ending = config_maps.filter_map(|(object, map)| {
            let cluster = former_cluster(&plane.name, object, map, sources, &context.control_plane)?;
            Some((object.namespace.clone(), cluster.namespace))
        });
        places.ending.insert(plane.name.clone(), ending.collect());
    }
    places.listed = planes.iter().filter(|p| p.view.knows_inventory()).map(|p| p.name.clone()).collect();
    places
}

/// The K8ssandraCluster for which a ConfigMap of Medusa's was made, when it does not ask for Medusa there (any more).
fn former_cluster(
    plane: &str,
    object: &ObjectKey,
    map: &CopyRecord,
    sources: &SourceObjects,
    control_plane: &Identity,
) -> Option<ObjectKey> {
    // What a cluster that is not followed asks for, nobody knows.
    let key = ObjectKey::read(&map.source).filter(|key| sources.follows(&key.namespace))?;
    let asking = sources.clusters.items.get(&key).filter(|cluster| cluster.spec.medusa.is_some());
    let is_asked_for = asking.is_some_and(|cluster| {
        let places = datacenters_of(&key, cluster);
        places.iter().any(|place| place.plane == plane && place.object.namespace == object.namespace)
    });
    // What an earlier installation left waits for its K8ssandraCluster, with its own Secrets.
    (!is_asked_for && !control_plane.is_earlier(&map.installation)).then_some(key)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_config_map_is_left_where_no_cluster_lists_a_datacenter_with_medusa_beside_it() {
        let sources = |medusa: Value| {
            let cluster = serde_json::from_value(json!({
                "metadata": {"name": "shop", "namespace": "fleet"},
                "spec": {
                    "cassandra": {"datacenters": [
                        {"metadata": {"name": "dc1", "namespace": "cass"}, "k8sContext": "dp-1", "size": 3},
                    ]},
                    "medusa": medusa,
                },
            }));
            let mut sources = SourceObjects::default();
            sources.clusters.items.insert(ObjectKey::new("fleet", "shop"), Arc::new(cluster.unwrap()));
            sources
        };
        let control_plane = Identity::named("cp");
        let is_left = |plane: &str, namespace: &str, installation: &str, sources: &SourceObjects| {
            let map = CopyRecord {
                source: "fleet/shop".to_owned(),
                installation: installation.to_owned(),
                ..CopyRecord::default()
            };
            let object = ObjectKey::new(namespace, "shop-medusa");
            let left = super::former_cluster(plane, &object, &map, sources, &control_plane);
            left.is_some_and(|cluster| cluster == ObjectKey::new("fleet", "shop"))
        };
        let (asked, ended) = (sources(json!({})), sources(json!(null)));
        assert!(!is_left("dp-1", "cass", "cp", &asked));
        assert!(is_left("dp-1", "other", "cp", &asked) && is_left("dp-2", "cass", "cp", &asked));
        assert!(is_left("dp-1", "cass", "cp", &ended));
        assert!(is_left("dp-1", "cass", "cp", &SourceObjects::default()));
        assert!(!is_left("dp-1", "cass", "earlier", &ended), "it waits for its cluster");
        let elsewhere = SourceObjects { within: ["other".to_owned()].into(), ..SourceObjects::default() };
        assert!(!is_left("dp-1", "cass", "cp", &elsewhere), "nobody looks at its cluster");
    }
}
