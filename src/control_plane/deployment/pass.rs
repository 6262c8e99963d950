//! One pass over a K8ssandraCluster: look at every datacenter at once, write what may be written, say what came of it.
//! What one data plane does or does not answer is a value; it never hides the others.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use serde_json::Value;

use super::{
    Problem,
    apply::{self, Draft, Failure},
    config::{config_map, ini, prefix::Collision, storage::Settings, validate},
    context::DeploymentContext,
    observe::{ClusterInputs, DatacenterTarget, deployed_for},
    plan::{Decision, decide},
    pod::{
        account, objects,
        request::{Certificates, Request},
        secrets::{self, Check, InPlace, Needed, Target},
        template, users,
    },
    report::{ClusterReport, DatacenterReport},
    rollout::{self, Stability},
    summarize::{self, Found},
    undone,
};
use crate::{
    api::{
        Reason, Seen, Why,
        cassandra::CassandraDatacenter,
        fleet::{CredentialsState, DeploymentState, LOCAL, StorageState},
        k8ssandra::{DatacenterTemplate, K8ssandraCluster, MedusaTemplate},
        labels,
    },
    control_plane::{
        data_planes::{
            copies::hash_config_map,
            fleet::Usable,
            records::CopyRecord,
            remote::Remote,
            undone::{By, Record},
            view::ObjectKey,
        },
        sources::{SourceObjects, user_secret},
    },
};

/// What a pass needs beside its inputs.
pub(super) struct Pass<'a> {
    pub(super) context: &'a DeploymentContext,
    pub(super) inputs: &'a ClusterInputs,
    pub(super) sources: &'a SourceObjects,
    pub(super) collision: Option<&'a Collision>,
    /// The storage properties, or what is wrong with what was asked for.
    pub(super) settings: Result<Settings, Vec<Problem>>,
}

pub(super) struct PassResult {
    pub(super) report: ClusterReport,
    /// Whether something did not get through, so that another pass is due soon.
    pub(super) again: bool,
}

/// A datacenter as it was looked at.
pub(super) struct ObservedDatacenter<'a> {
    pub(super) target: &'a DatacenterTarget,
    pub(super) remote: Option<Arc<Remote>>,
    pub(super) stability: Stability,
    /// What is to be done, or what can only be said.
    pub(super) work: Result<Work, DatacenterReport>,
    /// What became of the work, where it was not done as it was to be.
    pub(super) report: Option<DatacenterReport>,
}

impl ObservedDatacenter<'_> {
    /// Whether its data plane can say whether the datacenter is there. What a watch has not delivered yet is no
    /// proof of absence, so that a datacenter missing from the view is asked for too.
    fn is_answered(&self) -> bool {
        self.remote.is_some() && !matches!(self.target.datacenter, Seen::Unknown { .. })
    }

    /// What its change waits for, when that comes by itself: the datacenters after it wait, too.
    pub(super) fn waits(&self) -> Option<&str> {
        let report = self.work.as_ref().err()?;
        let heals = matches!(report.state, DeploymentState::Waiting | DeploymentState::Unknown);
        let lacks_secret = report.credentials.as_ref().is_some_and(|credentials| !credentials.synced);
        let comes = |why: &&Why| heals && (!lacks_secret || secrets::is_on_its_way(why));
        report.why.as_ref().filter(comes).map(|why| why.message.as_str())
    }
}

/// What is to be done in a datacenter.
pub(super) struct Work {
    pub(super) datacenter: CassandraDatacenter,
    pub(super) draft: Draft,
    pub(super) users: Option<Value>,
    /// Its Secrets; `None` when Medusa is taken out.
    pub(super) secrets: Option<InPlace>,
    /// Whether the template was applied in this pass.
    pub(super) applied: bool,
    /// What is remembered of the write once it is made; `None` when Medusa is taken out.
    pub(super) record: Option<Record>,
    /// Why Medusa, when it is in place, cannot use its storage.
    pub(super) lacks: Option<Why>,
}

impl Work {
    pub(super) fn found<'a>(&'a self, target: &'a DatacenterTarget) -> Found<'a> {
        Found {
            place: &target.place,
            diff: &self.draft.diff,
            kept: &self.draft.kept,
            user: summarize::user_change(self.users.as_ref()),
            secrets: self.secrets.as_ref().map(|secrets| &secrets.all),
        }
    }

    pub(super) fn removes(&self) -> bool {
        self.secrets.is_none()
    }
}

/// The storage properties, or what is wrong with them.
pub(super) fn settings(inputs: &ClusterInputs) -> Result<Settings, Vec<Problem>> {
    let Some(cluster) = &inputs.cluster else { return Err(Vec::new()) };
    let named = cluster.spec.medusa.as_ref().and_then(MedusaTemplate::configuration).is_some();
    if named && inputs.configuration.is_none() && !inputs.configurations_listed {
        let message = "the MedusaConfigurations are not listed yet".to_owned();
        return Err(vec![Problem { fault: super::Fault::Cluster, reason: Reason::Connecting, message }]);
    }
    validate::settings(cluster, inputs.configuration.as_deref())
}

/// Looks at a datacenter: as it is now, whether its Secrets are in place, and what an apply would do.
pub(super) async fn look<'a>(pass: &Pass<'_>, target: &'a DatacenterTarget) -> ObservedDatacenter<'a> {
    let remote = target.plane.as_ref().filter(|p| p.usable == Usable::Ready).and_then(|p| p.remote.clone());
    let mut look = ObservedDatacenter {
        target,
        remote: remote.clone(),
        stability: stability_unknown(target),
        work: Err(nothing(target)),
        report: None,
    };
    let mut read = None;
    if let Some(remote) = remote.as_ref().filter(|_| look.is_answered()) {
        let (stability, live) = read_stability(remote, target, pass.context.fleet.now()).await;
        look.stability = stability;
        read = live;
    }
    if target.datacenter == Seen::Absent && read.is_some() {
        // What it needs is copied there when its watch has delivered it.
        let why = Why::new(Reason::Connecting, "the datacenter has just appeared, and is looked at again");
        look.work = Err(DatacenterReport::new(&target.place, DeploymentState::Waiting, Some(why)));
        return look;
    }
    // It is decided on the datacenter as it was read just now.
    let mut now = target.clone();
    match (&read, &look.stability) {
        (Some((_, datacenter)), _) => now.datacenter = Seen::Known(Arc::new(datacenter.clone())),
        (None, Stability::Missing) => now.datacenter = Seen::Absent,
        (None, Stability::Unknown(why)) => now.datacenter = Seen::Unknown { since: None, why: why.clone() },
        (None, _) => {}
    }
    let decision = decide(pass.inputs, &now, &pass.settings, pass.collision, &pass.context.control_plane);
    look.work = match (decision, remote, read) {
        (Decision::Leave(state, why), ..) => Err(DatacenterReport::new(&target.place, state, Some(why))),
        (Decision::Deploy, Some(remote), Some((live, datacenter))) => {
            deploy(pass, target, &remote, live, datacenter).await
        }
        (Decision::Remove, Some(remote), Some((live, datacenter))) => {
            let users = users::patch(&live, None);
            match apply::draft_removal(&remote, &live).await {
                Ok(draft) => Ok(Work {
                    datacenter,
                    draft,
                    users,
                    secrets: None,
                    applied: false,
                    record: None,
                    lacks: None,
                }),
                Err(failure) => Err(failed(target, failure)),
            }
        }
        (Decision::Deploy | Decision::Remove, ..) => Err(nothing(target)),
    };
    look
}

fn nothing(target: &DatacenterTarget) -> DatacenterReport {
    let why = Why::new(Reason::Connecting, "the datacenter was not read yet");
    DatacenterReport::new(&target.place, DeploymentState::Unknown, Some(why))
}

/// How a datacenter is that cannot be read now.
fn stability_unknown(target: &DatacenterTarget) -> Stability {
    match (&target.plane, &target.datacenter) {
        (Some(plane), Seen::Absent) if plane.usable == Usable::Ready => Stability::Missing,
        (_, Seen::Unknown { why, .. }) => Stability::Unknown(why.clone()),
        (_, Seen::Absent | Seen::Known(_)) => {
            Stability::Unknown(format!("data plane `{}` is not ready", target.place.plane))
        }
    }
}

/// Reads a datacenter, and how it is.
async fn read_stability(
    remote: &Remote,
    target: &DatacenterTarget,
    now: Timestamp,
) -> (Stability, Option<(Value, CassandraDatacenter)>) {
    match apply::read(remote, &target.place.object).await {
        Ok(Some(live)) => match serde_json::from_value::<CassandraDatacenter>(live.clone()) {
            Ok(datacenter) => {
                let stability = rollout::stability(&datacenter, applied_at(&live), now);
                (stability, Some((live, datacenter)))
            }
            Err(_) => (Stability::Unknown("its fields cannot be understood".to_owned()), None),
        },
        Ok(None) => (Stability::Missing, None),
        Err(Failure::Silent(why)) => (Stability::Unknown(why), None),
        Err(Failure::Changed) => (Stability::Unknown("it is changing".to_owned()), None),
        Err(Failure::Refused(why)) => (Stability::Unknown(why.message), None),
    }
}

/// When we last changed the datacenter.
fn applied_at(live: &Value) -> Option<Timestamp> {
    let entries = live.pointer("/metadata/managedFields")?.as_array()?;
    let ours = entries
        .iter()
        .filter(|e| e.get("manager").and_then(Value::as_str) == Some(labels::MANAGER_DEPLOYMENT));
    ours.filter_map(|entry| entry.get("time")?.as_str()?.parse().ok()).max()
}

/// How every other datacenter is right now.
pub(super) async fn stabilities_now(
    looks: &[ObservedDatacenter<'_>],
    own: usize,
    now: Timestamp,
) -> Vec<Stability> {
    let reads = looks.iter().enumerate().map(|(at, look)| async move {
        match &look.remote {
            Some(remote) if at != own && look.is_answered() => {
                read_stability(remote, look.target, now).await.0
            }
            Some(_) | None => look.stability.clone(),
        }
    });
    join_all(reads).await
}

async fn deploy(
    pass: &Pass<'_>,
    target: &DatacenterTarget,
    remote: &Remote,
    live: Value,
    datacenter: CassandraDatacenter,
) -> Result<Work, DatacenterReport> {
    let (Some(cluster), Some(template), Ok(settings)) =
        (&pass.inputs.cluster, &target.wanted, &pass.settings)
    else {
        return Err(nothing(target));
    };
    let Some(medusa) = &cluster.spec.medusa else { return Err(nothing(target)) };
    let sanitized = cluster.sanitized_name();
    let config_map = config_map::name(&sanitized);
    if let Some(why) = taken(pass, target, &config_map) {
        return Err(DatacenterReport::new(&target.place, DeploymentState::Refused, Some(why)));
    }
    let secrets = check_secrets(pass, target, remote, cluster, template, settings).await?;
    let user = user_secret(cluster);
    let ini_key = config_map::key(cluster, template, settings);
    let restarting = secrets.restarting.iter().map(|(name, hash)| (name.as_str(), hash.as_str()));
    let checksum = template::checksum(restarting);
    let claim =
        settings.pod_storage.as_ref().map(|_| objects::claim_name(&sanitized, &target.place.object.name));
    let endpoint = ini::endpoint(settings);
    let uid = datacenter.uid().unwrap_or_default();
    let body = template::body(&Request {
        datacenter: &target.place.object,
        uid: &uid,
        source: &pass.inputs.key,
        control_plane: &pass.context.control_plane,
        sanitized: &sanitized,
        medusa,
        image: &pass.context.image,
        config_map: &config_map,
        ini_key: &ini_key,
        storage_secret: settings.secret.as_deref(),
        endpoint: endpoint.as_deref(),
        backups_claim: claim.as_deref(),
        user_secret: user.as_deref(),
        certificates: certificates(cluster, medusa),
        management_secret: cluster.management_api_auth(template).map(|auth| auth.client_secret_name.as_str()),
        secrets: checksum.as_deref(),
    });
    let users = users::patch(&live, user.as_deref());
    let draft = apply::draft(remote, &live, &body).await.map_err(|failure| failed(target, failure))?;
    let record = if draft.diff.is_empty() && users.is_none() {
        None
    } else {
        let refused = |why| DatacenterReport::new(&target.place, DeploymentState::Refused, Some(why));
        Some(undone::check(pass, &target.place, &live, &body, &draft.diff).map_err(refused)?)
    };
    let lacks = account::lack(settings, &target.place.object, &live);
    Ok(Work { datacenter, draft, users, secrets: Some(secrets), applied: false, record, lacks })
}

/// A report of what did not get through.
pub(super) fn failed(target: &DatacenterTarget, failure: Failure) -> DatacenterReport {
    let (state, why) = match failure {
        Failure::Silent(why) => (
            DeploymentState::Unknown,
            Why::new(Reason::DataPlaneUnreachable, format!("data plane `{}`: {why}", target.place.plane)),
        ),
        Failure::Changed => (
            DeploymentState::Waiting,
            Why::new(Reason::Deploying, "the datacenter changed meanwhile, and is looked at again"),
        ),
        Failure::Refused(why) => (DeploymentState::Refused, why),
    };
    DatacenterReport::new(&target.place, state, Some(why))
}

fn certificates<'a>(cluster: &K8ssandraCluster, medusa: &'a MedusaTemplate) -> Certificates<'a> {
    if cluster.secrets_are_external() {
        return Certificates::None;
    }
    let one =
        medusa.certificates_secret_ref.as_ref().map(|r| r.name.as_str()).filter(|name| !name.is_empty());
    match (one, &medusa.client_encryption_stores) {
        (Some(name), _) => Certificates::Secret(name),
        (None, Some(stores)) => Certificates::Stores(stores),
        (None, None) => Certificates::None,
    }
}

/// Why the ConfigMap of that name cannot be written: it is another K8ssandraCluster's.
fn taken(pass: &Pass<'_>, target: &DatacenterTarget, name: &str) -> Option<Why> {
    let key = ObjectKey::new(&target.place.object.namespace, name);
    let held = target.plane.as_ref().and_then(|plane| plane.view.config_maps.last(&key));
    let other = held.filter(|map| map.source != pass.inputs.key.to_string())?;
    let message = format!(
        "ConfigMap {key} is that of K8ssandraCluster {}; give one of the two another `clusterName`, or put their \
         datacenters into different namespaces",
        other.source
    );
    Some(Why::new(Reason::NameConflict, message))
}

async fn check_secrets(
    pass: &Pass<'_>,
    target: &DatacenterTarget,
    remote: &Remote,
    cluster: &K8ssandraCluster,
    template: &DatacenterTemplate,
    settings: &Settings,
) -> Result<InPlace, DatacenterReport> {
    let list = secrets::needed(cluster, template, settings.secret.as_deref());
    let checks = join_all(list.into_iter().map(|needed| check_secret(pass, target, remote, needed))).await;
    let mut done = Vec::new();
    for check in checks {
        match check {
            Ok(check) => done.push(check),
            Err(failure) => return Err(failed(target, failure)),
        }
    }
    secrets::all_in_place(done).map_err(|(why, heals)| {
        let state = if heals { DeploymentState::Waiting } else { DeploymentState::Refused };
        let credentials = Some(CredentialsState { synced: false, hash: None });
        DatacenterReport { credentials, ..DatacenterReport::new(&target.place, state, Some(why)) }
    })
}

async fn check_secret(
    pass: &Pass<'_>,
    target: &DatacenterTarget,
    remote: &Remote,
    needed: Needed,
) -> Result<(Needed, Check), Failure> {
    let source = ObjectKey::new(&pass.inputs.key.namespace, &needed.name);
    let copied = ObjectKey::new(&target.place.object.namespace, &needed.name);
    let copy = target.plane.as_ref().and_then(|plane| plane.view.secrets.last(&copied));
    let is_source = target.place.plane == LOCAL && source == copied;
    let place = Target { plane: &target.place.plane, object: &copied, is_source };
    let (known, copyable) = (pass.sources.secrets.get(&source), pass.sources.copyable(&source));
    let check = match secrets::check(&needed, known, &copyable, copy.map(AsRef::as_ref), place) {
        Check::Ask => {
            secrets::check_found(&needed, &copyable, apply::find_secret(remote, &copied).await?, place)
        }
        known @ (Check::InPlace(_) | Check::Wait(_) | Check::Missing(_)) => known,
    };
    let refusal = target.plane.as_ref().and_then(|plane| plane.refusals.get(&copied).cloned());
    let check = match (check, refusal) {
        (Check::Wait(why), Some(refusal)) if why.reason == Reason::Replicating => {
            Check::Wait(Why::new(refusal.reason, format!("{}: {}", why.message, refusal.message)))
        }
        (check, _) => check,
    };
    Ok((needed, check))
}

/// Where the cluster's backups go.
pub(super) fn storage(settings: &Settings) -> StorageState {
    StorageState {
        provider: settings.provider.as_str().to_owned(),
        bucket: settings.bucket.clone(),
        prefix: settings.prefix.clone(),
    }
}

/// Writes the ConfigMap of every namespace in which a datacenter is to run Medusa; says where that failed.
pub(super) async fn write_config_maps(
    pass: &Pass<'_>,
    looks: &[ObservedDatacenter<'_>],
) -> BTreeMap<(String, String), Failure> {
    let (Some(cluster), Ok(settings)) = (&pass.inputs.cluster, &pass.settings) else {
        return BTreeMap::new();
    };
    let name = config_map::name(&cluster.sanitized_name());
    let uid = cluster.uid().unwrap_or_default();
    let mut groups: BTreeMap<(String, String), &ObservedDatacenter<'_>> = BTreeMap::new();
    for look in looks.iter().filter(|look| look.work.as_ref().is_ok_and(|work| !work.removes())) {
        let place = &look.target.place;
        groups.entry((place.plane.clone(), place.object.namespace.clone())).or_insert(look);
    }
    let writes = groups.into_iter().map(|(group, look)| {
        let here = |target: &&DatacenterTarget| {
            (&target.place.plane, &target.place.object.namespace) == (&group.0, &group.1)
        };
        let templates = pass.inputs.targets.iter().filter(here).filter_map(|target| target.wanted.as_ref());
        let data = config_map::data(cluster, templates, settings);
        let key = ObjectKey::new(&group.1, &name);
        let body = config_map::object(&key, &pass.inputs.key, &uid, &pass.context.control_plane, &data);
        let known = look.target.plane.as_ref().and_then(|plane| plane.view.config_maps.last(&key)).cloned();
        let uid = uid.clone();
        async move {
            let known = known.as_deref();
            let is_in_place = |map: &CopyRecord| {
                map.content_hash == hash_config_map(&data)
                    && map.source_uid == uid
                    && pass.context.control_plane.is_current(&map.fleet, &map.installation)
            };
            if known.is_some_and(is_in_place) {
                return None;
            }
            let remote = look.remote.as_ref()?;
            let hash = hash_config_map(&data);
            let by = known.map_or_else(By::default, |map| {
                let field = if map.content_hash == hash { ".metadata" } else { ".data" };
                By { manager: map.changed_by.clone(), field: field.to_owned() }
            });
            let written = match undone::may_put(pass, look.target, "ConfigMap", &key, &hash, by) {
                Ok(written) => written,
                Err(conflict) => return Some((group, conflict)),
            };
            let version = known.map(|map| (map.uid.as_str(), map.resource_version.as_str()));
            let ours = |meta: &kube::api::ObjectMeta| {
                let source = meta.annotations.as_ref().and_then(|a| a.get(labels::SOURCE));
                source == Some(&pass.inputs.key.to_string())
            };
            match apply::put::<ConfigMap>(remote, &key, &body, version, ours).await {
                Ok(()) => {
                    written();
                    None
                }
                Err(failure) => Some((group, failure)),
            }
        }
    });
    join_all(writes).await.into_iter().flatten().collect()
}

/// Whether the datacenter runs Medusa of ours: by what was read, or by what was just applied.
pub(super) fn runs_medusa(pass: &Pass<'_>, work: &Work) -> bool {
    work.applied
        || work.draft.diff.is_empty()
        || deployed_for(&work.datacenter.metadata, &pass.context.control_plane).as_ref()
            == Some(&pass.inputs.key)
}

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
