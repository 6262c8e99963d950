//! A K8ssandraCluster and a ClientConfig that cannot be read: whoever wrote them finds an Event that names the field and what
//! to do, once.

use k8s_openapi::api::{core::v1::ObjectReference, events::v1::Event};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{
    Cluster, ControlPlane, FLEET, Fleet,
    client_configs::{client_config, client_config_definition},
    eventually,
    loosened::{create_whole, loosen},
};

fn cluster(name: &str) -> Value {
    json!({
        "apiVersion": "k8ssandra.io/v1alpha1", "kind": "K8ssandraCluster",
        "metadata": {"name": name, "namespace": FLEET},
        "spec": {"cassandra": {"datacenters": {}}, "medusa": {}},
    })
}

fn config(name: &str) -> Value {
    client_config(FLEET, name, json!({"contextName": {}, "kubeConfigSecret": {"name": "nobodys"}}))
}

async fn uid(home: &Cluster, object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    home.untyped(object).get(name).await.unwrap().uid().unwrap()
}

/// What was told of this very object, as `kubectl describe` finds it: by its uid. With each note, how often.
async fn told(home: &Cluster, uid: &str) -> Vec<(String, i32)> {
    let events = Api::<Event>::all(home.client.clone()).list(&ListParams::default()).await.unwrap();
    let is_about = |about: &ObjectReference| about.uid.as_deref() == Some(uid);
    let own = events.items.into_iter().filter(|event| event.regarding.as_ref().is_some_and(is_about));
    let invalid = own.filter(|event| event.reason.as_deref() == Some("InvalidObject"));
    invalid.map(|e| (e.note.unwrap_or_default(), e.series.map_or(1, |series| series.count))).collect()
}

async fn is_told(home: &Cluster, uid: &str, words: &[&str]) {
    eventually(format!("{words:?} is told"), async || {
        let told = told(home, uid).await;
        let is_it = |note: &str| words.iter().all(|word| note.contains(word));
        if told.iter().any(|(note, _)| is_it(note)) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wrote_one_that_cannot_be_read_is_told_the_field_and_the_fix_once() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    home.install(&[client_config_definition()]).await.unwrap();
    loosen(home).await;
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    let (in_cluster, in_config) = (
        ["spec.cassandra.datacenters: ", "; correct that field"],
        ["spec.contextName: ", "; correct that field, or delete the ClientConfig"],
    );
    let mut uids = Vec::new();
    for (object, words) in [(cluster("odd"), in_cluster), (config("odd"), in_config)] {
        create_whole(home, &object).await;
        uids.push(uid(home, &object).await);
        is_told(home, uids.last().unwrap(), &words).await;
        // Another look at it is no news, also where somebody touches it.
        for touch in ["a", "b"] {
            let patch = Patch::Merge(json!({"metadata": {"labels": {"touched": touch}}}));
            home.untyped(&object).patch("odd", &PatchParams::default(), &patch).await.unwrap();
        }
    }
    // What is seen after those is told after those.
    for (object, words) in [(cluster("later"), in_cluster), (config("later"), in_config)] {
        create_whole(home, &object).await;
        is_told(home, &uid(home, &object).await, &words).await;
    }
    for uid in &uids {
        let told = told(home, uid).await;
        assert!(told.len() == 1 && told[0].1 == 1, "{told:?}");
    }
    // One that is made again with the same fault is another.
    for (object, words) in [(cluster("odd"), in_cluster), (config("odd"), in_config)] {
        let api = home.untyped(&object);
        api.delete("odd", &DeleteParams::default()).await.unwrap();
        create_whole(home, &object).await;
        let again = uid(home, &object).await;
        assert!(!uids.contains(&again));
        is_told(home, &again, &words).await;
    }
    controller.assert_running();
}
