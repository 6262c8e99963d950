//! Whatever bytes: read, judged and made a client of without a panic; every refusal names a field, and no message
//! holds what is secret.

use std::sync::LazyLock;

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use tokio::runtime::Runtime;

use super::{
    FIELDS,
    fixtures::{encoded, file, judged},
};
use crate::runtime::client::{self, Timeouts};

/// Stands wherever a credential would.
const CANARY: &str = "canary4c7fe1d9";

/// Never panics; says what it says without the canary.
fn try_it(bytes: &[u8]) {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    let _entered = RUNTIME.enter();
    match judged(bytes) {
        Ok(access) => {
            let _ = access.fingerprint();
            // A program would be run.
            let config = access.config();
            if config.auth_info.exec.is_none()
                && config.auth_info.auth_provider.is_none()
                && config.auth_info.token_file.is_none()
                && let Err(error) = client::connect(config, Timeouts::REMOTE)
            {
                assert!(!error.to_string().contains(CANARY), "{error}");
                panic!("what was judged makes a client: {error}");
            }
        }
        Err(fault) => {
            assert!(FIELDS.contains(&fault.field), "{fault}");
            assert!(fault.message.contains(&format!("`{}`", fault.field)), "{fault}");
            assert!(!fault.message.contains(CANARY), "{fault}");
            assert!(fault.message.len() < 2500 && !fault.message.contains('\n'), "{fault}");
        }
    }
}

fn good() -> String {
    let cluster = format!(
        "server: 'https://edge:6443', certificate-authority-data: {}, tls-server-name: edge",
        encoded("ca.crt")
    );
    let user = format!(
        "token: {CANARY}, client-certificate-data: {}, client-key-data: {}, as: a, as-groups: [b], as-user-extra: {{c: [d]}}",
        encoded("p256.crt"),
        encoded("p256.sec1.key")
    );
    file(&cluster, &user)
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        any::<String>().prop_map(|text| serde_json::Value::from(format!("{CANARY}{text}")).to_string()),
        vec(any::<u8>(), 0..40)
            .prop_map(|bytes| serde_json::Value::from(bytes.into_iter().map(char::from).collect::<String>())
                .to_string()),
        select(vec![
            "~",
            "''",
            "[]",
            "{}",
            "7",
            "-1",
            "1e999",
            "true",
            "!!binary eA==",
            "*x",
            "&x y",
            "[[[[]]]]",
            "{a: ~}",
            "\"\\r\"",
            "\"\\0\"",
            "'https://'",
            "'http://[::1'",
            "'https://a:b@c'",
            "'https://h:65536'",
            "'*'",
        ])
        .prop_map(str::to_owned),
        select(vec![
            "p521.pkcs8.key",
            "rsa1024.crt",
            "encrypted.pkcs8.key",
            "expired.crt",
            "ca-p521.crt",
            "ed25519.crt"
        ])
        .prop_map(encoded),
        select(vec!["p256.crt", "p256.sec1.key", "ca.crt"]).prop_flat_map(|name| {
            let data = encoded(name);
            (any::<Index>(), any::<char>()).prop_map(move |(at, c)| {
                let mut chars: Vec<char> = data.chars().collect();
                let at = at.index(chars.len());
                chars[at] = c;
                serde_json::Value::from(chars.into_iter().collect::<String>()).to_string()
            })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn arbitrary_bytes_are_refused_in_words(bytes in vec(any::<u8>(), 0..400)) {
        try_it(&bytes);
    }

    #[test]
    fn arbitrary_text_is_refused_in_words(text in "[ \\-\\[\\]{}:,&*!|>'\"#%a-c\n\t~\u{feff}é]{0,200}") {
        try_it(text.as_bytes());
    }

    #[test]
    fn a_good_one_with_bytes_changed_is_read_or_refused(
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let mut bytes = good().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        try_it(&bytes);
    }

    #[test]
    fn a_good_one_with_fields_of_any_value_is_read_or_refused(
        cluster in vec((select(vec![
            "server", "tls-server-name", "certificate-authority-data", "certificate-authority", "proxy-url",
            "insecure-skip-tls-verify", "extensions",
        ]), value()), 0..3),
        user in vec((select(vec![
            "token", "client-certificate-data", "client-key-data", "client-certificate", "username", "password", "as",
            "as-uid", "as-groups", "as-user-extra", "tokenFile",
        ]), value()), 0..4),
    ) {
        let fields = |base: &[(&str, String)], changed: &[(&str, String)]| {
            let mut all: std::collections::BTreeMap<&str, String> = base.iter().cloned().collect();
            all.extend(changed.iter().cloned());
            all.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", ")
        };
        let cluster = fields(&[("server", "'https://edge:6443'".to_owned())], &cluster);
        let user = fields(&[("token", CANARY.to_owned())], &user);
        try_it(file(&cluster, &user).as_bytes());
    }
}

/// What was too much once, or has been seen in the field.
#[test]
fn every_seed_is_read_or_refused_in_words() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/seeds/kubeconfig");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() > 20, "{} files", files.len());
    for file in files {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        match String::from_utf8(bytes) {
            Ok(text) => {
                try_it(text.replace("@CA@", &encoded("ca.crt")).replace("@TOKEN@", CANARY).as_bytes());
            }
            Err(error) => try_it(error.as_bytes()),
        }
    }
}
