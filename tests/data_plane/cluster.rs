//! Real API servers, shared by all tests of this program and ended with it.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use medusa_fleet::api::crds;

use crate::{
    loose::loosen,
    testbed::{self, Testbed},
    wait::{eventually, like},
};

static OURS: OnceLock<Server> = OnceLock::new();
static UPSTREAM: OnceLock<Server> = OnceLock::new();
static HOME: OnceLock<Server> = OnceLock::new();
static LOOSE: OnceLock<Server> = OnceLock::new();

/// Whose definitions of the Medusa kinds a cluster has.
#[derive(Clone, Copy, Debug)]
pub enum Definitions {
    /// Ours.
    Ours,
    /// As upstream's: without the optional fields we add.
    Upstream,
    /// Ours, in a cluster that is a control plane's own, too.
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
        let mut all = crds::all().unwrap();
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

/// An API server in a directory of its own, and its kubeconfig.
struct Server {
    kubeconfig: PathBuf,
    /// Its standard input closes, and it ends, with this process.
    _testbed: Testbed,
}

impl Server {
    fn start(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/testbed");
        testbed::sweep(&root, "data-plane-");
        let dir = root.join(format!("data-plane-{name}-{}", std::process::id()));
        let (testbed, clusters) = Testbed::up(&dir, 0, &[]);
        let kubeconfig = clusters[0]["kubeconfig"].as_str().unwrap().into();
        Self { kubeconfig, _testbed: testbed }
    }
}

/// Path of an administrator's kubeconfig of the API server with those definitions.
pub fn kubeconfig(definitions: Definitions) -> &'static Path {
    let server = match definitions {
        Definitions::Ours => &OURS,
        Definitions::Upstream => &UPSTREAM,
        Definitions::Home => &HOME,
        Definitions::Loose => &LOOSE,
    };
    let installed = server.get_or_init(|| {
        let server = Server::start(&format!("{definitions:?}").to_lowercase());
        let kubeconfig = server.kubeconfig.clone();
        // On a thread of its own, as the caller may be inside a runtime.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                install(&kubeconfig, definitions.all()).await;
                if matches!(definitions, Definitions::Loose) {
                    loosen(&Client::try_from(configuration(&kubeconfig).await).unwrap()).await;
                }
            });
        })
        .join()
        .unwrap();
        server
    });
    &installed.kubeconfig
}

/// The PEM files of the API server's authority (`ca.crt`), its serving and its administrator's certificates.
pub fn pem(definitions: Definitions, file: &str) -> String {
    let dir = kubeconfig(definitions).with_extension("");
    std::fs::read_to_string(dir.join(file)).unwrap()
}

async fn install(kubeconfig: &Path, definitions: Vec<CustomResourceDefinition>) {
    let client = Client::try_from(configuration(kubeconfig).await).unwrap();
    crate::rights::grant(client.clone()).await;
    let api: Api<CustomResourceDefinition> = Api::all(client);
    for crd in definitions {
        api.create(&PostParams::default(), &crd).await.unwrap();
    }
    let is_served = |crd: &CustomResourceDefinition| {
        let conditions = crd.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Established" && c.status == "True")
    };
    eventually("all definitions are served", async || {
        let all = api.list(&kube::api::ListParams::default()).await.unwrap().items;
        let waits = |crd: &&CustomResourceDefinition| !is_served(crd);
        like(all.iter().filter(waits).filter_map(|crd| crd.metadata.name.clone()).collect(), Vec::is_empty)
    })
    .await;
}

/// Client configuration of a kubeconfig.
pub async fn configuration(kubeconfig: &Path) -> Config {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap()
}
