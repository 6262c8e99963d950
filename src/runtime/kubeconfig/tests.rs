//! Kubeconfigs as the field writes them: what is read, and what is said of the rest.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rstest::rstest;
use secrecy::ExposeSecret as _;

use super::{
    FIELDS, Fault,
    fixtures::{access, encoded, file, judged, pem},
    text::MAX_BYTES,
};
use crate::runtime::client::{self, Timeouts};

const SERVER: &str = "server: 'https://edge.example.net:6443'";

fn refused(text: &[u8]) -> Fault {
    let fault = judged(text).err().expect("it is refused");
    assert!(FIELDS.contains(&fault.field), "{}", fault.field);
    assert!(fault.message.contains(&format!("`{}`", fault.field)), "{fault}");
    fault
}

/// What makes the client, when all is well.
fn usable(text: &[u8]) {
    let access = judged(text).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(access.has_credential());
    client::connect(access.config(), Timeouts::REMOTE).unwrap_or_else(|error| panic!("{error}"));
}

#[rstest]
#[case::authority("certificate-authority-data: ''", "token: t")]
#[case::authority_file("certificate-authority: ''", "token: t")]
#[case::proxy("proxy-url: ''", "token: t")]
#[case::name("tls-server-name: ''", "token: t")]
#[case::nulls("tls-server-name: null, proxy-url: ~, certificate-authority-data:", "token: t, tokenFile: ~")]
#[case::certificate(
    "insecure-skip-tls-verify: false",
    "token: t, client-certificate-data: '', client-key-data: ''"
)]
#[case::files("", "token: t, client-certificate: '', client-key: '', tokenFile: ''")]
#[case::basic("", "token: t, username: '', password: ''")]
#[case::exec("", "token: t, exec: null, auth-provider: null")]
#[case::acting("", "token: t, as: '', as-uid: '', as-groups: [], as-user-extra: {}")]
#[case::acting_null("", "token: t, as: ~, as-groups: ~, as-user-extra: {a: ~, b: []}")]
#[case::blanks("certificate-authority-data: '  '", "token: t, client-key-data: \" \\n\"")]
#[case::unknown("extensions: [{name: x, extension: {a: [1]}}], later: 7", "token: t, later: {x: y}")]
#[tokio::test]
async fn empty_is_absent(#[case] cluster: &str, #[case] user: &str) {
    let text = file(&format!("{SERVER}, {cluster}"), user);
    usable(text.as_bytes());
    let config = judged(text.as_bytes()).ok().unwrap().config();
    assert_eq!((config.root_cert, config.proxy_url, config.tls_server_name), (None, None, None));
    assert_eq!(config.auth_info.client_certificate_data, None);
    assert_eq!((config.auth_info.impersonate, config.auth_info.username), (None, None));
}

#[rstest]
#[case::line_feed("token: |\n      abc.def\n")]
#[case::carriage_return("token: \"abc.def\\r\\n\"\n")]
#[case::blanks("token: '  abc.def\t'\n")]
#[case::plain("token: abc.def\n")]
#[case::binary("token: !!binary YWJjLmRlZgo=\n")]
fn white_space_around_a_token_is_cut(#[case] user: &str) {
    let text = file(SERVER, "token: T").replace("{token: T}", &format!("\n    {user}"));
    let access = judged(text.as_bytes()).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(access.config().auth_info.token.unwrap().expose_secret(), "abc.def");
}

#[rstest]
#[case::line_feed("\"hunter2\\nhunter2\"")]
#[case::nul("\"hunter2\\0\\0x\"")]
#[case::escape("\"hunter2\\e[0m\"")]
#[case::blank("'hunter2 hunter2'")]
#[case::quotes("'“hunter2”'")]
#[case::accent("hunter2é")]
#[case::no_break_space("\"hunter2\\u00a0x\"")]
fn a_token_that_is_no_header_is_refused_by_name(#[case] token: &str) {
    let fault = refused(file(SERVER, &format!("token: {token}")).as_bytes());
    assert_eq!(fault.field, "token");
    assert!(!fault.message.contains("hunter2"), "{fault}");
}

fn wrapped(data: &str) -> String {
    let lines = data.as_bytes().chunks(76).map(String::from_utf8_lossy);
    lines.flat_map(|line| ["      ".into(), line, "\n".into()]).collect()
}

#[tokio::test]
async fn base64_may_be_wrapped_tagged_and_indented() {
    let ca = encoded("ca.crt");
    let forms = [
        format!("|\n{}", wrapped(&ca)),
        format!(">\n{}", wrapped(&ca)),
        format!("!!binary |\n{}", wrapped(&ca)),
        format!("!!binary \"{ca}\""),
        format!("!<tag:yaml.org,2002:binary> {ca}"),
        format!("\"{}\\n\"", ca.split_at(60).0.to_owned() + " \\t " + ca.split_at(60).1),
    ];
    let expected =
        access(&format!("{SERVER}, certificate-authority-data: {ca}"), "token: t").config().root_cert;
    assert_eq!(expected.as_ref().map(Vec::len), Some(1));
    for form in forms {
        let cluster = format!("\n    {SERVER}\n    certificate-authority-data: {form}\n");
        let text = file("CLUSTER", "token: t").replace("{CLUSTER}", &cluster);
        let access = judged(text.as_bytes()).unwrap_or_else(|fault| panic!("{fault}: {form}"));
        assert_eq!(access.config().root_cert, expected, "{form}");
        usable(text.replace('\n', "\r\n").as_bytes());
    }
}

#[tokio::test]
async fn the_same_file_in_other_clothes() {
    let json = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "preferences": {},
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://edge:6443"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    });
    let tabs = serde_json::to_string_pretty(&json).unwrap().replace("  ", "\t");
    let yaml = file(SERVER, "token: t");
    let wide: Vec<u16> = std::iter::once(0xFEFF).chain(yaml.encode_utf16()).collect();
    for text in [
        json.to_string().into_bytes(),
        tabs.into_bytes(),
        format!("\u{FEFF}{yaml}").into_bytes(),
        format!("\u{FEFF}{json}").into_bytes(),
        wide.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        wide.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        yaml.replace('\n', "\r\n").into_bytes(),
        format!("# a comment\n---\n{yaml}...\n").into_bytes(),
        format!("---\n{yaml}---\n").into_bytes(),
        yaml.replace("name: c", "name: 7").replace("current-context: c", "current-context: 7").into_bytes(),
        yaml.replace("{cluster: k", "&x {cluster: k").replace("user: u}", "user: u, y: *x}").replace(", y: *x", "").into_bytes(),
        b"kind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n\
          base: &base {server: 'https://edge'}\nclusters: [{name: k, cluster: *base}]\nusers: [{name: u, user: {token: t}}]"
            .to_vec(),
    ] {
        usable(&text);
    }
}

#[rstest]
#[case("p256", "pkcs8")]
#[case("p256", "sec1")]
#[case("p384", "pkcs8")]
#[case("p384", "sec1")]
#[case("rsa2048", "pkcs8")]
#[case("rsa2048", "pkcs1")]
#[case("ed25519", "pkcs8")]
#[tokio::test]
async fn every_usual_form_of_a_key_is_used(#[case] kind: &str, #[case] form: &str) {
    let key = pem(&format!("{kind}.{form}.key"));
    let certificate = pem(&format!("{kind}.crt"));
    // Parameters, comments and certificates around a key are nothing, and neither is a chain behind the certificate.
    let noisy = [&pem("ec-parameters.key")[..], b"Bag Attributes: x\n", &key, &certificate].concat();
    let chain = [&certificate[..], &pem("ca.crt")].concat();
    for (certificate, key) in [(&certificate, &key), (&chain, &noisy)] {
        let user = format!(
            "client-certificate-data: {}, client-key-data: {}",
            STANDARD.encode(certificate),
            STANDARD.encode(key)
        );
        let text = file(SERVER, &user);
        usable(text.as_bytes());
        assert!(judged(text.as_bytes()).ok().unwrap().expires_at().is_some());
    }
}

#[rstest]
#[case::p521("p521.crt", "p521.pkcs8.key", "client-key-data", "P-521")]
#[case::p521_sec1("p521.crt", "p521.sec1.key", "client-key-data", "P-521")]
#[case::rsa1024("rsa1024.crt", "rsa1024.pkcs8.key", "client-key-data", "RSA 1024")]
#[case::rsa1024_pkcs1("rsa1024.crt", "rsa1024.pkcs1.key", "client-key-data", "RSA 1024")]
#[case::koblitz("secp256k1.crt", "secp256k1.pkcs8.key", "client-key-data", "secp256k1")]
#[case::encrypted("p256.crt", "encrypted.pkcs8.key", "client-key-data", "encrypted")]
#[case::encrypted_old("rsa2048.crt", "encrypted.pkcs1.key", "client-key-data", "encrypted")]
#[case::parameters("p256.crt", "ec-parameters.key", "client-key-data", "parameters")]
#[case::no_key("p256.crt", "p256.crt", "client-key-data", "no PEM private key")]
#[case::foreign("p256.crt", "p384.pkcs8.key", "client-key-data", "does not belong")]
#[case::foreign_of_one_kind("ca.crt", "p256.pkcs8.key", "client-key-data", "does not belong")]
#[case::expired("expired.crt", "p256.pkcs8.key", "client-certificate-data", "expired at 2021-01-01")]
#[case::too_young("not-yet.crt", "p256.pkcs8.key", "client-certificate-data", "not valid before 2119-01-01")]
#[case::no_certificate("p256.pkcs8.key", "p256.pkcs8.key", "client-certificate-data", "no PEM certificate")]
fn what_the_tls_library_cannot_use_is_said_with_its_type(
    #[case] certificate: &str,
    #[case] key: &str,
    #[case] field: &str,
    #[case] says: &str,
) {
    let user =
        format!("client-certificate-data: {}, client-key-data: {}", encoded(certificate), encoded(key));
    let fault = refused(file(SERVER, &user).as_bytes());
    assert_eq!(fault.field, field, "{fault}");
    assert!(fault.message.contains(says), "{fault}");
    if says.contains('1') && field == "client-key-data" {
        assert!(fault.message.contains("use P-256, P-384, Ed25519 or RSA of 2048 bits"), "{fault}");
    }
}

#[rstest]
#[case::pkcs1("rsa2048.crt", "rsa2048.pkcs1.key", "RSA PRIVATE KEY", "PRIVATE KEY")]
#[case::sec1("p256.crt", "p256.sec1.key", "EC PRIVATE KEY", "PRIVATE KEY")]
#[case::pkcs8_as_sec1("p256.crt", "p256.pkcs8.key", "PRIVATE KEY", "EC PRIVATE KEY")]
#[case::pkcs8_as_pkcs1("rsa2048.crt", "rsa2048.pkcs8.key", "PRIVATE KEY", "RSA PRIVATE KEY")]
#[tokio::test]
async fn a_key_under_another_label_is_used(
    #[case] certificate: &str,
    #[case] key: &str,
    #[case] label: &str,
    #[case] other: &str,
) {
    let key = String::from_utf8(pem(key)).unwrap();
    assert!(key.contains(&format!("BEGIN {label}-")));
    let key = STANDARD.encode(key.replacen(&format!(" {label}-"), &format!(" {other}-"), 2));
    usable(
        file(SERVER, &format!("client-certificate-data: {}, client-key-data: {key}", encoded(certificate)))
            .as_bytes(),
    );
}

#[rstest]
#[case::token(SERVER, "token: [hunter2]", "token", "is a list, and has to be text")]
#[case::token_map(SERVER, "token: {hunter2: hunter2}", "token", "is a map")]
#[case::server("server: ['https://hunter2']", "token: t", "server", "is a list")]
#[case::truth(
    "server: 'https://e', insecure-skip-tls-verify: hunter2",
    "token: t",
    "insecure-skip-tls-verify",
    "true or false"
)]
#[case::groups(
    SERVER,
    "token: t, as: a, as-groups: hunter2",
    "as-groups",
    "is text, and has to be a list of text"
)]
#[case::extra(SERVER, "token: t, as: a, as-user-extra: [hunter2]", "as-user-extra", "a map of lists")]
#[case::extensions(
    "server: 'https://e', extensions: {a: hunter2}",
    "token: t",
    "extensions",
    "a list of maps"
)]
#[case::bearer(SERVER, "token: 'Bearer hunter2'", "token", "begins with `Bearer`")]
#[case::small_bearer(SERVER, "token: ' bearer  hunter2'", "token", "begins with `Bearer`")]
#[case::port("server: 'https://e:+443'", "token: t", "server", "port")]
fn a_field_of_another_type_is_named(
    #[case] cluster: &str,
    #[case] user: &str,
    #[case] field: &str,
    #[case] says: &str,
) {
    let fault = refused(file(cluster, user).as_bytes());
    assert_eq!(fault.field, field, "{fault}");
    assert!(fault.message.contains(says) && !fault.message.contains("hunter2"), "{fault}");
}

#[rstest]
#[case::map(
    "contexts:\n- name: c\n  context: {cluster: k, user: u}",
    "contexts: {c: {cluster: k}}",
    "contexts",
    "is a map, and has to be a list"
)]
#[case::entry("contexts:\n", "contexts:\n- hunter2\n", "contexts", "a list of maps")]
#[case::inner("  context: {cluster: k, user: u}", "  context: hunter2", "context", "has to be a map")]
#[case::name("- name: c\n", "- name: [hunter2]\n", "name", "has to be text")]
#[case::kind("kind: Config", "kind: {a: b}", "kind", "has to be text")]
#[case::no_cluster("{cluster: k, user: u}", "{user: u}", "cluster", "is missing in context `c`")]
fn a_part_of_another_shape_is_named(
    #[case] from: &str,
    #[case] to: &str,
    #[case] field: &str,
    #[case] says: &str,
) {
    let good = file(SERVER, "token: hunter2");
    assert!(good.contains(from));
    let fault = refused(good.replacen(from, to, 1).as_bytes());
    assert_eq!(fault.field, field, "{fault}");
    assert!(fault.message.contains(says) && !fault.message.contains("hunter2"), "{fault}");
}

#[test]
fn a_bundle_serves_when_one_of_its_authorities_does() {
    let bundle = |names: &[&str]| {
        let text: Vec<u8> =
            names.iter().flat_map(|name| [&b"# from the vault\n"[..], &pem(name)].concat()).collect();
        file(&format!("{SERVER}, certificate-authority-data: {}", STANDARD.encode(text)), "token: t")
    };
    let count = |names: &[&str]| {
        judged(bundle(names).as_bytes())
            .unwrap_or_else(|fault| panic!("{fault}"))
            .config()
            .root_cert
            .unwrap()
            .len()
    };
    assert_eq!(count(&["ca.crt", "ca-rsa.crt"]), 2);
    assert_eq!(count(&["ca-p521.crt", "ca.crt"]), 1);
    assert_eq!(count(&["p256.pkcs8.key", "ca.crt"]), 1);
    let fault = refused(bundle(&["ca-p521.crt"]).as_bytes());
    assert!(fault.message.contains("P-521") && fault.message.contains("P-256"), "{fault}");
}

#[rstest]
#[case::text("aGVsbG8=", "no PEM certificate")]
#[case::key_only("KEY", "no PEM certificate")]
#[case::garbage_in_pem("GARBAGE", "cannot be read")]
#[case::not_base64("'%%%'", "is not base64")]
#[case::pem_itself("'-----BEGIN CERTIFICATE-----'", "PEM itself")]
fn an_authority_without_a_certificate_is_refused(#[case] data: &str, #[case] says: &str) {
    let garbage = STANDARD.encode("-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n");
    let data = data.replace("KEY", &encoded("p256.pkcs8.key")).replace("GARBAGE", &garbage);
    let fault =
        refused(file(&format!("{SERVER}, certificate-authority-data: {data}"), "token: t").as_bytes());
    assert_eq!(fault.field, "certificate-authority-data");
    assert!(fault.message.contains(says), "{fault}");
}

#[rstest]
#[case::user_info("https://me:hunter2@edge:6443")]
#[case::query("https://edge:6443?hunter2")]
#[case::fragment("https://edge:6443#hunter2")]
#[case::port("https://edge:99999")]
#[case::port_zero("https://edge:0")]
#[case::port_word("https://edge:hunter2")]
#[case::no_host("https://:6443")]
#[case::nothing("https://")]
#[case::line_feed("https://edge:6443\\n")]
#[case::blank("https://ed ge:6443")]
#[case::not_a_name("https://-edge-.example..net")]
#[case::unicode("https://münchen.example.net")]
#[case::scheme("ftp://edge:6443")]
#[case::long_path("https://edge/LONG")]
fn a_server_that_is_none_is_refused_and_not_repeated(#[case] server: &str) {
    let server = server.replace("LONG", &"x".repeat(60_000));
    let text = file(&format!("server: \"{server}\""), "token: t");
    let fault = refused(text.as_bytes());
    assert_eq!(fault.field, "server");
    assert!(!fault.message.contains("hunter2") && fault.message.len() < 300, "{fault}");
}

#[rstest]
#[case::path("https://rancher.example.net/k8s/clusters/c-m-1")]
#[case::slash("https://edge/")]
#[case::capitals("HTTPS://Edge.Example.Net:6443")]
#[case::six("https://[fd00::1]:6443")]
#[case::four("https://10.0.0.1")]
#[tokio::test]
async fn servers_of_all_kinds_are_used(#[case] server: &str) {
    usable(file(&format!("server: '{server}'"), "token: t").as_bytes());
}

#[rstest]
#[case::name("tls-server-name: 'no name'", "token: t", "tls-server-name")]
#[case::proxy("proxy-url: 'ftp://me:hunter2@p'", "token: t", "proxy-url")]
#[case::key_without_certificate("", "token: t, client-key-data: eA==", "client-certificate-data")]
#[case::certificate_without_key("", "token: t, client-certificate-data: eA==", "client-key-data")]
#[case::both("", "token: t, username: u, password: hunter2", "username")]
#[case::act_as("", "token: t, as: \"a\\nhunter2\"", "as")]
#[case::act_as_uid("", "token: t, as: a, as-uid: \"a\\r\"", "as-uid")]
#[case::act_as_groups("", "token: t, as: a, as-groups: [b, \"c\\rhunter2\"]", "as-groups")]
#[case::act_as_extra("", "token: t, as: a, as-user-extra: {k: [\"\\0\"]}", "as-user-extra")]
#[case::groups_alone("", "token: t, as-groups: [system:masters]", "as-groups")]
#[case::exec_shape("", "exec: 7", "exec")]
#[case::exec_nothing("", "exec: {}", "exec")]
#[case::exec_nul("", "exec: {command: \"a\\0b\"}", "exec")]
#[case::provider("", "auth-provider: {name: oidc, config: {id-token: \"hunter2\\n\\nx\"}}", "auth-provider")]
fn what_cannot_be_sent_is_refused_by_name(#[case] cluster: &str, #[case] user: &str, #[case] field: &str) {
    let fault = refused(file(&format!("{SERVER}, {cluster}"), user).as_bytes());
    assert_eq!(fault.field, field, "{fault}");
    assert!(!fault.message.contains("hunter2"), "{fault}");
}

#[rstest]
#[case::clusters("clusters", "{name: k, cluster: {server: 'https://other'}}")]
#[case::users("users", "{name: u, user: {token: other}}")]
#[case::contexts("contexts", "{name: c, context: {cluster: k}}")]
fn of_two_with_one_name_nobody_knows_which_is_meant(#[case] list: &str, #[case] second: &str) {
    let text = file(SERVER, "token: t").replacen(&format!("{list}:\n"), &format!("{list}:\n- {second}\n"), 1);
    assert_eq!(refused(text.as_bytes()).field, list);
}

#[test]
fn bounds_are_kept_and_documents_are_one() {
    let good = file(SERVER, "token: hunter2");
    let bomb = {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let below = level - 1;
            let uses = format!("*a{below}, ").repeat(6);
            text.extend(["a", &level.to_string(), ": &a", &level.to_string(), " [", &uses, "]\n"]);
        }
        text + &good
    };
    let large_scalar = format!("a: &a {}\nb: [{}]\n{good}", "x".repeat(600_000), "*a, ".repeat(99));
    let merges = format!("m: &m {{a: b}}\nn: [{}]\n{good}", "{<<: *m}, ".repeat(5000));
    for (text, says) in [
        (vec![b' '; MAX_BYTES + 1], "larger than 2 MiB"),
        (bomb.into_bytes(), "is not a kubeconfig"),
        (large_scalar.into_bytes(), "is not a kubeconfig"),
        (merges.into_bytes(), "is not a kubeconfig"),
        (
            format!("a: {}{}\n{good}", "[".repeat(20_000), "]".repeat(20_000)).into_bytes(),
            "is not a kubeconfig",
        ),
        (
            format!("{{\"a\": {}{}", "[".repeat(20_000), "]".repeat(20_000)).into_bytes(),
            "is not a kubeconfig",
        ),
        (format!("{good}---\n{good}").into_bytes(), "2 YAML documents"),
        (b"\xff\xfe\x00".to_vec(), "not text"),
        (b"\xc3\x28".to_vec(), "not text"),
        (b"# nothing\n".to_vec(), "is empty"),
        (b"kind: Secret\nstringData: {kubeconfig: hunter2}".to_vec(), "is `Secret`, not `Config`"),
        (b"apiVersion: v2".to_vec(), "not `v1`"),
        (good.replace("token: hunter2", "token: hunter2, token: x").into_bytes(), "line 12"),
    ] {
        let fault = refused(&text);
        assert!(fault.message.contains(says), "{says}: {fault}");
        assert!(!fault.message.contains("hunter2"), "{fault}");
    }
}

#[test]
fn the_fingerprint_is_of_what_is_used() {
    let print = |text: &str| judged(text.as_bytes()).unwrap_or_else(|fault| panic!("{fault}")).fingerprint();
    let text = file(SERVER, "token: t, as: a, as-user-extra: {x: [y], z: [w]}");
    let same = [
        format!("# a comment\n{text}"),
        text.replace("token: t", "token: 't '"),
        text.replace("kind: Config\n", "kind: Config\npreferences: {colors: true}\n"),
        text.replace("users:\n", "users:\n- {name: other, user: {token: x}}\n"),
        text.replace("token: t", "token: t, username: ''"),
    ];
    for other in same {
        assert_eq!(print(&other), print(&text), "{other}");
    }
    for other in [
        text.replace("token: t", "token: u"),
        text.replace("as: a", "as: b"),
        text.replace("z: [w]", "z: [v]"),
        text.replace(":6443", ":6444"),
        file(&format!("{SERVER}, certificate-authority-data: {}", encoded("ca.crt")), "token: t"),
        file(&format!("{SERVER}, tls-server-name: x"), "token: t"),
    ] {
        assert_ne!(print(&other), print(&text), "{other}");
    }
}

#[test]
fn a_token_says_when_it_ends_and_garbage_does_not() {
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"exp":1700000000}"#);
    let ends = |token: &str| access(SERVER, &format!("token: '{token}'")).expires_at();
    assert_eq!(ends(&format!("h.{payload}.s")), jiff::Timestamp::from_second(1_700_000_000).ok());
    for garbage in ["opaque", "a.b.c", "..", "a.e30.c"] {
        assert_eq!(ends(garbage), None);
    }
}

#[test]
fn a_token_file_is_read_anew_unless_white_space_is_around_the_token() {
    let text = file(SERVER, "tokenFile: /token");
    let judged = |content: &'static [u8]| {
        let file = super::text::parse(text.as_bytes()).ok().unwrap();
        let chosen = super::choice::choose(&file, None, "").ok().unwrap();
        super::access::judge(&chosen, super::fixtures::now(), |path| {
            assert_eq!(path, "/token");
            Ok(content.to_vec())
        })
    };
    let auth = |content| judged(content).unwrap_or_else(|fault| panic!("{fault}")).config().auth_info;
    assert_eq!(auth(b"abc").token_file.as_deref(), Some("/token"));
    let cut = auth(b"abc\r\n");
    assert_eq!((cut.token.unwrap().expose_secret(), cut.token_file), ("abc", None));
    for content in [&b""[..], b"\n", b"a\nb", b"\xff"] {
        assert_eq!(judged(content).err().unwrap().field, "tokenFile");
    }
}
