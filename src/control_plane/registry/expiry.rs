//! When a credential stops working: from a JWT's `exp` or a client certificate's `notAfter`.
//!
//! Nothing is verified here; the API server does that. The answer is for people.

use base64::{Engine as _, engine::general_purpose};
use jiff::Timestamp;
use kube::config::AuthInfo;
use secrecy::ExposeSecret as _;
use x509_parser::prelude::{FromDer as _, X509Certificate, parse_x509_pem};

/// The earlier of the token's and the client certificate's end, when either says.
#[must_use]
pub fn of(user: &AuthInfo) -> Option<Timestamp> {
    let token = user.token.as_ref().and_then(|t| of_token(t.expose_secret()));
    let certificate = user.client_certificate_data.as_deref().and_then(of_certificate);
    [token, certificate].into_iter().flatten().min()
}

fn of_token(token: &str) -> Option<Timestamp> {
    let payload = token.split('.').nth(1)?;
    let json = general_purpose::URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&json).ok()?;
    Timestamp::from_second(claims.get("exp")?.as_i64()?).ok()
}

fn of_certificate(data: &str) -> Option<Timestamp> {
    let pem = general_purpose::STANDARD.decode(data).ok()?;
    let (_, block) = parse_x509_pem(&pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_when_it_ends_and_garbage_does_not() {
        let payload = general_purpose::URL_SAFE_NO_PAD.encode(r#"{"exp":1700000000}"#);
        assert_eq!(of_token(&format!("h.{payload}.s")), Timestamp::from_second(1_700_000_000).ok());
        for garbage in ["", "opaque", "a.b.c", "..", "a.e30.c"] {
            assert_eq!(of_token(garbage), None);
        }
        assert_eq!(of_certificate("bm9wZQ=="), None);
    }
}
