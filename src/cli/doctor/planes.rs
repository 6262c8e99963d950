//! DataPlanes: cannot be used, cannot do everything, or soon cannot. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Finding, Read, Severity, UNSEEN_SECONDS, home::RUN_IT, object, seconds};
use crate::{
    api::{Conditions as _, Reason, fleet::DataPlane},
    cli::views::{
        count, name,
        status::{ends_soon, is_wanted, silent_since},
    },
};

/// Every data plane.
pub(super) fn data_planes(read: &Read<DataPlane>, now: Timestamp) -> Vec<Finding> {
    let planes = read.objects();
    if read.is_whole() && planes.is_empty() {
        let what =
            "there is no DataPlane, not even the control plane's own: no control plane has ever run here";
        return vec![Finding::new(Severity::Error, "control-plane".to_owned(), "NeverRan", what, RUN_IT)];
    }
    let mut found: Vec<Finding> = planes.iter().flat_map(|plane| one(plane, now)).collect();
    found.extend(silence(planes, now));
    found
}

fn one(plane: &DataPlane, now: Timestamp) -> Vec<Finding> {
    let object = object("dataplane", &plane.metadata);
    let Some(status) = &plane.status else {
        return super::unseen(&plane.metadata, object, now).into_iter().collect();
    };
    let mut found = Vec::new();
    match status.conditions.of_type("Ready") {
        Some(ready) if ready.status != "True" => {
            // It has just been registered, or the control plane has just started.
            let is_new = ready.reason == Reason::Connecting.as_str()
                && seconds(&ready.last_transition_time, now) <= UNSEEN_SECONDS;
            let severity = if is_new || is_wanted(ready) { Severity::Notice } else { Severity::Error };
            let fix = fix(&ready.reason, &name(&plane.metadata));
            found.push(Finding::of(severity, object.clone(), ready, fix));
        }
        Some(_) => {
            for (type_, severity) in [("Authorized", Severity::Warning), ("Served", Severity::Notice)] {
                let limited =
                    |words: &str| words.contains("; not permitted:") || words.contains("; not served:");
                if let Some(said) = status.conditions.of_type(type_).filter(|c| limited(&c.message)) {
                    let reason = if type_ == "Served" { Reason::NotServed } else { Reason::NotAuthorized };
                    let fix = fix(reason.as_str(), &name(&plane.metadata));
                    let reason = reason.as_str().to_owned();
                    found.push(Finding { reason, ..Finding::of(severity, object.clone(), said, fix) });
                }
            }
        }
        None => found.extend(super::unseen(&plane.metadata, object.clone(), now)),
    }
    if let Some(at) = ends_soon(plane, now) {
        let is_over = at.0 <= now;
        let severity = if is_over { Severity::Error } else { Severity::Warning };
        let reason = Reason::CredentialExpired.as_str();
        // Once it is rejected, the condition says so.
        if found.iter().all(|f| f.reason != reason) {
            let what =
                format!("its credential {} {}", if is_over { "expired at" } else { "expires at" }, at.0);
            found.push(Finding::new(severity, object, reason, what, fix(reason, &name(&plane.metadata))));
        }
    }
    found
}

/// A control plane that reports nothing any more: once, however many data planes show it.
fn silence(planes: &[DataPlane], now: Timestamp) -> Option<Finding> {
    let stale: Vec<Timestamp> = planes.iter().filter_map(|plane| Some(silent_since(plane, now)?.0)).collect();
    let last = stale.iter().max()?;
    let what = format!("has reported nothing of {} since {last:.0}", count(stale.len(), "data plane"));
    let finding = Finding::new(Severity::Error, "control-plane".to_owned(), "Stale", what, RUN_IT);
    Some(finding.since(Some(Time(*last))))
}

/// What to do about a data plane for this reason.
fn fix(reason: &str, name: &str) -> String {
    let again = || format!("`kubectl medusa register {name} --from-kubeconfig FILE` makes a new credential");
    match Reason::of(reason) {
        Some(
            Reason::SecretNotFound
            | Reason::KubeconfigKeyMissing
            | Reason::InvalidKubeconfig
            | Reason::UnsafeKubeconfig
            | Reason::CredentialRejected
            | Reason::CredentialExpired
            | Reason::CertificateRejected,
        ) => again(),
        Some(Reason::Unreachable) => {
            "see that its API server runs and can be reached from the control plane; it is tried again by itself".to_owned()
        }
        Some(Reason::PermissionsMissing | Reason::NotAuthorized) => {
            "apply kubeconfigs/data-plane-rbac.yaml there".to_owned()
        }
        Some(Reason::DefinitionMissing) => {
            "there: `medusa-fleet crds --group medusa.k8ssandra.io | kubectl apply --server-side -f -`; \
             cass-operator brings the CassandraDatacenter"
                .to_owned()
        }
        Some(Reason::NotServed) => {
            "install newer definitions there if you need it: `medusa-fleet crds --group medusa.k8ssandra.io`".to_owned()
        }
        Some(Reason::DuplicateCluster) => "unregister one of the two: `kubectl medusa unregister NAME`".to_owned(),
        Some(Reason::ReservedName) => "register it under another name".to_owned(),
        Some(Reason::Paused) => "set spec.paused of the DataPlane to false when its time has come".to_owned(),
        Some(_) | None => format!("`kubectl medusa describe dataplane/{name}` shows every condition"),
    }
}
