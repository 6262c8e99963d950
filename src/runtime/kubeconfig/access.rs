//! What of a kubeconfig is used, judged when it is read. Pure.

use std::{collections::BTreeMap, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Uri;
use jiff::Timestamp;
use kube::{
    Config,
    config::{AuthInfo, AuthProviderConfig, ExecAuthCluster, ExecConfig},
};
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Fault,
    account::Account,
    choice::Chosen,
    credential, pem,
    text::{Cluster, User},
    tls::{self, Identity},
};
use crate::{api::names, runtime::proxy};

/// Nobody has an address as long as that, and no request to it could be made.
const LONGEST_SERVER: usize = 2048;

/// A way to one cluster: one server, one credential, nothing else of the file.
#[derive(Clone)]
pub struct Access {
    server: Uri,
    authorities: Option<Vec<Vec<u8>>>,
    tls_server_name: Option<String>,
    trusts_anyone: bool,
    proxy: Option<Uri>,
    namespace: Option<String>,
    auth: AuthInfo,
    expires_at: Option<Timestamp>,
}

/// Judges what `chosen` names. Files that it names are read with `file`, whose errors are repeated, and no path.
///
/// # Errors
/// What no client could use, naming the field and the fix.
pub fn judge(
    chosen: &Chosen,
    now: Timestamp,
    file: impl Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Access, Fault> {
    let Chosen { cluster, user, cluster_name, .. } = chosen;
    let (server, host) = server(cluster, cluster_name)?;
    let tls_server_name = cluster.tls_server_name.as_deref().map(|name| name.trim().to_owned());
    match &tls_server_name {
        Some(name) if ServerName::try_from(name.as_str()).is_err() => {
            return Err(Fault::new(
                "tls-server-name",
                "is no host name or address; write the name in the certificate",
            ));
        }
        None if ServerName::try_from(host.as_str()).is_err() => {
            return Err(bad_server("has a host that is no host name or address"));
        }
        Some(_) | None => {}
    }
    let proxy = cluster.proxy_url.as_deref().map(proxy::parse).transpose();
    let proxy = proxy.map_err(|what| Fault::new("proxy-url", what))?;
    let authority = content(
        ("certificate-authority-data", cluster.certificate_authority_data.as_deref()),
        ("certificate-authority", cluster.certificate_authority.as_deref()),
        &file,
    )?;
    let authorities = authority.map(|(field, text)| tls::authorities(field, &text)).transpose()?;
    let identity = identity(user, now, &file)?;
    let token = match (&user.token, &user.token_file) {
        (Some(token), _) => Some(credential::token("token", token)?),
        (None, Some(path)) => token_of_file(path, &file)?,
        (None, None) => None,
    };
    let token = token.filter(|token| !token.is_empty());
    let expires_at = [
        token.as_deref().and_then(credential::expiry),
        identity.as_ref().and_then(|identity| identity.expires_at),
    ];
    let mut access = Access {
        server,
        authorities,
        tls_server_name,
        trusts_anyone: cluster.insecure_skip_tls_verify == Some(true),
        proxy,
        namespace: chosen.namespace.clone(),
        auth: AuthInfo::default(),
        expires_at: expires_at.into_iter().flatten().min(),
    };
    access.auth = auth((user, cluster), token, identity, &access)?;
    Ok(access)
}

fn bad_server(what: &str) -> Fault {
    Fault::new("server", format!("{what}; write it as https://host:port"))
}

/// The server and its host.
fn server(cluster: &Cluster, name: &str) -> Result<(Uri, String), Fault> {
    let name = super::shown(name);
    let Some(server) = cluster.server.as_deref() else {
        return Err(bad_server(&format!("is missing: cluster `{name}` has no `server`")));
    };
    if server.len() > LONGEST_SERVER {
        return Err(bad_server("is longer than 2048 bytes"));
    }
    // Never repeated: what stands before an `@` is a password.
    let uri: Uri = server.parse().map_err(|_| bad_server("is not a URL"))?;
    let Some(authority) = uri.authority() else {
        return Err(bad_server("is not an https URL: it names no host"));
    };
    if authority.as_str().contains('@') {
        return Err(bad_server("holds a user name or password: remove it"));
    }
    if uri.query().is_some() || server.contains('#') {
        return Err(bad_server("has a query or fragment"));
    }
    let scheme = uri.scheme_str().unwrap_or_default();
    if !matches!(scheme, "https" | "http") {
        return Err(bad_server("is not an https URL"));
    }
    // What follows the host is a port, or the URL is not what it seems.
    let rest = authority.as_str().strip_prefix(uri.host().unwrap_or_default()).unwrap_or_default();
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if !rest.is_empty() && !rest.strip_prefix(':').is_some_and(is_port) {
        return Err(bad_server("has a port that is none"));
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    if host.is_empty() {
        return Err(bad_server("names no host"));
    }
    Ok((uri, host))
}

type NamedText<'a> = (&'static str, Option<&'a str>);

/// The bytes of a `…-data` field, or of the file that stands in for it, with the field's name.
fn content(
    (data_field, data): NamedText<'_>,
    (file_field, path): NamedText<'_>,
    file: &impl Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Option<(&'static str, Vec<u8>)>, Fault> {
    if let Some(data) = data {
        let what = if data.contains("-----BEGIN") {
            "is not base64 but PEM itself; encode it (`base64 -w0`)"
        } else {
            "is not base64; encode the PEM file (`base64 -w0`)"
        };
        let text = pem::from_base64(data).ok_or_else(|| Fault::new(data_field, what))?;
        return Ok(Some((data_field, text)));
    }
    let Some(path) = path else { return Ok(None) };
    let text = file(path).map_err(|error| Fault::new(file_field, format!("cannot be read: {error}")))?;
    Ok(Some((file_field, text)))
}

fn identity(
    user: &User,
    now: Timestamp,
    file: &impl Fn(&str) -> io::Result<Vec<u8>>,
) -> Result<Option<Identity>, Fault> {
    let certificate = content(
        ("client-certificate-data", user.client_certificate_data.as_deref()),
        ("client-certificate", user.client_certificate.as_deref()),
        file,
    )?;
    let key = content(
        ("client-key-data", user.client_key_data.as_deref()),
        ("client-key", user.client_key.as_deref()),
        file,
    )?;
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(Fault::new(
            "client-key-data",
            "is missing; a client certificate is of no use without its key",
        )),
        (None, Some(_)) => Err(Fault::new(
            "client-certificate-data",
            "is missing; a key is of no use without its certificate",
        )),
        (Some((certificate_field, certificate)), Some((key_field, key))) => {
            tls::identity((certificate_field, &certificate), (key_field, &key), now).map(Some)
        }
    }
}

/// The token in a file that has white space around it, which the library would send along. `None` where there is none: the
/// library reads such a file itself, again every minute.
fn token_of_file(path: &str, file: &impl Fn(&str) -> io::Result<Vec<u8>>) -> Result<Option<String>, Fault> {
    const FIELD: &str = "tokenFile";
    let text = file(path).map_err(|error| Fault::new(FIELD, format!("cannot be read: {error}")))?;
    let text = String::from_utf8(text).map_err(|_| Fault::new(FIELD, "names a file that holds no token"))?;
    let token = credential::token(FIELD, &text)?;
    if token.is_empty() {
        return Err(Fault::new(FIELD, "names a file that is empty; write the token there"));
    }
    Ok((token != text).then_some(token))
}

/// The user, field by field: every one of them can be sent.
fn auth(
    (user, cluster): (&User, &Cluster),
    token: Option<String>,
    identity: Option<Identity>,
    access: &Access,
) -> Result<AuthInfo, Fault> {
    let mut auth = AuthInfo::default();
    if user.username.is_some() && token.is_some() {
        return Err(Fault::new("username", "is set beside `token`; a server takes one of them only"));
    }
    if let Some(username) = &user.username {
        auth.username = Some(username.clone());
        auth.password = Some(user.password.clone().unwrap_or_default().into());
    }
    if token.is_none() {
        auth.token_file.clone_from(&user.token_file);
    }
    auth.token = token.map(Into::into);
    if let Some(identity) = identity {
        auth.client_certificate_data = Some(STANDARD.encode(identity.certificates));
        auth.client_key_data = Some(STANDARD.encode(identity.key).into());
    }
    credential::impersonation(user, &mut auth)?;
    if let Some(exec) = &user.exec {
        auth.exec = Some(program(exec, cluster, access)?);
    }
    if let Some(provider) = &user.auth_provider {
        let provider: AuthProviderConfig = serde_json::from_value(provider.clone())
            .map_err(|_| Fault::new("auth-provider", "is not of its shape; use a token"))?;
        for token in ["id-token", "access-token"].iter().filter_map(|key| provider.config.get(*key)) {
            credential::token("auth-provider", token)
                .map_err(|_| Fault::new("auth-provider", "holds a token that cannot be sent as a header"))?;
        }
        auth.auth_provider = Some(provider);
    }
    Ok(auth)
}

fn program(exec: &serde_json::Value, cluster: &Cluster, access: &Access) -> Result<ExecConfig, Fault> {
    let mut exec: ExecConfig = serde_json::from_value(exec.clone())
        .map_err(|_| Fault::new("exec", "is not of its shape; see `kubectl config view`"))?;
    let parts = exec.command.iter().chain(exec.args.iter().flatten());
    let variables = exec.env.iter().flatten().flat_map(|variable| variable.iter());
    if parts.chain(variables.flat_map(|(name, value)| [name, value])).any(|text| text.contains('\0')) {
        return Err(Fault::new("exec", "holds a NUL character, which no program can be given"));
    }
    if exec.command.as_deref().is_none_or(str::is_empty) {
        return Err(Fault::new("exec", "has no `command`; name the program"));
    }
    if exec.provide_cluster_info {
        let pem = access.authorities.as_deref().map(|authorities| tls::as_pem(authorities).into_bytes());
        exec.cluster = Some(ExecAuthCluster {
            server: Some(access.server.to_string()),
            insecure_skip_tls_verify: access.trusts_anyone.then_some(true),
            certificate_authority_data: pem,
            proxy_url: access.proxy.as_ref().map(Uri::to_string),
            tls_server_name: access.tls_server_name.clone(),
            config: cluster.extensions.iter().flatten().map(|one| one.extension.clone()).next(),
        });
    }
    Ok(exec)
}

impl Access {
    /// The API server, as it stands in the file.
    #[must_use]
    pub fn server(&self) -> &Uri {
        &self.server
    }

    /// When the token or client certificate stops working, when it says.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Whether the server's certificate is looked at.
    #[must_use]
    pub fn trusts_anyone(&self) -> bool {
        self.trusts_anyone
    }

    /// The proxy that the file names.
    #[must_use]
    pub fn proxy(&self) -> Option<&Uri> {
        self.proxy.as_ref()
    }

    /// The name in the server's certificate, when it is not the server's.
    #[must_use]
    pub fn tls_server_name(&self) -> Option<&str> {
        self.tls_server_name.as_deref()
    }

    /// The authorities as base64 of PEM, for another kubeconfig; the system's when absent.
    #[must_use]
    pub fn authority_data(&self) -> Option<String> {
        self.authorities.as_deref().map(|authorities| STANDARD.encode(tls::as_pem(authorities)))
    }

    /// Whether there is anything to prove oneself with.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        let AuthInfo { token, token_file, client_key_data, username, exec, auth_provider, .. } = &self.auth;
        token.is_some()
            || token_file.is_some()
            || client_key_data.is_some()
            || username.is_some()
            || exec.is_some()
            || auth_provider.is_some()
    }

    /// The ServiceAccount whose token this is, where nothing but that token says who asks.
    #[must_use]
    pub fn account(&self) -> Option<Account> {
        let AuthInfo { token, client_certificate_data, impersonate, .. } = &self.auth;
        if client_certificate_data.is_some() || impersonate.is_some() {
            return None;
        }
        Account::of(token.as_ref()?.expose_secret())
    }

    /// The `text` that this was read from, with another token in the place of its own and all else as it is. `None` when its
    /// own does not stand there in one piece.
    #[must_use]
    pub fn with_token(&self, text: &[u8], token: &SecretString) -> Option<SecretString> {
        let own = self.auth.token.as_ref()?.expose_secret();
        let text = std::str::from_utf8(text).ok()?;
        text.contains(own).then(|| text.replace(own, token.expose_secret()).into())
    }

    /// Whether a client is made with the help of a program, which may take long.
    #[must_use]
    pub fn runs_a_program(&self) -> bool {
        self.auth.exec.is_some() || self.auth.auth_provider.is_some()
    }

    /// What a client is made of.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.server.clone());
        if let Some(namespace) = &self.namespace {
            config.default_namespace.clone_from(namespace);
        }
        config.root_cert.clone_from(&self.authorities);
        config.accept_invalid_certs = self.trusts_anyone;
        config.tls_server_name.clone_from(&self.tls_server_name);
        config.proxy_url.clone_from(&self.proxy);
        config.auth_info = self.auth.clone();
        config
    }

    /// A hash of what is used, in hexadecimal: another one means another client.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let auth = &self.auth;
        let secret =
            |secret: &Option<secrecy::SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
        let extra: Option<BTreeMap<_, _>> =
            auth.impersonate_user_extra.as_ref().map(|extra| extra.iter().collect());
        let used = serde_json::json!([
            self.address(),
            [secret(&auth.token), secret(&auth.client_key_data), secret(&auth.password)],
            [&auth.client_certificate_data, &auth.token_file, &auth.username],
            [&auth.impersonate, &auth.impersonate_uid],
            auth.impersonate_groups,
            extra,
            auth.exec,
            auth.auth_provider.as_ref().map(|p| (&p.name, p.config.iter().collect::<BTreeMap<_, _>>())),
        ]);
        names::sha256_hex(used.to_string().as_bytes())
    }

    /// A hash of where and how the cluster is reached, in hexadecimal, whoever asks: with the same one, another credential
    /// goes on with what the one before has begun.
    #[must_use]
    pub fn address(&self) -> String {
        let used = serde_json::json!([
            self.server.to_string(),
            self.authorities,
            self.tls_server_name,
            self.trusts_anyone,
            self.proxy.as_ref().map(Uri::to_string),
            self.namespace,
        ]);
        names::sha256_hex(used.to_string().as_bytes())
    }
}
