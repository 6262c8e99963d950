//! The single writes of copies into a data plane. A copy is applied with a precondition, and an object that is not ours is
//! never written.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::Status,
};
use serde_json::{Value, json};

use super::{
    content::{Precondition, applied, differences, owner, surplus},
    desired::{CopyKey, CopyKind, Wanted},
    plan::Action,
    remove::remove,
    worker::Shared,
};
use crate::{
    api::{Reason, Why, labels, medusa::MedusaConfiguration},
    control_plane::{
        data_planes::{
            copies::{configuration_record, secret_record},
            records::CopyRecord,
            remote::{CallError, Remote},
            view::ObjectKey,
        },
        identity::Identity,
        sources::Payload,
    },
    runtime::{cause, follow::Followed},
};

pub(super) enum CopyOutcome {
    /// Done; the copy as it is now, with the hash that was wanted.
    Written(Box<CopyRecord>, String),
    /// Somebody else has put the same content there.
    Shared {
        hash: String,
        with: String,
    },
    /// It is not there, or not ours (any more).
    Gone,
    /// The copy changed meanwhile, or there is nothing to write (any more): plan again.
    PlanAgain,
    Failed(Why),
}

/// Carries an action out. What `is_known` to be in the way is looked at before anything is tried.
pub(super) async fn carry_out(
    action: &Action,
    wanted: Option<Wanted>,
    is_known: bool,
    remote: &Remote,
    shared: &Shared,
) -> CopyOutcome {
    let key = action.key();
    let outcome = match key.kind {
        CopyKind::Secret => of_kind::<Secret>(action, wanted, is_known, remote, shared).await,
        CopyKind::MedusaConfiguration => {
            of_kind::<MedusaConfiguration>(action, wanted, is_known, remote, shared).await
        }
    };
    outcome.unwrap_or_else(|error| {
        CopyOutcome::Failed(match error.status() {
            Some(status) => refusal(key, status),
            None => Why::new(Reason::DataPlaneUnreachable, format!("{key}: {error}")),
        })
    })
}

async fn of_kind<K: Copied>(
    action: &Action,
    wanted: Option<Wanted>,
    is_known: bool,
    remote: &Remote,
    shared: &Shared,
) -> Result<CopyOutcome, CallError> {
    let key = action.key();
    let (precondition, wanted) = match (action, wanted) {
        (Action::Remove { uid, .. }, _) => return remove::<K>(key, uid, remote, shared).await,
        (_, None) => return Ok(CopyOutcome::PlanAgain),
        (Action::Create(_), Some(wanted)) => (Precondition::Absent, wanted),
        (Action::Correct { uid, resource_version, .. }, Some(wanted)) => {
            (Precondition::Version { uid, resource_version }, wanted)
        }
    };
    let payload = match key.kind {
        CopyKind::MedusaConfiguration => shared.context.sources.configuration(&wanted.source).map(Arc::new),
        CopyKind::Secret => match shared.context.sources.secret(&wanted.source).await {
            Ok(payload) => payload,
            Err(error) => {
                tracing::warn!(source = %wanted.source, %error, "read source secret");
                return Ok(CopyOutcome::PlanAgain);
            }
        },
    };
    let (Some(payload), Some((source_uid, _))) = (payload, &wanted.content) else {
        return Ok(CopyOutcome::PlanAgain);
    };
    let control_plane = &shared.context.control_plane;
    let copy = Copying { key, source: &wanted.source, source_uid, payload: &payload, control_plane, remote };
    if is_known
        && matches!(precondition, Precondition::Absent)
        && let Some(found) = copy.find::<K>().await?
    {
        return copy.judge(&found).await;
    }
    copy.put::<K>(&precondition).await
}

/// A kind of which there are copies.
pub(super) trait Copied: Followed {
    /// The field with what is copied.
    const CONTENT: &'static str;

    /// What is kept of a copy, with the hash of what it holds.
    fn record(&self) -> CopyRecord;

    /// What of it is not as in its source: names only.
    fn differences(&self, payload: &Payload) -> String;

    /// Merge patch of [`Self::CONTENT`] that takes away what it holds and its source does not; `None` when that is nothing.
    fn surplus(&self, payload: &Payload) -> Option<Value>;
}

impl Copied for Secret {
    const CONTENT: &'static str = "data";

    fn record(&self) -> CopyRecord {
        secret_record(self)
    }

    fn differences(&self, payload: &Payload) -> String {
        differences(self, payload)
    }

    fn surplus(&self, payload: &Payload) -> Option<Value> {
        match payload {
            Payload::Secret { data, .. } => surplus(&json!(self.data), &json!(data)),
            Payload::Configuration(_) => None,
        }
    }
}

impl Copied for MedusaConfiguration {
    const CONTENT: &'static str = "spec";

    fn record(&self) -> CopyRecord {
        configuration_record(self)
    }

    fn differences(&self, _: &Payload) -> String {
        "`spec`".to_owned()
    }

    fn surplus(&self, payload: &Payload) -> Option<Value> {
        match payload {
            Payload::Configuration(spec) => surplus(&json!(self.spec), &json!(spec)),
            Payload::Secret { .. } => None,
        }
    }
}

/// A copy that is being written.
struct Copying<'a> {
    key: &'a CopyKey,
    source: &'a ObjectKey,
    source_uid: &'a str,
    payload: &'a Payload,
    control_plane: &'a Identity,
    remote: &'a Remote,
}

impl Copying<'_> {
    /// What has its name now.
    async fn find<K: Copied>(&self) -> Result<Option<K>, CallError> {
        let ObjectKey { namespace, name } = &self.key.object;
        self.remote.call(|client| async move { Api::namespaced(client, namespace).get_opt(name).await }).await
    }

    async fn put<K: Copied>(&self, precondition: &Precondition<'_>) -> Result<CopyOutcome, CallError> {
        let Self { key, source, source_uid, payload, control_plane, .. } = *self;
        let hash = payload.hash();
        let object = applied(key, source, source_uid, control_plane, payload, precondition);
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE).force();
        match self.patch::<K>(&params, &Patch::Apply(object)).await {
            Ok(record) if record.content_hash == hash => Ok(CopyOutcome::Written(Box::new(record), hash)),
            // Somebody else's fields are in it: applying does not take those away.
            Ok(record) => Ok(match self.prune::<K>(record).await? {
                Some(pruned) => CopyOutcome::Written(Box::new(pruned), hash),
                None => CopyOutcome::PlanAgain,
            }),
            Err(error) if error.code() == Some(409) => match precondition {
                Precondition::Version { .. } => Ok(CopyOutcome::PlanAgain),
                Precondition::Absent => match self.find::<K>().await? {
                    Some(found) => self.judge(&found).await,
                    None => Ok(CopyOutcome::PlanAgain),
                },
            },
            Err(error) => Err(error),
        }
    }

    /// Takes out of a copy what its source does not have. `applied` is the copy as it was just applied. Returns `None` when
    /// that version is not there any more: the copy was changed, deleted, or replaced by another object.
    async fn prune<K: Copied>(&self, applied: CopyRecord) -> Result<Option<CopyRecord>, CallError> {
        let (uid, version) = (applied.uid.as_str(), applied.resource_version.as_str());
        let is_applied = |found: &K| {
            let meta = found.meta();
            meta.uid.as_deref() == Some(uid) && meta.resource_version.as_deref() == Some(version)
        };
        let Some(current) = self.find::<K>().await?.filter(is_applied) else { return Ok(None) };
        let Some(surplus) = current.surplus(self.payload) else { return Ok(Some(applied)) };
        let patch = Patch::Merge(json!({
            "metadata": {"uid": uid, "resourceVersion": version}, K::CONTENT: surplus,
        }));
        let params = PatchParams::apply(labels::MANAGER_CONTROL_PLANE);
        match self.patch::<K>(&params, &patch).await {
            Ok(pruned) => Ok(Some(pruned)),
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn patch<K: Copied>(
        &self,
        params: &PatchParams,
        patch: &Patch<Value>,
    ) -> Result<CopyRecord, CallError> {
        let ObjectKey { namespace, name } = &self.key.object;
        self.remote
            .call(|client| async move {
                let written = Api::<K>::namespaced(client, namespace).patch(name, params, patch).await?;
                Ok(written.record())
            })
            .await
    }

    /// The name is in use. A copy of ours that lost its label is written as a whole, and seen again by that; what holds the
    /// same content is shared with whom it belongs to; anything else is left alone and named.
    async fn judge<K: Copied>(&self, found: &K) -> Result<CopyOutcome, CallError> {
        let Self { key, source_uid, payload, control_plane, .. } = *self;
        let meta = found.meta();
        let ours = control_plane.wrote(meta)
            || meta
                .annotations
                .as_ref()
                .and_then(|all| all.get(labels::SOURCE_UID))
                .is_some_and(|uid| uid == source_uid);
        if ours {
            let (Some(uid), Some(resource_version)) = (&meta.uid, &meta.resource_version) else {
                return Ok(CopyOutcome::PlanAgain);
            };
            let precondition = Precondition::Version { uid, resource_version };
            return Box::pin(self.put::<K>(&precondition)).await;
        }
        let (hash, with) = (payload.hash(), owner(meta));
        if found.record().content_hash == hash {
            return Ok(CopyOutcome::Shared { hash, with });
        }
        let message = format!(
            "{key} exists and is not ours: {with} looks after it, and it differs from its source in {}; make the two \
             equal and it is shared, or give the source another name, or take this place out of the targets",
            found.differences(payload)
        );
        Ok(CopyOutcome::Failed(Why::new(Reason::NameConflict, message)))
    }
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
    if let Some((denier, words)) = cause::denied(status) {
        return Why::new(denier.reason(), format!("{key}: {words}"));
    }
    // What asks to come back later, or fails itself, has refused nothing.
    let is_passing = status.code == 429 || status.code >= 500;
    let reason = if is_passing { Reason::DataPlaneUnreachable } else { Reason::WriteRefused };
    Why::new(reason, format!("{key}: the API server answered {} {}{about}", status.code, status.reason))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex};

    use http::{Method, Request, Response, StatusCode};
    use k8s_openapi::ByteString;
    use kube::{Client, client::Body};
    use rstest::rstest;
    use tower::service_fn;

    use super::*;
    use crate::api::fleet::Limits;

    /// An API server's answer: a Secret of that uid and version, which holds the key of the copy, and another where
    /// `has_more`.
    fn secret(uid: &str, version: &str, has_more: bool) -> (u16, Value) {
        let more = has_more.then_some("eQ==");
        let data: BTreeMap<&str, &str> = [("credentials", Some("eA==")), ("more", more)]
            .into_iter()
            .filter_map(|(k, v)| Some((k, v?)))
            .collect();
        let metadata = json!({"namespace": "cass", "name": "bucket", "uid": uid, "resourceVersion": version});
        (
            200,
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}),
        )
    }

    fn refused(code: u16) -> (u16, Value) {
        let reason = if code == 404 { "NotFound" } else { "Odd" };
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "no", "reason": reason, "code": code});
        (code, status)
    }

    /// What comes of making a copy when somebody has put another key into it in the same moment: `found` is what is there
    /// after it was applied, `taken_out` the answer to taking that key out. And what the API server was asked.
    async fn put(
        found: (u16, Value),
        taken_out: (u16, Value),
    ) -> (Result<CopyOutcome, CallError>, Vec<(Method, Value)>) {
        let asked: Arc<Mutex<Vec<(Method, Value)>>> = Arc::default();
        let seen = asked.clone();
        let service = service_fn(move |request: Request<Body>| {
            let (seen, found, taken_out) = (seen.clone(), found.clone(), taken_out.clone());
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await?;
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (code, answer) = {
                    let mut seen = seen.lock().unwrap();
                    seen.push((method.clone(), body));
                    match (method, seen.len()) {
                        (Method::PATCH, 1) => secret("u", "7", true),
                        (Method::GET, 2) => found,
                        (Method::PATCH, 3) => taken_out,
                        other => panic!("{other:?}"),
                    }
                };
                let mut answer = Response::new(Body::from(answer.to_string().into_bytes()));
                *answer.status_mut() = StatusCode::from_u16(code).unwrap();
                Ok::<_, kube::Error>(answer)
            }
        });
        let data = BTreeMap::from([("credentials".to_owned(), ByteString(b"x".to_vec()))]);
        let copy = Copying {
            key: &CopyKey { kind: CopyKind::Secret, object: ObjectKey::new("cass", "bucket") },
            source: &ObjectKey::new("fleet", "bucket"),
            source_uid: "s",
            payload: &Payload::Secret { type_: None, data, never: None },
            control_plane: &Identity::named("cp"),
            remote: &Remote::new(Client::new(service, "cass"), &Limits::default()),
        };
        let outcome = copy.put::<Secret>(&Precondition::Absent).await;
        let asked = asked.lock().unwrap().clone();
        (outcome, asked)
    }

    #[tokio::test]
    async fn what_somebody_added_is_taken_out_of_the_very_copy_that_was_applied() {
        let (outcome, asked) = put(secret("u", "7", true), secret("u", "8", false)).await;
        let Ok(CopyOutcome::Written(record, wanted)) = outcome else { panic!() };
        assert_eq!((record.resource_version.as_str(), &record.content_hash), ("8", &wanted));
        let expected = json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "data": {"more": null}});
        assert_eq!(asked.last().unwrap().1, expected);

        let (outcome, asked) = put(secret("u", "7", false), refused(500)).await;
        assert!(matches!(outcome, Ok(CopyOutcome::Written(..))) && asked.len() == 2, "nothing is in excess");
        assert!(put(secret("u", "7", true), refused(500)).await.0.is_err());
    }

    #[rstest]
    #[case::gone(refused(404), 2)]
    #[case::changed(secret("u", "8", true), 2)]
    #[case::made_anew_by_somebody(secret("other", "7", true), 2)]
    #[case::changed_in_this_moment(secret("u", "7", true), 3)]
    #[tokio::test]
    async fn a_copy_that_is_another_by_now_is_neither_accepted_nor_stripped(
        #[case] found: (u16, Value),
        #[case] requests: usize,
    ) {
        for code in [404, 409] {
            let (outcome, asked) = put(found.clone(), refused(code)).await;
            assert!(matches!(outcome, Ok(CopyOutcome::PlanAgain)), "{asked:?}");
            assert_eq!(asked.len(), requests);
        }
    }

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
    #[case(400, "", "canary", Reason::WriteRefused)]
    #[case(429, "", "canary", Reason::DataPlaneUnreachable)]
    #[case(500, "", "canary", Reason::DataPlaneUnreachable)]
    #[case(503, "", "canary", Reason::DataPlaneUnreachable)]
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
