//! Who reconciles the Medusa kinds in this cluster: us, which a Lease tells, or k8ssandra-operator, beside
//! which we refuse to start.
//!
//! The Lease is for readers; nothing here may make safety rest on it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::{Lease, LeaseSpec},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, Patch, PatchParams},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{labels, operator},
    runtime::{clock::Clock, scope},
};

/// Name of the Lease.
pub const LEASE: &str = "medusa-fleet-data-plane";
/// Value of the component label.
pub const COMPONENT: &str = "data-plane";
/// Our value of the name label.
const APP: &str = "medusa-fleet";
/// Deployments asked for at a time.
const PAGE: u32 = 100;

/// Where k8ssandra-operator runs, as `namespace/name` of its Deployments, or else of the Lease it holds. Where we may
/// look at neither everywhere, we look in the namespaces that are worked in; that is logged, and what may not be seen there
/// either counts as absent.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn operators(
    client: &Client,
    within: &[String],
    now: Timestamp,
) -> Result<Vec<String>, kube::Error> {
    let deployments = deployments_in(client, None).await;
    if let Ok(found) = &deployments
        && !found.is_empty()
    {
        return Ok(found.clone());
    }
    let leases = leases_in(client, None, now).await;
    if let Ok(found) = &leases
        && !found.is_empty()
    {
        return Ok(found.clone());
    }
    match (deployments, leases) {
        (Err(error), _) | (_, Err(error)) if !is_refusal(&error) => Err(error),
        // Its Deployment is the surer sign: where these may be listed, a Lease is not needed.
        (Ok(_), _) => Ok(Vec::new()),
        (Err(_), leases) => {
            let mut found = Vec::new();
            for namespace in within {
                found.extend(permitted(deployments_in(client, Some(namespace)).await)?);
                found.extend(permitted(leases_in(client, Some(namespace), now).await)?);
            }
            if found.is_empty() {
                tracing::warn!(
                    looked_in = within.join(","),
                    "may not list deployments{} in all namespaces, so cannot tell whether k8ssandra-operator runs here; \
                     make sure that it does not, as both would start every backup",
                    if leases.is_err() { " and leases" } else { "" }
                );
            }
            Ok(found)
        }
    }
}

/// What was found; nothing where we may not look.
fn permitted(found: Result<Vec<String>, kube::Error>) -> Result<Vec<String>, kube::Error> {
    match found {
        Err(error) if is_refusal(&error) => Ok(Vec::new()),
        other => other,
    }
}

async fn deployments_in(client: &Client, namespace: Option<&str>) -> Result<Vec<String>, kube::Error> {
    let api = scope::api::<Deployment>(client.clone(), namespace);
    let mut params = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = api.list(&params).await?;
        found.extend(page.items.iter().filter_map(operator::of_deployment).map(|operator| operator.place));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

async fn leases_in(
    client: &Client,
    namespace: Option<&str>,
    now: Timestamp,
) -> Result<Vec<String>, kube::Error> {
    let params = ListParams::default().fields(&format!("metadata.name={}", operator::LEASE));
    let held = scope::api::<Lease>(client.clone(), namespace).list(&params).await?;
    Ok(held.iter().filter_map(|lease| operator::of_lease(lease, now)).map(|found| found.place).collect())
}

/// Whether the API server will not let us look.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403..=405))
}

/// Keeps the Lease renewed until `shutdown`. A namespace that is missing, or a refusal, is said once and
/// tried again.
pub async fn publish(
    client: Client,
    namespace: String,
    every: Duration,
    clock: Clock,
    shutdown: CancellationToken,
) {
    let leases = Api::<Lease>::namespaced(client, &namespace);
    let acquired = clock.now();
    let mut told = String::new();
    loop {
        let lease = lease(acquired, clock.now(), every);
        let params = PatchParams::apply(labels::MANAGER_DATA_PLANE).force();
        match leases.patch(LEASE, &params, &Patch::Apply(&lease)).await {
            Ok(_) => told.clear(),
            Err(error) => {
                let why = if matches!(&error, kube::Error::Api(status) if status.is_not_found()) {
                    format!(
                        "namespace `{namespace}` does not exist; create it or give --namespace, or control \
                         planes will not see which data plane runs here"
                    )
                } else {
                    error.to_string()
                };
                if told != why {
                    tracing::error!(lease = LEASE, namespace, "cannot renew the Lease: {why}");
                    told = why;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

fn lease(acquired: Timestamp, now: Timestamp, every: Duration) -> Lease {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    // Four renewals may be lost before a reader takes us for gone.
    let seconds = i32::try_from(every.as_secs().saturating_mul(4)).unwrap_or(i32::MAX).max(1);
    Lease {
        metadata: ObjectMeta {
            name: Some(LEASE.to_owned()),
            labels: Some(
                [
                    label(labels::APP_NAME, APP),
                    label(labels::APP_COMPONENT, COMPONENT),
                    label(labels::APP_VERSION, env!("CARGO_PKG_VERSION")),
                ]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(format!("{APP}-{COMPONENT}-{}", std::process::id())),
            acquire_time: Some(MicroTime(acquired)),
            renew_time: Some(MicroTime(now)),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_says_who_runs_here_and_in_which_version() {
        let lease = lease(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Duration::from_secs(15));
        let labels = lease.metadata.labels.unwrap();
        assert_eq!(labels[labels::APP_VERSION], env!("CARGO_PKG_VERSION"));
        assert_eq!(labels[labels::APP_COMPONENT], "data-plane");
        assert_eq!(lease.spec.unwrap().lease_duration_seconds, Some(60));
    }
}
