//! A stand-in for the kubelet's log endpoint, behind the real API server: a Node whose address is ours.
//!
//! What it is true to: the route, that the API server authorises and proxies the request, and `previous`.
//! What it is not: there are no containers; a test says what each pod's `medusa-restore` has written.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::{shared_cluster::pem, support::Cluster};

/// What a pod's container has written, by its run; nothing when the log cannot be had.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    pub latest: Option<String>,
    pub previous: Option<String>,
}

type Shared = Arc<Mutex<BTreeMap<String, Logs>>>;

/// One node.
pub struct Kubelet {
    pub node: String,
    logs: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl Kubelet {
    /// Starts the endpoint, with the certificate of the cluster's API server, and makes its Node.
    pub async fn start(cluster: &Cluster, node: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let certificate = pem(cluster, "serving.crt");
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(pem(cluster, "serving.key").as_bytes()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let logs = Shared::default();
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&logs)));
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        cluster.create(object).await;
        let nodes = Api::<Node>::all(cluster.client.clone());
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}
        }});
        nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        Self { node: node.to_owned(), logs, task }
    }

    /// Changes what the pod has written.
    pub fn write(&self, pod: &str, change: impl FnOnce(&mut Logs)) {
        change(self.logs.lock().unwrap().entry(pod.to_owned()).or_default());
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, logs: Shared) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (tls, logs) = (tls.clone(), Arc::clone(&logs));
        tokio::spawn(async move {
            let Ok(mut stream) = tls.accept(stream).await else { return };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let (code, body) = answer(&String::from_utf8_lossy(&head), &logs);
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {code}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}

/// `GET /containerLogs/<namespace>/<pod>/<container>?previous=true…`
fn answer(head: &str, logs: &Shared) -> (&'static str, String) {
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let ["containerLogs", _, pod, "medusa-restore"] = parts.as_slice() else {
        return ("404 Not Found", String::new());
    };
    let logs = logs.lock().unwrap().get(*pod).cloned().unwrap_or_default();
    match if query.contains("previous=true") { logs.previous } else { logs.latest } {
        Some(text) => ("200 OK", text),
        None => ("500 Internal Server Error", "scripted".to_owned()),
    }
}
