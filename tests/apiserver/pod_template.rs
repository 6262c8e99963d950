//! Medusa's part of a CassandraDatacenter on a real API server: what is applied, whose fields stay, and what is left
//! when it goes. The decisions are the controller's own; only the requests are made here.

use crate::support::{CASS, Cluster, Fleet, datacenter};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::Status,
};
use medusa_fleet::{
    api::{cassandra::CassandraDatacenter, k8ssandra::MedusaTemplate, labels::MANAGER_DEPLOYMENT},
    control_plane::{
        data_planes::view::ObjectKey,
        deployment::{
            ownership::{
                conflict::{self, Kept},
                diff, removal,
            },
            pod::{
                image::Image,
                request::{Certificates, Request},
                template, users,
            },
        },
        identity::{FleetRecord, Identity},
    },
};
use serde_json::{Value, json};

/// Field manager of the user.
const USER: &str = "kubectl-edit";

/// One datacenter, as raw JSON.
struct LiveDatacenter<'a> {
    cluster: &'a Cluster,
    key: ObjectKey,
}

impl LiveDatacenter<'_> {
    fn api(&self) -> Api<DynamicObject> {
        self.cluster.dynamic::<CassandraDatacenter>(CASS)
    }

    async fn read(&self) -> Value {
        self.cluster.raw::<CassandraDatacenter>(CASS, &self.key.name).await
    }

    async fn send(&self, body: &Value, dry_run: bool) -> Result<Value, Box<Status>> {
        let mut params = PatchParams::apply(MANAGER_DEPLOYMENT);
        params.dry_run = dry_run;
        match self.api().patch(&self.key.name, &params, &Patch::Apply(body)).await {
            Ok(object) => Ok(serde_json::to_value(object).unwrap()),
            Err(kube::Error::Api(status)) => Err(status),
            Err(error) => panic!("{error}"),
        }
    }

    /// A change by a user, as `kubectl edit` makes it.
    async fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut object = self.read().await;
        change(&mut object);
        let params = PostParams { field_manager: Some(USER.to_owned()), ..PostParams::default() };
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.api().replace(&self.key.name, &params, &object).await.unwrap();
    }

    /// Everything the controller does to put Medusa in; what it leaves to others, and what it changed.
    async fn deploy(&self, medusa: &MedusaTemplate) -> (Vec<Kept>, diff::Diff) {
        let live = self.read().await;
        let uid = live["metadata"]["uid"].as_str().unwrap().to_owned();
        let source = ObjectKey::new("prod", "shop");
        let image = Image::default();
        let body = template::body(&Request {
            datacenter: &self.key,
            uid: &uid,
            source: &source,
            control_plane: &Identity::new(FleetRecord::default(), "fleet.0001"),
            sanitized: "shop",
            medusa,
            image: &image,
            config_map: "shop-medusa",
            ini_key: "medusa.ini",
            storage_secret: Some("medusa-bucket-key"),
            endpoint: None,
            backups_claim: None,
            user_secret: Some("shop-medusa"),
            certificates: Certificates::None,
            management_secret: None,
            secrets: Some("0123456789abcdef"),
        });
        let (mut body, mut kept) = conflict::yield_kinds(&live, &body);
        if let Err(status) = self.send(&body, true).await {
            let (reduced, left) =
                conflict::leave(&body, &status).unwrap_or_else(|e| panic!("{e}: {status:?}"));
            body = reduced;
            kept.extend(left);
        }
        let result = self.send(&body, true).await.unwrap();
        let changes = diff::compare(&live, &result, &body).unwrap();
        let applied = self.send(&body, false).await.unwrap();
        assert_eq!(applied["spec"], result["spec"], "the dry run told the truth");
        (kept, changes)
    }

    /// Everything the controller does to take Medusa out.
    async fn remove(&self) {
        let live = self.read().await;
        let removal = removal::plan(&live);
        let patch = Patch::Merge(removal.patch.as_ref().unwrap());
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        let result = self.api().patch(&self.key.name, &dry_run, &patch).await.unwrap();
        removal.diff(&live, &serde_json::to_value(result).unwrap()).unwrap();
        self.api().patch(&self.key.name, &PatchParams::default(), &patch).await.unwrap();
        assert_eq!(removal::plan(&self.read().await).patch, None, "nothing is left to remove");
    }

    fn names(object: &Value, list: &str) -> Vec<String> {
        let items = object["spec"]["podTemplateSpec"]["spec"][list].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    }
}

async fn live<'a>(fleet: &'a Fleet, name: &str, template: Option<Value>) -> LiveDatacenter<'a> {
    let mut object = datacenter(name, "shop", 3);
    match template {
        Some(template) => object["spec"]["podTemplateSpec"] = template,
        None => drop(object["spec"].as_object_mut().unwrap().remove("podTemplateSpec")),
    }
    fleet.dp(1).create(object).await;
    LiveDatacenter { cluster: fleet.dp(1), key: ObjectKey::new(CASS, name) }
}

/// A pod template of a user who has things of their own.
fn of_a_user() -> Value {
    json!({
        "metadata": {"annotations": {"mine": "yes"}, "labels": {"team": "data"}},
        "spec": {
            "nodeSelector": {"disk": "fast"},
            "initContainers": [{"name": "first", "image": "a"}, {"name": "second", "image": "b"}],
            "containers": [
                {"name": "sidecar", "image": "s", "env": [{"name": "KEY", "value": "hidden"}]}, {"name": "cassandra"},
            ],
            "volumes": [{"name": "mine", "emptyDir": {}}],
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn medusa_comes_between_a_users_things_and_goes_without_a_trace() {
    let fleet = Fleet::start(1).await;
    let plain = MedusaTemplate::default();
    let cases = [
        ("own", Some(of_a_user())),
        ("none", None),
        ("empty", Some(json!({"spec": {"containers": []}}))),
        ("image-only", Some(json!({"spec": {"containers": [{"name": "cassandra"}]}}))),
    ];
    for (name, pods) in cases {
        let live = live(&fleet, name, pods).await;
        let before = live.read().await;
        let (kept, changes) = live.deploy(&plain).await;
        assert_eq!(kept, Vec::new(), "{name}");
        assert!(changes.restarts_pods && !format!("{changes:?}").contains("hidden"), "{changes:?}");
        let with = live.read().await;
        assert!(LiveDatacenter::names(&with, "containers").contains(&"medusa".to_owned()));
        let init = LiveDatacenter::names(&with, "initContainers");
        assert_eq!(init[init.len() - 2..], ["server-config-init", "medusa-restore"]);
        if name == "own" {
            assert_eq!(LiveDatacenter::names(&with, "containers"), ["sidecar", "cassandra", "medusa"]);
            assert_eq!(init, ["first", "second", "server-config-init", "medusa-restore"]);
            assert_eq!(LiveDatacenter::names(&with, "volumes")[0], "mine");
        }
        let (_, again) = live.deploy(&plain).await;
        assert!(again.is_empty(), "{name}: {again:?}");
        assert_eq!(live.read().await["metadata"]["generation"], with["metadata"]["generation"]);
        live.remove().await;
        let after = live.read().await;
        assert_eq!(after["spec"], before["spec"], "{name}");
        assert_eq!(after["metadata"].get("annotations"), before["metadata"].get("annotations"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_edits_of_our_containers_stay_until_medusa_goes() {
    let fleet = Fleet::start(1).await;
    let live = live(&fleet, "dc1", Some(of_a_user())).await;
    let before = live.read().await;
    let plain = MedusaTemplate::default();
    live.deploy(&plain).await;
    live.edit(|object| {
        let medusa = &mut object["spec"]["podTemplateSpec"]["spec"]["containers"][2];
        assert_eq!((&medusa["name"], &medusa["env"][4]["name"]), (&json!("medusa"), &json!("CQL_PASSWORD")));
        medusa["resources"]["limits"]["memory"] = json!("1Gi");
        medusa["env"][4] = json!({"name": "CQL_PASSWORD", "value": "mine"});
        medusa["env"].as_array_mut().unwrap().push(json!({"name": "EXTRA", "value": "1"}));
    })
    .await;
    let edited = live.read().await;

    let (kept, changes) = live.deploy(&plain).await;
    let at = r#".spec.podTemplateSpec.spec.containers[name="medusa"]"#;
    let owner = USER.to_owned();
    let expected = [format!(r#"{at}.env[name="CQL_PASSWORD"]"#), format!("{at}.resources.limits.memory")]
        .map(|path| Kept { path, owner: owner.clone() });
    assert_eq!(kept, expected);
    assert!(changes.is_empty(), "{changes:?}");
    assert_eq!(live.read().await["spec"], edited["spec"], "field for field");

    // What is ours goes on changing.
    let image = json!({"containerImage": {"tag": "0.30.0"}, "serviceProperties": {"grpcPort": 55055}});
    let newer: MedusaTemplate = serde_json::from_value(image).unwrap();
    let (kept, changes) = live.deploy(&newer).await;
    assert_eq!(kept.len(), 2);
    assert!(changes.changes.iter().any(|c| c.to.as_deref() == Some("docker.io/k8ssandra/medusa:0.30.0")));
    let medusa = live.read().await["spec"]["podTemplateSpec"]["spec"]["containers"][2].clone();
    assert_eq!(medusa["resources"]["limits"]["memory"], "1Gi");
    assert_eq!(medusa["ports"].as_array().unwrap().len(), 1);
    assert_eq!(medusa["ports"][0]["containerPort"], 55055);

    live.remove().await;
    assert_eq!(live.read().await["spec"], before["spec"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_added_to_theirs_and_taken_out_again() {
    let fleet = Fleet::start(1).await;
    let live = live(&fleet, "dc1", None).await;
    let mine = json!([{"secretName": "mine", "superuser": false}]);
    live.edit(|object| object["spec"]["users"] = mine.clone()).await;
    let before = live.read().await;
    let params = PatchParams { field_manager: Some(MANAGER_DEPLOYMENT.to_owned()), ..PatchParams::default() };
    let merge = async |secret: Option<&str>| {
        let patch = users::patch(&live.read().await, secret).unwrap();
        live.api().patch("dc1", &params, &Patch::Merge(&patch)).await
    };
    let stale = users::patch(&before, Some("shop-medusa")).unwrap();
    merge(Some("shop-medusa")).await.unwrap();
    let users = live.read().await["spec"]["users"].clone();
    assert_eq!(users, json!([mine[0], {"secretName": "shop-medusa", "superuser": true}]));
    assert_eq!(removal::plan(&live.read().await).patch, None, "the list is not ours");
    let refused = live.api().patch("dc1", &PatchParams::default(), &Patch::Merge(&stale)).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 409), "it changed in between");
    merge(None).await.unwrap();
    assert_eq!(live.read().await["spec"], before["spec"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_datacenter_of_that_name_is_not_meant() {
    let fleet = Fleet::start(1).await;
    let live = live(&fleet, "dc1", None).await;
    let body = template::empty(&live.key, "00000000-0000-0000-0000-000000000000");
    let status = live.send(&body, true).await.unwrap_err();
    assert!([409, 422].contains(&status.code), "{status:?}");
    assert_eq!(conflict::leave(&body, &status), Err(conflict::Unsettled::NoFieldConflict));
}
