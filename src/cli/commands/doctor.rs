//! `doctor`: what is wrong with the fleet, with what, and what to do about it.

use std::fmt::Debug;

use k8s_openapi::{
    api::coordination::v1::Lease,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Resource, api::ListParams, core::DeserializeGuard};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    cli::{
        doctor::{Evidence, Finding, Read, Severity, Spoilt, findings},
        failure::{Failure, Outcome, why},
        home::Home,
        output::{Format, Printer},
        views::{count, doctor::table, name},
    },
    runtime::clock,
};

/// Prints one line per finding, and fails when something is wrong.
///
/// # Errors
/// When something is wrong, or something could not be read.
pub async fn run(printer: Printer, home: &Home) -> Outcome {
    let evidence = read(home).await?;
    let now = clock::now();
    let found = findings(&evidence, now);
    let has = |severity: Severity| found.iter().any(|finding| finding.severity == severity);
    let (is_wrong, is_open) = (has(Severity::Error) || has(Severity::Warning), has(Severity::Unknown));
    if printer.format().is_for_programs() {
        let verdict = if is_wrong { Some(false) } else { (!is_open).then_some(true) };
        printer.value(&json!({"healthy": verdict, "findings": found}))?;
    } else if !found.is_empty() {
        printer.text(&table(&found, printer.format() == Format::Wide, now).render(0))?;
    }
    if is_wrong {
        return Err(Failure::Unhealthy);
    }
    if is_open {
        let unread = count(number(&found, Severity::Unknown), "kind");
        return Err(Failure::CouldNotAsk(format!(
            "{unread} could not be read; of the rest nothing is wrong"
        )));
    }
    if printer.format().is_for_programs() { Ok(()) } else { printer.say(&format!("nothing is wrong {home}")) }
}

fn number(found: &[Finding], severity: Severity) -> usize {
    found.iter().filter(|finding| finding.severity == severity).count()
}

async fn read(home: &Home) -> Outcome<Evidence> {
    let client = || home.client.clone();
    // One first: when nobody answers, one complaint is enough.
    let data_planes = list(home, home.api()).await?;
    let (definitions, leases, clusters, configurations, k8ssandra_clusters) = futures::try_join!(
        list::<CustomResourceDefinition>(home, Api::all(client())),
        list::<Lease>(home, home.api()),
        list(home, home.api()),
        list(home, Api::all(client())),
        list(home, Api::all(client())),
    )?;
    let (schedules, jobs, tasks, restores) = futures::try_join!(
        list(home, home.api()),
        list(home, home.api()),
        list(home, home.api()),
        list(home, home.api()),
    )?;
    Ok(Evidence {
        definitions,
        leases,
        data_planes,
        clusters,
        configurations,
        k8ssandra_clusters,
        schedules,
        jobs,
        tasks,
        restores,
    })
}

/// Every object of one kind; those that cannot be read are put aside, so that they hide none of the others. What is
/// refused, or not there, is an answer too; no answer, and a credential that is not accepted, are none.
async fn list<K>(home: &Home, api: Api<DeserializeGuard<K>>) -> Outcome<Read<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let list = match api.list(&ListParams::default()).await {
        Ok(list) => list,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Read::NotInstalled),
        Err(error @ kube::Error::Api(_)) if !is_stranger(&error) => return Ok(Read::Refused(why(&error))),
        Err(error) => return Err(Failure::reading(&format!("{} {home}", K::plural(&())), &error)),
    };
    let (mut readable, mut spoilt) = (Vec::new(), Vec::new());
    for object in list {
        match object.0 {
            Ok(object) => readable.push(object),
            Err(invalid) => spoilt.push(Spoilt {
                name: name(&invalid.metadata),
                namespace: invalid.metadata.namespace,
                why: invalid.error,
            }),
        }
    }
    Ok(if spoilt.is_empty() { Read::All(readable) } else { Read::Part(readable, spoilt) })
}

fn is_stranger(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 401)
}
