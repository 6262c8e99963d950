//! A release, as `make release` makes it: all its files, and the control plane's chart in a real cluster, by the real Helm:
//! installed, at work as containers of the release's image with the rights that came with it, upgraded, rolled back and
//! uninstalled. No kubelet is here: `container.rs` runs what the Deployment's template says.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

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
/// What all files of the release have in their names.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `medusa-fleet-VERSION-linux-MACHINE`, as the files are called that are for one kind of machine.
fn for_this_machine() -> String {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("medusa-fleet-{VERSION}-linux-{machine}")
}

/// Every file of a release is there and has its checksum, and both programs are what they are called.
fn assert_complete(release: &Path) {
    let name = format!("medusa-fleet-{VERSION}");
    let machine = for_this_machine();
    let wanted = BTreeSet::from([
        format!("{name}-completions.tar.gz"),
        format!("{name}-control-plane.yaml"),
        format!("{name}-crds.tar.gz"),
        format!("{name}-crds.yaml"),
        format!("{name}-data-plane.yaml"),
        format!("{name}-manifests.tar.gz"),
        format!("{name}.tgz"),
        format!("medusa-fleet-data-plane-{VERSION}.tgz"),
        format!("{machine}-image.sbom.cdx.json"),
        format!("{machine}-image.tar"),
        format!("{machine}.tar.gz"),
    ]);
    let file_name = |file: fs::DirEntry| file.file_name().into_string().unwrap();
    let mut files: BTreeSet<String> =
        fs::read_dir(release).unwrap().map(|file| file_name(file.unwrap())).collect();
    assert!(files.remove("SHA256SUMS"));
    assert_eq!(files, wanted);
    let checked =
        container::run(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(release));
    let checked: BTreeSet<String> =
        checked.lines().map(|line| line.trim_end_matches(": OK").to_owned()).collect();
    assert_eq!(checked, wanted);

    let archive = format!("{machine}.tar.gz");
    container::run(Command::new("tar").args(["-xzf", &archive]).current_dir(release));
    for (file, program) in [("kubectl-medusa", "kubectl medusa"), ("medusa-fleet", "medusa-fleet")] {
        let said = container::run(Command::new(release.join(&machine).join(file)).arg("--version"));
        assert_eq!(said, format!("{program} {VERSION}\n"));
    }
}

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

    let release = tokio::task::block_in_place(|| container::release(fleet.dir()));
    tokio::task::block_in_place(|| assert_complete(&release));
    let chart = release.join(format!("medusa-fleet-{VERSION}.tgz"));
    let chart = chart.to_str().unwrap();
    helm(home, &["install", RELEASE, chart, "--create-namespace"]);
    assert_eq!(owned(home).await, MISSING, "what was there is left to whoever brought it");

    // Two replicas, as a kubelet would run them; one under a uid such as OpenShift gives.
    let accounts: Api<ServiceAccount> = home.api(NAMESPACE);
    let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts.create_token_request(NAME, &PostParams::default(), &request).await.unwrap();
    let token = token.status.unwrap().token;
    let installed = deployment(home).await;
    let template = pod(&installed);
    let archive = release.join(format!("{}-image.tar", for_this_machine()));
    let root = tokio::task::block_in_place(|| container::unpacked(&archive, fleet.dir()));
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
