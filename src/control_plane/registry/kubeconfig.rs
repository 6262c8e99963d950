//! Vetting of kubeconfigs. They are input from whoever may write Secrets, so everything that would run
//! a program, read a file, or trust anyone is refused by name (docs/dataplane.md).
//!
//! Pure: text in, verdict out. No message may contain a value of the kubeconfig other than names of
//! contexts, clusters and users.

use std::{collections::BTreeSet, io, net::IpAddr, sync::Arc};

use jiff::Timestamp;

use crate::{
    api::{Reason, Why, names},
    runtime::kubeconfig::{
        Fault,
        access::{self, Access},
        choice::{self, Chosen},
        text,
    },
};

/// Keys of a Secret that may hold the kubeconfig, in order (docs/dataplane.md).
pub const SECRET_KEYS: [&str; 2] = ["kubeconfig", "value"];

/// A kubeconfig that may be used: one cluster, one user, one context.
#[derive(Clone)]
pub struct Vetted {
    /// What of it is used.
    pub access: Arc<Access>,
    /// First 16 hex digits of the text's SHA-256.
    pub hash: String,
    /// The same of what is used: a comment more is no other credential.
    pub fingerprint: String,
    /// The same of where and how the cluster is reached, whoever asks.
    pub address: String,
    /// When the token or client certificate stops working, when it says.
    pub expires_at: Option<Timestamp>,
}

impl From<Fault> for Why {
    fn from(fault: Fault) -> Self {
        invalid(format!("in the kubeconfig, {fault}"))
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Why {
    Why::new(Reason::InvalidKubeconfig, message)
}

/// Reads `bytes` and refuses what is unsafe in the chosen context's cluster and user, unless its field name is in
/// `allowed`, and what no client could use. Files are read, with `file`, only where their fields are allowed.
///
/// # Errors
/// Why it may not be used, naming the field.
pub fn vet(
    bytes: &[u8],
    context: Option<&str>,
    allowed: &BTreeSet<String>,
    now: Timestamp,
    file: impl Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Vetted, Why> {
    let chosen = choice::choose(&text::parse(bytes)?, context, "`spec.context`")?;
    if let Some((field, fix)) = dangers(&chosen).into_iter().find(|(field, _)| !allowed.contains(*field)) {
        let message = format!("the kubeconfig uses `{field}`, which is refused; {fix}");
        return Err(Why::new(Reason::UnsafeKubeconfig, message));
    }
    let access = access::judge(&chosen, now, file)?;
    if !access.has_credential() {
        return Err(invalid(format!(
            "in the kubeconfig, user `{}` of `users` has no credential; give it a `token`, or \
             `client-certificate-data` and `client-key-data`",
            chosen.shown_user()
        )));
    }
    Ok(Vetted {
        hash: short_hash(bytes),
        fingerprint: short(access.fingerprint()),
        address: short(access.address()),
        expires_at: access.expires_at(),
        access: Arc::new(access),
    })
}

fn short(hash: String) -> String {
    hash.chars().take(16).collect()
}

/// [`Vetted::hash`] of a text.
pub(super) fn short_hash(text: &[u8]) -> String {
    short(names::sha256_hex(text))
}

type Finding = (&'static str, &'static str);

/// What would run a program, read a file, trust anyone, or send a credential in the clear or to who knows where.
fn dangers(chosen: &Chosen) -> Vec<Finding> {
    const FILE: &str = "embed the file as `certificate-authority-data`";
    const TOKEN: &str = "use a token of a ServiceAccount (`kubectl medusa register` makes one)";
    const PROGRAM: &str = "a program would run in the control plane; use a token of a ServiceAccount (`kubectl medusa \
                           register` makes one)";
    const BASIC: &str = "basic authentication is refused; use a token";
    let Chosen { cluster, user, .. } = chosen;
    let server = cluster.server.as_deref().unwrap_or_default().trim().to_ascii_lowercase();
    let is_plain = !server.is_empty() && !server.starts_with("https://");
    let findings = [
        (is_plain && server.contains("://"), "server", "only https:// servers are accepted"),
        (is_plain, "server", "write it as https://host:port"),
        (
            is_nobodys(&server),
            "server",
            "the address is link-local, unspecified or a cloud's metadata service",
        ),
        (
            cluster.insecure_skip_tls_verify == Some(true),
            "insecure-skip-tls-verify",
            "put the API server's CA into `certificate-authority-data`",
        ),
        (cluster.certificate_authority.is_some(), "certificate-authority", FILE),
        (
            cluster.proxy_url.is_some(),
            "proxy-url",
            "set HTTPS_PROXY for the control plane, or have its operator allow it with --allow-unsafe-kubeconfig",
        ),
        (user.exec.is_some(), "exec", PROGRAM),
        (user.auth_provider.is_some(), "auth-provider", TOKEN),
        (user.token_file.is_some(), "tokenFile", "put the token itself into `token`"),
        (
            user.client_certificate.is_some(),
            "client-certificate",
            "embed the file as `client-certificate-data`",
        ),
        (user.client_key.is_some(), "client-key", "embed the file as `client-key-data`"),
        (user.username.is_some(), "username", BASIC),
        (user.password.is_some(), "password", BASIC),
    ];
    findings.into_iter().filter(|(hit, ..)| *hit).map(|(_, field, fix)| (field, fix)).collect()
}

/// Whether `server` names, as a literal address, what is never another cluster. Loopback may be one: a tunnel's end.
fn is_nobodys(server: &str) -> bool {
    const METADATA: [&str; 2] = ["fd00:ec2::254", "100.100.100.200"];
    let uri = server.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default().trim_matches(['[', ']']);
    let Ok(ip) = host.parse::<IpAddr>().map(|ip| ip.to_canonical()) else {
        return host == "metadata.google.internal";
    };
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    is_link_local
        || ip.is_unspecified()
        || ip.is_multicast()
        || METADATA.iter().any(|known| known.parse() == Ok(ip))
}

#[cfg(test)]
#[path = "kubeconfig_tests.rs"]
mod tests;
