//! Real API servers, shared by all tests of this program and ended with it.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use medusa_fleet::api::crds;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{
    rights,
    support::{
        Cluster,
        harness::{Testbed, testbed},
        loosened::loosen,
        medusa_definitions,
    },
};

/// One for each of [`Definitions`].
static SHARED: [OnceCell<Shared>; 4] = [const { OnceCell::const_new() }; 4];

/// Whose definitions of the Medusa kinds a cluster has.
#[derive(Clone, Copy, Debug)]
pub enum Definitions {
    /// Ours.
    Ours,
    /// As upstream's: without the optional fields we add.
    Upstream,
    /// Ours, and the fleet's kinds: the cluster is a control plane's own, too.
    Home,
    /// Ours, without any type in them.
    Loose,
}

/// What ours have and upstream's lack, by kind.
const ADDED: [(&str, &str, &[&str]); 6] = [
    ("medusabackupjobs", "spec", &["ttlSecondsAfterFinished"]),
    ("medusabackupjobs", "status", &["conditions", "message"]),
    ("medusarestorejobs", "status", &["conditions"]),
    ("medusatasks", "status", &["conditions", "message"]),
    ("medusabackupschedules", "status", &["conditions", "message"]),
    (
        "medusabackupschedules",
        "spec",
        &["timeZone", "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"],
    ),
];

impl Definitions {
    fn all(self) -> Vec<CustomResourceDefinition> {
        // Each kind takes an API server's time before it can be watched.
        let mut all = if matches!(self, Self::Home) { crds::all().unwrap() } else { medusa_definitions() };
        if matches!(self, Self::Upstream) {
            for (plural, part, added) in ADDED {
                let kind = all.iter_mut().find(|c| c.spec.names.plural == plural).unwrap();
                let schema = kind.spec.versions[0].schema.as_mut().unwrap();
                let root = schema.open_api_v3_schema.as_mut().unwrap();
                let spec = root.properties.as_mut().unwrap().get_mut("spec").unwrap();
                spec.x_kubernetes_validations = None;
                let part = root.properties.as_mut().unwrap().get_mut(part).unwrap();
                for field in added {
                    assert!(part.properties.as_mut().unwrap().remove(*field).is_some(), "{plural}: {field}");
                }
            }
        }
        all
    }
}

/// An API server in a directory of its own.
struct Shared {
    /// What the testbed says about it.
    described: Value,
    /// Its standard input closes, and it ends, with this process.
    _testbed: Testbed,
}

impl Shared {
    async fn start(definitions: Definitions) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/testbed");
        testbed::sweep(&root, "data-plane-");
        let name = format!("data-plane-{definitions:?}-{}", std::process::id()).to_lowercase();
        let testbed = Testbed::up(testbed::command(), &root.join(name), 0, &[]).unwrap();
        let described = testbed.clusters().remove(0);
        let cluster = Cluster::connect(&described).await.unwrap();
        cluster.prepare(&definitions.all(), &[]).await.unwrap();
        rights::grant(&cluster, matches!(definitions, Definitions::Home)).await;
        if matches!(definitions, Definitions::Loose) {
            loosen(&cluster).await;
        }
        Self { described, _testbed: testbed }
    }
}

/// The cluster with those definitions, for this test's runtime.
pub async fn shared_cluster(definitions: Definitions) -> Cluster {
    let shared = SHARED[definitions as usize].get_or_init(|| Shared::start(definitions)).await;
    Cluster::connect(&shared.described).await.unwrap()
}

/// The PEM files of a cluster's authority (`ca.crt`), its serving and its administrator's certificates.
pub fn pem(cluster: &Cluster, file: &str) -> String {
    std::fs::read_to_string(cluster.kubeconfig.with_extension("").join(file)).unwrap()
}
