//! `unregister`: the reverse, in the order that leaves nothing behind.
//!
//! The Secret stops registering the cluster before its data plane goes, or the control plane would make a new
//! one; it is deleted last, because the control plane needs it to take its copies back.

use std::pin::pin;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;

use super::{grant, remains::Remains};
use crate::{
    api::{
        fleet::{DataPlane, FleetBackupSchedule, FleetCluster, LOCAL, RegisteredFrom},
        k8ssandra::ClientConfig,
        labels,
    },
    cli::{
        args::Unregister,
        failure::{Failure, Outcome, is_not_found},
        home::ControlPlaneClient,
        output::Printer,
    },
    runtime::follow::Followed,
};

/// Takes a data plane out of the fleet.
///
/// # Errors
/// When there is no such data plane, or it did not go in time.
pub async fn run(printer: Printer, home: &ControlPlaneClient, args: &Unregister) -> Outcome {
    let name = args.name.as_str();
    if name == LOCAL {
        return Err(Failure::CouldNotAsk(format!(
            "`{LOCAL}` is the control plane's own cluster and cannot be unregistered; `spec.paused` of the DataPlane \
             stops all writes to it"
        )));
    }
    let data_plane = home.find::<DataPlane>(name).await?;
    refuse_client_config(home, name, data_plane.as_ref()).await?;
    let remains = match &data_plane {
        Some(plane) => Some(look(printer, home, plane).await),
        None => None,
    };
    for line in remains.iter().flat_map(Remains::before) {
        printer.note(&line);
    }
    let secret_is_ours = retire_secret(home, name).await?;
    let existed = delete::<DataPlane>(home, name).await?;
    if !existed && !secret_is_ours {
        return Err(Failure::Failed(format!("there is no dataplane `{name}` {home}")));
    }
    if existed && !is_gone(home, name, args).await {
        return Err(Failure::Failed(format!(
            "dataplane `{name}` is still taking its copies back; {} shows how far it is, and {} again finishes",
            printer.command(&format!("describe dataplane/{name}")),
            printer.command(&format!("unregister {name}"))
        )));
    }
    if secret_is_ours {
        delete::<Secret>(home, name).await?;
    }
    printer.say(&format!("dataplane/{name} unregistered"))?;
    for line in remains.iter().flat_map(|remains| remains.after(&home.namespace)) {
        printer.note(&line);
    }
    printer.note(&format!(
        "its token still works in that cluster until it expires; there, `kubectl -n {} delete serviceaccount {}` \
         revokes it",
        grant::NAMESPACE,
        grant::ACCOUNT
    ));
    Ok(())
}

/// What stays in a data plane and what goes. What cannot be read holds nothing up: it is said to be unknown.
async fn look(printer: Printer, home: &ControlPlaneClient, plane: &DataPlane) -> Remains {
    let (clusters, schedules) =
        futures::join!(home.list::<FleetCluster>(), home.list::<FleetBackupSchedule>());
    let unknown = |failure: &Failure, what: &str| {
        let why = failure.message().unwrap_or_default();
        printer.note(&format!("what follows does not know of {what}: {why}"));
    };
    let clusters =
        clusters.inspect_err(|failure| unknown(failure, "Medusa in datacenters")).unwrap_or_default();
    let schedules =
        schedules.inspect_err(|failure| unknown(failure, "Delegated schedules")).unwrap_or_default();
    Remains::of(plane, &clusters, &schedules)
}

/// The data plane of a ClientConfig would come back: that object is the registration.
async fn refuse_client_config(
    home: &ControlPlaneClient,
    name: &str,
    data_plane: Option<&DataPlane>,
) -> Outcome {
    let from = data_plane.and_then(|plane| plane.annotations().get(labels::REGISTERED_FROM));
    let Some(RegisteredFrom::ClientConfig { namespace, name: config }) =
        from.map(|from| RegisteredFrom::read(from))
    else {
        return Ok(());
    };
    let configs: Api<ClientConfig> = Api::namespaced(home.client.clone(), &namespace);
    match configs.get_metadata_opt(&config).await {
        Ok(None) => Ok(()),
        // One that may not be looked at may be there.
        Ok(Some(_)) | Err(kube::Error::Api(_)) => Err(Failure::CouldNotAsk(format!(
            "dataplane `{name}` was registered by a ClientConfig and goes with it: \
             `kubectl -n {namespace} delete clientconfig {config}`"
        ))),
        Err(error) => Err(Failure::reading(&format!("ClientConfig `{namespace}/{config}`"), &error)),
    }
}

/// Labels the Secret so that it no longer registers the cluster, yet is still known to be ours. Returns
/// whether there is one.
async fn retire_secret(home: &ControlPlaneClient, name: &str) -> Outcome<bool> {
    let secrets = home.api::<Secret>();
    match secrets.get_metadata(name).await {
        Err(error) if is_not_found(&error) => return Ok(false),
        Err(error) => return Err(Failure::reading(&format!("secret `{name}` {home}"), &error)),
        Ok(secret) if !secret.labels().contains_key(labels::REGISTER) => return Ok(false),
        Ok(_) => {}
    }
    let patch = json!({"metadata": {"labels": {labels::REGISTER: "false"}}});
    // Not by server-side apply: that would drop the kubeconfig we own under the same manager.
    match secrets.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(Failure::writing(&format!("label secret `{name}` {home}"), &error)),
    }
}

/// Returns whether there was one.
async fn delete<K: Followed>(home: &ControlPlaneClient, name: &str) -> Outcome<bool> {
    match home.api::<K>().delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => {
            let kind = K::kind(&()).to_lowercase();
            Err(Failure::writing(&format!("delete {kind} `{name}` {home}"), &error))
        }
    }
}

/// Waits until the data plane is gone; false when the time is up.
async fn is_gone(home: &ControlPlaneClient, name: &str, args: &Unregister) -> bool {
    let mut seen = pin!(watcher::watch_object(home.api::<DataPlane>(), name).default_backoff());
    let wait = async {
        while let Some(event) = seen.next().await {
            if matches!(event, Ok(None)) {
                break;
            }
        }
    };
    tokio::time::timeout(args.timeout, wait).await.is_ok()
}
