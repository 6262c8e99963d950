//! Whatever stands in a flag, its variable or a name: one clear refusal with exit code 2, and never a panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicUsize, Ordering},
};

/// A kubeconfig of a cluster that does not answer, of this call alone: what is refused is refused before it is asked.
fn kubeconfig(user: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Cargo makes it when it builds; it may have been deleted since.
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("garbage-{}-{number}.kubeconfig", std::process::id()));
    let text = format!(
        "{{current-context: c, clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:1'}}}}], \
         users: [{{name: u, user: {user}}}], contexts: [{{name: c, context: {{cluster: k, user: u}}}}]}}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn run(words: &[&str], env: &[(&str, &[u8])], user: &str) -> Output {
    let file = kubeconfig(user);
    let mut command = Command::new(env!("CARGO_BIN_EXE_medusa-fleet"));
    command.env_clear().env("HOME", "/nonexistent").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(words).arg("--kubeconfig").arg(&file);
    command.envs(env.iter().map(|(name, value)| (name, OsStr::from_bytes(value))));
    let output = command.output().unwrap();
    std::fs::remove_file(file).unwrap();
    output
}

fn assert_refused(output: &Output, says: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{says}: {said}");
    assert!(said.starts_with("error: ") && said.contains(says), "{says}: {said}");
    assert!(!said.contains("panicked") && !said.contains("127.0.0.1:1"), "it was asked, or panicked: {said}");
}

#[test]
fn a_namespace_that_is_none_is_refused_in_every_flag_and_variable() {
    for bad in ["Bad", "../x", "a b", "a/b", "a%2fb", "é", "a.b", "a?b", &"x".repeat(64)] {
        let says = "no namespace is called so";
        assert_refused(&run(&["dataplanes", "-n", bad], &[], "{token: t}"), says);
        let roles: [(&str, &str, &str); 3] = [
            ("control-plane", "--source-namespaces", "MEDUSA_FLEET_SOURCE_NAMESPACES"),
            ("control-plane", "--client-config-namespaces", "MEDUSA_FLEET_CLIENT_CONFIG_NAMESPACES"),
            ("data-plane", "--watch-namespace", "MEDUSA_FLEET_WATCH_NAMESPACE"),
        ];
        for (role, flag, variable) in roles {
            assert_refused(&run(&[role, flag, bad], &[], "{token: t}"), says);
            let among_others = format!("good,{bad}");
            assert_refused(&run(&[role], &[(variable, among_others.as_bytes())], "{token: t}"), says);
        }
        assert_refused(
            &run(&["dataplanes"], &[("MEDUSA_FLEET_NAMESPACE", bad.as_bytes())], "{token: t}"),
            says,
        );
    }
    assert_refused(&run(&["dataplanes", "-n", ""], &[], "{token: t}"), "no namespace is called so");
}

#[test]
fn flags_and_variables_that_mean_nothing_are_refused() {
    let cases: [(&[&str], &str, &[u8], &str); 11] = [
        (&["control-plane"], "MEDUSA_FLEET_METRICS_ADDR", b"nonsense", "0.0.0.0:8080"),
        (&["data-plane"], "MEDUSA_FLEET_METRICS_ADDR", b"1.2.3.4:99999", "0.0.0.0:8080"),
        (&["control-plane"], "MEDUSA_FLEET_METRICS_ADDR", b"\xff", "UTF-8"),
        (&["dataplanes"], "MEDUSA_FLEET_NAMESPACE", b"\xff", "UTF-8"),
        (&["control-plane"], "MEDUSA_FLEET_ALLOW_UNSAFE_KUBECONFIG", b"proxy-url,nonsense", "`proxy-url`"),
        (&["control-plane"], "MEDUSA_FLEET_LEADER_ELECT", b"maybe", "--leader-elect"),
        (&["control-plane"], "MEDUSA_FLEET_SHARDS", b"4", "--shards needs --leader-elect"),
        (&["control-plane", "--leader-elect"], "MEDUSA_FLEET_SHARDS", b"513", "--shards"),
        (&["control-plane"], "MEDUSA_FLEET_LOG_FILTER", b"[[[", "--log-filter"),
        (&["control-plane"], "MEDUSA_FLEET_MEDUSA_IMAGE", b"a b", "is not an image"),
        (&["dataplanes"], "HTTPS_PROXY", b"http://\xff:1", "`HTTPS_PROXY`"),
    ];
    for (words, variable, value, says) in cases {
        let output = run(words, &[(variable, value)], "{token: t}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{variable}: {said}");
        assert!(said.contains(says) && !said.contains("panicked"), "{variable}: {said}");
    }
}

#[test]
fn a_name_that_no_object_can_have_is_refused_before_it_is_asked_for() {
    for bad in ["../x", "A", "a/b", "é", "a%2fb", "a b", &"x".repeat(254)] {
        for kind in ["dataplane", "cluster", "backup", "job", "task", "restore", "schedule"] {
            let object = format!("{kind}/{bad}");
            assert_refused(&run(&["describe", &object], &[], "{token: t}"), "cannot be the name of a");
        }
        assert_refused(
            &run(&["cancel", &format!("job/{bad}")], &[], "{token: t}"),
            "cannot be the name of a",
        );
        assert_refused(&run(&["unregister", bad], &[], "{token: t}"), "cannot be the name of a");
        let restore = ["restore", "shop", "--from", bad, "--yes"];
        assert_refused(&run(&restore, &[], "{token: t}"), "cannot be the name of a");
    }
}

#[test]
fn what_a_program_of_exec_prints_ends_nothing_and_is_not_repeated() {
    let credential = r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"s3cr3t\ns3cr3t"}}"#;
    let exec = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: echo, args: ['{credential}']}}}}"
    );
    let output = run(&["dataplanes"], &[], &exec);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.contains("cannot be sent as a header") && !said.contains("s3cr3t"), "{said}");
}
