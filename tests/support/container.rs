//! Containers of the image that `make release` makes, run by `runc` as a kubelet would run them: under the security
//! context, arguments, environment and memory limit of a pod's template, with its account's token and the cluster's CA
//! where a pod has them. What is not a kubelet's: the network is the machine's own, so that API servers on its loopback
//! are reached, and each listens on a port of its own; probes are asked for by the test; the container's log is a file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::{
    Cluster,
    harness::{BINARY, Program, testbed},
    kubeconfig,
};

/// Where a pod finds what its account may show.
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Makes what `make release` makes, of the binary under test, below `dir`. Returns its folder.
pub fn release(dir: &Path) -> PathBuf {
    let folder = dir.join("release");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/release/build.sh");
    let mut build = Command::new(script);
    // The time of the commit is nobody's concern here, and there may be no Git.
    build.env("SOURCE_DATE_EPOCH", "1700000000");
    run(build.arg(BINARY).arg(testbed::binary()).arg(&folder));
    folder
}

/// Unpacks the archive of an image below `dir`. Returns its root file system.
pub fn unpacked(archive: &Path, dir: &Path) -> PathBuf {
    let unpacked = dir.join("oci");
    fs::create_dir_all(&unpacked).unwrap();
    run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&unpacked));
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        unpacked.join("blobs").join(digest)
    };
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let index = read(unpacked.join("index.json"));
    let listed = &index["manifests"][0];
    let name = concat!("docker.io/library/medusa-fleet:", env!("CARGO_PKG_VERSION"));
    assert_eq!(listed["annotations"]["org.opencontainers.image.ref.name"], name, "a node finds it by that");
    let manifest = read(blob(listed));
    let config = read(blob(&manifest["config"]));
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    let root = dir.join("rootfs");
    fs::create_dir_all(&root).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        run(Command::new("tar").arg("-xzf").arg(blob(layer)).arg("-C").arg(&root));
    }
    root
}

/// Where `runc` is: Debian has it in a folder that is on root's path only. crun needs other cgroups.
fn runc() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.find_map(|folder| Some(folder.join("runc")).filter(|runc| runc.is_file()));
    found.expect("runc is missing; `make check` says how to install it")
}

/// Runs a command, which must do what it is asked for.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// One container; it is killed when this is dropped.
pub struct Container {
    runc: PathBuf,
    state: PathBuf,
    id: String,
    /// `runc`, which passes signals on and ends as the container does.
    pub program: Program,
}

impl Container {
    /// Starts the first container of `pod` in `cluster`, as one of `namespace` with that token, under user `uid`.
    pub fn start(
        root: &Path,
        dir: &Path,
        cluster: &Cluster,
        pod: &PodSpec,
        (namespace, token): (&str, &str),
        uid: u32,
    ) -> Self {
        let container = &pod.containers[0];
        let id = format!("{}-{}", dir.file_name().unwrap().to_string_lossy(), std::process::id());
        let server = kubeconfig(cluster)["clusters"][0]["cluster"].clone();
        let (_, address) = server["server"].as_str().unwrap().split_once("://").unwrap();
        let (host, port) = address.trim_end_matches('/').rsplit_once(':').unwrap();
        let mounted = dir.join("account");
        fs::create_dir_all(&mounted).unwrap();
        let ca = BASE64_STANDARD.decode(server["certificate-authority-data"].as_str().unwrap()).unwrap();
        for (file, content) in
            [("token", token.as_bytes()), ("namespace", namespace.as_bytes()), ("ca.crt", &ca)]
        {
            fs::write(mounted.join(file), content).unwrap();
        }

        let mut environment = vec![
            format!("KUBERNETES_SERVICE_HOST={host}"),
            format!("KUBERNETES_SERVICE_PORT={port}"),
            // Two of them share the machine's network here.
            "MEDUSA_FLEET_METRICS_ADDR=127.0.0.1:0".to_owned(),
        ];
        for variable in container.env.iter().flatten() {
            let value = match (&variable.value, &variable.value_from) {
                (Some(value), _) => value.clone(),
                // The downward API: nothing else is asked of it.
                (None, Some(source)) => {
                    assert_eq!(source.field_ref.as_ref().unwrap().field_path, "metadata.namespace");
                    namespace.to_owned()
                }
                (None, None) => String::new(),
            };
            environment.push(format!("{}={value}", variable.name));
        }
        let words: Vec<String> = ["/usr/local/bin/medusa-fleet".to_owned()]
            .into_iter()
            .chain(container.args.clone().unwrap_or_default())
            .collect();
        let security = container.security_context.clone().unwrap_or_default();
        assert_eq!(security.capabilities.unwrap_or_default().drop, Some(vec!["ALL".to_owned()]));
        let limits = container.resources.clone().unwrap_or_default().limits.unwrap_or_default();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false, "user": {"uid": uid, "gid": uid}, "args": words, "env": environment, "cwd": "/",
                "capabilities": {},
                "noNewPrivileges": security.allow_privilege_escalation == Some(false),
            },
            "root": {"path": root, "readonly": security.read_only_root_filesystem == Some(true)},
            "hostname": id,
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
                {"destination": MOUNTED, "type": "bind", "source": mounted, "options": ["rbind", "ro"]},
            ],
            "linux": {
                "cgroupsPath": format!("/{id}"),
                "resources": {"memory": {"limit": bytes(&limits["memory"].0)}},
                "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            },
        });
        fs::write(dir.join("config.json"), config.to_string()).unwrap();
        let state = dir.join("state");
        let runc = runc();
        // Killed, it would leave the container behind; told to end, it takes it along.
        let program = Program::start_ended_by("TERM", &runc, dir.join("container.log"), |command| {
            command.arg("--root").arg(&state).args(["run", "--bundle"]).arg(dir).arg(&id)
        });
        Self { runc, state, id, program: program.unwrap() }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut delete = Command::new(&self.runc);
        let _ = delete.arg("--root").arg(&self.state).args(["delete", "--force", &self.id]).status();
    }
}

/// A quantity of memory, such as `256Mi`, in bytes.
fn bytes(quantity: &str) -> u64 {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((quantity.strip_suffix(unit)?, *shift)))
        .unwrap_or((quantity, 0));
    number.parse::<u64>().unwrap() << shift
}
