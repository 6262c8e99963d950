//! Vetting of kubeconfigs. They are input from whoever may write Secrets, so everything that would run
//! a program, read a file, or trust anyone is refused by name (contract §3).
//!
//! Pure: text in, verdict out. No message may contain a value of the kubeconfig other than names of
//! contexts, clusters and users.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::config::{AuthInfo, Cluster, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};
use secrecy::ExposeSecret as _;

use super::expiry;
use crate::api::{Reason, names};

/// Keys of a Secret that may hold the kubeconfig, in order (contract §2.2).
pub const SECRET_KEYS: [&str; 2] = ["kubeconfig", "value"];

/// A kubeconfig that may be used: one cluster, one user, one context.
#[derive(Clone)]
pub struct Vetted {
    /// The kubeconfig, reduced to what is used.
    pub kubeconfig: Kubeconfig,
    /// First 16 hex digits of the text's SHA-256.
    pub hash: String,
    /// When the token or client certificate stops working, when it says.
    pub expires_at: Option<Timestamp>,
}

/// Why a kubeconfig may not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For machines.
    pub reason: Reason,
    /// For people: the field and the fix.
    pub message: String,
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal { reason: Reason::InvalidKubeconfig, message: message.into() }
}

/// Reads `text` and refuses what is unsafe in the chosen context's cluster and user, unless its field
/// name is in `allowed`.
///
/// # Errors
/// Why it may not be used, naming the field.
pub fn vet(text: &str, context: Option<&str>, allowed: &BTreeSet<String>) -> Result<Vetted, Refusal> {
    let file: Kubeconfig = serde_saphyr::from_str(text).map_err(|_| {
        // The parser's message may quote the text, which holds credentials.
        invalid("the kubeconfig is not valid YAML of a kubeconfig's shape; check it with `kubectl config view --kubeconfig`")
    })?;
    let name = context
        .filter(|c| !c.is_empty())
        .or(file.current_context.as_deref().filter(|c| !c.is_empty()))
        .ok_or_else(|| invalid("the kubeconfig has no `current-context`; set it, or `spec.context`"))?
        .to_owned();
    let name = name.as_str();
    let context = file
        .contexts
        .iter()
        .find(|c| c.name == name)
        .and_then(|c| c.context.clone())
        .ok_or_else(|| invalid(format!("the kubeconfig has no context `{name}`")))?;
    let cluster =
        file.clusters.iter().find(|c| c.name == context.cluster).and_then(|c| c.cluster.clone()).ok_or_else(
            || invalid(format!("context `{name}` names cluster `{}`, which is not there", context.cluster)),
        )?;
    let user_name = context.user.clone().unwrap_or_default();
    let user =
        file.auth_infos.iter().find(|u| u.name == user_name).and_then(|u| u.auth_info.clone()).ok_or_else(
            || invalid(format!("context `{name}` names user `{user_name}`, which is not there")),
        )?;

    if let Some((field, fix)) = unsafe_cluster(&cluster)
        .into_iter()
        .chain(unsafe_user(&user))
        .find(|(field, _)| !allowed.contains(*field))
    {
        return Err(Refusal {
            reason: Reason::UnsafeKubeconfig,
            message: format!("the kubeconfig uses `{field}`, which is refused; {fix}"),
        });
    }
    if cluster
        .server
        .as_deref()
        .unwrap_or_default()
        .parse::<http::Uri>()
        .ok()
        .and_then(|u| u.host().map(str::to_owned))
        .is_none()
    {
        return Err(invalid(format!(
            "cluster `{}` has no usable `server`; write it as https://host:port",
            context.cluster
        )));
    }
    let has_certificate = user.client_certificate_data.is_some() && user.client_key_data.is_some();
    let has_token = user.token.as_ref().is_some_and(|t| !t.expose_secret().is_empty());
    if !has_certificate && !has_token && allowed.is_empty() {
        return Err(invalid(format!(
            "user `{user_name}` has no credential; give it a `token`, or `client-certificate-data` and `client-key-data`"
        )));
    }
    let expires_at = expiry::of(&user);
    let hash = names::sha256_hex(text.as_bytes()).chars().take(16).collect();
    Ok(Vetted { kubeconfig: reduced(file, name, context, cluster, user), hash, expires_at })
}

/// Only the chosen context, cluster and user, so that nothing else in the file can matter.
fn reduced(
    file: Kubeconfig,
    name: &str,
    context: kube::config::Context,
    cluster: Cluster,
    user: AuthInfo,
) -> Kubeconfig {
    Kubeconfig {
        current_context: Some(name.to_owned()),
        clusters: vec![NamedCluster {
            name: context.cluster.clone(),
            cluster: Some(cluster),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: context.user.clone().unwrap_or_default(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: name.to_owned(),
            context: Some(context),
            ..NamedContext::default()
        }],
        preferences: None,
        extensions: None,
        ..file
    }
}

type Finding = (&'static str, &'static str);

fn unsafe_cluster(cluster: &Cluster) -> Vec<Finding> {
    let plain =
        cluster.server.as_deref().is_some_and(|s| !s.trim().to_ascii_lowercase().starts_with("https://"));
    found([
        (
            plain && cluster.server.as_deref().is_some_and(|s| s.contains("://")),
            "server",
            "only https:// servers are accepted",
        ),
        (
            plain && cluster.server.as_deref().is_some_and(|s| !s.contains("://")),
            "server",
            "write it as https://host:port",
        ),
        (
            cluster.insecure_skip_tls_verify == Some(true),
            "insecure-skip-tls-verify",
            "put the API server's CA into `certificate-authority-data`",
        ),
        (
            cluster.certificate_authority.is_some(),
            "certificate-authority",
            "embed the file as `certificate-authority-data`",
        ),
        (cluster.proxy_url.is_some(), "proxy-url", "proxies are not supported; name the API server itself"),
    ])
}

fn unsafe_user(user: &AuthInfo) -> Vec<Finding> {
    found([
        (
            user.exec.is_some(),
            "exec",
            "a program would run in the control plane; use a token of a ServiceAccount (`kubectl medusa register` makes one)",
        ),
        (
            user.auth_provider.is_some(),
            "auth-provider",
            "use a token of a ServiceAccount (`kubectl medusa register` makes one)",
        ),
        (user.token_file.is_some(), "tokenFile", "put the token itself into `token`"),
        (
            user.client_certificate.is_some(),
            "client-certificate",
            "embed the file as `client-certificate-data`",
        ),
        (user.client_key.is_some(), "client-key", "embed the file as `client-key-data`"),
        (user.username.is_some(), "username", "basic authentication is refused; use a token"),
        (user.password.is_some(), "password", "basic authentication is refused; use a token"),
    ])
}

fn found<const N: usize>(checks: [(bool, &'static str, &'static str); N]) -> Vec<Finding> {
    checks.into_iter().filter(|(hit, ..)| *hit).map(|(_, field, fix)| (field, fix)).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn file(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\n\
             clusters:\n- name: k\n  cluster: {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n"
        )
    }

    const SERVER: &str = "server: 'https://10.0.0.1:6443'";

    #[rstest]
    #[case("server: 'http://10.0.0.1'", "token: t", "server")]
    #[case("server: '10.0.0.1:6443'", "token: t", "server")]
    #[case("server: 'https://h', insecure-skip-tls-verify: true", "token: t", "insecure-skip-tls-verify")]
    #[case("server: 'https://h', certificate-authority: /etc/ca", "token: t", "certificate-authority")]
    #[case("server: 'https://h', proxy-url: 'http://p'", "token: t", "proxy-url")]
    #[case(SERVER, "exec: {apiVersion: v1, command: sh}", "exec")]
    #[case(SERVER, "auth-provider: {name: gcp}", "auth-provider")]
    #[case(SERVER, "tokenFile: /etc/passwd", "tokenFile")]
    #[case(SERVER, "client-certificate: /a, client-key-data: eA==", "client-certificate")]
    #[case(SERVER, "client-certificate-data: eA==, client-key: /a", "client-key")]
    #[case(SERVER, "username: a, password: hunter2", "username")]
    fn unsafe_fields_are_refused_by_name(#[case] cluster: &str, #[case] user: &str, #[case] field: &str) {
        let refusal = vet(&file(cluster, user), None, &BTreeSet::new()).err().unwrap();
        assert_eq!(refusal.reason, Reason::UnsafeKubeconfig, "{}", refusal.message);
        assert!(refusal.message.contains(&format!("`{field}`")), "{}", refusal.message);
        assert!(!refusal.message.contains("hunter2"));
    }

    #[rstest]
    #[case("{", None)]
    #[case("", None)]
    #[case("[1, 2]", None)]
    #[case("token: hunter2", None)]
    #[case("current-context: x", None)]
    #[case(&file(SERVER, "token: hunter2"), Some("other"))]
    #[case(&file("server: 'https://'", "token: hunter2"), None)]
    #[case(&file(SERVER, "token: ''"), None)]
    #[case(&file(SERVER, ""), None)]
    #[case("current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]", None)]
    #[case("a: &a [*a, *a]\nb: &b [*a, *a]", None)]
    fn garbage_is_refused_without_quoting_it(#[case] text: &str, #[case] context: Option<&str>) {
        let refusal = vet(text, context, &BTreeSet::new()).err().unwrap();
        assert_eq!(refusal.reason, Reason::InvalidKubeconfig);
        assert!(!refusal.message.contains("hunter2"));
    }

    #[test]
    fn a_plain_token_kubeconfig_is_accepted_and_reduced() {
        let text = file(SERVER, "token: t") + "- name: other\n  user: {exec: {command: sh}}\n";
        let vetted = vet(&text, None, &BTreeSet::new()).ok().unwrap();
        assert_eq!(vetted.kubeconfig.auth_infos.len(), 1);
        assert_eq!(vetted.hash.len(), 16);
    }

    #[test]
    fn the_controller_may_allow_a_field() {
        let allowed = BTreeSet::from(["exec".to_owned()]);
        assert!(vet(&file(SERVER, "exec: {command: sh}"), None, &allowed).is_ok());
    }
}
