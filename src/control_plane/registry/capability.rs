//! What a data plane serves and allows, and who reconciles the Medusa kinds there.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    authorization::v1::{
        ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
    },
    coordination::v1::Lease,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};

use crate::{
    api::{
        fleet::MedusaController,
        labels,
        operator::{self, Operator},
    },
    control_plane::data_planes::{
        capabilities::{Fields, NEEDS, Need, resource},
        remote::{CallError, Remote},
    },
    runtime::scope,
};

/// Definitions every data plane needs: group, version, plural. What is needed for more than backups is in
/// [`NEEDS`].
const DEFINITIONS: [(&str, &str, &str); 4] = [
    ("cassandra.datastax.com", "v1beta1", "cassandradatacenters"),
    ("medusa.k8ssandra.io", "v1alpha1", "medusabackupjobs"),
    ("medusa.k8ssandra.io", "v1alpha1", "medusabackups"),
    ("medusa.k8ssandra.io", "v1alpha1", "medusaconfigurations"),
];

/// Permissions the control plane needs in every data plane: group, resource, verbs. `kubeconfigs/data-plane-rbac.yaml`
/// grants them.
const PERMISSIONS: [(&str, &str, &[&str]); 5] = [
    ("cassandra.datastax.com", "cassandradatacenters", &["list", "watch"]),
    ("medusa.k8ssandra.io", "medusabackupjobs", &["list", "watch", "create"]),
    ("medusa.k8ssandra.io", "medusabackups", &["list", "watch"]),
    ("medusa.k8ssandra.io", "medusaconfigurations", &["get", "list", "watch", "create", "patch", "delete"]),
    ("", "secrets", &["get", "list", "watch", "create", "patch", "delete"]),
];

/// API version whose fields are read.
const MEDUSA: &str = "medusa.k8ssandra.io/v1alpha1";
/// A namespace that does not exist: what is granted there is granted everywhere.
const NOWHERE: &str = "medusa-fleet-nowhere";
/// Deployments asked for at a time.
const PAGE: u32 = 100;

/// What is not there of what was asked for.
pub struct Missing<L> {
    /// What every data plane needs.
    pub missing: Vec<String>,
    /// What is needed for more than backups.
    pub lacking: L,
}

/// The definitions that are not served, as `plural.group`.
///
/// # Errors
/// When the API server did not answer.
pub async fn definitions(remote: &Remote) -> Result<Missing<BTreeSet<String>>, CallError> {
    let mut served: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (group, version, _) in DEFINITIONS {
        if served.contains_key(group) {
            continue;
        }
        let path = format!("{group}/{version}");
        let names = remote
            .call(|client| async move { client.list_api_group_resources(&path).await })
            .await
            .map(|list| list.resources.into_iter().map(|r| r.name).collect());
        match names {
            Ok(names) => served.insert(group, names),
            Err(error) if error.code() == Some(404) => served.insert(group, Vec::new()),
            Err(error) => return Err(error),
        };
    }
    // Groups that were not asked for are the API server's own.
    let is_served =
        |group: &str, plural: &str| served.get(group).is_none_or(|names| names.iter().any(|n| n == plural));
    let missing: Vec<String> = DEFINITIONS
        .into_iter()
        .filter(|(group, _, plural)| !is_served(group, plural))
        .map(|(group, _, plural)| resource(group, plural))
        .collect();
    let lacking = NEEDS.iter().filter(|n| !is_served(n.group, n.plural)).map(Need::resource);
    Ok(Missing { lacking: lacking.filter(|name| !missing.contains(name)).collect(), missing })
}

/// The permissions that are not granted, in the namespaces `within` or, when that is empty, everywhere: as
/// `verb resource.group`, and by resource.
///
/// # Errors
/// When the API server did not answer.
pub async fn permissions(
    remote: &Remote,
    within: &BTreeSet<String>,
) -> Result<Missing<BTreeMap<String, Vec<String>>>, CallError> {
    let places = scope::places(within);
    let asked = join_all(places.iter().map(|place| permissions_in(remote, place.as_deref()))).await;
    let mut all = Missing { missing: Vec::new(), lacking: BTreeMap::<String, Vec<String>>::new() };
    for (place, there) in places.into_iter().zip(asked) {
        let there = there?;
        let place = place.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
        all.missing.extend(there.missing.into_iter().map(|missing| format!("{missing}{place}")));
        for (resource, verbs) in there.lacking {
            let known = all.lacking.entry(resource).or_default();
            for verb in verbs {
                if !known.contains(&verb) {
                    known.push(verb);
                }
            }
        }
    }
    Ok(all)
}

async fn permissions_in(
    remote: &Remote,
    place: Option<&str>,
) -> Result<Missing<BTreeMap<String, Vec<String>>>, CallError> {
    // One question brings most of it; an authorizer may not tell all, so the rest is asked one by one.
    let rules = rules(remote, place).await?;
    let unlisted = |(group, plural, verbs): (&'static str, &'static str, &'static [&'static str])| {
        let rules = &rules;
        verbs.iter().filter(move |verb| !rules.iter().any(|rule| grants(rule, group, plural, verb))).map(
            move |verb| async move {
                Ok((!is_granted(remote, place, group, plural, verb).await?).then_some((group, plural, *verb)))
            },
        )
    };
    let base = PERMISSIONS.into_iter().flat_map(unlisted);
    let extra = NEEDS.into_iter().map(|n| (n.group, n.plural, n.verbs)).flat_map(unlisted);
    // The link's own limit of requests in flight bounds this.
    let (base, extra) = futures::future::join(join_all(base), join_all(extra)).await;
    let missing = base.into_iter().filter_map(Result::transpose);
    let missing =
        missing.map(|found| found.map(|(group, plural, verb)| format!("{verb} {}", resource(group, plural))));
    let mut lacking: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for found in extra.into_iter().filter_map(Result::transpose) {
        let (group, plural, verb) = found?;
        lacking.entry(resource(group, plural)).or_default().push(verb.to_owned());
    }
    Ok(Missing { missing: missing.collect::<Result<_, CallError>>()?, lacking })
}

/// What the API server says is granted there; nothing when it does not answer such questions.
async fn rules(remote: &Remote, place: Option<&str>) -> Result<Vec<ResourceRule>, CallError> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some(place.unwrap_or(NOWHERE).to_owned()) },
        ..SelfSubjectRulesReview::default()
    };
    let answer = remote
        .call(|client| async move {
            Api::<SelfSubjectRulesReview>::all(client).create(&PostParams::default(), &review).await
        })
        .await;
    match answer {
        Ok(answer) => Ok(answer.status.map(|status| status.resource_rules).unwrap_or_default()),
        Err(error) if error.code().is_some() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn grants(rule: &ResourceRule, group: &str, plural: &str, verb: &str) -> bool {
    let has = |list: Option<&Vec<String>>, word: &str| {
        list.is_some_and(|list| list.iter().any(|w| w == word || w == "*"))
    };
    rule.resource_names.as_ref().is_none_or(Vec::is_empty)
        && has(rule.api_groups.as_ref(), group)
        && has(rule.resources.as_ref(), plural)
        && has(Some(&rule.verbs), verb)
}

async fn is_granted(
    remote: &Remote,
    place: Option<&str>,
    group: &str,
    plural: &str,
    verb: &str,
) -> Result<bool, CallError> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: place.map(str::to_owned),
                group: Some(group.to_owned()),
                resource: Some(plural.to_owned()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = remote
        .call(|client| async move {
            Api::<SelfSubjectAccessReview>::all(client).create(&PostParams::default(), &review).await
        })
        .await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Fields of MedusaBackupSchedule's spec as the API server publishes them, which every account may read, unlike
/// the definition itself; `None` when it does not say.
pub async fn schedule_fields(remote: &Remote) -> Option<Fields> {
    let request = http::Request::get(format!("/openapi/v3/apis/{MEDUSA}")).body(Vec::new()).ok()?;
    let document = remote
        .call(|client| async move { client.request::<serde_json::Value>(request).await })
        .await
        .inspect_err(|error| tracing::debug!(%error, "read the fields of MedusaBackupSchedule"))
        .ok()?;
    Fields::of_spec(&document, "MedusaBackupSchedule")
}

/// Who reconciles the Medusa kinds, or `None` when nobody does that can be recognised in those `places`. That one way of
/// looking is closed ends nothing: a Lease of ours, then Deployments, then the Lease of k8ssandra-operator.
///
/// # Errors
/// What would have to be permitted to tell.
pub async fn medusa_controller(
    remote: &Remote,
    places: &[Option<String>],
    now: Timestamp,
) -> Result<Option<MedusaController>, String> {
    let ours = ListParams::default()
        .labels(&format!("{}=medusa-fleet,{}=data-plane", labels::APP_NAME, labels::APP_COMPONENT))
        .limit(1);
    let leases = leases(remote, places, &ours).await;
    let lease = leases.as_ref().ok().and_then(|leases| leases.first());
    let ours = lease.map(|lease| MedusaController {
        name: MedusaController::OURS.to_owned(),
        version: lease.labels().get(labels::APP_VERSION).cloned(),
    });
    if lease.is_some_and(|lease| !operator::is_left_behind(lease, now)) {
        return Ok(ours);
    }
    let deployed = deployed(remote, places).await;
    let upstream = match &deployed {
        Ok(Some(operator)) => Some(operator.clone()),
        Ok(None) | Err(_) => elected(remote, places, now).await,
    };
    let upstream = upstream.map(|operator| MedusaController {
        name: MedusaController::UPSTREAM.to_owned(),
        version: operator.version,
    });
    // A Lease that is old may be of a controller that is down; beside another controller it is a trace.
    let found = upstream.or(ours);
    match (&found, leases, deployed) {
        (None, leases, Err(_)) => {
            let leases = if leases.is_err() { " and leases.coordination.k8s.io" } else { "" };
            Err(format!("list deployments.apps{leases}"))
        }
        (None, Err(_), Ok(_)) => Err("list leases.coordination.k8s.io".to_owned()),
        (Some(_), _, _) | (None, Ok(_), Ok(_)) => Ok(found),
    }
}

/// The Leases of all places. An error only where none was found.
async fn leases(
    remote: &Remote,
    places: &[Option<String>],
    params: &ListParams,
) -> Result<Vec<Lease>, CallError> {
    let list = |place: &Option<String>| {
        let place = place.clone();
        remote.call(|client| async move { scope::api::<Lease>(client, place.as_deref()).list(params).await })
    };
    let (mut found, mut failed) = (Vec::new(), None);
    for listed in join_all(places.iter().map(list)).await {
        match listed {
            Ok(listed) => found.extend(listed.items),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.filter(|_| found.is_empty()).map_or(Ok(found), Err)
}

/// k8ssandra-operator by its Deployment in one of the places.
async fn deployed(remote: &Remote, places: &[Option<String>]) -> Result<Option<Operator>, CallError> {
    let mut failed = None;
    for found in join_all(places.iter().map(|place| deployed_in(remote, place.as_deref()))).await {
        match found {
            Ok(None) => {}
            Ok(Some(found)) => return Ok(Some(found)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// The same in one place. Asked for where it mostly is before all are looked through.
async fn deployed_in(remote: &Remote, place: Option<&str>) -> Result<Option<Operator>, CallError> {
    let label = |key: &str| ListParams::default().labels(&format!("{key}={}", operator::NAME));
    for params in [label(labels::APP_NAME), label("control-plane"), ListParams::default()] {
        let mut params = params.limit(PAGE);
        loop {
            let asked = params.clone();
            let page = remote
                .call(|client| async move { scope::api::<Deployment>(client, place).list(&asked).await })
                .await?;
            if let Some(found) = page.items.iter().find_map(operator::of_deployment) {
                return Ok(Some(found));
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(None)
}

/// k8ssandra-operator by the Lease it holds, where it elects a leader and that may be seen.
async fn elected(remote: &Remote, places: &[Option<String>], now: Timestamp) -> Option<Operator> {
    let params = ListParams::default().fields(&format!("metadata.name={}", operator::LEASE));
    let leases = leases(remote, places, &params).await;
    leases.ok()?.iter().find_map(|lease| operator::of_lease(lease, now))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::rbac::v1::ClusterRole;

    use super::*;

    #[test]
    fn the_shipped_role_grants_what_is_asked_for() {
        let yaml = include_str!("../../../kubeconfigs/data-plane-rbac.yaml");
        let role: ClusterRole = yaml
            .split("\n---")
            .filter(|document| document.contains("kind: ClusterRole\n"))
            .find_map(|document| serde_saphyr::from_str(document).ok())
            .unwrap();
        let rules = role.rules.unwrap_or_default();
        let extras = NEEDS.into_iter().map(|need| (need.group, need.plural, need.verbs));
        for (group, resource, verbs) in PERMISSIONS.into_iter().chain(extras) {
            for verb in verbs {
                let granted = rules.iter().any(|rule| {
                    let has = |list: &Option<Vec<String>>, word: &str| {
                        list.as_ref().is_some_and(|l| l.iter().any(|w| w == word))
                    };
                    has(&rule.api_groups, group)
                        && has(&rule.resources, resource)
                        && rule.verbs.iter().any(|v| v == verb)
                });
                assert!(granted, "{verb} {resource}.{group} is not in kubeconfigs/data-plane-rbac.yaml");
            }
        }
    }

    #[test]
    fn a_rule_grants_what_it_names_for_every_object() {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let rule = |groups: &[&str], names: Option<&[&str]>| ResourceRule {
            api_groups: Some(words(groups)),
            resources: Some(words(&["secrets"])),
            resource_names: names.map(words),
            verbs: words(&["get", "list"]),
        };
        assert!(grants(&rule(&[""], None), "", "secrets", "list"));
        assert!(grants(&rule(&["*"], Some(&[])), "", "secrets", "get"));
        assert!(!grants(&rule(&[""], None), "", "secrets", "delete"));
        assert!(!grants(&rule(&["apps"], None), "", "secrets", "get"));
        assert!(!grants(&rule(&[""], Some(&["one"])), "", "secrets", "get"));
    }
}
