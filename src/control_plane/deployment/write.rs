//! The writes of a pass, in their order: the user's Secret, ConfigMaps, volumes and users, then templates, one
//! restarting datacenter at a time, then schedules; last what nobody wants any more (`clean_up`). A process that ends
//! between any two of them finds the rest to do from the objects.

use std::borrow::Cow;

use futures::future::join_all;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{
    apply::{self, Failure},
    clean_up,
    observe::{DatacenterTarget, schedule_for},
    pass::{
        ObservedDatacenter, Pass, PassResult, Work, failed, look, runs_medusa, stabilities_now, storage,
        write_config_maps,
    },
    pod::{objects, purge},
    report::{ClusterReport, DatacenterReport, basis},
    rollout::{self, Neighbour, Stability},
    summarize, undone,
    user::make_user,
};
use crate::{
    api::{Reason, Why, fleet::DeploymentState, labels, medusa::MedusaBackupSchedule, names},
    control_plane::{
        data_planes::{capabilities::Feature, copies::changed_by, undone::By, view::ObjectKey},
        sources::SecretState,
    },
};

/// What keeps a purge schedule from being made, for people.
const NO_PURGE: &str = "Medusa is deployed, and old backups are not purged";

pub(super) async fn run(pass: &Pass<'_>) -> PassResult {
    let paused = pass.inputs.paused();
    let mut again = false;
    let mut problem = None;
    let mut sources = Cow::Borrowed(pass.sources);
    if !paused {
        match make_user(pass).await {
            // It was made just now and not read yet, which heals by itself: nobody is asked to mend anything.
            Ok(Some(made)) => {
                sources.to_mut().secrets.insert(made, SecretState::NotRead);
            }
            Ok(None) => {}
            Err(failure) => {
                again = true;
                problem = Some(failure);
            }
        }
    }
    let pass = &Pass { sources: &sources, settings: pass.settings.clone(), ..*pass };
    let mut looks: Vec<ObservedDatacenter<'_>> =
        join_all(pass.inputs.targets.iter().map(|target| look(pass, target))).await;
    if paused {
        for look in &mut looks {
            look.report = pause(look);
        }
    } else {
        let failures = write_config_maps(pass, &looks).await;
        for look in &mut looks {
            let place = &look.target.place;
            let failure = failures.get(&(place.plane.clone(), place.object.namespace.clone()));
            if let Some(failure) = failure.filter(|_| look.work.as_ref().is_ok_and(|work| !work.removes())) {
                look.work = Err(failed(look.target, failure.clone()));
            }
        }
        looks = join_all(looks.into_iter().map(|look| prepare(pass, look))).await;
        write_templates(pass, &mut looks).await;
        write_schedules(pass, &mut looks).await;
    }
    let mut report = ClusterReport {
        uid: pass.inputs.uid(),
        basis: basis(pass.inputs.cluster.as_deref(), pass.inputs.configuration.as_deref()),
        problems: pass.settings.as_ref().err().cloned().unwrap_or_default(),
        configuration: pass.inputs.configuration.as_deref().map(ObjectKey::of),
        storage: pass.settings.as_ref().ok().map(storage),
        shares_with: pass.collision.map(|collision| collision.with.clone()).unwrap_or_default(),
        datacenters: Vec::new(),
    };
    for look in looks {
        let own = match (look.report, look.work) {
            (Some(report), _) | (None, Err(report)) => Some(report),
            (None, Ok(work)) => ended(pass, look.target, &look.stability, &work),
        };
        report.datacenters.extend(own);
    }
    for datacenter in &mut report.datacenters {
        let record = pass.context.datacenters_written.get(&datacenter.place);
        datacenter.undone = record.as_ref().and_then(undone::kept);
    }
    if let Some(failure) = problem {
        // Without the user nothing goes on: say why instead of that a Secret is missing.
        for datacenter in &mut report.datacenters {
            let lacks = datacenter.why.as_ref().is_some_and(|why| why.reason == Reason::SecretNotFound);
            if let (true, Failure::Refused(why)) = (lacks, &failure) {
                datacenter.why = Some(why.clone());
            }
        }
    }
    if !paused {
        let cleaned = clean_up::run(pass).await;
        again |= !cleaned.is_done;
        for own in cleaned.in_use {
            if report.datacenters.iter().all(|dc| dc.place != own.place) {
                report.datacenters.push(own);
            }
        }
    }
    let unsettled = |state| {
        matches!(state, DeploymentState::Unknown | DeploymentState::Waiting | DeploymentState::Refused)
    };
    again |= report.datacenters.iter().any(|datacenter| unsettled(datacenter.state));
    PassResult { report, again }
}

/// The report of a datacenter for which nothing is left to do in this pass. A datacenter that Medusa is not wanted in, and in
/// which there was nothing to take out, has none.
fn ended(
    pass: &Pass<'_>,
    target: &DatacenterTarget,
    stability: &Stability,
    work: &Work,
) -> Option<DatacenterReport> {
    if work.removes() && !work.applied {
        return None;
    }
    if work.removes() {
        let why = Why::new(Reason::Removing, summarize::removing(&work.draft.pieces));
        return Some(summarize::report(&work.found(target), DeploymentState::Progressing, Some(why)));
    }
    if work.applied {
        let what =
            if work.draft.diff.restarts_pods { "cass-operator restarts its pods" } else { "no pod restarts" };
        let why = Why::new(Reason::Deploying, format!("applied; {what}"));
        return Some(summarize::report(&work.found(target), DeploymentState::Progressing, Some(why)));
    }
    let contested = undone::contested(pass, target);
    let remark = contested.or_else(|| work.lacks.clone()).or_else(|| remark(pass, target));
    Some(summarize::in_place(&work.found(target), stability, remark))
}

/// Why there is no purge schedule although there should be one.
fn remark(pass: &Pass<'_>, target: &DatacenterTarget) -> Option<Why> {
    let medusa = pass.inputs.cluster.as_ref().and_then(|cluster| cluster.spec.medusa.as_ref())?;
    let capabilities = &target.plane.as_ref()?.view.capabilities;
    if !purge::is_wanted(medusa) {
        return None;
    }
    if let Err(lack) = capabilities.allow(Feature::Schedules) {
        return Some(Why::new(lack.reason, format!("{NO_PURGE}: {}", lack.message)));
    }
    let old = "the data plane's MedusaBackupSchedule has no `spec.operationType`; install a newer definition";
    (capabilities.schedule_has("operationType") != Some(true))
        .then(|| Why::new(Reason::NotServed, format!("{NO_PURGE}: {old}")))
}

/// What a paused datacenter would become.
fn pause(look: &ObservedDatacenter<'_>) -> Option<DatacenterReport> {
    let work = look.work.as_ref().ok()?;
    if work.draft.diff.is_empty() && work.users.is_none() {
        return None;
    }
    let message =
        format!("paused by annotation `{}` of the K8ssandraCluster; nothing is written", labels::PAUSED);
    let why = Why::new(Reason::Paused, message);
    Some(summarize::report(&work.found(look.target), DeploymentState::Paused, Some(why)))
}

/// What comes before a template: the volume for backups. The user comes with the template, so that taking Medusa out
/// takes both at once.
async fn prepare<'a>(pass: &Pass<'_>, mut look: ObservedDatacenter<'a>) -> ObservedDatacenter<'a> {
    let (Some(remote), Ok(work), Ok(settings)) = (&look.remote, &look.work, &pass.settings) else {
        return look;
    };
    let (Some(volume), Some(cluster), false) = (&settings.pod_storage, &pass.inputs.cluster, work.removes())
    else {
        return look;
    };
    let object = &look.target.place.object;
    let place =
        ObjectKey::new(&object.namespace, objects::claim_name(&cluster.sanitized_name(), &object.name));
    let uid = cluster.uid().unwrap_or_default();
    let claim = objects::claim(&place, &pass.inputs.key, &uid, &pass.context.control_plane, volume);
    let made = match &claim {
        Some(claim) => apply::claim(remote, claim).await,
        None => Err(Failure::Refused(Why::new(
            Reason::InvalidSpec,
            "spec.medusa.storageProperties.podStorage: a volume cannot be made of it; correct `size`",
        ))),
    };
    if let Err(failure) = made {
        look.work = Err(failed(look.target, failure));
    }
    look
}

/// Writes users and templates. What restarts no pods goes at once; of what does, one datacenter in a pass, and only
/// when every other one is settled right now.
async fn write_templates(pass: &Pass<'_>, looks: &mut [ObservedDatacenter<'_>]) {
    let calm = join_all(looks.iter().map(|look| async move {
        let work = look.work.as_ref().ok().filter(|work| !work.draft.diff.restarts_pods)?;
        let changes = work.users.is_some() || !work.draft.diff.is_empty();
        if changes { Some(write(look, work).await) } else { None }
    }))
    .await;
    for (look, result) in looks.iter_mut().zip(calm) {
        if let Some(result) = result {
            conclude(pass, look, result);
        }
    }
    let mut restarted = false;
    for at in 0..looks.len() {
        let restarts = |look: &ObservedDatacenter<'_>| {
            look.work.as_ref().is_ok_and(|work| work.draft.diff.restarts_pods)
        };
        if !looks.get(at).is_some_and(restarts) {
            continue;
        }
        let hold = match hold(looks, at, looks.iter().map(|look| look.stability.clone()).collect()) {
            Some(why) => Some(why),
            // Others may work here too: what was seen at the beginning of the pass is not enough.
            None if !restarted => hold(looks, at, stabilities_now(looks, at, pass.context.fleet.now()).await),
            None => {
                Some(Why::new(Reason::Deploying, "another datacenter of the cluster was changed just now"))
            }
        };
        let Some(look) = looks.get_mut(at) else { continue };
        let Ok(work) = &look.work else { continue };
        if let Some(why) = hold {
            let report = summarize::report(&work.found(look.target), DeploymentState::Waiting, Some(why));
            look.report = Some(report);
        } else {
            restarted = true;
            let result = write(look, work).await;
            conclude(pass, look, result);
        }
    }
}

fn hold(looks: &[ObservedDatacenter<'_>], at: usize, stabilities: Vec<Stability>) -> Option<Why> {
    let names: Vec<String> = looks
        .iter()
        .map(|look| format!("{} in data plane `{}`", look.target.place.object, look.target.place.plane))
        .collect();
    let all = names.iter().zip(looks).zip(&stabilities);
    rollout::hold(at, all.map(|((name, look), stability)| Neighbour { name, stability, waits: look.waits() }))
}

async fn write(look: &ObservedDatacenter<'_>, work: &Work) -> Result<(), Failure> {
    let Some(remote) = &look.remote else { return Err(Failure::Changed) };
    let since = match &work.users {
        Some(patch) => Some(apply::patch_users(remote, &look.target.place.object, patch).await?),
        None => None,
    };
    if work.draft.diff.is_empty() {
        return Ok(());
    }
    apply::apply(remote, &look.target.place.object, &work.draft, since.as_ref()).await
}

fn conclude(pass: &Pass<'_>, look: &mut ObservedDatacenter<'_>, result: Result<(), Failure>) {
    let Ok(work) = &mut look.work else { return };
    match result {
        Ok(()) => {
            work.applied = true;
            if let Some(record) = work.record.take() {
                pass.context.datacenters_written.set(&look.target.place, record);
            }
        }
        Err(failure) => look.report = Some(failed(look.target, failure)),
    }
}

/// Makes, corrects or takes back the purge schedule of every datacenter that runs Medusa. A schedule somebody has
/// changed stays as they changed it until something else is asked for.
async fn write_schedules(pass: &Pass<'_>, looks: &mut [ObservedDatacenter<'_>]) {
    let results = join_all(looks.iter().map(|look| async move {
        let work = look.work.as_ref().ok().filter(|work| !work.removes() && runs_medusa(pass, work))?;
        write_schedule(pass, look, work).await.err()
    }))
    .await;
    for (look, failure) in looks.iter_mut().zip(results) {
        if let Some(failure) = failure {
            look.report.get_or_insert_with(|| failed(look.target, failure));
        }
    }
}

async fn write_schedule(pass: &Pass<'_>, look: &ObservedDatacenter<'_>, work: &Work) -> Result<(), Failure> {
    let (Some(cluster), Some(plane), Some(remote)) = (&pass.inputs.cluster, &look.target.plane, &look.remote)
    else {
        return Ok(());
    };
    let wanted = cluster.spec.medusa.as_ref().is_some_and(purge::is_wanted);
    if !wanted || remark(pass, look.target).is_some() {
        return Ok(());
    }
    let uid = cluster.uid().unwrap_or_default();
    let sanitized = cluster.sanitized_name();
    let origin = purge::Origin {
        source: &pass.inputs.key,
        source_uid: &uid,
        control_plane: &pass.context.control_plane,
        sanitized: &sanitized,
    };
    let mut body = json!(purge::schedule(&origin, &work.datacenter));
    let hash = names::sha256_hex(body.get("spec").map(Value::to_string).unwrap_or_default().as_bytes());
    if let Some(annotations) = body.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.insert(labels::CONTENT_HASH.to_owned(), json!(hash));
    }
    let key = ObjectKey::new(&look.target.place.object.namespace, purge::name(&sanitized, &work.datacenter));
    let ours = |schedule: &MedusaBackupSchedule| {
        schedule_for(schedule, &pass.context.control_plane).as_ref() == Some(&pass.inputs.key)
    };
    let known = plane.view.schedules.last(&key);
    match known {
        Some(known) if !ours(known) => return Err(Failure::not_ours(&format!("MedusaBackupSchedule {key}"))),
        Some(known)
            if known.annotations().get(labels::CONTENT_HASH) == Some(&hash)
                && pass.context.control_plane.wrote_last(&known.metadata) =>
        {
            return Ok(());
        }
        Some(_) | None => {}
    }
    let version =
        known.map(|known| (known.uid().unwrap_or_default(), known.resource_version().unwrap_or_default()));
    let version = version.as_ref().map(|(uid, version)| (uid.as_str(), version.as_str()));
    let source = |meta: &kube::api::ObjectMeta| {
        meta.annotations.as_ref().and_then(|a| a.get(labels::SOURCE)) == Some(&pass.inputs.key.to_string())
    };
    let theirs = known.and_then(|known| changed_by(&known.metadata, labels::MANAGER_CONTROL_PLANE));
    let by = theirs.map(|manager| By { manager: manager.to_owned(), field: ".metadata".to_owned() });
    let by = by.unwrap_or_default();
    let written = undone::may_put(pass, look.target, "MedusaBackupSchedule", &key, &hash, by)?;
    apply::put::<MedusaBackupSchedule>(remote, &key, &body, version, source).await.map(|()| written())
}
