//! The single writes of copies into a data plane. A copy is applied with a precondition, an object that is not ours is
//! never written, and before one is deleted it is looked at once more.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    core::Status,
};
use serde_json::{Value, json};
use std::sync::Arc;

use super::{
    content::{Precondition, applied, differences, is_copy_of_ours, owner, surplus},
    desired::{CopyKey, CopyKind, Wanted},
    plan::Action,
    worker::Shared,
};
use crate::{
    api::{Reason, Why, labels, medusa::MedusaConfiguration},
    control_plane::{
        data_planes::{
            copies::{configuration_record, secret_record},
            records::CopyRecord,
            remote::{CallError, Remote},
        },
        sources::Payload,
    },
    runtime::cause,
};

/// Result of one write.
pub(super) enum Outcome {
    /// Done; the copy as it is now, with the hash that was wanted.
    Written(Box<CopyRecord>, String),
    /// Somebody else has put the same content there.
    Shared {
        /// Its hash.
        hash: String,
        /// Who has.
        with: String,
    },
    /// It is not there, or not ours (any more).
    Gone,
    /// The copy changed meanwhile, or there is nothing to write (any more): plan again.
    PlanAgain,
    /// It could not be done.
    Failed(Why),
}

/// Carries an action out. What `is_known` to be in the way is looked at before anything is tried.
pub(super) async fn carry_out(
    action: &Action,
    wanted: Option<Wanted>,
    is_known: bool,
    remote: &Remote,
    shared: &Shared,
) -> Outcome {
    let key = action.key();
    let (precondition, wanted) = match (action, wanted) {
        (Action::Remove { uid, .. }, _) => return remove(key, uid, remote, shared).await,
        (_, None) => return Outcome::PlanAgain,
        (Action::Create(_), Some(wanted)) => (Precondition::Absent, wanted),
        (Action::Correct { uid, resource_version, .. }, Some(wanted)) => {
            (Precondition::Version { uid, resource_version }, wanted)
        }
    };
    let payload = match key.kind {
        CopyKind::MedusaConfiguration => shared.sources.configuration(&wanted.source).map(Arc::new),
        CopyKind::Secret => match shared.sources.secret(&wanted.source).await {
            Ok(payload) => payload,
            Err(error) => {
                tracing::warn!(source = %wanted.source, %error, "read source secret");
                return Outcome::PlanAgain;
            }
        },
    };
    let (Some(payload), Some((source_uid, _))) = (payload, &wanted.content) else {
        return Outcome::PlanAgain;
    };
    if is_known && matches!(precondition, Precondition::Absent) {
        match find(key, remote).await {
            Ok(None) => {}
            Ok(Some(found)) => {
                return judge(key, &found, &wanted, source_uid, &payload, remote, shared).await;
            }
            Err(error) => return failed(key, &error),
        }
    }
    put(key, &wanted, source_uid, &payload, &precondition, remote, shared).await
}

async fn put(
    key: &CopyKey,
    wanted: &Wanted,
    source_uid: &str,
    payload: &Payload,
    precondition: &Precondition<'_>,
    remote: &Remote,
    shared: &Shared,
) -> Outcome {
    let hash = payload.hash();
    let object = applied(key, &wanted.source, source_uid, &shared.control_plane, payload, precondition);
    match apply(key, &object, remote).await {
        Ok(record) if record.content_hash != hash => {
            // Somebody else's fields are in it: applying does not take those away.
            match prune(key, payload, &record, remote).await {
                Ok(record) => Outcome::Written(Box::new(record), hash),
                Err(error) => failed(key, &error),
            }
        }
        Ok(record) => Outcome::Written(Box::new(record), hash),
        Err(error) if error.code() == Some(409) => match precondition {
            Precondition::Version { .. } => Outcome::PlanAgain,
            Precondition::Absent => match find(key, remote).await {
                Ok(Some(found)) => judge(key, &found, wanted, source_uid, payload, remote, shared).await,
                Ok(None) => Outcome::PlanAgain,
                Err(error) => failed(key, &error),
            },
        },
        Err(error) => failed(key, &error),
    }
}

async fn apply(key: &CopyKey, object: &Value, remote: &Remote) -> Result<CopyRecord, CallError> {
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    let (namespace, name) = (key.object.namespace.clone(), key.object.name.clone());
    remote
        .call(|client| async move {
            match key.kind {
                CopyKind::Secret => Api::<Secret>::namespaced(client, &namespace)
                    .patch(&name, &params, &Patch::Apply(object))
                    .await
                    .map(|secret| secret_record(&secret)),
                CopyKind::MedusaConfiguration => Api::<MedusaConfiguration>::namespaced(client, &namespace)
                    .patch(&name, &params, &Patch::Apply(object))
                    .await
                    .map(|configuration| configuration_record(&configuration)),
            }
        })
        .await
}

/// Removes what a copy holds and its source does not.
async fn prune(
    key: &CopyKey,
    payload: &Payload,
    record: &CopyRecord,
    remote: &Remote,
) -> Result<CopyRecord, CallError> {
    let (namespace, name) = (&key.object.namespace, &key.object.name);
    let params = PatchParams {
        field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()),
        ..PatchParams::default()
    };
    let patch = |meta: &ObjectMeta, part: &str, surplus: Value| {
        Patch::Merge(json!({
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, part: surplus,
        }))
    };
    remote
        .call(|client| async move {
            match payload {
                Payload::Secret { data, .. } => {
                    let api = Api::<Secret>::namespaced(client, namespace);
                    let current = api.get(name).await?;
                    let held = current.data.clone().unwrap_or_default();
                    let Some(surplus) = surplus(&json!(held), &json!(data)) else {
                        return Ok(secret_record(&current));
                    };
                    let patch = patch(&current.metadata, "data", surplus);
                    api.patch(name, &params, &patch).await.map(|secret| secret_record(&secret))
                }
                Payload::Configuration(spec) => {
                    let api = Api::<MedusaConfiguration>::namespaced(client, namespace);
                    let current = api.get(name).await?;
                    let Some(surplus) = surplus(&json!(current.spec), &json!(spec)) else {
                        return Ok(record.clone());
                    };
                    let patch = patch(&current.metadata, "spec", surplus);
                    api.patch(name, &params, &patch).await.map(|copy| configuration_record(&copy))
                }
            }
        })
        .await
}

/// What is found under the name of a copy.
enum Found {
    Secret(Box<Secret>),
    Configuration(Box<MedusaConfiguration>),
}

impl Found {
    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Secret(secret) => &secret.metadata,
            Self::Configuration(configuration) => &configuration.metadata,
        }
    }

    fn hash(&self) -> String {
        match self {
            Self::Secret(secret) => secret_record(secret).content_hash,
            Self::Configuration(configuration) => configuration_record(configuration).content_hash,
        }
    }
}

async fn find(key: &CopyKey, remote: &Remote) -> Result<Option<Found>, CallError> {
    let (namespace, name) = (&key.object.namespace, &key.object.name);
    remote
        .call(|client| async move {
            match key.kind {
                CopyKind::Secret => {
                    let found = Api::<Secret>::namespaced(client, namespace).get_opt(name).await?;
                    Ok(found.map(|secret| Found::Secret(Box::new(secret))))
                }
                CopyKind::MedusaConfiguration => {
                    let api = Api::<MedusaConfiguration>::namespaced(client, namespace);
                    Ok(api.get_opt(name).await?.map(|found| Found::Configuration(Box::new(found))))
                }
            }
        })
        .await
}

/// The name is in use. A copy of ours that lost its label is written as a whole, and seen again by that; what holds the same content is shared with whom
/// it belongs to; anything else is left alone and named.
async fn judge(
    key: &CopyKey,
    found: &Found,
    wanted: &Wanted,
    source_uid: &str,
    payload: &Payload,
    remote: &Remote,
    shared: &Shared,
) -> Outcome {
    let meta = found.meta();
    let has = |map: &Option<BTreeMap<String, String>>, key: &str, value: &str| {
        map.as_ref().and_then(|m| m.get(key)).is_some_and(|v| v == value)
    };
    let ours = has(&meta.labels, labels::CONTROL_PLANE, &shared.control_plane)
        || has(&meta.annotations, labels::SOURCE_UID, source_uid);
    if ours {
        let (uid, resource_version) =
            (meta.uid.clone().unwrap_or_default(), meta.resource_version.clone().unwrap_or_default());
        let precondition = Precondition::Version { uid: &uid, resource_version: &resource_version };
        return Box::pin(put(key, wanted, source_uid, payload, &precondition, remote, shared)).await;
    }
    let (hash, with) = (payload.hash(), owner(meta));
    if found.hash() == hash {
        return Outcome::Shared { hash, with };
    }
    let what = match found {
        Found::Secret(secret) => differences(secret, payload),
        Found::Configuration(_) => "`spec`".to_owned(),
    };
    let message = format!(
        "{key} exists and is not ours: {with} looks after it, and it differs from its source in {what}; make the two \
         equal and it is shared, or give the source another name, or take this place out of the targets"
    );
    Outcome::Failed(Why::new(Reason::NameConflict, message))
}

/// Takes a copy back: this very one, and only while it says that it is a copy of ours.
async fn remove(key: &CopyKey, uid: &str, remote: &Remote, shared: &Shared) -> Outcome {
    let (namespace, name) = (&key.object.namespace, &key.object.name);
    let found = remote
        .call(|client| async move {
            match key.kind {
                CopyKind::Secret => Api::<Secret>::namespaced(client, namespace)
                    .get_metadata_opt(name)
                    .await
                    .map(|found| found.map(|found| found.metadata)),
                CopyKind::MedusaConfiguration => Api::<MedusaConfiguration>::namespaced(client, namespace)
                    .get_metadata_opt(name)
                    .await
                    .map(|found| found.map(|found| found.metadata)),
            }
        })
        .await;
    let meta = match found {
        Ok(Some(meta)) if meta.uid.as_deref() == Some(uid) => meta,
        Ok(Some(_)) => return Outcome::PlanAgain,
        Ok(None) => return Outcome::Gone,
        Err(error) => return failed(key, &error),
    };
    if !is_copy_of_ours(&meta, &shared.control_plane) {
        let label = meta.labels.as_ref().and_then(|labels| labels.get(labels::CONTROL_PLANE));
        if label != Some(&shared.control_plane) {
            return Outcome::Gone;
        }
        let message = format!(
            "{key} is not wanted any more and is left where it is: its annotations are not those of a copy; delete it, \
             or take label `{}` off it",
            labels::CONTROL_PLANE
        );
        return Outcome::Failed(Why::new(Reason::NameConflict, message));
    }
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: meta.resource_version };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let removed = remote
        .call(|client| async move {
            match key.kind {
                CopyKind::Secret => {
                    Api::<Secret>::namespaced(client, namespace).delete(name, &params).await.map(drop)
                }
                CopyKind::MedusaConfiguration => Api::<MedusaConfiguration>::namespaced(client, namespace)
                    .delete(name, &params)
                    .await
                    .map(drop),
            }
        })
        .await;
    match removed {
        Ok(()) => Outcome::Gone,
        Err(error) if error.code() == Some(404) => Outcome::Gone,
        // It changed since it was looked at.
        Err(error) if error.code() == Some(409) => Outcome::PlanAgain,
        Err(error) => failed(key, &error),
    }
}

fn failed(key: &CopyKey, error: &CallError) -> Outcome {
    Outcome::Failed(match error.status() {
        Some(status) => refusal(key, status),
        None => Why::new(Reason::DataPlaneUnreachable, format!("{key}: {error}")),
    })
}

/// What a refusal means. The API server may repeat a Secret's fields in its message, so only its reason and the names of
/// fields are passed on.
fn refusal(key: &CopyKey, status: &Status) -> Why {
    let namespace = &key.object.namespace;
    let says = |word: &str| status.message.contains(word);
    let causes = || status.details.iter().flat_map(|details| &details.causes);
    if status.code == 404 && says("namespaces") {
        let message =
            format!("namespace `{namespace}` does not exist there; create it, or take it out of the targets");
        return Why::new(Reason::NamespaceMissing, message);
    }
    if status.code == 422 && says("immutable") {
        let message = format!("{key} is marked immutable there; delete it and it will be copied again");
        return Why::new(Reason::Immutable, message);
    }
    if cause::is_too_large(status) {
        let message = format!(
            "{key} is larger than the API server there takes (answer {} {}); make its source smaller. It is tried \
             again when the source changes, and every few minutes",
            status.code, status.reason
        );
        return Why::new(Reason::TooLarge, message);
    }
    let fields: BTreeSet<&str> =
        causes().map(|cause| cause.field.as_str()).filter(|field| !field.is_empty()).take(5).collect();
    let about = if fields.is_empty() {
        String::new()
    } else {
        format!(" about {}", Vec::from_iter(fields).join(", "))
    };
    match cause::denied(status) {
        Some((denier, words)) => Why::new(denier.reason(), format!("{key}: {words}")),
        None => Why::new(
            Reason::WriteRefused,
            format!("{key}: the API server answered {} {}{about}", status.code, status.reason),
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::control_plane::data_planes::view::ObjectKey;

    #[rstest]
    #[case(413, "", "Request entity too large: limit is 3145728", Reason::TooLarge)]
    #[case(500, "", "etcdserver: request is too large", Reason::TooLarge)]
    #[case(500, "", "rpc error: trying to send message larger than max (2 vs. 1)", Reason::TooLarge)]
    #[case(422, "FieldValueTooLong", "data: Too long: may not be more than 1048576 bytes", Reason::TooLarge)]
    #[case(422, "FieldValueInvalid", "data: Invalid value: canary", Reason::WriteRefused)]
    #[case(
        422,
        "FieldValueForbidden",
        "data: Forbidden: field is immutable when `immutable` is set",
        Reason::Immutable
    )]
    #[case(404, "", "namespaces \"cass\" not found", Reason::NamespaceMissing)]
    #[case(403, "", "quota canary", Reason::DeniedByPolicy)]
    #[case(500, "", "canary", Reason::WriteRefused)]
    fn a_refusal_says_why_and_nothing_of_the_content(
        #[case] code: u16,
        #[case] cause: &str,
        #[case] message: &str,
        #[case] expected: Reason,
    ) {
        let key = CopyKey { kind: CopyKind::Secret, object: ObjectKey::new("cass", "bucket") };
        let status = serde_json::from_value(json!({
            "status": "Failure", "code": code, "message": message, "reason": "Odd",
            "details": {"causes": [{"reason": cause, "field": "data", "message": "canary"}]},
        }));
        let why = refusal(&key, &status.unwrap());
        assert_eq!(why.reason, expected, "{}", why.message);
        assert!(!why.message.contains("canary"), "{}", why.message);
    }
}
