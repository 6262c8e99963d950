//! A stand-in for what stands in front of an API server: a load balancer with the API server's certificate.
//!
//! What it is true to: TLS, HTTP/1.1 (HTTP/2 is offered too, and would break off), and that requests reach the real API server while it passes them on. What it is not:
//! it ends each connection after one request, and its answers of its own are the same for every request it is told to
//! answer.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use crate::support::Cluster;

/// What it answers itself to a request with this first line and body: all of the answer; nothing passes it on.
pub type Answers = fn(&str, &str) -> Option<String>;

/// A running front.
pub struct Front {
    /// Where it listens, as a kubeconfig's `server`.
    pub server: String,
    answers: Arc<Mutex<Answers>>,
    answered: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    /// Starts it before the API server of a cluster.
    pub async fn start(cluster: &Cluster, server: &str) -> Self {
        Self::speaking(cluster, server, &["http/1.1"]).await
    }

    /// Starts one with nothing behind it, as a webhook of the cluster that answers so: an API server would ask it by HTTP/2.
    pub async fn webhook(cluster: &Cluster, answers: Answers) -> Self {
        let front = Self::speaking(cluster, "https://127.0.0.1:1", &["http/1.1"]).await;
        front.answer(answers);
        front
    }

    async fn speaking(cluster: &Cluster, server: &str, protocols: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dir = cluster.kubeconfig.with_extension("");
        let tls =
            (accepted(&read(&dir, "serving.crt"), &read(&dir, "serving.key"), protocols), connecting(&dir));
        let behind = server.trim_start_matches("https://").to_owned();
        let answers: Arc<Mutex<Answers>> = Arc::new(Mutex::new(|_, _| None));
        let answered = Arc::new(AtomicUsize::new(0));
        let server = format!("https://{}", listener.local_addr().unwrap());
        let task = tokio::spawn({
            let (answers, answered) = (answers.clone(), answered.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (tls, answers, behind) = (tls.clone(), answers.clone(), behind.clone());
                    let answered = answered.clone();
                    tokio::spawn(async move {
                        // Whoever breaks the connection off sees that himself.
                        let _ = serve(stream, tls, &answers, &answered, &behind).await;
                    });
                }
            }
        });
        Self { server, answers, answered, task }
    }

    /// How many requests it has answered itself.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// From now on it answers so. What is being passed on goes on.
    pub fn answer(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(dir: &Path, file: &str) -> Vec<u8> {
    std::fs::read(dir.join(file)).unwrap()
}

fn accepted(certificates: &[u8], key: &[u8], protocols: &[&str]) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(certificates).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key).unwrap();
    let config =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

fn connecting(dir: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&read(dir, "ca.crt")) {
        roots.add(authority.unwrap()).unwrap();
    }
    let config =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

async fn serve(
    stream: TcpStream,
    (accepting, connecting): (TlsAcceptor, TlsConnector),
    answers: &Mutex<Answers>,
    answered: &AtomicUsize,
    behind: &str,
) -> std::io::Result<()> {
    let mut stream = accepting.accept(stream).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let first = head.lines().next().unwrap_or_default();
    let answer = *answers.lock().unwrap();
    if let Some(answer) = answer(first, &String::from_utf8_lossy(&body)) {
        stream.write_all(answer.as_bytes()).await?;
        answered.fetch_add(1, Ordering::SeqCst);
        return stream.shutdown().await;
    }
    let tcp = TcpStream::connect(behind).await?;
    let mut inner = connecting.connect(ServerName::try_from("127.0.0.1").unwrap(), tcp).await?;
    let (first, rest) = head.split_once("\r\n").unwrap_or_default();
    inner.write_all(format!("{first}\r\nConnection: close\r\n{rest}").as_bytes()).await?;
    inner.write_all(&body).await?;
    copy_bidirectional(&mut stream, &mut inner).await.map(drop)
}

/// A file of `tests/golden/kubeconfig`.
pub fn golden(name: &str) -> Vec<u8> {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kubeconfig"), name)
}

/// A server that shows this golden certificate and says nothing; returns its URL.
pub async fn showing(certificate: &str) -> String {
    let acceptor = accepted(&golden(certificate), &golden("server.key"), &["h2", "http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let accepting = acceptor.accept(stream);
            tokio::spawn(async move { accepting.await.map(drop) });
        }
    });
    url
}
