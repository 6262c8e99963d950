//! The ServiceAccount that a token says it is of, and how another token of it is asked for. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};

use super::credential::{LONGEST_TOKEN, claims, moment};
use crate::api::names;

/// What a ServiceAccount's token says of itself. Whoever made it may have written anything: names are names, and that is all
/// that is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When the token was made, by the API server's clock.
    pub issued_at: Timestamp,
    /// When it stops working, by the same clock.
    pub expires_at: Timestamp,
    /// First 16 hex digits of the token's SHA-256: which token it is.
    pub token_hash: String,
}

/// The request for a token that works for so many `seconds`.
#[must_use]
pub fn token_request(seconds: i64) -> TokenRequest {
    let spec =
        TokenRequestSpec { audiences: Vec::new(), expiration_seconds: Some(seconds), bound_object_ref: None };
    TokenRequest { spec, ..TokenRequest::default() }
}

impl Account {
    /// What `token` says, when it says all of it and is a JWT from end to end: it may come from a data plane, and is written
    /// into a kubeconfig, where any other character could mean something.
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        let is_jwt = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=');
        if token.len() > LONGEST_TOKEN || !token.bytes().all(is_jwt) {
            return None;
        }
        let claims = claims(token)?;
        let subject = claims.get("sub")?.as_str()?.strip_prefix("system:serviceaccount:")?;
        let (namespace, name) = subject.split_once(':')?;
        let (issued_at, expires_at) = (moment(&claims, "iat")?, moment(&claims, "exp")?);
        // They become part of a request's path.
        let is_one = names::is_namespace(namespace) && names::is_object_name(name) && issued_at < expires_at;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let token_hash = names::sha256_hex(token.as_bytes()).chars().take(16).collect();
        is_one.then_some(Self { namespace, name, issued_at, expires_at, token_hash })
    }

    /// How long the token works altogether.
    #[must_use]
    pub fn life(&self) -> SignedDuration {
        self.expires_at.duration_since(self.issued_at)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::{ExposeSecret as _, SecretString};
    use serde_json::{Value, json};

    use super::*;
    use crate::runtime::kubeconfig::fixtures::{self, judged};

    const SUBJECT: &str = "system:serviceaccount:medusa-fleet:medusa-fleet-control-plane";

    #[test]
    fn a_token_of_a_service_account_says_whose_it_is_and_how_long_it_works() {
        let account = Account::of(&fixtures::jwt(&json!({"sub": SUBJECT, "iat": 100, "exp": 3700}))).unwrap();
        assert_eq!(
            (account.namespace.as_str(), account.name.as_str()),
            ("medusa-fleet", "medusa-fleet-control-plane")
        );
        assert_eq!(account.life(), SignedDuration::from_hours(1));
    }

    #[rstest]
    #[case::a_person(json!({"sub": "jane", "iat": 1, "exp": 2}))]
    #[case::no_account(json!({"sub": "system:serviceaccount:medusa-fleet", "iat": 1, "exp": 2}))]
    #[case::another_path(json!({"sub": "system:serviceaccount:a:b/../c", "iat": 1, "exp": 2}))]
    #[case::a_query(json!({"sub": "system:serviceaccount:a?x:b", "iat": 1, "exp": 2}))]
    #[case::three(json!({"sub": "system:serviceaccount:a:b:c", "iat": 1, "exp": 2}))]
    #[case::without_end(json!({"sub": SUBJECT, "iat": 1}))]
    #[case::without_beginning(json!({"sub": SUBJECT, "exp": 1}))]
    #[case::over_before_it_began(json!({"sub": SUBJECT, "iat": 2, "exp": 2}))]
    #[case::beyond_all_time(json!({"sub": SUBJECT, "iat": 1, "exp": i64::MAX}))]
    #[case::words(json!({"sub": SUBJECT, "iat": "1", "exp": "2"}))]
    #[case::no_map(json!([1, 2]))]
    fn any_other_token_is_of_nobody(#[case] claims: Value) {
        assert_eq!(Account::of(&fixtures::jwt(&claims)), None);
    }

    #[test]
    fn what_is_no_jwt_is_of_nobody() {
        assert!(["", ".", "a.b.c", "a.e30.c", "t0ken"].iter().all(|token| Account::of(token).is_none()));
        let token = fixtures::jwt(&json!({"sub": SUBJECT, "iat": 1, "exp": 2}));
        for more in ["\nusers: []", ", as: jane", "}", "\"", "'", "#", ": x", " ", "é", &"x".repeat(70_000)]
        {
            assert_eq!(Account::of(&format!("{token}{more}")), None, "{more:?}");
        }
    }

    #[test]
    fn another_token_takes_the_place_of_the_one_that_is_used_and_all_else_stays() {
        let old = fixtures::jwt(&json!({"sub": SUBJECT, "iat": 100, "exp": 3700}));
        let new = fixtures::jwt(&json!({"sub": SUBJECT, "iat": 200, "exp": 3800}));
        let text = |token: &str| {
            fixtures::file("server: 'https://eu:6443'", &format!("token: {token}"))
                + "# by hand\nodd: {a: 1}\n"
        };
        let access = judged(text(&old).as_bytes()).unwrap();
        let renewed = access.with_token(text(&old).as_bytes(), &SecretString::from(new.clone())).unwrap();
        assert_eq!(renewed.expose_secret(), text(&new));
        assert!(access.with_token(text("other").as_bytes(), &SecretString::from(new)).is_none());
        assert_eq!(access.account().unwrap().expires_at.as_second(), 3700);
    }

    #[rstest]
    #[case::of_somebody_else("as: jane, token: TOKEN", false)]
    #[case::alone("token: TOKEN", true)]
    fn a_token_counts_alone(#[case] user: &str, #[case] counts: bool) {
        let token = fixtures::jwt(&json!({"sub": SUBJECT, "iat": 100, "exp": 3700}));
        let access = fixtures::access("server: 'https://eu:6443'", &user.replace("TOKEN", &token));
        assert_eq!(access.account().is_some(), counts);
    }
}
