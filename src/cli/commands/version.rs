//! `version`: of this program and of the controllers.

use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease};
use kube::{Resource as _, ResourceExt as _, api::ListParams};
use serde_json::json;

use crate::{
    api::{fleet::DataPlane, labels},
    cli::{
        doctor::leading,
        failure::{Failure, Outcome},
        home::ControlPlaneClient,
        output::{Printer, Table},
        views::{data_planes::controller, name},
    },
    control_plane::LEASE,
    runtime::clock,
};

const CLIENT: &str = env!("CARGO_PKG_VERSION");
/// Finds the control plane's Deployment, as `deploy/` labels it.
const CONTROL_PLANE: &str = "app.kubernetes.io/name=medusa-fleet,app.kubernetes.io/component=control-plane";

/// Prints this program's version.
///
/// # Errors
/// When stdout cannot be written.
pub fn client(printer: Printer) -> Outcome {
    if printer.format().is_for_programs() {
        return printer.value(&json!({"client": CLIENT}));
    }
    printer.text(&format!("client   {CLIENT}\n"))
}

/// Prints this program's version where no other can be asked for; `why` says why not.
///
/// # Errors
/// Always: the others' versions are not known.
pub fn alone(printer: Printer, why: &Failure) -> Outcome {
    client(printer)?;
    let why = why.message().unwrap_or_default();
    Err(Failure::CouldNotAsk(format!("the control plane could not be asked: {why}")))
}

/// Prints this program's version, the control plane's, and what runs in the data planes.
///
/// # Errors
/// When the control plane's cluster cannot be asked.
pub async fn all(printer: Printer, home: &ControlPlaneClient) -> Outcome {
    let (control_plane, data_planes) = match ask(home).await {
        Ok(answer) => answer,
        Err(failure) => return alone(printer, &failure),
    };
    if printer.format().is_for_programs() {
        let planes: serde_json::Map<_, _> =
            data_planes.into_iter().map(|(name, version)| (name, version.into())).collect();
        return printer
            .value(&json!({"client": CLIENT, "controlPlane": control_plane, "dataPlanes": planes}));
    }
    let mut table = Table::new(&["COMPONENT", "VERSION"]);
    table.row(["client".to_owned(), CLIENT.to_owned()]);
    let unknown = || format!("no Deployment {home}");
    table.row(["control plane".to_owned(), control_plane.unwrap_or_else(unknown)]);
    for (name, version) in data_planes {
        table.row([format!("data plane {name}"), version]);
    }
    printer.text(&table.render(0))
}

async fn ask(home: &ControlPlaneClient) -> Outcome<(Option<String>, Vec<(String, String)>)> {
    let deployments = home
        .api::<Deployment>()
        .list(&ListParams::default().labels(CONTROL_PLANE))
        .await
        .map_err(|error| Failure::reading(&format!("deployments {home}"), &error))?;
    // Of two replicas one leads; which version that is, the Deployment does not say. It is enough where no Lease is.
    let lease = home.api::<Lease>().get_opt(LEASE).await.ok().flatten();
    let leads = leading(lease.as_slice(), clock::now());
    let data_planes = home.list::<DataPlane>().await?;
    let mut versions: Vec<_> = data_planes
        .iter()
        .map(|d| (name(&d.metadata), d.status.as_ref().map_or_else(String::new, controller)))
        .collect();
    versions.sort();
    Ok((leads.or_else(|| deployments.items.first().map(version)), versions))
}

/// The version a Deployment says it is, else the tag of its image.
fn version(deployment: &Deployment) -> String {
    let label = deployment.labels().get(labels::APP_VERSION).cloned();
    let image = || {
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        pod.containers.first()?.image.clone()
    };
    label.or_else(image).unwrap_or_else(|| format!("unknown (deployment {})", name(deployment.meta())))
}
