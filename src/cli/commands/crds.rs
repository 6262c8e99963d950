//! `crds [--group GROUP] [--dir DIR]`.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::{
    api::crds,
    cli::{
        args::Crds,
        failure::{Failure, Outcome},
        output::{Printer, yaml},
    },
};

/// Prints every definition, or those of some API groups, or writes one file for each into a directory.
///
/// # Errors
/// When there is no such group, or the output cannot be written.
pub fn run(printer: Printer, args: &Crds) -> Outcome {
    let mut definitions = crds::all().map_err(broken)?;
    if let Some(unknown) =
        args.groups.iter().find(|group| definitions.iter().all(|d| d.spec.group != **group))
    {
        let mut known: Vec<String> = definitions.iter().map(|d| format!("`{}`", d.spec.group)).collect();
        known.dedup();
        return Err(Failure::CouldNotAsk(format!(
            "there are no definitions in group `{unknown}`; the groups are {}",
            known.join(", ")
        )));
    }
    definitions.retain(|d| args.groups.is_empty() || args.groups.contains(&d.spec.group));
    let Some(dir) = &args.dir else {
        for definition in &definitions {
            printer.text(&format!("---\n{}", document(definition)?))?;
        }
        return Ok(());
    };
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::Failed(format!("cannot write `{}`: {error}", path.display()))
    };
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    for definition in &definitions {
        let path = dir.join(file_name(definition));
        std::fs::write(&path, document(definition)?).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// `<group>_<plural>.yaml`, as controller-gen names them.
fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural)
}

fn document(definition: &CustomResourceDefinition) -> Outcome<String> {
    // By way of a `Value`, whose keys are sorted: the output is the same in every build.
    let value = serde_json::to_value(definition).map_err(broken)?;
    yaml(&value).map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::CouldNotAsk(format!("cannot generate the definitions: {error}"))
}
