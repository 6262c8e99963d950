//! `doctor` against a real API server: of a fleet in order, of one in trouble, and by somebody who may not see all of it.

use std::{path::Path, process::Output};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use medusa_fleet::api::fleet::DataPlane;
use serde_json::{Value, json};

use crate::support::{
    ControlPlane, FLEET, Fleet, configuration, datacenter, eventually, medusa_fleet, secret,
};

/// Exit code, stdout and stderr.
fn ask(kubeconfig: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = medusa_fleet(kubeconfig, &[&["doctor"], more].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Waits until the doctor's answer has every one of these, and returns it.
async fn finds(fleet: &Fleet, code: i32, expected: &[&str]) -> String {
    eventually(format!("the doctor finds {expected:?}"), async || {
        let (seen, said, complaint) = ask(&fleet.home().kubeconfig, &[]);
        let all = expected.iter().all(|word| said.contains(word));
        if all && seen == Some(code) { Ok(said) } else { Err(format!("{seen:?}\n{said}{complaint}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_is_wrong_to_whom_and_what_to_do() {
    let fleet = Fleet::start(1).await;
    let home = fleet.home();
    finds(&fleet, 1, &["control-plane", "no control plane has ever run here"]).await;
    let mut controller = ControlPlane::spawn(&fleet);
    fleet.register_all().await;
    fleet.expect_data_plane("local", "Ready", "True", "Ready").await;
    let said = finds(&fleet, 0, &["nothing is wrong"]).await;
    assert_eq!(said.lines().count(), 1, "{said}");
    let (code, healthy, _) = ask(&home.kubeconfig, &["-o", "json"]);
    let healthy: Value = serde_json::from_str(&healthy).unwrap();
    assert_eq!((code, &healthy["healthy"], &healthy["findings"]), (Some(0), &json!(true), &json!([])));

    // Trouble of several kinds at once.
    fleet.dp(1).create(datacenter("dc1", "shop", 1)).await;
    home.create(configuration("s3", "nowhere", Some("*"))).await;
    home.create(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetBackupSchedule",
        "metadata": {"name": "never", "namespace": FLEET}, "spec": {"schedule": "0 0 30 2 *"},
    }))
    .await;
    let trouble = ["cluster/shop", "medusaconfiguration/medusa-fleet/s3", "schedule/never"];
    let said = finds(&fleet, 1, &trouble).await;
    assert!(said.contains("kubectl medusa backup --cluster shop"), "{said}");
    let (code, said, complaint) = ask(&home.kubeconfig, &["-o", "yaml"]);
    assert_eq!(code, Some(1), "{complaint}");
    let found: Value = serde_saphyr::from_str(&said).unwrap();
    let of = |object: &str| {
        let all = found["findings"].as_array().unwrap();
        all.iter().find(|f| f["object"] == object).unwrap_or_else(|| panic!("{object}: {said}")).clone()
    };
    assert_eq!(of("cluster/shop")["reason"], "NeverBackedUp");
    assert_eq!(of("medusaconfiguration/medusa-fleet/s3")["severity"], "Error");
    assert_eq!(of("schedule/never")["reason"], "NeverFires");
    fleet.stop("dp-1");
    finds(&fleet, 1, &["dataplane/dp-1", "Error"]).await;
    fleet.start_again("dp-1");
    home.patch::<DataPlane>(FLEET, "dp-1", json!({"spec": {"paused": true}})).await;
    let said = finds(&fleet, 1, &["dataplane/dp-1", "Notice", "spec.paused"]).await;
    assert!(said.find("Error").unwrap() < said.find("Notice").unwrap(), "worst first:\n{said}");
    controller.assert_running();

    // An object its definition let through once.
    let definitions: Api<CustomResourceDefinition> = Api::all(home.client.clone());
    let mut lax = definitions.get("fleettasks.fleet.k8ssandra.io").await.unwrap();
    let anything =
        json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    lax.spec.versions[0].schema = serde_json::from_value(anything).unwrap();
    definitions.replace("fleettasks.fleet.k8ssandra.io", &PostParams::default(), &lax).await.unwrap();
    let odd = json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "FleetTask",
        "metadata": {"name": "odd", "namespace": FLEET}, "spec": {"operation": 7},
    });
    eventually("it is let through", async || home.try_create(odd.clone()).await.map(drop)).await;
    finds(&fleet, 1, &["task/odd", "cannot be read", "schedule/never"]).await;

    // Its definitions: one that is there and serves nothing, and one that is gone.
    let mut off = definitions.get("fleettasks.fleet.k8ssandra.io").await.unwrap();
    off.spec.versions[0].served = false;
    definitions.replace("fleettasks.fleet.k8ssandra.io", &PostParams::default(), &off).await.unwrap();
    finds(&fleet, 1, &["customresourcedefinition/fleettasks.fleet.k8ssandra.io", "are not served"]).await;
    definitions.delete("fleettasks.fleet.k8ssandra.io", &DeleteParams::default()).await.unwrap();
    finds(
        &fleet,
        1,
        &["customresourcedefinition/fleettasks.fleet.k8ssandra.io", "medusa-fleet crds --group"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_everything_is_told_so_and_who_reaches_nobody_too() {
    let fleet = Fleet::start(0).await;
    let home = fleet.home();
    let _controller = ControlPlane::spawn(&fleet);
    fleet.expect_data_plane("local", "Ready", "True", "Ready").await;
    finds(&fleet, 0, &["nothing is wrong"]).await;
    home.create(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "reader", "namespace": FLEET},
        "rules": [{"apiGroups": ["fleet.k8ssandra.io"], "resources": ["*"], "verbs": ["get", "list"]}],
    }))
    .await;
    home.create(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "reader", "namespace": FLEET},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "eve"}],
    }))
    .await;
    let mut file = crate::support::kubeconfig(home);
    file["users"][0]["user"]["as"] = json!("eve");
    let path = fleet.dir().join("eve.kubeconfig");
    std::fs::write(&path, file.to_string()).unwrap();
    let (code, said, complaint) = ask(&path, &[]);
    assert_eq!(code, Some(2), "{said}{complaint}");
    for unread in ["customresourcedefinitions", "leases", "medusaconfigurations", "k8ssandraclusters"] {
        assert!(said.lines().any(|l| l.starts_with("Unknown") && l.contains(unread)), "{unread}:\n{said}");
    }
    assert!(
        !said.contains("fleetclusters") && complaint.contains("4 kinds could not be read"),
        "{said}{complaint}"
    );

    // Trouble outweighs what is not known.
    home.create(secret(FLEET, "gone", &[("kubeconfig", "nonsense")])).await;
    home.create(json!({
        "apiVersion": "fleet.k8ssandra.io/v1alpha1", "kind": "DataPlane", "metadata": {"name": "gone", "namespace": FLEET},
        "spec": {"kubeconfigSecretRef": {"name": "gone"}},
    }))
    .await;
    eventually("trouble is seen", async || {
        let (code, said, _) = ask(&path, &[]);
        if code == Some(1) && said.contains("dataplane/gone") { Ok(()) } else { Err(said) }
    })
    .await;
    fleet.stop("control-plane");
    let (code, said, complaint) = ask(&home.kubeconfig, &[]);
    assert_eq!((code, said.as_str()), (Some(2), ""), "{complaint}");
    assert!(complaint.contains("cannot read dataplanes"), "{complaint}");
}
