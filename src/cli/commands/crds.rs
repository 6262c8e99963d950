//! `crds [--dir DIR]`.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::{
    api::crds,
    cli::{
        failure::{Failure, Outcome},
        output::Printer,
    },
};

/// Prints every definition, or writes one file for each into `dir`.
///
/// # Errors
/// When the output cannot be written.
pub fn run(printer: Printer, dir: Option<&Path>) -> Outcome {
    let definitions = crds::all().map_err(broken)?;
    let Some(dir) = dir else {
        for definition in &definitions {
            printer.text(&format!("---\n{}", yaml(definition)?))?;
        }
        return Ok(());
    };
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::Failed(format!("cannot write `{}`: {error}", path.display()))
    };
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    for definition in &definitions {
        let path = dir.join(file_name(definition));
        std::fs::write(&path, yaml(definition)?).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

/// `<group>_<plural>.yaml`, as controller-gen names them.
fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural)
}

fn yaml(definition: &CustomResourceDefinition) -> Outcome<String> {
    // By way of a `Value`, whose keys are sorted: the output is the same in every build.
    let value = serde_json::to_value(definition).map_err(broken)?;
    serde_saphyr::to_string(&value).map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::CouldNotAsk(format!("cannot generate the definitions: {error}"))
}
