//! The credential the control plane gets: a token, and the smallest kubeconfig that holds it.

use std::{io::ErrorKind, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Api, Client, api::PostParams};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::{grant, source::Source};
use crate::{
    cli::{
        duration,
        failure::{Failure, Outcome, is_not_found, why},
        output::yaml,
    },
    runtime::{
        client::{self, Timeouts},
        clock,
        kubeconfig::{access, account::token_request, choice::choose, text},
    },
};

/// An API server may give a little less than asked for; only more than this is worth a word.
const SLACK_SECONDS: i64 = 60;
/// How often, and how long apart, a new token is tried: API servers learn of new accounts and roles from
/// watches of their own.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// A token and how long it works.
pub struct Token {
    /// The token.
    pub value: SecretString,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// Asks the data plane for a token of the control plane's service account.
///
/// # Errors
/// When it gives none.
pub async fn request(client: &Client, namespace: &str, wanted: Duration, cluster: &str) -> Outcome<Token> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = token_request(i64::try_from(wanted.as_secs()).unwrap_or(i64::MAX));
    let doing = || format!("get a token of service account `{}` in `{cluster}`", grant::ACCOUNT);
    let answer = api
        .create_token_request(grant::ACCOUNT, &PostParams::default(), &request)
        .await
        .map_err(|error| Failure::writing(&doing(), &error))?;
    let status =
        answer.status.ok_or_else(|| Failure::Failed(format!("cannot {}: the answer is empty", doing())))?;
    Ok(Token { value: status.token.into(), expires_at: status.expiration_timestamp.0 })
}

/// How long the token works, and whether that is less than was asked for.
#[must_use]
pub fn lifetime(token: &Token, wanted: Duration, now: Timestamp) -> String {
    let given = token.expires_at.as_second() - now.as_second();
    let wanted = i64::try_from(wanted.as_secs()).unwrap_or(i64::MAX);
    let until = token.expires_at.strftime("%Y-%m-%d %H:%M:%SZ");
    let text = format!("the token expires in {} ({until})", duration::short(given));
    if given >= wanted.saturating_sub(SLACK_SECONDS) {
        return text;
    }
    format!(
        "{text}: the API server shortened it from {} (its --service-account-max-token-expiration); the control plane \
         renews it before then",
        duration::short(wanted)
    )
}

/// A kubeconfig with the server, its authority, the token, one context named `name`, and nothing else.
///
/// # Errors
/// When it cannot be written down.
pub fn kubeconfig(name: &str, source: &Source, server: &str, token: &Token) -> Outcome<SecretString> {
    let mut cluster = json!({"server": server});
    if let Some(map) = cluster.as_object_mut() {
        if let Some(authority) = &source.authority {
            map.insert("certificate-authority-data".to_owned(), authority.as_str().into());
        }
        // Without it, a certificate that names something else would be refused.
        if let Some(tls_server_name) = &source.tls_server_name {
            map.insert("tls-server-name".to_owned(), tls_server_name.as_str().into());
        }
    }
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token.value.expose_secret()}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    });
    yaml(&value)
        .map(SecretString::from)
        .map_err(|_| Failure::CouldNotAsk("cannot write the kubeconfig down".to_owned()))
}

/// Uses the credential once, as the control plane will: to read the cluster's identity.
///
/// # Errors
/// When it does not work.
pub async fn verify(kubeconfig: &SecretString, source: &Source) -> Outcome {
    let cluster = &source.server;
    let broken =
        |why: String| Failure::Failed(format!("the new credential does not work in `{cluster}`: {why}"));
    let access = text::parse(kubeconfig.expose_secret().as_bytes())
        .and_then(|file| choose(&file, None, "choose one"))
        .and_then(|chosen| access::judge(&chosen, clock::now(), |_| Err(ErrorKind::Unsupported.into())))
        .map_err(|fault| broken(fault.to_string()))?;
    let mut config = access.config();
    // The same way as the person's: it is the credential that is tried.
    config.proxy_url = source.access.proxy().cloned();
    let client = client::connect(config, Timeouts::REMOTE).map_err(|error| broken(error.to_string()))?;
    let namespaces: Api<Namespace> = Api::all(client);
    let mut last = String::new();
    for _ in 0..TRIES {
        match namespaces.get_metadata("kube-system").await {
            Ok(_) => return Ok(()),
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) => last = why(&error),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(broken(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::views::fixtures::now, runtime::kubeconfig::fixtures};

    fn token(days: i64) -> Token {
        Token {
            value: "t0ken: with 'quotes'".to_owned().into(),
            expires_at: now() + jiff::SignedDuration::from_hours(24 * days),
        }
    }

    fn source() -> Source {
        Source {
            access: fixtures::access("server: 'https://eu-1:6443'", "token: t"),
            context: "admin@eu".to_owned(),
            server: "https://eu-1:6443".to_owned(),
            authority: Some("Q0E=".to_owned()),
            tls_server_name: None,
            through_proxy: false,
        }
    }

    #[test]
    fn the_kubeconfig_holds_server_authority_token_and_nothing_else() {
        let text = kubeconfig("eu-1", &source(), "https://eu-1:6443", &token(1)).unwrap();
        insta::assert_snapshot!(text.expose_secret());
        let read = kube::config::Kubeconfig::from_yaml(text.expose_secret()).unwrap();
        let user = read.auth_infos[0].auth_info.clone().unwrap();
        assert_eq!(user.token.unwrap().expose_secret(), "t0ken: with 'quotes'");
    }

    #[test]
    fn a_token_that_was_shortened_says_so() {
        let year = Duration::from_hours(24 * 365);
        assert_eq!(lifetime(&token(365), year, now()), "the token expires in 365d (2027-11-02 12:00:00Z)");
        assert!(lifetime(&token(30), year, now()).contains("shortened it from 365d"));
    }
}
