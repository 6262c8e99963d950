//! Writes down what this replica sees in the data planes of its shards: a DataPlaneView each, when it changes.
//!
//! It writes over the version it has read, and never over what a later holder of the shard wrote. It decides nothing by what
//! is in a view.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt as _, TryStreamExt as _, stream::FuturesUnordered};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use sha2::{Digest as _, Sha256};
use tokio::{sync::broadcast::error::RecvError, time::Instant};

use super::{
    member::Replicas,
    queue::{Publication, Queue, WrittenView},
};
use crate::{
    api::fleet::{DataPlane, DataPlaneView, DataPlaneViewSpec},
    control_plane::{
        data_planes::{
            encoded::{self, FORMAT},
            fleet::Fleet,
            view::{Contact, View},
        },
        registry::reports::{Health, PlaneReport, Share, shard_of},
    },
    runtime::sync::lock,
};

/// How long changes are gathered before they are written: a run that ends on ten nodes is one write.
const GATHER: Duration = Duration::from_millis(100);
/// Writes under way at a time.
const CONCURRENT_WRITES: usize = 32;
/// Longest one write may take.
const REQUEST: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest `data`: etcd takes objects of 1.5 MiB.
const LONGEST: usize = 1_400_000;

/// Publishes for one replica.
pub struct Publisher {
    /// The fleet as this replica sees it.
    pub fleet: Arc<Fleet>,
    /// What it watches.
    pub share: Share,
    /// This replica among the others.
    pub replicas: Arc<Replicas>,
    /// Passes no fence: what is written here says itself who wrote it.
    pub client: Client,
    /// The controller's namespace.
    pub namespace: String,
}

impl Publisher {
    /// Runs for ever.
    pub async fn run(&self) {
        let api: Api<PartialObjectMeta<DataPlaneView>> =
            Api::namespaced(self.client.clone(), &self.namespace);
        let mut objects = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut changes = self.fleet.changes();
        let mut held = self.share.held.clone();
        let mut queue = Queue::new();
        let mut writes = FuturesUnordered::new();
        let mut told = String::new();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.want_all(&mut queue);
        loop {
            let shards = held.borrow().clone();
            while writes.len() < CONCURRENT_WRITES
                && let Some(name) = queue.next(Instant::now())
            {
                let before = queue.known.get(&name).cloned();
                let epoch = shards.get(&shard_of(&name, self.share.shards)).copied();
                writes.push(async move {
                    let outcome = match epoch {
                        Some(epoch) => self.in_time(&name, epoch, before.as_ref()).await,
                        None => Publication::Nothing,
                    };
                    (name, outcome)
                });
            }
            let wakes = queue.wakes().filter(|_| writes.len() < CONCURRENT_WRITES);
            let wake = async {
                match wakes {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((name, outcome)) = writes.next() => {
                    let why = queue.ended(name.clone(), outcome, Instant::now());
                    if let Some(why) = why.filter(|why| told != *why) {
                        tracing::warn!(data_plane = name, "what is seen there cannot be published: {why}");
                        told = why;
                    }
                }
                change = changes.recv() => match change {
                    Ok(change) => queue.want(change.data_plane, Instant::now() + GATHER),
                    Err(RecvError::Lagged(_)) => self.want_all(&mut queue),
                    Err(RecvError::Closed) => return,
                },
                told = held.changed() => match told {
                    Ok(()) => {
                        let held = held.borrow_and_update().clone();
                        queue.known.retain(|name, _| held.contains_key(&shard_of(name, self.share.shards)));
                        self.want_all(&mut queue);
                    }
                    Err(_) => return,
                },
                event = objects.try_next() => match event {
                    Ok(Some(event)) => self.note(event, &mut queue),
                    Ok(None) => return,
                    Err(error) => tracing::debug!(%error, "watch of the DataPlaneViews interrupted"),
                },
                _ = looks.tick() => self.replicas.leave_unsaid(queue.late(Instant::now())),
                () = wake => {}
            }
        }
    }

    /// Has every data plane of the shards that are held looked at.
    fn want_all(&self, queue: &mut Queue) {
        let now = Instant::now();
        let names = self.fleet.uids().into_keys().filter(|name| self.share.holds(name));
        names.for_each(|name| queue.want(name, now));
    }

    /// Takes in what the watch tells of the objects: what somebody changed or deleted is written again.
    fn note(&self, event: Event<PartialObjectMeta<DataPlaneView>>, queue: &mut Queue) {
        let now = Instant::now();
        match event {
            Event::Init => {}
            // What went unseen is found by asking.
            Event::InitDone => {
                queue.known.clear();
                self.want_all(queue);
            }
            Event::InitApply(object) | Event::Apply(object) => {
                queue.changed_by_others(&object.name_any(), object.metadata.resource_version.as_deref(), now);
            }
            Event::Delete(object) => queue.changed_by_others(&object.name_any(), None, now),
        }
    }

    /// What hangs costs the others nothing, and is tried again.
    async fn in_time(&self, name: &str, epoch: i32, before: Option<&WrittenView>) -> Publication {
        let published = tokio::time::timeout(REQUEST, self.publish(name, epoch, before)).await;
        published.unwrap_or_else(|_| Publication::Again(format!("no answer within {} s", REQUEST.as_secs())))
    }

    async fn publish(&self, name: &str, epoch: i32, before: Option<&WrittenView>) -> Publication {
        let Some(member) = self.fleet.member(name) else { return Publication::Nothing };
        let Some(report) = self.share.reports.of(&member.uid) else { return Publication::Nothing };
        let before = before.filter(|before| before.uid == member.uid && before.epoch == epoch);
        let view = member.view.get();
        // What stands says more than that the connection is being made. Once something was said, everything is.
        if before.is_none() && self.fleet.is_connecting(&view) {
            return Publication::Soon;
        }
        let health = lock(&report.health).clone();
        let digest = match digest(&view, &health, &report) {
            Ok(digest) => digest,
            Err(error) => return Publication::Again(error.to_string()),
        };
        if before.is_some_and(|before| before.digest == digest) {
            return Publication::Nothing;
        }
        let data = match data(&view, &health) {
            Ok(data) => data,
            Err(error) => return Publication::Again(error.to_string()),
        };
        let spec = DataPlaneViewSpec {
            data_plane_uid: member.uid.clone(),
            shard: i32::try_from(shard_of(name, self.share.shards)).unwrap_or_default(),
            holder: self.replicas.me().to_owned(),
            epoch,
            address_hash: report.address_hash,
            format: FORMAT,
            data,
        };
        self.write(name, &member.uid, spec, before.map(|before| before.version.clone()), digest).await
    }

    async fn write(
        &self,
        name: &str,
        uid: &str,
        spec: DataPlaneViewSpec,
        version: Option<String>,
        digest: [u8; 32],
    ) -> Publication {
        let api: Api<DataPlaneView> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = PostParams::default();
        let epoch = spec.epoch;
        let version = match version {
            Some(version) => Some(version),
            None => match api.get_opt(name).await {
                Ok(Some(found)) if found.spec.epoch > epoch => {
                    // Somebody holds the shard who took it after us; or nobody ever held it in that epoch.
                    match self.replicas.holds(shard_of(name, self.share.shards), epoch).await {
                        Ok(true) => found.resource_version(),
                        Ok(false) => return Publication::Nothing,
                        Err(error) => return Publication::Again(error.to_string()),
                    }
                }
                Ok(found) => found.and_then(|found| found.resource_version()),
                Err(error) => return Publication::Again(error.to_string()),
            },
        };
        let object = DataPlaneView {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                resource_version: version.clone(),
                owner_references: Some(vec![OwnerReference {
                    api_version: DataPlane::api_version(&()).into_owned(),
                    kind: DataPlane::kind(&()).into_owned(),
                    name: name.to_owned(),
                    uid: uid.to_owned(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec,
        };
        let written = match &version {
            Some(_) => api.replace(name, &params, &object).await,
            None => api.create(&params, &object).await,
        };
        match written {
            Ok(written) => Publication::Is(WrittenView {
                uid: uid.to_owned(),
                version: written.resource_version().unwrap_or_default(),
                epoch,
                digest,
            }),
            Err(error) => Publication::Again(error.to_string()),
        }
    }
}

/// What is seen, as it is handed on; that it is too much, where it is.
fn data(view: &View, health: &Health) -> Result<String, encoded::NotDecoded> {
    let data = STANDARD.encode(encoded::encode(&encoded::text(view, health)?)?);
    if data.len() <= LONGEST {
        return Ok(data);
    }
    let mut too_much = View::unknown();
    let why = format!(
        "what is seen there takes {} bytes compressed, and {LONGEST} can be handed from one replica to another; have it \
         watched by a control plane without `--shards`, or remove old backups",
        data.len()
    );
    too_much.contact = Contact::Never { why };
    Ok(STANDARD.encode(encoded::encode(&encoded::text(&too_much, health)?)?))
}

/// A hash of what is seen, without the times at which it was asked and answered last.
fn digest(view: &View, health: &Health, report: &PlaneReport) -> Result<[u8; 32], encoded::NotDecoded> {
    let mut view = view.clone();
    view.last_contact = None;
    let text = encoded::text(&view, &health.without_times())?;
    Ok(Sha256::new().chain_update(&report.address_hash).chain_update(text).finalize().into())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::{
        api::{Reason, Why, medusa::MedusaBackupJob},
        control_plane::{
            data_planes::{records::BackupRecord, view::ObjectKey},
            registry::reports::Answer,
        },
        runtime::cause::{Cause, Kind},
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn view() -> View {
        let (mut view, key) = (View::unknown(), |name: &str| ObjectKey::new("ns", name));
        view.set_synced();
        let metadata = ObjectMeta {
            name: Some("j".to_owned()),
            creation_timestamp: Some(Time(NOW)),
            ..ObjectMeta::default()
        };
        view.jobs.put(key("j"), Arc::new(MedusaBackupJob { metadata, ..MedusaBackupJob::default() }));
        view.backups.put(key("b"), Arc::new(BackupRecord { created: Some(NOW), ..BackupRecord::default() }));
        view.secrets.put(key("s"), Arc::default());
        view.scheduled_jobs.put(key("r"), Arc::default());
        view.datacenters.blur(key("odd"), "no name".to_owned());
        view.tasks.trust.fail(NOW, "no answer");
        view.restores.trust.refuse("forbidden");
        view
    }

    fn health() -> Health {
        Health {
            answer: Answer::Lost(Cause::new(Kind::TimedOut, "no answer")),
            last_contact: Some(NOW),
            no_permissions: Some(Why::new(Reason::NotAuthorized, "no")),
            ..Health::default()
        }
    }

    #[test]
    fn who_changes_what_is_handed_on_calls_it_by_another_number() {
        let text = String::from_utf8(encoded::text(&view(), &health()).unwrap()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        insta::assert_yaml_snapshot!(format!("format-{FORMAT}"), value);
    }

    #[test]
    fn when_it_was_asked_last_is_no_news_and_all_else_is() {
        let report =
            PlaneReport { data_plane: "eu".to_owned(), address_hash: "a".to_owned(), health: Arc::default() };
        let (view, health) = (view(), health());
        let first = digest(&view, &health, &report).unwrap();
        let later = Timestamp::from_second(60).unwrap();
        let mut asked = view.clone();
        asked.last_contact = Some(later);
        let again = Health { last_contact: Some(later), next_attempt: Some(later), ..health.clone() };
        assert_eq!(digest(&asked, &again, &report).unwrap(), first);
        let mut other = view.clone();
        other.jobs.remove(&ObjectKey::new("ns", "j"));
        assert_ne!(digest(&other, &health, &report).unwrap(), first);
        let elsewhere = PlaneReport { address_hash: "b".to_owned(), ..report.clone() };
        assert_ne!(digest(&view, &health, &elsewhere).unwrap(), first);
        let answers = Health { answer: Answer::Answered, ..health };
        assert_ne!(digest(&view, &answers, &report).unwrap(), first);
    }

    #[test]
    fn what_is_too_much_to_be_handed_on_is_said_and_does_not_stand_in_the_way_of_others() {
        let mut large = view();
        // Names that do not compress: as many bytes of text as 100,000 backups.
        for n in 0..40_000_u64 {
            let name = format!("{:x}", Sha256::digest(n.to_le_bytes()));
            large.backups.put(ObjectKey::new("ns", name), Arc::default());
        }
        let said = data(&large, &health()).unwrap();
        assert!(said.len() < LONGEST);
        let (mut there, mut taken) = (View::unknown(), encoded::Taken::default());
        let found = encoded::decode(&STANDARD.decode(said).unwrap()).unwrap();
        found.apply(&mut there, &mut taken, NOW).unwrap();
        let Contact::Never { why } = &there.contact else { panic!("{:?}", there.contact) };
        assert!(why.contains("old backups"), "{why}");
        assert!(!there.is_live());
    }
}
