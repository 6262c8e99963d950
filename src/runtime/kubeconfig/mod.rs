//! Kubeconfigs, read as kubectl reads them and judged when they are read: one reader for the Secrets of data planes
//! and for the files of people.
//!
//! [`text`] makes a file of bytes, [`choice`] picks a context, [`access`] judges what it names and keeps only what is
//! used. All three are pure; [`own`] is where a person's files are opened. No message holds a value of the kubeconfig
//! other than names.

pub mod access;
pub mod account;
pub mod choice;
mod credential;
mod key;
pub mod own;
mod pem;
mod shape;
pub mod text;
mod tls;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod tests;

/// Fields of a kubeconfig that a [`Fault`] may be about.
pub const FIELDS: [&str; 33] = [
    "kubeconfig",
    "kind",
    "apiVersion",
    "current-context",
    "contexts",
    "clusters",
    "users",
    "server",
    "tls-server-name",
    "certificate-authority",
    "certificate-authority-data",
    "proxy-url",
    "token",
    "tokenFile",
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
    "username",
    "exec",
    "auth-provider",
    "as",
    "as-uid",
    "as-groups",
    "as-user-extra",
    "context",
    "cluster",
    "user",
    "name",
    "namespace",
    "insecure-skip-tls-verify",
    "password",
    "extensions",
];

/// Why a kubeconfig can be used by no client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field it is about, one of [`FIELDS`].
    pub field: &'static str,
    /// For people: the field in backticks, what is wrong with it, and the fix.
    pub message: String,
}

impl Fault {
    /// `` `field` what``.
    pub(crate) fn new(field: &'static str, what: impl std::fmt::Display) -> Self {
        Self { field, message: format!("`{field}` {what}") }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// A name of a kubeconfig as it is shown: on one line, and not without end.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 80;
    let escaped: String = name.chars().take(LONGEST + 1).flat_map(char::escape_debug).collect();
    let short: String = escaped.chars().take(LONGEST).collect();
    if short.len() < escaped.len() { format!("{short}…") } else { short }
}
