//! DataPlanes: cannot be used, cannot do everything, or soon cannot. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Finding, Read, Severity, UNSEEN_SECONDS, home::RUN_IT, object, seconds};
use crate::{
    api::{
        Conditions as _, Reason,
        fleet::{DataPlane, MedusaController},
    },
    cli::views::{
        count,
        data_planes::renewal,
        name,
        status::{ends_soon, is_wanted, silent_since},
    },
    control_plane::identity::INHERITED,
};

/// Every data plane.
pub(super) fn data_planes(read: &Read<DataPlane>, now: Timestamp) -> Vec<Finding> {
    let planes = read.objects();
    if read.is_whole() && planes.is_empty() {
        let what =
            "there is no DataPlane, not even the control plane's own: no control plane has ever run here";
        return vec![Finding::new(
            Severity::Error,
            "control-plane".to_owned(),
            Reason::NeverRan,
            what,
            RUN_IT,
        )];
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
            let fix = fix(&ready.reason, plane);
            found.push(Finding::of(severity, object.clone(), ready, fix));
        }
        Some(_) => {
            if let Some(said) = status.conditions.of_type(INHERITED) {
                let fix = "create the objects again, or `kubectl medusa adopt --forget INSTALLATION`";
                found.push(Finding::of(Severity::Warning, object.clone(), said, fix));
            }
            let said = status.conditions.of_type("Authenticated");
            if let Some(said) = said.filter(|c| c.reason == Reason::RenewalFailed.as_str()) {
                found.push(Finding::of(Severity::Warning, object.clone(), said, fix(&said.reason, plane)));
            }
            for (type_, severity) in [("Authorized", Severity::Warning), ("Served", Severity::Notice)] {
                let limited =
                    |words: &str| words.contains("; not permitted:") || words.contains("; not served:");
                let said = status.conditions.of_type(type_).filter(|c| limited(&c.message));
                if let Some(said) =
                    said.filter(|c| type_ != "Served" || !is_upstreams_choice(plane, &c.message))
                {
                    let reason = if type_ == "Served" { Reason::NotServed } else { Reason::NotAuthorized };
                    let fix = fix(reason.as_str(), plane);
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
        let reason = Reason::CredentialExpired;
        // Once it is rejected, the condition says so.
        if found.iter().all(|f| f.reason != reason.as_str()) {
            let what =
                format!("its credential {} {}", if is_over { "expired at" } else { "expires at" }, at.0);
            found.push(Finding::new(severity, object, reason, what, fix(reason.as_str(), plane)));
        }
    }
    found
}

/// Whether k8ssandra-operator works there and all that is not served are fields that it knows nothing of: newer definitions
/// would change nothing.
fn is_upstreams_choice(plane: &DataPlane, message: &str) -> bool {
    const KINDS: &str = ".medusa.k8ssandra.io (";
    is_upstreams(plane) && !message.contains(KINDS)
}

fn is_upstreams(plane: &DataPlane) -> bool {
    let controller = plane.status.as_ref().and_then(|status| status.medusa_controller.as_ref());
    controller.is_some_and(|controller| controller.name == MedusaController::UPSTREAM)
}

/// A control plane that reports nothing any more: once, however many data planes show it.
fn silence(planes: &[DataPlane], now: Timestamp) -> Option<Finding> {
    let stale: Vec<Timestamp> = planes.iter().filter_map(|plane| Some(silent_since(plane, now)?.0)).collect();
    let last = stale.iter().max()?;
    let what = format!("has reported nothing of {} since {last:.0}", count(stale.len(), "data plane"));
    let finding = Finding::new(Severity::Error, "control-plane".to_owned(), Reason::Stale, what, RUN_IT);
    Some(finding.since(Some(Time(*last))))
}

/// What to do about a data plane for this reason.
fn fix(reason: &str, plane: &DataPlane) -> String {
    let name = name(&plane.metadata);
    let words = match Reason::of(reason) {
        Some(
            Reason::SecretNotFound
            | Reason::KubeconfigKeyMissing
            | Reason::InvalidKubeconfig
            | Reason::UnsafeKubeconfig
            | Reason::CredentialRejected
            | Reason::CredentialExpired,
        ) => return renewal(plane),
        Some(Reason::RenewalFailed) => {
            return format!(
                "mend what the message says; `kubectl medusa register {name} --rotate` has it tried at once"
            );
        }
        Some(Reason::CertificateRejected) => {
            return format!(
                "mend the API server's certificate as the message says; if its authority is another now: {}",
                renewal(plane)
            );
        }
        Some(Reason::NameNotFound) => {
            "see that the host in the kubeconfig's `server` is spelt right and that the control plane's DNS knows it"
        }
        Some(Reason::ConnectionRefused) => {
            "see that its API server runs, and that `server` in the kubeconfig has the right address and port"
        }
        Some(Reason::TimedOut) => {
            "see that its API server runs and that no firewall or network policy stands between it and the control plane; it is tried again by itself"
        }
        Some(Reason::ProxyFailed) => {
            "see that the proxy runs and lets the control plane through to the API server, or take it out of the way"
        }
        Some(Reason::NotKubernetes) => {
            "see what answers at the kubeconfig's `server`: a load balancer whose API servers are down, a login page, another port"
        }
        Some(Reason::AnswerUnbounded) => {
            "see what its API server answers: an object or list of that length is none that Kubernetes stores, or the line is too slow"
        }
        Some(Reason::RateLimited) => {
            "its API server is busy: see its priority levels and flow schemas; it is tried again by itself"
        }
        Some(Reason::ApiServerFailing) => "see to its API server and etcd, which the message speaks of",
        Some(Reason::Unreachable) => {
            "see that its API server runs and can be reached from the control plane; it is tried again by itself"
        }
        Some(Reason::PermissionsMissing | Reason::NotAuthorized) if plane.spec.local == Some(true) => {
            "upgrade the control plane's own release or manifest, which brings its rights in this cluster"
        }
        Some(Reason::PermissionsMissing | Reason::NotAuthorized) if !plane.spec.namespaces.is_empty() => {
            "write its namespaces into kubeconfigs/data-plane-rbac-namespaced.yaml, and `kubectl --context CONTEXT apply -f` \
             it, CONTEXT being that cluster's"
        }
        Some(Reason::PermissionsMissing | Reason::NotAuthorized) => {
            "`kubectl --context CONTEXT apply -f kubeconfigs/data-plane-rbac.yaml`, CONTEXT being that cluster's; where \
             the account of the kubeconfig is another than in that file, bind its ClusterRole to that account too"
        }
        Some(Reason::DeniedByPolicy) => {
            "exempt the account of this kubeconfig from the policy that the message names"
        }
        Some(Reason::DefinitionMissing) => {
            "there: `medusa-fleet crds --group medusa.k8ssandra.io | kubectl apply --server-side -f -`, or where Helm has \
             installed definitions of this group, upgrade that release; cass-operator brings the CassandraDatacenter"
        }
        Some(Reason::NotServed) if is_upstreams(plane) => {
            "the definitions there are k8ssandra-operator's: upgrade it if you need that"
        }
        Some(Reason::NotServed) => {
            "install newer definitions there if you need it: upgrade the Helm release that brought them, or where none \
             did, `medusa-fleet crds --group medusa.k8ssandra.io | kubectl apply --server-side -f -`"
        }
        Some(Reason::DuplicateCluster) => "unregister one of the two: `kubectl medusa unregister NAME`",
        Some(Reason::ReservedName) => "register it under another name",
        Some(Reason::Paused) => "set spec.paused of the DataPlane to false when its time has come",
        Some(_) | None => return format!("`kubectl medusa describe dataplane/{name}` shows every condition"),
    };
    words.to_owned()
}
