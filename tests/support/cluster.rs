//! What tests do with a cluster: whatever does not work ends the test there.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    eventually,
    harness::{Answered, Cluster, DEADLINE, Kind, resource},
};

impl Cluster {
    /// Access to objects like this one, by what stands in it.
    pub fn untyped(&self, object: &Value) -> Api<DynamicObject> {
        let resource = resource(object).expect("apiVersion and kind");
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Access to objects with all their fields, also those that we do not read.
    pub fn dynamic<K: Kind>(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::erase::<K>(&()))
    }

    /// The object with all its fields.
    pub async fn raw<K: Kind>(&self, namespace: &str, name: &str) -> Value {
        let object = self.dynamic::<K>(namespace).get(name).await.expect("get an object");
        serde_json::to_value(object).unwrap()
    }

    /// Applies an object as `kubectl apply --server-side` does; anything the API server does not know in it is an error.
    pub async fn apply(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let params = PatchParams::apply("kubectl").validation_strict();
        let done = self.untyped(object).patch(name, &params, &Patch::Apply(object)).await;
        done.unwrap_or_else(|error| panic!("apply {} {name} in {}: {error}", object["kind"], self.name));
    }

    /// Creates any object, as it is: also with fields its type does not know.
    pub async fn try_create(&self, object: Value) -> kube::Result<DynamicObject> {
        let api = self.untyped(&object);
        api.create(&PostParams::default(), &serde_json::from_value(object).expect("an object")).await
    }

    /// [`Self::try_create`], which must work.
    pub async fn create(&self, object: Value) -> DynamicObject {
        let what = format!("create {} {} in {}", object["kind"], object["metadata"]["name"], self.name);
        self.try_create(object).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// The object, when it is there.
    pub async fn find<K: Kind>(&self, namespace: &str, name: &str) -> Option<K> {
        let api = self.api(namespace);
        once_up(|| api.get_opt(name)).await.unwrap_or_else(|error| {
            panic!("get {} {namespace}/{name} in {}: {error}", K::kind(&()), self.name)
        })
    }

    /// The object, which must be there.
    pub async fn get<K: Kind>(&self, namespace: &str, name: &str) -> K {
        self.find(namespace, name)
            .await
            .unwrap_or_else(|| panic!("there is no {} {namespace}/{name} in {}", K::kind(&()), self.name))
    }

    /// Every object of a namespace.
    pub async fn list<K: Kind>(&self, namespace: &str) -> Vec<K> {
        let api = self.api(namespace);
        let all = ListParams::default();
        let listed = once_up(|| api.list(&all)).await;
        listed.unwrap_or_else(|error| panic!("list {} in {}: {error}", K::kind(&()), self.name)).items
    }

    /// Merges `patch` into an object.
    pub async fn patch<K: Kind>(&self, namespace: &str, name: &str, patch: Value) -> K {
        let api: Api<K> = self.api(namespace);
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patch")
    }

    /// Merges `status` into an object's status.
    pub async fn patch_status<K: Kind>(&self, namespace: &str, name: &str, status: Value) -> K {
        let api: Api<K> = self.api(namespace);
        let patch = json!({"status": status});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patch status")
    }

    /// Deletes an object.
    pub async fn delete<K: Kind>(&self, namespace: &str, name: &str) {
        let api: Api<K> = self.api(namespace);
        api.delete(name, &DeleteParams::default()).await.unwrap_or_else(|error| {
            panic!("delete {} {namespace}/{name} in {}: {error}", K::kind(&()), self.name)
        });
    }

    /// Waits until the object is there.
    pub async fn appears<K: Kind>(&self, namespace: &str, name: &str) -> K {
        let what = format!("{} {namespace}/{name} is in {}", K::kind(&()), self.name);
        eventually(what, async || self.find(namespace, name).await.ok_or("it is not there")).await
    }

    /// Waits until the object is gone.
    pub async fn disappears<K: Kind>(&self, namespace: &str, name: &str) {
        let what = format!("{} {namespace}/{name} is gone from {}", K::kind(&()), self.name);
        eventually(what, async || match self.find::<K>(namespace, name).await {
            None => Ok(()),
            Some(object) => Err(format!("{object:?}")),
        })
        .await;
    }

    /// Events about an object, oldest first, as (reason, note).
    pub async fn events(&self, kind: &str, name: &str) -> Vec<(String, String)> {
        let events = Api::<Event>::all(self.client.clone()).list(&ListParams::default()).await.unwrap();
        let about = |event: &Event| {
            event
                .regarding
                .as_ref()
                .is_some_and(|r| r.kind.as_deref() == Some(kind) && r.name.as_deref() == Some(name))
        };
        let mut events: Vec<Event> = events.items.into_iter().filter(about).collect();
        events.sort_by_key(|e| e.event_time.clone().map(|t| t.0));
        events.into_iter().map(|e| (e.reason.unwrap_or_default(), e.note.unwrap_or_default())).collect()
    }

    /// Waits for an Event about an object and returns its note.
    pub async fn event(&self, kind: &str, name: &str, reason: &str) -> String {
        eventually(format!("an Event {reason} about {kind} {name}"), async || {
            let events = self.events(kind, name).await;
            let found = events.iter().find(|(r, _)| r == reason).map(|(_, note)| note.clone());
            found.ok_or(format!("{events:?}"))
        })
        .await
    }

    /// Requests that changed or tried to change objects of `resource` (its plural), by verb, counted by the API
    /// server since the test began.
    pub async fn writes(&self, resource: &str) -> BTreeMap<String, u64> {
        let now = self.answered().await.expect("read the API server's metrics");
        let mut new = by_verb(&now, resource);
        new.retain(|verb, _| !matches!(verb.as_str(), "GET" | "WATCH" | "LIST"));
        if now.started == self.before.started {
            for (verb, count) in by_verb(&self.before, resource) {
                new.entry(verb).and_modify(|now| *now = now.saturating_sub(count));
            }
        }
        new.retain(|_, count| *count > 0);
        new
    }

    /// How often all or some objects of `resource` were listed, by whomever.
    pub async fn lists(&self, resource: &str) -> u64 {
        let now = self.answered().await.expect("read the API server's metrics");
        by_verb(&now, resource).remove("LIST").unwrap_or_default()
    }

    /// Leaves out of [`Self::writes`] what there was so far.
    pub async fn count_from_now(&mut self) {
        self.before = self.answered().await.expect("read the API server's metrics");
    }
}

/// How many requests about `resource` an API server has answered.
fn by_verb(answered: &Answered, resource: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (request, count) in answered.requests.iter().filter(|(request, _)| request.resource == resource) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        let count = *count as u64;
        *counts.entry(request.verb.clone()).or_insert(0) += count;
    }
    counts
}

/// What `ask`, which changes nothing, comes to when the API server answers: the testbed starts one again that ended by itself,
/// and says so in its log.
async fn once_up<T, F: Future<Output = kube::Result<T>>>(ask: impl Fn() -> F) -> kube::Result<T> {
    let end = Instant::now() + DEADLINE;
    loop {
        match ask().await {
            Err(kube::Error::Service(_)) if Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => return answer,
        }
    }
}
