//! A wire between the control plane and an API server, which a test can cut: whoever watches has to begin anew. It knows
//! nothing of what it carries; TLS ends where it did.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Cluster, kubeconfig};

/// It carries connections until it is dropped.
pub struct Wire {
    address: SocketAddr,
    cuts: watch::Sender<u64>,
}

impl Wire {
    /// A wire to the API server of `cluster`.
    pub async fn to(cluster: &Cluster) -> Self {
        let server = kubeconfig(cluster)["clusters"][0]["cluster"]["server"].clone();
        let server = server.as_str().and_then(|url| url.strip_prefix("https://")).unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, mut cut) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    gone = cut.changed() => if gone.is_ok() { continue } else { return },
                };
                let (Ok((mut near, _)), server, mut cut) = (accepted, server.clone(), cut.clone()) else {
                    continue;
                };
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(&server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cuts }
    }

    /// A kubeconfig of the cluster that goes through the wire.
    pub fn through(&self, kubeconfig: &str) -> String {
        let mut file: Value = serde_saphyr::from_str(kubeconfig).unwrap();
        file["clusters"][0]["cluster"]["server"] = format!("https://{}", self.address).into();
        file.to_string()
    }

    /// Ends every connection; new ones are carried as ever.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}
