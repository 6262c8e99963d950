//! The kubeconfig a person gives to `register`: which cluster it means, and what of it may be passed on.

use std::path::Path;

use http::Uri;

use crate::{
    api::{fleet::LOCAL, names},
    cli::failure::{Failure, Outcome},
    runtime::kubeconfig::{access::Access, own},
};

/// A cluster as its own kubeconfig describes it, vetted.
pub struct Source {
    /// The way there: the person's own credentials are used once, to make the control plane's.
    pub access: Access,
    /// The context that was chosen.
    pub context: String,
    /// Where its API server is.
    pub server: String,
    /// The authority that signs its certificate, base64 of PEM; the system's authorities when absent.
    pub authority: Option<String>,
    /// The name on its certificate, when it is not the server's.
    pub tls_server_name: Option<String>,
    /// Whether the kubeconfig names a proxy.
    pub through_proxy: bool,
}

/// A data plane's name is a DNS label, as a namespace's is: that makes it a label value and a part of names.
///
/// # Errors
/// What is wrong with `name`, for people.
pub fn check_name(name: &str) -> Outcome {
    if name == LOCAL {
        return Err(Failure::CouldNotAsk(format!(
            "`{LOCAL}` is reserved for the control plane's own cluster, which is registered by itself; choose \
             another name"
        )));
    }
    if names::is_namespace(name) {
        return Ok(());
    }
    Err(Failure::CouldNotAsk(format!(
        "`{name}` cannot name a data plane: use lower-case letters, digits and `-`, at most 63, beginning and ending \
         with a letter or digit"
    )))
}

/// Reads `file` and picks `context`, or its current context.
///
/// # Errors
/// What is wrong with the file, naming the field and the fix.
pub fn read(file: &Path, context: Option<&str>) -> Outcome<Source> {
    let (access, context) = own::read(file, context).map_err(Failure::CouldNotAsk)?;
    vet(access, context)
        .map_err(|why| Failure::CouldNotAsk(format!("kubeconfig `{}`: {why}", file.display())))
}

fn vet(access: Access, context: String) -> Result<Source, String> {
    if access.trusts_anyone() {
        return Err(format!(
            "context `{context}` sets `insecure-skip-tls-verify`: the control plane would send its token to whoever \
             answers; put the API server's authority into `certificate-authority-data` instead"
        ));
    }
    let server = access.server().to_string();
    let server = server.trim_end_matches('/').to_owned();
    check_server(&server).map_err(|error| format!("context `{context}`: {error}"))?;
    Ok(Source {
        context,
        server,
        authority: access.authority_data(),
        tls_server_name: access.tls_server_name().map(str::to_owned),
        through_proxy: access.proxy().is_some(),
        access,
    })
}

/// An address the control plane may send its token to.
///
/// # Errors
/// What is wrong with it, and the fix.
pub fn check_server(server: &str) -> Result<(), String> {
    let uri: Uri = server.parse().map_err(|error| format!("server `{server}` is not a URL: {error}"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        // Not repeated: what stands before the `@` is a password.
        return Err("the server's URL holds a user name or password; remove it".to_owned());
    }
    match uri.scheme_str() {
        Some("https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(()),
        Some("http") => Err(format!(
            "server `{server}` is plain http: tokens would cross the network in the clear; use https"
        )),
        _ => Err(format!("server `{server}` is not an https URL such as `https://eu-1.example.com:6443`")),
    }
}

/// Whether `server` is the machine's own address, which means another machine everywhere else.
#[must_use]
pub fn is_loopback(server: &str) -> bool {
    let Ok(uri) = server.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::runtime::kubeconfig::{fixtures, text};

    fn vetted(cluster: &str, context: Option<&str>) -> Result<Source, String> {
        let ca = fixtures::encoded("ca.crt");
        let yaml = format!(
            "current-context: eu\n\
             clusters: [{{name: a, cluster: {{{}}}}}]\n\
             users: [{{name: u, user: {{token: s3cr3t}}}}]\n\
             contexts: [{{name: eu, context: {{cluster: a, user: u}}}}, {{name: lost, context: {{cluster: b, user: u}}}}]\n",
            cluster.replace("CA", &ca)
        );
        let file = text::parse(yaml.as_bytes()).map_err(|fault| fault.to_string())?;
        let (access, context) = own::finish(&file, context)?;
        vet(access, context)
    }

    #[test]
    fn the_chosen_cluster_is_passed_on_with_its_authority() {
        let source =
            vetted("server: 'https://eu:6443', certificate-authority-data: CA, tls-server-name: api", None)
                .unwrap();
        assert_eq!((source.context.as_str(), source.server.as_str()), ("eu", "https://eu:6443"));
        assert_eq!(source.authority, Some(fixtures::encoded("ca.crt")));
        assert_eq!(source.tls_server_name.as_deref(), Some("api"));
    }

    #[rstest]
    #[case::insecure(
        "server: 'https://eu', insecure-skip-tls-verify: true",
        "eu",
        "certificate-authority-data"
    )]
    #[case::plain("server: 'http://eu'", "eu", "use https")]
    #[case::not_a_url("server: eu", "eu", "not an https URL")]
    #[case::password("server: 'https://me:hunter2@eu'", "eu", "remove it")]
    #[case::nowhere("tls-server-name: x", "eu", "has no `server`")]
    #[case::no_context("server: 'https://eu'", "us", "it has: eu, lost")]
    #[case::no_cluster("server: 'https://eu'", "lost", "cluster `b`")]
    #[case::not_base64("server: 'https://eu', certificate-authority-data: '?'", "eu", "not base64")]
    #[case::not_pem("server: 'https://eu', certificate-authority-data: 'aGk='", "eu", "no PEM")]
    #[case::no_file("server: 'https://eu', certificate-authority: /none/ca.crt", "eu", "/none/ca.crt")]
    fn what_cannot_be_passed_on_is_refused_with_the_fix(
        #[case] cluster: &str,
        #[case] context: &str,
        #[case] says: &str,
    ) {
        let message = vetted(cluster, Some(context)).err().unwrap();
        assert!(message.contains(says), "{message}");
        assert!(!message.contains("s3cr3t") && !message.contains("hunter2"), "{message}");
    }

    #[rstest]
    #[case("eu-1", true)]
    #[case("local", false)]
    #[case("", false)]
    #[case("EU", false)]
    #[case("eu.1", false)]
    #[case("-eu", false)]
    fn a_data_plane_is_named_by_a_dns_label(#[case] name: &str, #[case] fine: bool) {
        assert_eq!(check_name(name).is_ok(), fine);
        assert!(check_name(&"x".repeat(64)).is_err());
    }

    #[test]
    fn loopback_addresses_are_recognised() {
        assert!(is_loopback("https://127.0.0.1:6443") && is_loopback("https://[::1]:6443"));
        assert!(is_loopback("https://localhost") && !is_loopback("https://eu-1.example.com:6443"));
    }
}
