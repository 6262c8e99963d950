//! A person's or controller's own kubeconfig: files, and what they name, as kubectl finds them.

use std::{
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::{
    access::{self, Access},
    choice, shown,
    text::{self, File},
};
use crate::runtime::clock;

/// Why there is no way to a cluster.
#[derive(Debug)]
pub enum Trouble {
    /// There is no kubeconfig: for people, where one was looked for.
    None(String),
    /// There is one, and it cannot be used: for people.
    Unusable(String),
}

/// The way that `file` describes, by `context` or its current one, and that context's name.
///
/// # Errors
/// What is wrong, with file, field and fix, for people.
pub fn read(file: &Path, context: Option<&str>) -> Result<(Access, String), String> {
    let parsed = open(file)?;
    finish(&parsed, context).map_err(|error| format!("cannot use kubeconfig `{}`: {error}", file.display()))
}

/// The same, with the files of `KUBECONFIG`, or `~/.kube/config`.
///
/// # Errors
/// [`Trouble`].
pub fn read_default(context: Option<&str>) -> Result<Access, Trouble> {
    let listed: Vec<PathBuf> = env::var_os("KUBECONFIG")
        .map(|paths| env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    let paths = if listed.is_empty() {
        env::home_dir().map(|home| home.join(".kube").join("config")).into_iter().collect()
    } else {
        listed
    };
    // As kubectl does: one that is not there counts for nothing.
    let there: Vec<PathBuf> = paths.iter().filter(|path| path.exists()).cloned().collect();
    if there.is_empty() {
        let places: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
        return Err(Trouble::None(format!("there is no {}", places.join(" or "))));
    }
    let mut files = there.iter().map(|path| open(path));
    let first = files.next().unwrap_or_else(|| Ok(File::default()));
    let merged = files.try_fold(first.map_err(Trouble::Unusable)?, |merged, file| {
        file.map(|file| merge(merged, file)).map_err(Trouble::Unusable)
    })?;
    let names: Vec<String> = there.iter().map(|path| path.display().to_string()).collect();
    finish(&merged, context)
        .map(|(access, _)| access)
        .map_err(|error| Trouble::Unusable(format!("cannot use kubeconfig `{}`: {error}", names.join(":"))))
}

fn open(path: &Path) -> Result<File, String> {
    let shown = path.display();
    let bytes = at_most(path).map_err(|error| format!("cannot read kubeconfig `{shown}`: {error}"))?;
    let mut file =
        text::parse(&bytes).map_err(|fault| format!("cannot read kubeconfig `{shown}`: {fault}"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    resolve(&mut file, folder);
    Ok(file)
}

/// Paths are relative to the kubeconfig, not to where the person stands.
fn resolve(file: &mut File, folder: &Path) {
    let join = |path: &mut Option<String>| {
        if let Some(path) = path.as_mut().filter(|path| !path.trim().is_empty()) {
            *path = folder.join(&*path).display().to_string();
        }
    };
    for cluster in file.clusters.iter_mut().flatten().filter_map(|named| named.cluster.as_mut()) {
        join(&mut cluster.certificate_authority);
    }
    for user in file.users.iter_mut().flatten().filter_map(|named| named.user.as_mut()) {
        join(&mut user.client_certificate);
        join(&mut user.client_key);
        join(&mut user.token_file);
        // A bare name is looked for in PATH.
        if let Some(serde_json::Value::String(command)) =
            user.exec.as_mut().and_then(|e| e.get_mut("command"))
            && command.contains('/')
        {
            *command = folder.join(&*command).display().to_string();
        }
    }
}

/// The first file that has a name wins it.
fn merge(mut first: File, next: File) -> File {
    first.current_context = first.current_context.filter(|name| !name.is_empty()).or(next.current_context);
    add(&mut first.contexts, next.contexts, |named| named.name.as_ref());
    add(&mut first.clusters, next.clusters, |named| named.name.as_ref());
    add(&mut first.users, next.users, |named| named.name.as_ref());
    first
}

fn add<T>(to: &mut Option<Vec<T>>, from: Option<Vec<T>>, name: impl Fn(&T) -> Option<&String>) {
    let to = to.get_or_insert_default();
    for item in from.into_iter().flatten() {
        if !to.iter().any(|known| name(known) == name(&item)) {
            to.push(item);
        }
    }
}

pub(crate) fn finish(file: &File, context: Option<&str>) -> Result<(Access, String), String> {
    let chosen =
        choice::choose(file, context, "choose one with --context").map_err(|fault| fault.to_string())?;
    let access = access::judge(&chosen, clock::now(), named)
        .map_err(|fault| format!("context `{}`: {fault}", shown(&chosen.context)))?;
    Ok((access, chosen.context))
}

/// What a person's kubeconfig names; who stands before the machine is told which file it is about.
fn named(path: &str) -> io::Result<Vec<u8>> {
    content(path).map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", shown(path))))
}

/// A file that a kubeconfig names, when it is a regular one and not larger than a kubeconfig may be.
///
/// # Errors
/// When it is not, or cannot be read. The error does not repeat the path.
pub fn content(path: &str) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let bytes = at_most(Path::new(path))?;
    if bytes.len() > text::MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 2 MiB"));
    }
    Ok(bytes)
}

/// A little more than is taken of any file: a device has no end.
fn at_most(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(text::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
