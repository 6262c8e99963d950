//! Certificates and keys, judged as the TLS library will judge them. Pure.

use jiff::{SignedDuration, Timestamp};
use rustls::{
    RootCertStore,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    Fault,
    key::{self, USABLE},
    pem::{self, Block},
};

/// How far two clocks may be apart before a certificate is called too young.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);

/// PEM labels of the keys that can be read.
const LABELS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// A client certificate with its chain, and its key: PEM of nothing else.
pub(super) struct Identity {
    pub(super) certificates: String,
    pub(super) key: String,
    pub(super) expires_at: Option<Timestamp>,
}

/// The authorities in `text`: those that can be used, one at least.
pub(super) fn authorities(field: &'static str, text: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let certificates = certificates(text);
    if certificates.is_empty() {
        return Err(Fault::new(
            field,
            "holds no PEM certificate; put the certificate of the API server's authority there",
        ));
    }
    let mut why = String::new();
    let mut usable = Vec::new();
    for der in certificates {
        match authority(&der) {
            Ok(()) => usable.push(der),
            Err(error) => why = error,
        }
    }
    if usable.is_empty() { Err(Fault::new(field, why)) } else { Ok(usable) }
}

fn authority(der: &[u8]) -> Result<(), String> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|_| "holds a certificate that cannot be read; export it again as PEM".to_owned())?;
    let spki = certificate.public_key().raw;
    if !key::can_verify(spki) {
        let kind = key::kind(spki);
        return Err(format!(
            "holds an authority with a {kind} key, which the TLS library cannot use; use one with P-256, P-384, \
             Ed25519 or RSA of 2048 bits or more"
        ));
    }
    RootCertStore::empty()
        .add(CertificateDer::from(der))
        .map_err(|error| format!("holds a certificate that is no authority: {error}"))
}

fn certificates(text: &[u8]) -> Vec<Vec<u8>> {
    pem::blocks(text)
        .into_iter()
        .filter(|block| block.label == "CERTIFICATE")
        .map(|block| block.der)
        .collect()
}

/// A certificate that a person put into a kubeconfig, and the key beside it, with the names of their fields.
pub(super) fn identity(
    (certificate_field, certificate): (&'static str, &[u8]),
    (key_field, key): (&'static str, &[u8]),
    now: Timestamp,
) -> Result<Identity, Fault> {
    let chain = certificates(certificate);
    let Some(leaf) = chain.first() else {
        return Err(Fault::new(
            certificate_field,
            "holds no PEM certificate; put the client certificate there",
        ));
    };
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| {
        Fault::new(certificate_field, "holds a certificate that cannot be read; export it again as PEM")
    })?;
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    let (begin, end) = (at(parsed.validity().not_before), at(parsed.validity().not_after));
    if let Some(end) = end.filter(|end| *end <= now) {
        return Err(Fault::new(
            certificate_field,
            format!("expired at {end}; have a new certificate issued"),
        ));
    }
    if let Some(begin) = begin.filter(|begin| *begin > now + CLOCKS_DIFFER) {
        return Err(Fault::new(
            certificate_field,
            format!("is not valid before {begin}; wait, or have another one issued"),
        ));
    }
    let (label, private) = private_key(key_field, key)?;
    // As Go does: the label is a hint.
    let read = [label].into_iter().chain(LABELS).find_map(|label| {
        any_supported_type(&private_der(label, &private.der)).ok().map(|signing| (label, signing))
    });
    let Some((label, signing)) = read else {
        let what = match key::kind(&private.der).as_str() {
            "unknown" => {
                "holds a key that cannot be read; export it again (`openssl pkey -in KEY`)".to_owned()
            }
            kind => format!("holds a key of type {kind}, which the TLS library cannot use; {USABLE}"),
        };
        return Err(Fault::new(key_field, what));
    };
    let owned = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    match CertifiedKey::new(owned, signing).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(Fault::new(
                key_field,
                format!(
                    "does not belong to the certificate in `{certificate_field}`; take both from one issue"
                ),
            ));
        }
        Err(error) => {
            return Err(Fault::new(
                certificate_field,
                format!("cannot be used by the TLS library ({error}); have a new certificate issued"),
            ));
        }
    }
    Ok(Identity {
        certificates: chain.iter().map(|der| pem::write("CERTIFICATE", der)).collect(),
        key: pem::write(label, &private.der),
        expires_at: end,
    })
}

fn private_key(field: &'static str, text: &[u8]) -> Result<(&'static str, Block), Fault> {
    let mut blocks = pem::blocks(text);
    // As Go does: the first that is one; parameters or certificates may stand before it.
    let place = blocks.iter().position(|block| block.label.ends_with("PRIVATE KEY"));
    let Some(place) = place else {
        let what = if blocks.iter().any(|block| block.label == "EC PARAMETERS") {
            "holds only the parameters of a key; put the private key there"
        } else {
            "holds no PEM private key; put the client certificate's key there"
        };
        return Err(Fault::new(field, what));
    };
    let block = blocks.swap_remove(place);
    if block.is_encrypted || block.label.starts_with("ENCRYPTED") {
        return Err(Fault::new(field, "is encrypted; give it without its password (`openssl pkey -in KEY`)"));
    }
    let Some(label) = LABELS.into_iter().find(|label| *label == block.label) else {
        let label = super::shown(&block.label);
        let what = format!("holds a key of type `{label}`, which the TLS library cannot use; {USABLE}");
        return Err(Fault::new(field, what));
    };
    Ok((label, block))
}

fn private_der(label: &str, der: &[u8]) -> PrivateKeyDer<'static> {
    let der = der.to_vec();
    match label {
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    }
}

/// The authorities as PEM, for a kubeconfig.
pub(super) fn as_pem(authorities: &[Vec<u8>]) -> String {
    authorities.iter().map(|der| pem::write("CERTIFICATE", der)).collect()
}
