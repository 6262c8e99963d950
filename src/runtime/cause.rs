//! Why a request brought nothing: from an error to its cause, in words for people. Pure.
//!
//! An error of the Kubernetes client says which of its layers failed. What a person needs is at the other end of the
//! chain: the name that is not found, the certificate that is not trusted. Every part of the program asks here.

use std::{error::Error, io};

use kube::core::Status;
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use serde::{Deserialize, Serialize};

use crate::api::Reason;

use super::wire::{Instead, NotKubernetes, Proxied, Unbounded};

/// Longest text of an API server that is repeated, in characters.
const WORDS: usize = 400;
/// Layers of an error that are looked at; a chain that has more goes in circles.
const LAYERS: usize = 24;

/// What kept a request from being answered, or what the answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The host's name is not found.
    NameNotFound,
    /// Nothing listens there.
    Refused,
    /// No connection, or no answer, in time.
    TimedOut,
    /// The server's certificate is not one we trust.
    Certificate,
    /// The proxy does not let us through.
    Proxy,
    /// Whatever answers is no Kubernetes API server.
    NotKubernetes,
    /// More than can be read, or for longer.
    Unbounded,
    /// Who we say we are is not believed.
    Credential,
    /// What was asked is not allowed.
    Forbidden,
    /// We are to ask later.
    RateLimited,
    /// The API server cannot do its work.
    Trouble,
    /// Any other answer of the API server.
    Answered,
    /// Anything else on the way.
    Unreachable,
}

impl Kind {
    /// The reason that stands for it.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::NameNotFound => Reason::NameNotFound,
            Self::Refused => Reason::ConnectionRefused,
            Self::TimedOut => Reason::TimedOut,
            Self::Certificate => Reason::CertificateRejected,
            Self::Proxy => Reason::ProxyFailed,
            Self::NotKubernetes => Reason::NotKubernetes,
            Self::Unbounded => Reason::AnswerUnbounded,
            Self::Credential => Reason::CredentialRejected,
            Self::RateLimited => Reason::RateLimited,
            Self::Trouble => Reason::ApiServerFailing,
            Self::Forbidden => Reason::NotAuthorized,
            Self::Answered | Self::Unreachable => Reason::Unreachable,
        }
    }
}

/// A cause, and what to tell people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// For machines.
    pub kind: Kind,
    /// For people, with the deepest cause in it; one line.
    pub words: String,
}

impl Cause {
    /// A cause in these words.
    pub fn new(kind: Kind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into() }
    }

    /// The cause of `error`.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let cause = Self::beyond_proxies(error);
        let proxy = chain(error).find_map(|layer| layer.downcast_ref::<Proxied>());
        match proxy {
            None => cause,
            // Whoever is dialled is the proxy: its name, its port, its silence.
            Some(Proxied { proxy, .. })
                if matches!(cause.kind, Kind::NameNotFound | Kind::Refused | Kind::Unreachable) =>
            {
                Self::new(Kind::Proxy, format!("the proxy `{proxy}` cannot be used: {}", cause.words))
            }
            Some(Proxied { proxy, .. }) if cause.kind == Kind::Proxy => {
                Self::new(Kind::Proxy, format!("the proxy `{proxy}` {}", cause.words))
            }
            Some(Proxied { proxy, .. }) => {
                Self { words: format!("{} (through the proxy `{proxy}`)", cause.words), ..cause }
            }
        }
    }

    fn beyond_proxies(error: &(dyn Error + 'static)) -> Self {
        let mut deepest = error;
        for layer in chain(error) {
            if let Some(found) = known(layer) {
                return found;
            }
            deepest = layer;
        }
        let words = brief(&deepest.to_string());
        // Resolvers and proxies have no types of their own that could be asked for.
        let says = |text: &str| chain(error).any(|layer| layer.to_string().contains(text));
        if says("dns error") || says("failed to lookup address") {
            return Self::new(Kind::NameNotFound, format!("the host name is not found: {words}"));
        }
        if says("tunnel error") || says("SOCKS error") {
            return Self::new(Kind::Proxy, refused_by_proxy(&words));
        }
        Self::new(Kind::Unreachable, words)
    }

    /// What an answer of an API server says that is no success.
    #[must_use]
    pub fn of_status(status: &Status) -> Self {
        let said = said(status);
        match status.code {
            401 => Self::new(Kind::Credential, "the API server answered 401 Unauthorized"),
            403 => Self::new(Kind::Forbidden, said),
            429 => Self::new(Kind::RateLimited, format!("the API server asks to come back later: {said}")),
            500.. => Self::new(Kind::Trouble, format!("the API server is in trouble: {said}")),
            _ => Self::new(Kind::Answered, format!("the API server answered: {said}")),
        }
    }
}

/// The words for `error`: [`Cause::of`] for whoever does not ask for its kind.
#[must_use]
pub fn words(error: &(dyn Error + 'static)) -> String {
    Cause::of(error).words
}

/// How a proxy refused the way to the API server, in words that follow the proxy's name. The library has no error types for
/// this, so that its texts are compared.
fn refused_by_proxy(words: &str) -> String {
    if words.ends_with("unsuccessful") {
        return "did not open a way to the API server".to_owned();
    }
    if words.ends_with("proxy authorization required") {
        return "asks for a user name and password; put them into its URL".to_owned();
    }
    if words.ends_with("unexpected end of file") {
        return "ended the connection without an answer".to_owned();
    }
    format!("does not let us through: {words}")
}

/// An error and what is behind it. What an I/O error was made of does not count as its source, and is it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let next = |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    };
    std::iter::successors(Some(error), next).take(LAYERS)
}

/// What one layer of an error says, when it is one that tells.
fn known(layer: &(dyn Error + 'static)) -> Option<Cause> {
    if let Some(kube::Error::Api(status)) = layer.downcast_ref() {
        return Some(Cause::of_status(status));
    }
    if let Some(kube::Error::SerdeError(error)) = layer.downcast_ref() {
        // Its text quotes what cannot be read, which may be a Secret.
        let words = format!("its answer is not of the kind asked for (column {})", error.column());
        return Some(Cause::new(Kind::NotKubernetes, words));
    }
    if let Some(not) = layer.downcast_ref::<NotKubernetes>() {
        let fix = if not.instead == Instead::TlsWanted { "; write https:// into the address" } else { "" };
        return Some(Cause::new(Kind::NotKubernetes, format!("{not}{fix}")));
    }
    if let Some(unbounded) = layer.downcast_ref::<Unbounded>() {
        return Some(Cause::new(Kind::Unbounded, unbounded.to_string()));
    }
    if layer.is::<tower::timeout::error::Elapsed>() {
        return Some(Cause::new(Kind::TimedOut, "no answer in time"));
    }
    if let Some(error) = layer.downcast_ref::<rustls::Error>() {
        return Some(tls(error));
    }
    let error = layer.downcast_ref::<io::Error>()?;
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return Some(Cause::new(
            Kind::Refused,
            format!("nothing accepts connections at its address: {error}"),
        ));
    }
    let is_late = error.kind() == io::ErrorKind::TimedOut;
    is_late.then(|| Cause::new(Kind::TimedOut, format!("no connection in time: {error}")))
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add errors; those it has not yet are told in its words"
)]
fn tls(error: &rustls::Error) -> Cause {
    let rejected = |why: &str, word: &str, fix: &str| {
        Cause::new(Kind::Certificate, format!("its certificate is not accepted: {why} ({word}); {fix}"))
    };
    match error {
        rustls::Error::InvalidCertificate(certificate) => {
            let (why, word, fix) = certificate_words(certificate);
            rejected(&why, word, fix)
        }
        rustls::Error::NoCertificatesPresented => {
            rejected("it shows none", "NoCertificatesPresented", "see what listens at that address")
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Cause::new(
            Kind::NotKubernetes,
            "it does not speak TLS: this is no API server, or another port of its host (InvalidContentType)",
        ),
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => Cause::new(
            Kind::Credential,
            format!("the API server does not accept the client certificate of the kubeconfig ({error})"),
        ),
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)
        | rustls::Error::PeerIncompatible(_)
        | rustls::Error::PeerMisbehaved(_) => rejected(
            "no way of encryption is known to both sides",
            &error.to_string(),
            "give the API server a certificate with a P-256, P-384 or RSA key of 2048 bits or more, and TLS 1.2 or 1.3",
        ),
        other => Cause::new(Kind::Unreachable, format!("TLS: {other}")),
    }
}

/// What is wrong with a certificate, the TLS library's word for it, and what to do.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add errors; those it has not yet are told in its words"
)]
fn certificate_words(error: &CertificateError) -> (String, &'static str, &'static str) {
    const REGISTER: &str = "register the cluster again with the authority that signs for its API server now";
    const RENEW: &str = "renew the API server's certificate, or see to the clocks on both sides";
    const KEY: &str = "give the API server a certificate with, and signed by, a P-256, P-384 or RSA key of 2048 bits or more";
    let text = brief(&error.to_string());
    match error {
        CertificateError::UnknownIssuer => {
            ("the kubeconfig's authority did not sign it".to_owned(), "UnknownIssuer", REGISTER)
        }
        // What a cluster that was made again shows: its authority has the same name and another key.
        CertificateError::BadSignature => (
            "another authority of the same name as the kubeconfig's signed it".to_owned(),
            "UnknownIssuer, BadSignature",
            REGISTER,
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (text, "Expired", RENEW),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (text, "NotValidYet", RENEW)
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            text,
            "NotValidForName",
            "register the cluster by a name that is in it, or set `tls-server-name` to one",
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => (
            "its key or signature is of a type that cannot be checked".to_owned(),
            "UnsupportedSignatureAlgorithm",
            KEY,
        ),
        _ if text.contains("CaUsedAsEndEntity") => (
            "it is that of an authority".to_owned(),
            "CaUsedAsEndEntity",
            "give the API server a certificate signed by it",
        ),
        _ if text.contains("Unsupported") => (text, "UnsupportedSignatureAlgorithm", KEY),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            (text, "InvalidPurpose", "give the API server a certificate for server authentication")
        }
        _ => (text, "InvalidCertificate", REGISTER),
    }
}

/// Who said no to a request that was understood and believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denier {
    /// The permissions of our account.
    Permissions,
    /// An admission policy or webhook, or a standard of pod security.
    Policy,
    /// A quota.
    Quota,
    /// The namespace, which is being deleted.
    Terminating,
}

impl Denier {
    /// The reason that stands for it in a condition.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Permissions => Reason::NotAuthorized,
            Self::Policy => Reason::DeniedByPolicy,
            Self::Quota => Reason::QuotaExceeded,
            Self::Terminating => Reason::NamespaceTerminating,
        }
    }
}

/// Who denied a write and what is safe to repeat of it: names of policies, quotas and verbs, but nothing that a policy
/// may quote from the object. `None` when nobody did.
#[must_use]
pub fn denied(status: &Status) -> Option<(Denier, String)> {
    let message = brief(&status.message);
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let is_ending = causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating");
    let until = |end: &str| message.split_once(end).map(|(words, _)| format!("{words}{end}"));
    if is_ending || (status.code == 403 && message.contains("is being terminated")) {
        return Some((Denier::Terminating, "its namespace is being deleted".to_owned()));
    }
    if let Some(words) = deaf_webhook(&message) {
        return Some((Denier::Policy, words));
    }
    for end in ["denied the request", "denied request", "does not support dry run"] {
        if let Some(words) = until(end).filter(|_| (400..500).contains(&status.code)) {
            return Some((Denier::Policy, words));
        }
    }
    if status.code != 403 {
        return None;
    }
    if let Some((_, quota)) = message.split_once("exceeded quota: ") {
        let name = quota.split(',').next().unwrap_or_default();
        return Some((Denier::Quota, format!("quota `{name}` is exceeded")));
    }
    if message.contains("violates PodSecurity") || !message.contains("cannot ") {
        return Some((Denier::Policy, "an admission policy denies it".to_owned()));
    }
    Some((Denier::Permissions, message))
}

/// What is safe to repeat of a message `failed calling webhook`: the webhook's name, and the reason where it is the
/// network's. What the webhook itself answered may quote the object, and is left out.
fn deaf_webhook(message: &str) -> Option<String> {
    const CALLING: &str = "failed calling webhook ";
    const NETWORK: [&str; 8] = [
        "connection refused",
        "context deadline exceeded",
        "i/o timeout",
        "no endpoints available",
        "no route to host",
        "no such host",
        "not found",
        "x509: certificate",
    ];
    let (_, said) = message.split_once(CALLING)?;
    let name = said.strip_prefix('"')?.split('"').next()?;
    let why = NETWORK.into_iter().find(|why| said.contains(why)).map(|why| format!(": {why}"));
    Some(format!("{CALLING}\"{name}\"{}", why.unwrap_or_default()))
}

/// Whether an object was refused for its size. etcd's own word that an object is too large comes as a failure of the server.
#[must_use]
pub fn is_too_large(status: &Status) -> bool {
    let says = |words: &str| status.message.contains(words);
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 413
        || says("request is too large")
        || says("larger than max")
        || causes.any(|cause| cause.reason == "FieldValueTooLong")
}

/// The API server's own words, and its code where it has none.
fn said(status: &Status) -> String {
    let message = brief(&status.message);
    if message.is_empty() { format!("HTTP {} {}", status.code, status.reason) } else { message }
}

/// One line of at most [`WORDS`] characters.
fn brief(text: &str) -> String {
    let mut line = String::new();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    for word in words.filter(|word| !word.is_empty()) {
        if line.len() > WORDS {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if line.chars().count() > WORDS { line.chars().take(WORDS).chain(['…']).collect() } else { line }
}

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod tests;
