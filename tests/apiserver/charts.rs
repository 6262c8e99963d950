//! A release of the control plane's chart in a real cluster, by the real Helm: installed, at work as containers of the
//! built image with the rights that came with it, upgraded, rolled back and uninstalled. No kubelet is here: `container.rs`
//! runs what the Deployment's template says.

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, PodSpec, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Definition,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use medusa_fleet::api::fleet::DataPlane;
use serde_json::json;

use crate::support::{
    Cluster, Fleet,
    container::{self, Container},
    eventually,
    harness::testbed,
};

const NAMESPACE: &str = "platform-backups";
const RELEASE: &str = "backups";
const NAME: &str = "backups-medusa-fleet-control-plane";
/// Definitions that are not there when the release is installed.
const MISSING: [&str; 2] = ["fleettasks.fleet.k8ssandra.io", "medusatasks.medusa.k8ssandra.io"];

/// Runs Helm against a cluster, which must do what it is asked for.
fn helm(cluster: &Cluster, args: &[&str]) -> String {
    let output = tokio::task::block_in_place(|| {
        testbed::command()
            .args(["helm", "--namespace", NAMESPACE, "--kubeconfig"])
            .arg(&cluster.kubeconfig)
            .args(args)
            .output()
            .unwrap()
    });
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "helm {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

async fn deployment(home: &Cluster) -> Deployment {
    home.get::<Deployment>(NAMESPACE, NAME).await
}

fn pod(deployment: &Deployment) -> &PodSpec {
    deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).unwrap()
}

fn args(deployment: &Deployment) -> Vec<String> {
    pod(deployment).containers[0].args.clone().unwrap()
}

/// Waits until the container's log has that.
async fn says(container: &Container, words: &str) {
    eventually(format!("it says `{words}`"), async || {
        let log = container.program.said();
        if log.contains(words) { Ok(()) } else { Err(log) }
    })
    .await;
}

/// Waits until the container has ended with 0.
async fn ends_well(container: &mut Container) {
    let code = eventually("it ends", async || {
        container.program.ended().unwrap().ok_or_else(|| container.program.said())
    })
    .await;
    assert!(code.success(), "{}", container.program.said());
}

/// Names of the definitions that belong to the release.
async fn owned(home: &Cluster) -> Vec<String> {
    let all = Api::<Definition>::all(home.client.clone()).list(&ListParams::default()).await.unwrap();
    let ours = |definition: &Definition| {
        definition.annotations().get("meta.helm.sh/release-name").is_some_and(|release| release == RELEASE)
    };
    all.items.iter().filter(|definition| ours(definition)).map(ResourceExt::name_any).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_installed_at_work_upgraded_rolled_back_and_uninstalled() {
    let fleet = Fleet::start(0).await;
    let home = fleet.home();
    let definitions: Api<Definition> = Api::all(home.client.clone());
    for name in MISSING {
        definitions.delete(name, &DeleteParams::default()).await.unwrap();
    }
    eventually("two definitions are gone", async || {
        let left =
            definitions.get_opt(MISSING[0]).await.unwrap().or(definitions.get_opt(MISSING[1]).await.unwrap());
        left.map_or(Ok(()), |left| Err(left.name_any()))
    })
    .await;

    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/charts/medusa-fleet");
    helm(home, &["install", RELEASE, chart, "--create-namespace"]);
    assert_eq!(owned(home).await, MISSING, "what was there is left to whoever brought it");

    // Two replicas, as a kubelet would run them; one under a uid such as OpenShift gives.
    let accounts: Api<ServiceAccount> = home.api(NAMESPACE);
    let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts.create_token_request(NAME, &PostParams::default(), &request).await.unwrap();
    let token = token.status.unwrap().token;
    let installed = deployment(home).await;
    let template = pod(&installed);
    let root = tokio::task::block_in_place(|| container::image(fleet.dir()));
    let start = |name: &str, uid: u32| {
        let dir = fleet.dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Container::start(&root, &dir, home, template, (NAMESPACE, &token), uid)
    };
    let mut first = start("replica-1", 65_532);
    eventually("its own cluster is a data plane, and ready", async || {
        let local = home.find::<DataPlane>(NAMESPACE, "local").await.ok_or_else(|| first.program.said())?;
        let conditions = local.status.unwrap_or_default().conditions;
        let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        if ready { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await;
    let mut second = start("replica-2", 1_000_680_000);
    says(&second, "waiting to lead").await;
    assert!(!second.program.said().contains("\"leading\""), "{}", second.program.said());
    first.program.signal("TERM").unwrap();
    ends_well(&mut first).await;
    says(&second, "\"leading\"").await;
    second.program.signal("TERM").unwrap();
    ends_well(&mut second).await;
    for log in [first.program.said(), second.program.said()] {
        assert!(!log.contains("orbidden") && !log.contains("\"ERROR\""), "{log}");
    }

    let values = ["--set", "replicas=3,recoveryPointObjective=36h"];
    helm(home, &[&["upgrade", RELEASE, chart][..], &values[..]].concat());
    let upgraded = deployment(home).await;
    assert_eq!(upgraded.spec.as_ref().unwrap().replicas, Some(3));
    assert!(args(&upgraded).contains(&"--recovery-point-objective=36h".to_owned()));
    assert_eq!(owned(home).await, MISSING, "an upgrade keeps the definitions it brought");

    helm(home, &["rollback", RELEASE, "1"]);
    let before = deployment(home).await;
    assert_eq!((before.spec.as_ref().unwrap().replicas, args(&before)), (Some(2), args(&installed)));

    helm(home, &["uninstall", RELEASE]);
    home.disappears::<Deployment>(NAMESPACE, NAME).await;
    assert_eq!(owned(home).await, MISSING, "definitions stay, as all objects would go with them");
    home.get::<DataPlane>(NAMESPACE, "local").await;
    assert!(Api::<Namespace>::all(home.client.clone()).get(NAMESPACE).await.is_ok());
}
