//! Causes of errors: made by hand, and met by real clients.

use std::{net::TcpListener, sync::Arc, time::Duration};

use kube::{Config, core::Status};
use rstest::rstest;
use rustls::OtherError;
use tower::BoxError;

use super::*;
use crate::runtime::client::{Timeouts, connect};

/// An error as it comes from below the Kubernetes client: wrapped twice.
fn wrapped(inner: impl Into<BoxError>) -> kube::Error {
    kube::Error::Service(Box::new(io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner.into()))))
}

fn refused(code: u16, message: &str) -> Box<Status> {
    Status::failure(message, "Forbidden").with_code(code).boxed()
}

#[derive(Debug, thiserror::Error)]
#[error("CaUsedAsEndEntity")]
struct CaUsedAsEndEntity;

#[rstest]
#[case(CertificateError::UnknownIssuer, "UnknownIssuer", "register the cluster again")]
#[case(CertificateError::BadSignature, "UnknownIssuer", "register the cluster again")]
#[case(CertificateError::Expired, "Expired", "renew")]
#[case(CertificateError::NotValidYet, "NotValidYet", "clocks")]
#[case(CertificateError::NotValidForName, "NotValidForName", "tls-server-name")]
#[case(
    CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
        signature_algorithm_id: vec![1],
        public_key_algorithm_id: vec![2],
    },
    "UnsupportedSignatureAlgorithm",
    "P-256"
)]
#[case(
    CertificateError::Other(OtherError(Arc::new(CaUsedAsEndEntity))),
    "CaUsedAsEndEntity",
    "a certificate signed by it"
)]
fn what_is_wrong_with_a_certificate_is_said_with_the_fix(
    #[case] error: CertificateError,
    #[case] word: &str,
    #[case] fix: &str,
) {
    let cause = Cause::of(&wrapped(rustls::Error::InvalidCertificate(error)));
    assert_eq!(cause.kind, Kind::Certificate);
    assert!(cause.words.contains(word) && cause.words.contains(fix), "{}", cause.words);
}

#[rstest]
#[case(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType), Kind::NotKubernetes)]
#[case(rustls::Error::AlertReceived(AlertDescription::CertificateExpired), Kind::Credential)]
#[case(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure), Kind::Certificate)]
fn other_words_of_tls_are_told_apart(#[case] error: rustls::Error, #[case] kind: Kind) {
    assert_eq!(Cause::of(&wrapped(error)).kind, kind);
}

/// The cause of asking a real client for a server at `url`.
async fn asking(url: &str) -> Cause {
    let timeouts = Timeouts { connect: Duration::from_millis(300), ..Timeouts::REMOTE };
    let mut config = Config::new(url.parse().unwrap());
    config.accept_invalid_certs = false;
    let client = connect(config, timeouts).unwrap();
    Cause::of(&client.apiserver_version().await.unwrap_err())
}

#[tokio::test]
async fn a_closed_port_a_name_nobody_knows_and_a_port_without_tls_are_told_apart() {
    // Bound and not listened on: nobody else gets the port meanwhile.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let cause = asking(&format!("https://{}", closed.local_addr().unwrap())).await;
    assert_eq!(cause.kind, Kind::Refused, "{}", cause.words);
    assert!(cause.words.contains("refused"), "{}", cause.words);

    let cause = asking("https://no-such-host.invalid:6443").await;
    assert_eq!(cause.kind, Kind::NameNotFound, "{}", cause.words);

    // Answers whatever comes in plain text.
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", plain.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let cause = asking(&url).await;
    assert_eq!(cause.kind, Kind::NotKubernetes, "{}", cause.words);

    // Accepts and says nothing: the handshake never ends.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let cause = asking(&format!("https://{}", silent.local_addr().unwrap())).await;
    assert_eq!(cause.kind, Kind::TimedOut, "{}", cause.words);
}

#[test]
fn statuses_of_an_api_server_are_told_apart() {
    for (code, kind) in [
        (401, Kind::Credential),
        (403, Kind::Forbidden),
        (404, Kind::Answered),
        (409, Kind::Answered),
        (429, Kind::RateLimited),
        (500, Kind::Trouble),
        (503, Kind::Trouble),
    ] {
        assert_eq!(Cause::of(&kube::Error::Api(refused(code, "x"))).kind, kind, "{code}");
    }
    let said = words(&kube::Error::Api(refused(503, "etcd\nis down\u{1b}[31m")));
    assert_eq!(said, "the API server is in trouble: etcd is down [31m");
    assert!(words(&kube::Error::Api(refused(500, &"long ".repeat(1000)))).len() < 600);
}

#[test]
fn what_cannot_be_read_is_not_quoted() {
    let error = serde_json::from_str::<u8>(r#""c2VjcmV0""#).unwrap_err();
    assert!(error.to_string().contains("c2VjcmV0"), "the library quotes");
    let cause = Cause::of(&kube::Error::SerdeError(error));
    assert!(!cause.words.contains("c2VjcmV0"), "{}", cause.words);
}

#[test]
fn a_proxy_is_named_and_blamed_for_its_own_faults_only() {
    let through = |source: BoxError| Proxied { proxy: "proxy.corp:3128".to_owned(), source };
    let refused = through(Box::new(io::Error::from(io::ErrorKind::ConnectionRefused)));
    let denied = through("tunnel error: proxy authorization required".into());
    for error in [refused, denied] {
        let cause = Cause::of(&kube::Error::Service(Box::new(error)));
        assert_eq!(cause.kind, Kind::Proxy);
        assert!(cause.words.contains("`proxy.corp:3128`"), "{}", cause.words);
    }
    let untrusted = through(Box::new(wrapped(rustls::Error::InvalidCertificate(CertificateError::Expired))));
    let cause = Cause::of(&kube::Error::Service(Box::new(untrusted)));
    assert_eq!(cause.kind, Kind::Certificate);
    assert!(cause.words.contains("`proxy.corp:3128`"), "{}", cause.words);
}

#[rstest]
#[case(
    403,
    r#"secrets "a" is forbidden: User "fleet" cannot patch resource "secrets" in API group "" in the namespace "ns""#,
    Denier::Permissions,
    "cannot patch"
)]
#[case(
    403,
    r#"pods "a" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1"#,
    Denier::Quota,
    "`small`"
)]
#[case(
    403,
    r#"secrets "a" is forbidden: unable to create new content in namespace ns because it is being terminated"#,
    Denier::Terminating,
    "being deleted"
)]
#[case(
    422,
    r"secrets 'a' is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no c2VjcmV0",
    Denier::Policy,
    "'p'"
)]
#[case(400, r#"admission webhook "w.example" denied the request: no c2VjcmV0"#, Denier::Policy, "w.example")]
#[case(400, r#"admission webhook "w.example" does not support dry run"#, Denier::Policy, "w.example")]
#[case(
    500,
    r#"Internal error occurred: failed calling webhook "w.example": failed to call webhook: Post "https://c2VjcmV0:1/": dial tcp 127.0.0.1:1: connect: connection refused"#,
    Denier::Policy,
    r#""w.example": connection refused"#
)]
#[case(
    500,
    r#"Internal error occurred: failed calling webhook "w.example": an error on the server ("c2VjcmV0") has prevented the request from succeeding"#,
    Denier::Policy,
    r#"failed calling webhook "w.example""#
)]
#[case(
    403,
    r#"pods "a" is forbidden: violates PodSecurity "restricted:latest": c2VjcmV0"#,
    Denier::Policy,
    "policy"
)]
fn who_denied_a_write_is_said_without_what_it_quotes(
    #[case] code: u16,
    #[case] message: &str,
    #[case] denier: Denier,
    #[case] part: &str,
) {
    let (who, words) = denied(&refused(code, message)).unwrap();
    assert_eq!(who, denier);
    assert!(words.contains(part) && !words.contains("c2VjcmV0"), "{words}");
}

#[test]
fn an_invalid_object_was_denied_by_nobody() {
    assert_eq!(denied(&refused(422, "spec.size: Invalid value")), None);
    assert_eq!(denied(&refused(409, "the object has been modified")), None);
}
