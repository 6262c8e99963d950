//! Real handshakes with servers whose certificate is not accepted: what is said of each.

use std::{path::Path, sync::Arc};

use kube::Config;
use rstest::rstest;
use rustls::{
    ServerConfig, SignatureAlgorithm, SignatureScheme,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, Signer, SigningKey},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::{Cause, Kind};
use crate::runtime::client::{Timeouts, connect};

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kubeconfig").join(name)).unwrap()
}

fn chain(name: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(&pem(name)).map(Result::unwrap).collect()
}

/// A key of a type that the other side does not know.
#[derive(Debug)]
struct Unknown;

impl SigningKey for Unknown {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        assert!(!offered.contains(&SignatureScheme::ECDSA_NISTP521_SHA512), "it could be used");
        None
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A server that shows this certificate, and would answer whoever accepts it; returns its URL.
async fn server(certificate: &str) -> String {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let config = if certificate == "server-p521.crt" {
        let key = CertifiedKey::new(chain(certificate), Arc::new(Unknown));
        config.with_cert_resolver(Arc::new(Shows(Arc::new(key))))
    } else {
        let key = PrivateKeyDer::from_pem_slice(&pem("server.key")).unwrap();
        config.with_single_cert(chain(certificate), key).unwrap()
    };
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(acceptor.clone(), stream));
        }
    });
    url
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream) {
    if let Ok(mut stream) = acceptor.accept(stream).await {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    }
}

#[rstest]
#[case::expired("server-expired.crt", "Expired", "renew")]
#[case::not_yet("server-not-yet.crt", "NotValidYet", "clocks")]
#[case::elsewhere("server-elsewhere.crt", "NotValidForName", "tls-server-name")]
#[case::for_clients("server-for-clients.crt", "InvalidPurpose", "server authentication")]
#[case::p521("server-p521.crt", "HandshakeFailure", "P-256, P-384")]
#[case::signed_by_p521("server-by-p521.crt", "UnsupportedSignatureAlgorithm", "P-256, P-384")]
#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_said_with_word_and_fix(
    #[case] certificate: &str,
    #[case] word: &str,
    #[case] fix: &str,
) {
    let mut config = Config::new(server(certificate).await.parse().unwrap());
    config.root_cert = Some(chain("server-ca.crt").iter().map(|der| der.to_vec()).collect());
    let error = connect(config, Timeouts::REMOTE).unwrap().apiserver_version().await.unwrap_err();
    let cause = Cause::of(&error);
    assert_eq!(cause.kind, Kind::Certificate, "{}", cause.words);
    assert!(cause.words.contains(word) && cause.words.contains(fix), "{}", cause.words);
}
