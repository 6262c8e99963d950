//! `deploy/examples`: API servers take every object of them as it stands. The CronJob's command does what it is for, with no
//! more rights than the example gives it; what the quick start applies brings Medusa into its datacenter.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, api::PostParams};
use medusa_fleet::api::{
    cassandra::CassandraDatacenter,
    medusa::{MedusaTask, TaskOperation},
};
use serde_json::{Value, json};

use crate::{
    deployment_steps::container,
    support::{ControlPlane, Fleet, eventually, harness::testbed, with_token},
};

/// The namespace of the examples.
const NAMESPACE: &str = "cassandra";
/// The examples that belong into a data plane.
const OF_DATA_PLANES: [&str; 2] = ["cassandradatacenter-role.yaml", "purge-cronjob.yaml"];

/// What docs/quickstart.md applies.
const QUICKSTART: &str = "deploy/examples/quickstart";

/// The documentation page's command, for the API version of its time (`batch/v1beta1`).
const PAGE: &str = r#"printf "apiVersion: medusa.k8ssandra.io/v1alpha1\nkind: MedusaTask\nmetadata:\n  name: purge-backups-timestamp\n  namespace: k8ssandra-operator\nspec:\n  cassandraDatacenter: dc1\n  operation: purge" | sed "s/timestamp/$(date +%Y%m%d%H%M%S)/g" | kubectl apply -f -"#;

/// What is in this folder of the project, by file.
fn examples(folder: &str) -> Vec<(String, Vec<Value>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        (name, serde_saphyr::from_multiple(&text).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// Runs `shell` with a `kubectl` that talks to the cluster as `kubeconfig` says.
fn run(fleet: &Fleet, kubeconfig: &Path, shell: &[&str]) -> Output {
    let bin = fleet.dir().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let kubectl = bin.join("kubectl");
    let program = testbed::binary();
    let script = format!("#!/bin/sh\nexec '{}' kubectl \"$@\"\n", program.display());
    fs::write(&kubectl, script).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    let mut path = bin.clone().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    tokio::task::block_in_place(|| {
        Command::new(shell[0])
            .args(&shell[1..])
            .env("PATH", path)
            .env("HOME", &bin)
            .env("KUBECONFIG", kubeconfig)
            .output()
            .unwrap()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_accepted_and_the_cron_job_makes_a_purge_with_its_own_rights() {
    let fleet = Fleet::start(1).await;
    let (home, there) = (fleet.home(), fleet.dp(1));
    home.namespace(NAMESPACE).await.unwrap();
    there.namespace(NAMESPACE).await.unwrap();
    let mut cron_job = None;
    let mut clusters = 0;
    let (mut made, mut used) = (BTreeSet::new(), BTreeSet::new());
    for (file, objects) in examples("deploy/examples") {
        for object in objects {
            let place = if OF_DATA_PLANES.contains(&file.as_str()) { there } else { home };
            assert_eq!(object["metadata"]["namespace"], NAMESPACE, "{file}");
            place.apply(&object).await;
            clusters += usize::from(object["kind"] == "K8ssandraCluster");
            if object["kind"] == "ServiceAccount" {
                made.insert(object["metadata"]["name"].as_str().unwrap().to_owned());
            }
            used.extend(
                object.pointer("/spec/serviceAccountName").and_then(Value::as_str).map(str::to_owned),
            );
            let ignored = object.pointer("/spec/cassandra/serviceAccount");
            assert_eq!(
                ignored, None,
                "{file}: nobody here reads it; the CassandraDatacenter names its account"
            );
            if object["kind"] == "CronJob" {
                cron_job = Some(object);
            }
        }
    }
    assert_eq!(clusters, 4);
    assert!(!used.is_empty() && used.is_subset(&made), "{used:?} of {made:?}");

    // As the CronJob's pod would run it: with the account's token and nothing else.
    let pod = &cron_job.unwrap()["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let accounts: Api<ServiceAccount> = there.api(NAMESPACE);
    let account = pod["serviceAccountName"].as_str().unwrap();
    let request = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    let kubeconfig = fleet.dir().join("purge.kubeconfig");
    fs::write(&kubeconfig, with_token(there, &answer.status.unwrap().token)).unwrap();
    let command: Vec<&str> =
        pod["containers"][0]["command"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    for _ in 0..2 {
        let done = run(&fleet, &kubeconfig, &command);
        assert!(done.status.success(), "{done:?}");
    }
    let tasks = there.list::<MedusaTask>(NAMESPACE).await;
    assert_eq!(tasks.len(), 2, "each night has its own");
    for task in tasks {
        assert!(task.metadata.name.unwrap().starts_with("purge-dc1-"));
        assert_eq!(task.spec.cassandra_datacenter, "dc1");
        assert_eq!(task.spec.operation, TaskOperation::Purge);
    }
    let refused = run(&fleet, &kubeconfig, &["kubectl", "get", "secrets", "-n", NAMESPACE]);
    assert!(!refused.status.success(), "it may do nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_pages_command_makes_a_purge() {
    let fleet = Fleet::start(1).await;
    let there = fleet.dp(1);
    there.namespace("k8ssandra-operator").await.unwrap();
    let done = run(&fleet, &there.kubeconfig, &["/bin/bash", "-c", PAGE]);
    assert!(done.status.success(), "{done:?}");
    let tasks = there.list::<MedusaTask>("k8ssandra-operator").await;
    let [task] = tasks.as_slice() else { panic!("{tasks:?}") };
    assert!(task.metadata.name.as_ref().unwrap().starts_with("purge-backups-2"));
    assert_eq!((task.spec.cassandra_datacenter.as_str(), task.spec.operation), ("dc1", TaskOperation::Purge));
}

/// An object of the quick start.
fn the<'a>(files: &'a [(String, Vec<Value>)], kind: &str, name: &str) -> &'a Value {
    let all = files.iter().flat_map(|(_, objects)| objects);
    let mut found = all.filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.next().unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_quick_start_applies_is_accepted_and_brings_medusa_into_its_datacenter() {
    let fleet = Fleet::start(0).await;
    let home = fleet.home();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quickstart.md")).unwrap();
    let mut files = examples(QUICKSTART);
    // In the order in which the page applies them.
    files.sort_by_key(|(file, _)| {
        let command = format!("kubectl apply -f {QUICKSTART}/{file}");
        page.find(&command).unwrap_or_else(|| panic!("docs/quickstart.md has no `{command}`"))
    });
    for object in files.iter().flat_map(|(_, objects)| objects) {
        home.apply(object).await;
    }

    // What one file says of another is so.
    let keys = &the(&files, "Secret", "minio")["stringData"];
    let credentials = &the(&files, "Secret", "medusa-bucket-key")["stringData"]["credentials"];
    let user = format!("aws_access_key_id = {}\n", keys["MINIO_ROOT_USER"].as_str().unwrap());
    let password = format!("aws_secret_access_key = {}", keys["MINIO_ROOT_PASSWORD"].as_str().unwrap());
    let credentials = credentials.as_str().unwrap();
    assert!(credentials.contains(&user) && credentials.ends_with(&password), "{credentials}");
    let storage = &the(&files, "K8ssandraCluster", "demo")["spec"]["medusa"]["storageProperties"];
    assert_eq!(storage["host"], "minio.minio.svc.cluster.local");
    let service = the(&files, "Service", "minio");
    assert_eq!(service["metadata"]["namespace"], "minio");
    assert_eq!(storage["port"], service["spec"]["ports"][0]["port"]);
    let minio = &the(&files, "Deployment", "minio")["spec"]["template"]["spec"]["containers"][0];
    let bucket = format!("/data/{} ", storage["bucketName"].as_str().unwrap());
    assert!(minio["command"][2].as_str().unwrap().contains(&bucket), "{minio}");

    let mut controller = ControlPlane::spawn(&fleet);
    eventually("the datacenter has Medusa", async || {
        let datacenter = home.raw::<CassandraDatacenter>(NAMESPACE, "dc1").await;
        let medusa = container(&datacenter, "containers", "medusa");
        let restore = container(&datacenter, "initContainers", "medusa-restore");
        let is_there = medusa.is_some() && restore.is_some();
        if is_there { Ok(()) } else { Err(datacenter["spec"]["podTemplateSpec"].to_string()) }
    })
    .await;
    let datacenter = home.raw::<CassandraDatacenter>(NAMESPACE, "dc1").await;
    assert_eq!(datacenter["spec"]["config"], the(&files, "CassandraDatacenter", "dc1")["spec"]["config"]);
    controller.assert_running();
}
