//! Kubeconfigs and keys for tests.

use std::path::Path;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;

use super::{
    Fault,
    access::{self, Access},
    choice, text,
};

/// A file of `tests/golden/kubeconfig`.
pub(crate) fn pem(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kubeconfig");
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The same as a `…-data` field.
pub(crate) fn encoded(name: &str) -> String {
    STANDARD.encode(pem(name))
}

/// A token that says this of itself.
pub(crate) fn jwt(claims: &serde_json::Value) -> String {
    format!("eyJh.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// A kubeconfig of one context with these fields, in YAML's flow style.
pub(crate) fn file(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\n\
         clusters:\n- name: k\n  cluster: {{{cluster}}}\nusers:\n- name: u\n  user: {{{user}}}\n"
    )
}

/// A time at which the good certificates are valid.
pub(crate) fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

/// Reads and judges `bytes`, as the control plane does.
pub(crate) fn judged(bytes: &[u8]) -> Result<Access, Fault> {
    let file = text::parse(bytes)?;
    let chosen = choice::choose(&file, None, "set `spec.context`")?;
    access::judge(&chosen, now(), |_| Err(std::io::ErrorKind::Unsupported.into()))
}

/// What is used of a good kubeconfig with these fields.
pub(crate) fn access(cluster: &str, user: &str) -> Access {
    judged(file(cluster, user).as_bytes()).unwrap_or_else(|fault| panic!("{fault}"))
}
