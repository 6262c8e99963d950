//! Trust between us and a Medusa that speaks TLS.
//!
//! We dial pod addresses, which no certificate names, so the server's name is not checked; its chain is,
//! against the authority in the Secret, and so is its signature on the handshake. Nothing here may accept
//! a certificate without both, and no byte of the Secret may reach an error or a log.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::ByteString;
use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use tonic::transport::Identity;

/// The authority's certificates.
const CA: &str = "ca.crt";
/// Our certificate.
const CERT: &str = "tls.crt";
/// Our private key.
const KEY: &str = "tls.key";

/// What a Secret with TLS material was good for. Cloning is cheap.
#[derive(Clone)]
pub struct ClientTls {
    /// Our certificate and key.
    pub identity: Identity,
    /// Checks the server's chain.
    pub verifier: Arc<ChainVerifier>,
    fingerprint: String,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl ClientTls {
    /// Reads the keys `ca.crt`, `tls.crt` and `tls.key` of a Secret's data (upstream: Backups).
    ///
    /// # Errors
    /// Which key is missing or cannot be used, for people; never its content.
    pub fn from_secret(data: &BTreeMap<String, ByteString>) -> Result<Self, String> {
        let field = |name: &str| {
            data.get(name)
                .map(|bytes| bytes.0.as_slice())
                .filter(|bytes| !bytes.is_empty())
                .ok_or_else(|| format!("key `{name}` is missing"))
        };
        let (ca, cert, key) = (field(CA)?, field(CERT)?, field(KEY)?);

        let mut roots = RootCertStore::empty();
        for certificate in certificates(CA, ca)? {
            roots
                .add(certificate)
                .map_err(|_| format!("key `{CA}` holds a certificate that is no authority"))?;
        }
        let chain = certificates(CERT, cert)?;
        let private = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| format!("key `{KEY}` holds no PEM private key"))?;
        let signing = ring::sign::any_supported_type(&private)
            .map_err(|_| format!("key `{KEY}` holds a private key of an unknown kind"))?;
        match rustls::sign::CertifiedKey::new(chain, signing).keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(format!("key `{KEY}` does not belong to the certificate in `{CERT}`")),
        }

        let algorithms = ring::default_provider().signature_verification_algorithms;
        let fingerprint = crate::api::names::sha256_hex(&[ca, cert, key].concat());
        Ok(Self {
            identity: Identity::from_pem(cert, key),
            verifier: Arc::new(ChainVerifier { roots, algorithms }),
            fingerprint,
        })
    }
}

fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = || format!("key `{name}` holds no PEM certificate");
    let list =
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| unreadable())?;
    if list.is_empty() { Err(unreadable()) } else { Ok(list) }
}

/// Checks that a server's certificate is signed by the Secret's authority and in its time, and that the
/// server holds its key; not which name it bears.
#[derive(Debug)]
pub struct ChainVerifier {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[], "key `ca.crt` is missing")]
    #[case(&[("ca.crt", "")], "key `ca.crt` is missing")]
    #[case(&[("ca.crt", "x"), ("tls.crt", "y")], "key `tls.key` is missing")]
    #[case(&[("ca.crt", "x"), ("tls.crt", "y"), ("tls.key", "hush")], "key `ca.crt` holds no PEM certificate")]
    fn the_message_names_the_key_and_not_its_content(#[case] data: &[(&str, &str)], #[case] expected: &str) {
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))).collect();
        assert_eq!(ClientTls::from_secret(&data).unwrap_err(), expected);
    }
}
