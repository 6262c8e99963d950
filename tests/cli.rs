//! The built binary as people run it: what it prints where, and how it exits.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

const BINARY: &str = env!("CARGO_BIN_EXE_medusa-fleet");

/// Runs the binary with nothing of this machine's Kubernetes in sight.
fn run(words: &[&str]) -> Output {
    command(BINARY.as_ref()).args(words).output().unwrap()
}

fn command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().env("HOME", "/nonexistent");
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder of this test's own, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn crds_prints_every_definition_and_reads_back_as_what_was_generated() {
    let output = run(&["crds"]);
    assert!(output.status.success());
    let printed: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&stdout(&output)).unwrap();
    assert_eq!(printed, medusa_fleet::api::crds::all().unwrap());
    assert_eq!(stdout(&output).matches("---\n").count(), printed.len());
    assert_eq!(run(&["crds"]).stdout, output.stdout);
}

#[test]
fn crds_writes_one_file_per_definition() {
    let folder = Folder::new("crds");
    let dir = folder.0.join("not/there/yet");
    let output = run(&["crds", "--dir", dir.to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", stderr(&output));
    let mut files: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut expected: Vec<String> = medusa_fleet::api::crds::all()
        .unwrap()
        .iter()
        .map(|crd| format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural))
        .collect();
    expected.sort();
    assert_eq!(files, expected);
}

#[test]
fn crds_prints_one_group_alone() {
    let output = run(&["crds", "--group", "fleet.k8ssandra.io"]);
    let printed: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&stdout(&output)).unwrap();
    assert!(!printed.is_empty() && printed.iter().all(|crd| crd.spec.group == "fleet.k8ssandra.io"));
    let unknown = run(&["crds", "--group", "fleet"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("`medusa.k8ssandra.io`"), "{}", stderr(&unknown));
}

#[test]
fn the_client_knows_its_version_without_a_cluster() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(stdout(&run(&["version", "--client"])), format!("client   {version}\n"));
    assert_eq!(stdout(&run(&["version", "--client", "-o", "yaml"])), format!("client: \"{version}\"\n"));
    assert_eq!(stdout(&run(&["--version"])), format!("medusa-fleet {version}\n"));
    let alone = run(&["version"]);
    assert_eq!(stdout(&alone), format!("client   {version}\n"));
    assert_eq!(alone.status.code(), Some(2));
    let said = stderr(&alone);
    assert!(said.starts_with("error: the control plane could not be asked: no cluster to talk to"), "{said}");
}

#[test]
fn as_a_kubectl_plugin_it_shows_itself_as_one() {
    let folder = Folder::new("plugin");
    let plugin = folder.0.join("kubectl-medusa");
    std::os::unix::fs::symlink(BINARY, &plugin).unwrap();
    let output = command(&plugin).args(["backup", "--help"]).output().unwrap();
    assert!(output.status.success());
    assert!(stdout(&output).contains("Usage: kubectl medusa backup [OPTIONS] [NAME]"), "{}", stdout(&output));
    let usage = command(&plugin).args(["backup", "--type", "half"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn usage_errors_exit_with_2_and_leave_stdout_alone() {
    for words in
        [&["nonsense"][..], &[], &["register", "eu-1"], &["dataplanes", "-o", "xml"], &["describe", "x"]]
    {
        let output = run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn a_question_that_cannot_be_asked_exits_with_2_and_says_what_to_do() {
    let output = run(&["status"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("error: no cluster to talk to; give --kubeconfig"),
        "{}",
        stderr(&output)
    );
    let output = run(&["dataplanes", "--kubeconfig", "/nonexistent/config"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`/nonexistent/config`"), "{}", stderr(&output));
}

#[test]
fn a_cluster_that_does_not_answer_is_named() {
    let folder = Folder::new("silent");
    let kubeconfig = folder.0.join("config");
    // Nothing listens on port 1.
    let text = "{current-context: c, clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}], \
                users: [{name: u, user: {token: s3cr3t}}], contexts: [{name: c, context: {cluster: k, user: u}}]}";
    std::fs::write(&kubeconfig, text).unwrap();
    let output = run(&["clusters", "--kubeconfig", kubeconfig.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`https://127.0.0.1:1`"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("s3cr3t"));
}

#[test]
fn register_refuses_a_cluster_anyone_could_stand_in_for_before_it_asks_anybody() {
    let folder = Folder::new("insecure");
    let file = folder.0.join("eu.kubeconfig");
    let text = "{current-context: c, users: [{name: u, user: {token: s3cr3t}}], \
                clusters: [{name: k, cluster: {server: 'https://eu', insecure-skip-tls-verify: true}}], \
                contexts: [{name: c, context: {cluster: k, user: u}}]}";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let output = run(&["register", "eu-1", "--from-kubeconfig", file, "--kubeconfig", file]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains(file) && said.contains("`insecure-skip-tls-verify`"), "{said}");
    assert!(said.contains("certificate-authority-data") && !said.contains("s3cr3t"), "{said}");
    let output = run(&["register", "local", "--from-kubeconfig", file, "--kubeconfig", file]);
    assert!(stderr(&output).contains("reserved"), "{}", stderr(&output));
}

#[test]
fn a_kubeconfig_that_cannot_be_read_is_not_quoted() {
    let folder = Folder::new("broken");
    let file = folder.0.join("eu.kubeconfig");
    std::fs::write(&file, "users: [{name: u, user: {token: s3cr3t, client-key-data: [1]}}]").unwrap();
    let file = file.to_str().unwrap();
    let as_home = command(BINARY.as_ref()).args(["dataplanes", "--kubeconfig", file]).output().unwrap();
    let by_default = command(BINARY.as_ref()).arg("dataplanes").env("KUBECONFIG", file).output().unwrap();
    for output in [as_home, by_default] {
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("line 1, column ") && !said.contains("s3cr3t"), "{said}");
    }
}

/// One line that begins with `error:`, and exit code 2: nothing else is said of a bad kubeconfig.
fn assert_refused(output: &Output, says: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: ") && said.trim_end().lines().count() == 1, "{said}");
    assert!(said.contains(says) && !said.contains("s3cr3t"), "{says}: {said}");
}

#[test]
fn a_kubeconfig_that_no_client_can_use_is_an_error_and_never_a_panic() {
    let folder = Folder::new("unusable");
    let golden = |name: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kubeconfig");
        STANDARD.encode(std::fs::read(folder.join(name)).unwrap())
    };
    let identity = |certificate: &str, key: &str| {
        format!("client-certificate-data: {}, client-key-data: {}", golden(certificate), golden(key))
    };
    let file = |cluster: &str, user: &str| {
        format!(
            "{{current-context: c, clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:1'{cluster}}}}}], \
             users: [{{name: u, user: {{{user}}}}}], contexts: [{{name: c, context: {{cluster: k, user: u}}}}]}}"
        )
    };
    let token = "token: s3cr3t";
    for (text, says) in [
        (file("", "token: \"s3cr3t\\ns3cr3t\""), "`token`"),
        (file("", "token: \"s3cr3t\\0x\""), "`token`"),
        (file("", "token: “s3cr3t”"), "`token`"),
        (file("", "token: s3cr3t, as: \"a\\nb\""), "`as`"),
        (file("", &identity("p521.crt", "p521.pkcs8.key")), "type P-521"),
        (file("", &identity("rsa1024.crt", "rsa1024.pkcs8.key")), "type RSA 1024"),
        (file("", &identity("expired.crt", "p256.pkcs8.key")), "expired at 2021-01-01"),
        (file("", &identity("p256.crt", "p384.pkcs8.key")), "does not belong"),
        (file(", certificate-authority-data: aGk=", token), "`certificate-authority-data`"),
        (file(", tls-server-name: 'a b'", token), "`tls-server-name`"),
        (file(", proxy-url: 'ftp://me:s3cr3t@p'", token), "`proxy-url`"),
        (file("", "exec: {apiVersion: v1, command: /nonexistent/s3cr3t-program}"), "auth exec"),
        (file("", "exec: {command: echo, args: [s3cr3t], interactiveMode: Never}"), "`exec`"),
        (file("", token).replace("current-context: c", "current-context: lost"), "no context `lost`"),
        (format!("{}\n---\n{}", file("", token), file("", token)), "2 YAML documents"),
        ("kind: Secret\ndata: {kubeconfig: s3cr3t}\n".to_owned(), "`kind`"),
        (format!("a: {}", "[".repeat(5000)), "`kubeconfig`"),
        ("\0".to_owned(), "`kubeconfig`"),
    ] {
        let path = folder.0.join("config");
        std::fs::write(&path, &text).unwrap();
        assert_refused(&run(&["dataplanes", "--kubeconfig", path.to_str().unwrap()]), says);
        let path = path.to_str().unwrap();
        assert_refused(&run(&["register", "eu", "--from-kubeconfig", path, "--kubeconfig", path]), says);
    }
    let path = folder.0.join("config");
    std::fs::write(&path, vec![b' '; 3 << 20]).unwrap();
    assert_refused(&run(&["dataplanes", "--kubeconfig", path.to_str().unwrap()]), "larger than 2 MiB");
    assert_refused(&run(&["dataplanes", "--kubeconfig", "/dev/zero"]), "larger than 2 MiB");
}

#[test]
fn a_token_with_a_line_feed_behind_it_is_the_token() {
    let folder = Folder::new("line-feed");
    let path = folder.0.join("config");
    let text = "current-context: edge\ncontexts: [{name: edge, context: {cluster: edge, user: robot}}]\n\
                clusters: [{name: edge, cluster: {server: 'https://127.0.0.1:1', proxy-url: '', tls-server-name: ''}}]\n\
                users:\n- name: robot\n  user:\n    token: |\n      s3cr3t\n";
    std::fs::write(&path, text).unwrap();
    assert_refused(&run(&["dataplanes", "--kubeconfig", path.to_str().unwrap()]), "no answer");
}

#[test]
fn the_environments_proxy_is_checked_and_named() {
    let folder = Folder::new("proxy");
    let path = folder.0.join("config");
    let text = "{current-context: c, clusters: [{name: k, cluster: {server: 'https://edge.example.net'}}], \
                users: [{name: u, user: {token: t}}], contexts: [{name: c, context: {cluster: k, user: u}}]}";
    std::fs::write(&path, text).unwrap();
    let with = |value: &str| {
        let mut command = command(BINARY.as_ref());
        command.arg("dataplanes").arg("--kubeconfig").arg(&path).env("HTTPS_PROXY", value);
        command.output().unwrap()
    };
    assert_refused(&with("ftp://me:s3cr3t@proxy"), "`HTTPS_PROXY`");
    assert_refused(&with("http://me:s3cr3t@127.0.0.1:1"), "the proxy `http://127.0.0.1:1` cannot be used");
    assert_refused(&with("me:s3cr3t@127.0.0.1:1"), "the proxy `http://127.0.0.1:1` cannot be used");
    assert_refused(&with("socks5://me:s3cr3t@127.0.0.1:1"), "the proxy `socks5://127.0.0.1:1`");
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let mut child =
        command(BINARY.as_ref()).arg("crds").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn completions_are_for_the_name_it_was_called_by() {
    let folder = Folder::new("completion");
    let plugin = folder.0.join("kubectl-medusa");
    std::os::unix::fs::symlink(BINARY, &plugin).unwrap();
    for (binary, name, other) in [
        (Path::new(BINARY), "medusa-fleet", "kubectl-medusa"),
        (plugin.as_path(), "kubectl-medusa", "kubectl medusa"),
    ] {
        for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
            let output = command(binary).args(["completion", shell]).output().unwrap();
            let script = stdout(&output);
            assert!(output.status.success(), "{name} {shell}: {}", stderr(&output));
            assert!(script.contains(name) && !script.contains(other), "{name} {shell}");
        }
    }
}
