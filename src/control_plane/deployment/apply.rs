//! Reads and writes of a deployment in one data plane, each safe to repeat and bound to what it was decided on.

use std::{collections::BTreeSet, ops::ControlFlow};

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Secret},
    apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta},
};
use kube::{
    Api, Client, Resource as _,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{Request, Status},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    ownership::{
        conflict::{self, Kept, Unsettled},
        diff::{Diff, compare},
        removal,
    },
    pod::{
        fields::{self, FieldPath},
        objects,
    },
};
use crate::{
    api::{Reason, Why, cassandra::CassandraDatacenter, fleet::ROLE, labels},
    control_plane::{
        data_planes::{
            remote::{CallError, Remote},
            view::ObjectKey,
        },
        sources::Payload,
    },
    runtime::{
        cause::{self, Denier},
        follow::Followed,
    },
};

/// Rounds in which fields are left to their owners before the rest is given up: each round ends with the API
/// server naming every conflict there is.
const ROUNDS: usize = 4;
/// Datacenters asked for at a time: each may be of 1.5 MB.
const PAGE: u32 = 2;

/// Why a read or write brought nothing.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// No answer, or none that means anything.
    Silent(String),
    /// The object is another by now: look again.
    Changed,
    /// A person has to mend something.
    Refused(Why),
}

impl Failure {
    /// What an error of `verb` on `what` means. Messages of the API server may quote what others wrote into a
    /// datacenter, so only its reason and the fields it names are passed on.
    fn of(error: &CallError, verb: &str, what: &str) -> Self {
        let Some(status) = error.status() else { return Self::Silent(error.to_string()) };
        let denied = cause::denied(status).filter(|(denier, _)| *denier != Denier::Permissions);
        if let Some((denier, words)) = denied {
            return Self::Refused(Why::new(denier.reason(), format!("{verb} {what}: {words}")));
        }
        if cause::is_too_large(status) {
            let message = format!(
                "{verb} {what}: with Medusa in it it would be larger than the API server there takes (answer {} {}{}); take \
                 annotations, or parts of its pod template, out of it",
                status.code,
                status.reason,
                fields(status)
            );
            return Self::Refused(Why::new(Reason::TooLarge, message));
        }
        match status.code {
            404 | 409 => Self::Changed,
            403 => Self::Refused(Why::new(
                Reason::NotAuthorized,
                format!("may not {verb} {what}; apply {ROLE} in the data plane"),
            )),
            400..=499 if status.code != 429 => Self::Refused(Why::new(
                Reason::WriteRefused,
                format!(
                    "{verb} {what}: the API server answered {} {}{}",
                    status.code,
                    status.reason,
                    fields(status)
                ),
            )),
            code => Self::Silent(format!("{verb} {what}: the API server answered {code}")),
        }
    }

    /// `what` is there, and somebody else's.
    pub(super) fn not_ours(what: &str) -> Self {
        let message = format!("{what} exists and is not ours; rename or delete it there");
        Self::Refused(Why::new(Reason::NameConflict, message))
    }

    /// `what` was shown without what a write has to hold to. No API server does that: it is no knowledge.
    fn inexact(what: &str) -> Self {
        Self::Silent(format!(
            "{what} was shown without uid or resourceVersion, as Kubernetes never does: nothing is written over it"
        ))
    }
}

/// `object` if it says which one it is and in which version; a write would hold to nothing otherwise.
fn exact(object: Value, what: &str) -> Result<Value, Failure> {
    let says =
        |field: &str| object.pointer(field).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if says("/metadata/uid") && says("/metadata/resourceVersion") {
        Ok(object)
    } else {
        Err(Failure::inexact(what))
    }
}

/// `object` if it can be looked through.
fn bounded(object: Value, what: &str) -> Result<Value, Failure> {
    if fields::is_bounded(&object) {
        return Ok(object);
    }
    let message = format!(
        "{what} has more than a hundred thousand fields and items, or a name of one with more than 4096 characters; nothing \
         is changed in it. Take out what need not stand there"
    );
    Err(Failure::Refused(Why::new(Reason::TooLarge, message)))
}

/// Uid and version of an object, if it says both.
fn identified(meta: &ObjectMeta) -> Option<(&str, &str)> {
    let (uid, version) = (meta.uid.as_deref()?, meta.resource_version.as_deref()?);
    (!uid.is_empty() && !version.is_empty()).then_some((uid, version))
}

fn fields(status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let named: BTreeSet<&str> =
        causes.map(|cause| cause.field.as_str()).filter(|field| !field.is_empty()).collect();
    if named.is_empty() {
        return String::new();
    }
    format!(" about {}", Vec::from_iter(named).join(", "))
}

fn datacenters(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &ApiResource::erase::<CassandraDatacenter>(&()))
}

fn whole(object: DynamicObject) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// A list of which the items are not read yet.
#[derive(Deserialize)]
struct Listed {
    metadata: ListMeta,
    items: Vec<Box<RawValue>>,
}

/// Shows the datacenters of a namespace, as they are now, to `look`, as JSON that is not read yet, and keeps none of them; none
/// where the kind is not served. It ends with the last of them, or when `look` has enough.
pub(super) async fn each(
    remote: &Remote,
    namespace: &str,
    mut look: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<(), CallError> {
    let path = CassandraDatacenter::url_path(&(), Some(namespace));
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let asked = Request::new(path.as_str()).list(&page).map_err(kube::Error::BuildRequest)?;
        let list = match remote.call(|client| async move { client.request_text(asked).await }).await {
            Err(error) if error.code() == Some(404) => return Ok(()),
            list => list?,
        };
        let list: Listed = serde_json::from_str(&list).map_err(kube::Error::SerdeError)?;
        if list.items.iter().try_for_each(|item| look(item.get())).is_break() {
            return Ok(());
        }
        match list.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(()),
        }
    }
}

/// A datacenter with all its fields, as it is now, with uid and resourceVersion; `None` when there is none.
pub(super) async fn read(remote: &Remote, key: &ObjectKey) -> Result<Option<Value>, Failure> {
    let found = remote
        .call(|client| async move { datacenters(client, &key.namespace).get_opt(&key.name).await })
        .await;
    let what = format!("CassandraDatacenter {key}");
    match found {
        Ok(found) => found.map(|found| bounded(exact(whole(found), &what)?, &what)).transpose(),
        Err(error) => Err(Failure::of(&error, "get", &what)),
    }
}

/// A write of a datacenter that was tried without doing it.
pub(super) struct Draft {
    /// What will be written: without the fields of others.
    body: Value,
    /// Whether it is applied, or a patch that takes things out.
    applies: bool,
    /// Those fields.
    pub(super) kept: Vec<Kept>,
    /// What goes although others had a part in it.
    pub(super) pieces: Vec<FieldPath>,
    pub(super) diff: Diff,
}

/// Tries an apply of `body` on the datacenter as it was read (`live`), leaves to others what is theirs, and refuses
/// one that would cost them anything.
pub(super) async fn draft(remote: &Remote, live: &Value, body: &Value) -> Result<Draft, Failure> {
    let (mut body, mut kept) = conflict::yield_kinds(live, body);
    hold_to(&mut body, live);
    for _ in 0..ROUNDS {
        let error = match patch(remote, live, &body, true, true).await {
            Ok(result) => {
                if let Some(path) = conflict::taken_out(&body, &result) {
                    let message = format!(
                        "an admission webhook of the data plane takes `{path}` out of what is applied; exempt the \
                         CassandraDatacenter from it, or have it leave the field"
                    );
                    return Err(Failure::Refused(Why::new(Reason::Conflict, message)));
                }
                let diff = compare(live, &result, &body)
                    .map_err(|lost| Failure::Refused(Why::new(Reason::UnsafeApply, lost.to_string())))?;
                kept.sort();
                kept.dedup();
                return Ok(Draft { body, applies: true, kept, pieces: Vec::new(), diff });
            }
            Err(error) => error,
        };
        let Some(answer) = error.status().filter(|status| status.code == 409) else {
            return Err(Failure::of(&error, "patch", "the CassandraDatacenter"));
        };
        match conflict::leave(&body, answer) {
            Ok((reduced, left)) => {
                body = reduced;
                kept.extend(left);
            }
            Err(Unsettled::NoFieldConflict) => return Err(Failure::Changed),
            Err(unsettled @ (Unsettled::Unreadable(_) | Unsettled::WholeList(_))) => {
                return Err(Failure::Refused(Why::new(Reason::UnsafeApply, unsettled.to_string())));
            }
        }
    }
    Err(Failure::Changed)
}

/// Tries taking everything of ours out of the datacenter as it was read. What others hold on to keeps all of it there.
pub(super) async fn draft_removal(remote: &Remote, live: &Value) -> Result<Draft, Failure> {
    let removal = removal::plan(live);
    if let Some(why) = removal.obstacle() {
        return Err(Failure::Refused(why));
    }
    let (mut body, mut diff) = (Value::Null, Diff::default());
    if let Some(patched) = &removal.patch {
        let result = patch(remote, live, patched, false, true)
            .await
            .map_err(|error| Failure::of(&error, "patch", "the CassandraDatacenter"))?;
        diff = removal
            .diff(live, &result)
            .map_err(|lost| Failure::Refused(Why::new(Reason::UnsafeApply, lost.to_string())))?;
        body.clone_from(patched);
    }
    Ok(Draft { body, applies: false, kept: Vec::new(), pieces: removal.pieces, diff })
}

/// Writes a draft. It fails when the datacenter is not the one that was looked at, unless `since` is what our own
/// earlier write made of it.
pub(super) async fn apply(
    remote: &Remote,
    key: &ObjectKey,
    draft: &Draft,
    since: Option<&Value>,
) -> Result<(), Failure> {
    let mut body = draft.body.clone();
    if let Some(since) = since {
        hold_to(&mut body, since);
    }
    let place = json!({"metadata": {"namespace": key.namespace, "name": key.name}});
    patch(remote, &place, &body, draft.applies, false)
        .await
        .map(drop)
        .map_err(|error| Failure::of(&error, "patch", "the CassandraDatacenter"))
}

/// Makes `body` mean `object` in this version only.
fn hold_to(body: &mut Value, object: &Value) {
    let version = object.pointer("/metadata/resourceVersion").cloned();
    if let (Some(metadata), Some(version)) =
        (body.get_mut("metadata").and_then(Value::as_object_mut), version)
    {
        metadata.insert("resourceVersion".to_owned(), version);
    }
}

/// Applies `body` to the datacenter `place`, or merges it into it.
async fn patch(
    remote: &Remote,
    place: &Value,
    body: &Value,
    applies: bool,
    dry_run: bool,
) -> Result<Value, CallError> {
    let text = |pointer: &str| place.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    // Never forced: who has set a field keeps it.
    let params = PatchParams { dry_run, ..PatchParams::apply(labels::MANAGER_DEPLOYMENT) };
    let patch = if applies { Patch::Apply(body) } else { Patch::Merge(body) };
    remote
        .call(|client| async move {
            datacenters(client, &namespace).patch(&name, &params, &patch).await.map(whole)
        })
        .await
}

/// Patches the users of a datacenter; the patch holds to the version it was made from. Returns the datacenter.
pub(super) async fn patch_users(remote: &Remote, key: &ObjectKey, patch: &Value) -> Result<Value, Failure> {
    let params = PatchParams::apply(labels::MANAGER_DEPLOYMENT);
    let what = format!("CassandraDatacenter {key}");
    let patched = remote
        .call(|client| async move {
            datacenters(client, &key.namespace)
                .patch(&key.name, &params, &Patch::Merge(patch))
                .await
                .map(whole)
        })
        .await
        .map_err(|error| Failure::of(&error, "patch", &what))?;
    exact(patched, &what)
}

async fn secret(remote: &Remote, key: &ObjectKey) -> Result<Option<Secret>, Failure> {
    remote
        .call(|client| async move {
            Api::<Secret>::namespaced(client, &key.namespace).get_opt(&key.name).await
        })
        .await
        .map_err(|error| Failure::of(&error, "get", &format!("Secret {key}")))
}

/// Keys and content hash of a Secret that only the data plane has; `None` when it has none.
pub(super) async fn find_secret(
    remote: &Remote,
    key: &ObjectKey,
) -> Result<Option<(BTreeSet<String>, String)>, Failure> {
    Ok(secret(remote, key).await?.map(|secret| {
        let keys = secret.data.iter().flat_map(|data| data.keys().cloned()).collect();
        (keys, Payload::of_secret(secret).hash())
    }))
}

/// The password in a Secret of Medusa's user, as we make it; `None` where there is none or it is of another shape.
pub(super) async fn find_password(remote: &Remote, key: &ObjectKey) -> Result<Option<String>, Failure> {
    let bytes = secret(remote, key).await?.and_then(|secret| secret.data?.remove("password"));
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes.0).ok()).filter(|text| objects::is_password(text)))
}

/// Applies an object of ours as a whole. `known` is its uid and resourceVersion when it is there already; where it
/// is not, it must not exist, or be one of ours that lost its label (`is_ours`).
pub(super) async fn put<K: Followed>(
    remote: &Remote,
    key: &ObjectKey,
    body: &Value,
    known: Option<(&str, &str)>,
    is_ours: impl Fn(&ObjectMeta) -> bool,
) -> Result<(), Failure> {
    let what = format!("{} {key}", K::kind(&()));
    if known.is_some_and(|(uid, version)| uid.is_empty() || version.is_empty()) {
        return Err(Failure::inexact(&what));
    }
    // No object ever has version 1: with it, an apply only creates.
    let (uid, version) = known.map_or((None, "1"), |(uid, version)| (Some(uid), version));
    let error = match write::<K>(remote, key, body, uid, version).await {
        Ok(()) => return Ok(()),
        Err(error) if known.is_none() && error.code() == Some(409) => error,
        Err(error) => return Err(Failure::of(&error, "patch", &what)),
    };
    let found = remote.metadata::<K>(key).await.map_err(|error| Failure::of(&error, "get", &what))?;
    let Some(found) = found else { return Err(Failure::of(&error, "patch", &what)) };
    if !is_ours(&found) {
        return Err(Failure::not_ours(&what));
    }
    let Some((uid, version)) = identified(&found) else { return Err(Failure::inexact(&what)) };
    write::<K>(remote, key, body, Some(uid), version)
        .await
        .map_err(|error| Failure::of(&error, "patch", &what))
}

async fn write<K: Followed>(
    remote: &Remote,
    key: &ObjectKey,
    body: &Value,
    uid: Option<&str>,
    version: &str,
) -> Result<(), CallError> {
    let mut body = body.clone();
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("uid".to_owned(), json!(uid));
        metadata.insert("resourceVersion".to_owned(), json!(version));
    }
    let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
    remote
        .call(|client| async move {
            let api = Api::<K>::namespaced(client, &key.namespace);
            api.patch_metadata(&key.name, &params, &Patch::Apply(&body)).await.map(drop)
        })
        .await
}

/// Makes a claim that is not there; one that is stays as it is.
pub(super) async fn claim(remote: &Remote, claim: &PersistentVolumeClaim) -> Result<(), Failure> {
    let key = ObjectKey::of(claim);
    let what = format!("PersistentVolumeClaim {key}");
    let params =
        PostParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PostParams::default() };
    let found = remote
        .call(|client| async {
            let api = Api::<PersistentVolumeClaim>::namespaced(client, &key.namespace);
            match api.get_metadata_opt(&key.name).await? {
                Some(found) => Ok(Some(found.metadata)),
                None => api.create(&params, claim).await.map(|_| None),
            }
        })
        .await
        .map_err(|error| Failure::of(&error, "create", &what))?;
    let source = |meta: &ObjectMeta| meta.annotations.as_ref().and_then(|a| a.get(labels::SOURCE)).cloned();
    if found.is_some_and(|meta| source(&meta) != source(&claim.metadata)) {
        return Err(Failure::not_ours(&what));
    }
    Ok(())
}

/// Deletes one object of ours: this one only, and only while it still says that it is (`is_ours`).
pub(super) async fn delete<K: Followed>(
    remote: &Remote,
    key: &ObjectKey,
    uid: &str,
    is_ours: impl Fn(&ObjectMeta) -> bool,
) -> Result<(), Failure> {
    let what = format!("{} {key}", K::kind(&()));
    let failed = |error: CallError, verb| Failure::of(&error, verb, &what);
    let found = remote.metadata::<K>(key).await.map_err(|error| failed(error, "get"))?;
    match found.filter(|found| found.uid.as_deref() == Some(uid) && is_ours(found)) {
        Some(found) => remote.delete::<K>(key, found).await.map_err(|error| failed(error, "delete")),
        None => Ok(()),
    }
}

/// Makes the Secret of Medusa's user beside the K8ssandraCluster, unless there is one: never overwritten.
pub(super) async fn make_user(client: Client, secret: &Secret) -> Result<(), Failure> {
    let key = ObjectKey::of(secret);
    let params =
        PostParams { field_manager: Some(labels::MANAGER_CONTROL_PLANE.to_owned()), ..PostParams::default() };
    match Api::<Secret>::namespaced(client, &key.namespace).create(&params, secret).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(kube::Error::Api(status)) => Err(Failure::Refused(Why::new(
            Reason::WriteRefused,
            format!(
                "create Secret {key} beside the K8ssandraCluster: the API server answered {} {}",
                status.code, status.reason
            ),
        ))),
        Err(error) => Err(Failure::Silent(error.to_string())),
    }
}

/// Random bytes; `None` when the system has none to give.
pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
