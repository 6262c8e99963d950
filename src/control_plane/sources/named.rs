//! Which Secrets the DataPlanes name: these are never copied.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};

use super::watch::Sources;
use crate::{api::fleet::DataPlane, control_plane::data_planes::view::ObjectKey};

impl Sources {
    /// Follows which Secrets the DataPlanes name. They are read as they are, whatever else is in them.
    pub(super) async fn watch_data_planes(self: &Arc<Self>) {
        let home = self.lock().objects.home.clone();
        let resource = ApiResource::erase::<DataPlane>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &home, &resource);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut listing: BTreeMap<String, ObjectKey> = BTreeMap::new();
        loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(source = "data planes", %error, "watch interrupted");
                    continue;
                }
            };
            // Their statuses change all the time: only what they name is news.
            let is_news = {
                let mut state = self.lock();
                let objects = &mut state.objects;
                let before = (objects.planes_listed, objects.named.clone());
                match event {
                    Event::Init => listing.clear(),
                    Event::InitApply(plane) => listing.extend(named_by(&plane, &home)),
                    Event::InitDone => {
                        objects.named = std::mem::take(&mut listing);
                        objects.planes_listed = true;
                    }
                    Event::Apply(plane) => {
                        objects.named.remove(&ObjectKey::of(&plane).name);
                        objects.named.extend(named_by(&plane, &home));
                    }
                    Event::Delete(plane) => drop(objects.named.remove(&ObjectKey::of(&plane).name)),
                }
                before != (objects.planes_listed, objects.named.clone())
            };
            if is_news {
                self.tell();
            }
        }
    }
}

/// A DataPlane's name and the Secret it names.
fn named_by(plane: &DynamicObject, home: &str) -> Option<(String, ObjectKey)> {
    let text = |field: &str| {
        let pointer = format!("/spec/kubeconfigSecretRef/{field}");
        plane.data.pointer(&pointer).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty())
    };
    let name = plane.metadata.name.clone()?;
    Some((name, ObjectKey::new(text("namespace").unwrap_or(home), text("name")?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_secret_a_data_plane_names_is_read_whatever_else_it_holds() {
        let plane = |reference: serde_json::Value| {
            let spec = json!({"kubeconfigSecretRef": reference, "limits": "odd"});
            let object = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "eu"}, "spec": spec});
            named_by(&serde_json::from_value(object).unwrap(), "home").map(|(_, key)| key.to_string())
        };
        assert_eq!(plane(json!({"name": "s"})).as_deref(), Some("home/s"));
        assert_eq!(plane(json!({"name": "s", "namespace": "ops"})).as_deref(), Some("ops/s"));
        assert_eq!(plane(json!({"name": "s", "namespace": ""})).as_deref(), Some("home/s"));
        assert_eq!(plane(json!({"name": 7})), None);
    }
}
