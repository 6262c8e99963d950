//! Which kubeconfigs of Secrets are refused, and how it is said.

use rstest::rstest;

use super::*;
use crate::runtime::kubeconfig::fixtures::{encoded, file, now};

fn nothing(_: &str) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}

fn vetted(text: &str) -> Result<Vetted, Why> {
    vet(text.as_bytes(), None, &BTreeSet::new(), now(), nothing)
}

const SERVER: &str = "server: 'https://10.0.0.1:6443'";

#[rstest]
#[case("server: 'http://10.0.0.1'", "token: t", "server")]
#[case("server: '10.0.0.1:6443'", "token: t", "server")]
#[case("server: 'https://h', insecure-skip-tls-verify: true", "token: t", "insecure-skip-tls-verify")]
#[case("server: 'https://h', certificate-authority: /etc/ca", "token: t", "certificate-authority")]
#[case("server: 'https://h', proxy-url: 'http://p'", "token: t", "proxy-url")]
#[case(SERVER, "exec: {apiVersion: v1, command: sh}", "exec")]
#[case(SERVER, "auth-provider: {name: gcp}", "auth-provider")]
#[case(SERVER, "tokenFile: /etc/passwd", "tokenFile")]
#[case(SERVER, "client-certificate: /a, client-key-data: eA==", "client-certificate")]
#[case(SERVER, "client-certificate-data: eA==, client-key: /a", "client-key")]
#[case(SERVER, "username: a, password: hunter2", "username")]
fn unsafe_fields_are_refused_by_name(#[case] cluster: &str, #[case] user: &str, #[case] field: &str) {
    let refusal = vetted(&file(cluster, user)).err().unwrap();
    assert_eq!(refusal.reason, Reason::UnsafeKubeconfig, "{}", refusal.message);
    assert!(refusal.message.contains(&format!("`{field}`")), "{}", refusal.message);
    assert!(!refusal.message.contains("hunter2"));
}

#[rstest]
#[case("{", None)]
#[case("", None)]
#[case("[1, 2]", None)]
#[case("token: hunter2", None)]
#[case("current-context: x", None)]
#[case(&file(SERVER, "token: hunter2"), Some("other"))]
#[case(&file("server: 'https://'", "token: hunter2"), None)]
#[case(&file(SERVER, "token: ''"), None)]
#[case(&file(SERVER, ""), None)]
#[case("current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]", None)]
#[case("a: &a [*a, *a]\nb: &b [*a, *a]", None)]
fn garbage_is_refused_without_quoting_it(#[case] text: &str, #[case] context: Option<&str>) {
    let refusal = vet(text.as_bytes(), context, &BTreeSet::new(), now(), nothing).err().unwrap();
    assert_eq!(refusal.reason, Reason::InvalidKubeconfig);
    assert!(!refusal.message.contains("hunter2"));
}

#[test]
fn a_plain_token_kubeconfig_is_accepted_and_reduced() {
    let text = file(SERVER, "token: t") + "- name: other\n  user: {exec: {command: sh}}\n";
    let vetted = vetted(&text).ok().unwrap();
    assert_eq!(vetted.access.config().auth_info.exec.map(|exec| exec.command), None);
    assert_eq!(vetted.hash.len(), 16);
}

#[test]
fn the_controller_may_allow_a_field() {
    let allowed = BTreeSet::from(["exec".to_owned()]);
    assert!(vet(file(SERVER, "exec: {command: sh}").as_bytes(), None, &allowed, now(), nothing).is_ok());
}

#[rstest]
#[case("server: 'https://h', proxy-url: ''", "token: t")]
#[case("server: 'https://h', certificate-authority: '', insecure-skip-tls-verify: false", "token: t")]
#[case(
    "server: 'https://h'",
    "token: t, tokenFile: '', username: '', password: '', exec: null, client-key: ''"
)]
#[case("server: 'https://127.0.0.1:6443'", "token: t")]
#[case("server: 'https://localhost:6443'", "token: t")]
fn empty_is_absent_and_loopback_may_be_a_tunnels_end(#[case] cluster: &str, #[case] user: &str) {
    assert!(vetted(&file(cluster, user)).is_ok());
}

#[rstest]
#[case("169.254.169.254")]
#[case("169.254.169.254:443")]
#[case("[::ffff:169.254.169.254]")]
#[case("[fe80::1]:6443")]
#[case("[fd00:ec2::254]")]
#[case("0.0.0.0:6443")]
#[case("[::]")]
#[case("METADATA.google.internal")]
fn addresses_that_are_never_another_cluster_are_unsafe(#[case] host: &str) {
    let text = file(&format!("server: 'https://{host}'"), "token: t");
    let refusal = vetted(&text).err().unwrap();
    assert_eq!(refusal.reason, Reason::UnsafeKubeconfig);
    assert!(refusal.message.contains("`server`"), "{}", refusal.message);
    let allowed = BTreeSet::from(["server".to_owned()]);
    assert!(vet(text.as_bytes(), None, &allowed, now(), nothing).is_ok());
}

#[rstest]
#[case::name("server: 'https://h', tls-server-name: 'no name'", "token: t", "tls-server-name")]
#[case::token("server: 'https://h'", "token: \"a\\nhunter2\"", "token")]
#[case::acting("server: 'https://h'", "token: t, as: \"hunter2\\0\"", "as")]
#[case::certificate("server: 'https://h'", "token: t, client-certificate-data: hunter2x", "client-key-data")]
fn what_no_client_can_use_is_refused_when_it_is_read(
    #[case] cluster: &str,
    #[case] user: &str,
    #[case] field: &str,
) {
    let refusal = vetted(&file(cluster, user)).err().unwrap();
    assert_eq!(refusal.reason, Reason::InvalidKubeconfig);
    assert!(refusal.message.contains(&format!("`{field}`")), "{}", refusal.message);
    assert!(!refusal.message.contains("hunter2"), "{}", refusal.message);
}

#[test]
fn files_are_read_only_where_their_field_is_allowed() {
    let text = file("server: 'https://h', certificate-authority: /ca.crt", "token: t");
    let authority = |path: &str| {
        assert_eq!(path, "/ca.crt");
        Ok(crate::runtime::kubeconfig::fixtures::pem("ca.crt"))
    };
    let never = |path: &str| -> io::Result<Vec<u8>> { panic!("{path} was read") };
    assert!(vet(text.as_bytes(), None, &BTreeSet::new(), now(), never).is_err());
    let allowed = BTreeSet::from(["certificate-authority".to_owned()]);
    let vetted = vet(text.as_bytes(), None, &allowed, now(), authority).ok().unwrap();
    assert_eq!(vetted.access.authority_data(), Some(encoded("ca.crt")));
    let refusal = vet(text.as_bytes(), None, &allowed, now(), nothing).err().unwrap();
    assert!(refusal.message.contains("`certificate-authority`"), "{}", refusal.message);
}

#[test]
fn a_proxy_is_used_where_it_is_allowed() {
    let allowed = BTreeSet::from(["proxy-url".to_owned()]);
    let text = file("server: 'https://h', proxy-url: 'socks5h://p'", "token: t");
    let vetted = vet(text.as_bytes(), None, &allowed, now(), nothing).ok().unwrap();
    assert_eq!(vetted.access.config().proxy_url, Some("socks5://p:1080".parse().unwrap()));
}

#[test]
fn the_hash_is_of_the_text_and_the_fingerprint_of_what_is_used() {
    let text = file("server: 'https://h'", "token: t");
    let (one, other) = (vetted(&text).ok().unwrap(), vetted(&format!("# rotated\n{text}")).ok().unwrap());
    assert_ne!(one.hash, other.hash);
    assert_eq!(one.fingerprint, other.fingerprint);
    assert_eq!((one.hash.len(), one.fingerprint.len()), (16, 16));
}

proptest::proptest! {
    #[test]
    fn the_values_of_any_secret_are_accepted_or_refused_in_words(
        bytes in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..300),
        context in proptest::option::of(".{0,300}"),
        good in proptest::arbitrary::any::<bool>(),
    ) {
        let text = if good { file("server: 'https://h'", "token: hunter2").into_bytes() } else { bytes };
        if let Err(refusal) = vet(&text, context.as_deref(), &BTreeSet::new(), now(), nothing) {
            let known = crate::runtime::kubeconfig::FIELDS.iter().any(|f| refusal.message.contains(&format!("`{f}`")));
            proptest::prop_assert!(known && !refusal.message.contains("hunter2"), "{}", refusal.message);
            proptest::prop_assert!(!refusal.message.contains('\n') && refusal.message.len() < 3000);
        }
    }
}
