//! Tokens and names that become headers. Pure.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose};
use http::HeaderValue;
use jiff::Timestamp;
use kube::config::AuthInfo;

use super::{Fault, text::User};

/// More than this no API server takes as a header.
pub(super) const LONGEST_TOKEN: usize = 64 * 1024;

/// The token in `field` without the white space around it, once it is certain to make a header.
pub(super) fn token(field: &'static str, token: &str) -> Result<String, Fault> {
    let token = token.trim_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}');
    let fault = |what: &str| Err(Fault::new(field, what));
    if token.len() > LONGEST_TOKEN {
        return fault("is longer than 64 KiB; a token that long is none");
    }
    if token.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer ")) {
        return fault("begins with `Bearer`, which is no part of it: leave that out");
    }
    if token.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return fault("holds a line break, a blank or a control character; write it on one line");
    }
    if !token.is_ascii() {
        return fault(
            "holds characters that are not ASCII, such as typographic quotes; copy the token itself",
        );
    }
    if HeaderValue::from_str(&format!("Bearer {token}")).is_err() {
        return fault("cannot be sent as a header; copy the token itself");
    }
    Ok(token.to_owned())
}

/// What a JWT says of itself. Nothing is verified here; the API server does that.
pub(super) fn claims(token: &str) -> Option<serde_json::Value> {
    let payload = token.split('.').nth(1)?;
    let json = general_purpose::URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

/// The moment in a claim.
pub(super) fn moment(claims: &serde_json::Value, claim: &str) -> Option<Timestamp> {
    Timestamp::from_second(claims.get(claim)?.as_i64()?).ok()
}

/// The `exp` of a JWT. The answer is for people.
pub(super) fn expiry(token: &str) -> Option<Timestamp> {
    moment(&claims(token)?, "exp")
}

/// Writes whom to act as into `auth`.
pub(super) fn impersonation(user: &User, auth: &mut AuthInfo) -> Result<(), Fault> {
    let groups: Vec<String> = filled(user.impersonate_groups.as_deref().unwrap_or_default());
    let extra: HashMap<String, Vec<String>> = user
        .impersonate_extra
        .iter()
        .flatten()
        .map(|(key, values)| (key.clone(), filled(values.as_deref().unwrap_or_default())))
        .filter(|(_, values)| !values.is_empty())
        .collect();
    for (field, values) in [
        ("as", user.impersonate.iter().collect::<Vec<_>>()),
        ("as-uid", user.impersonate_uid.iter().collect()),
        ("as-groups", groups.iter().collect()),
        ("as-user-extra", extra.values().flatten().collect()),
    ] {
        if values.iter().any(|value| HeaderValue::from_str(value).is_err()) {
            return Err(Fault::new(
                field,
                "cannot be sent as a header; write it on one line, without control characters",
            ));
        }
    }
    if extra.keys().any(|key| key.is_empty() || key.len() > 1024) {
        return Err(Fault::new("as-user-extra", "has a key that is empty or longer than 1024 bytes"));
    }
    let others = [
        ("as-uid", user.impersonate_uid.is_some()),
        ("as-groups", !groups.is_empty()),
        ("as-user-extra", !extra.is_empty()),
    ];
    if user.impersonate.is_none()
        && let Some((field, _)) = others.iter().find(|(_, is_set)| *is_set)
    {
        return Err(Fault::new(field, "is set without `as`, which names the user to act as"));
    }
    auth.impersonate.clone_from(&user.impersonate);
    auth.impersonate_uid.clone_from(&user.impersonate_uid);
    auth.impersonate_groups = Some(groups).filter(|groups| !groups.is_empty());
    auth.impersonate_user_extra = Some(extra).filter(|extra| !extra.is_empty());
    Ok(())
}

fn filled(values: &[Option<String>]) -> Vec<String> {
    values.iter().flatten().filter(|value| !value.is_empty()).cloned().collect()
}
