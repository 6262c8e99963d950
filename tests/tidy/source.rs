//! The sources as the house rules see them: which lines ship, what each file imports, which types it declares.
//!
//! What ships is what is not `cfg(test)`, wherever it stands in a file, and whichever file it stands in.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Item, UseTree, spanned::Spanned as _, visit::Visit};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` whose name has this ending, with its text, by name.
pub fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, ending, found);
            } else if path.extension().is_some_and(|e| e == ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join(folder), ending, &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// One file of `src`.
pub struct Source {
    /// Its path from the root of the repository.
    pub name: String,
    /// Its module, without `crate`.
    pub module: Vec<String>,
    /// Its module comment.
    pub header: String,
    /// The lines that ship and are not comments, each with its number.
    pub lines: Vec<(usize, String)>,
    /// What the lines that ship import or name of this crate: whole paths without `crate`.
    pub imports: BTreeSet<Vec<String>>,
    /// Names of the types and traits that ship.
    pub types: Vec<String>,
    /// Modules that it declares for tests only.
    test_modules: Vec<Vec<String>>,
    /// Files that such modules are in, where they say which.
    test_files: Vec<String>,
}

/// Every file of `src` that ships.
pub fn shipped() -> Vec<Source> {
    let all: Vec<Source> = files("src", "rs").iter().map(|(name, text)| Source::read(name, text)).collect();
    let tests: Vec<Vec<String>> = all.iter().flat_map(|source| source.test_modules.clone()).collect();
    let test_files: Vec<String> = all.iter().flat_map(|source| source.test_files.clone()).collect();
    all.into_iter()
        .filter(|source| !tests.iter().any(|test| source.module.starts_with(test)))
        .filter(|source| !test_files.contains(&source.name))
        .collect()
}

impl Source {
    /// Reads a file that was found at `name`.
    pub fn read(name: &str, text: &str) -> Self {
        let module = module_of(name);
        let file = syn::parse_file(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut reader = Reader { module: module.clone(), ..Reader::default() };
        reader.visit_file(&file);
        let marks = text.lines().filter(|line| line.trim() == "#[cfg(test)]").count();
        assert_eq!(reader.tests, marks, "{name}: a `cfg(test)` stands where these rules do not look");
        let is_test = |line: usize| reader.test_lines.iter().any(|(from, to)| (*from..=*to).contains(&line));
        let lines: Vec<(usize, String)> = text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.to_owned()))
            .filter(|(number, line)| !is_test(*number) && !line.trim_start().starts_with("//"))
            .collect();
        let mut imports: BTreeSet<Vec<String>> = reader.imports.into_iter().collect();
        imports.extend(lines.iter().flat_map(|(_, line)| named(line, &module)));
        let header = text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
        Self {
            name: name.to_owned(),
            module,
            header,
            lines,
            imports,
            types: reader.types,
            test_modules: reader.test_modules,
            test_files: reader
                .test_files
                .iter()
                .map(|file| Path::new(name).with_file_name(file).display().to_string())
                .collect(),
        }
    }

    /// Its lines that have one of these words, as `file:line: text`.
    pub fn having(&self, words: &[&str]) -> Vec<String> {
        let has = |line: &str| words.iter().any(|word| line.contains(word));
        let found = self.lines.iter().filter(|(_, line)| has(line));
        found.map(|(number, line)| format!("{}:{number}: {}", self.name, line.trim())).collect()
    }
}

fn module_of(name: &str) -> Vec<String> {
    let path = name.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        parts.pop();
    }
    parts
}

/// Paths that begin with `crate` or `super` in a line, also inside macros. Imports are read elsewhere, as a whole.
fn named(line: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for word in ["crate::", "super::"] {
        for (at, _) in line.match_indices(word) {
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let is_path = |c: &char| c.is_alphanumeric() || *c == '_' || *c == ':';
            let path: String = line.get(at..).unwrap_or_default().chars().take_while(is_path).collect();
            let parts: Vec<String> =
                path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            // Of an import of several only the beginning stands here.
            if parts.iter().any(|part| part != "super" && part != "crate") {
                found.extend(absolute(&parts, module));
            }
        }
    }
    found
}

/// The path from the root of the crate; `None` of another crate's.
fn absolute(path: &[String], module: &[String]) -> Option<Vec<String>> {
    let rest = path.get(1..)?;
    match path.first()?.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some(module.iter().chain(rest).cloned().collect()),
        "super" => {
            let parent = module.split_last()?.1;
            if rest.first().is_some_and(|next| next == "super") {
                return absolute(rest, parent);
            }
            Some(parent.iter().chain(rest).cloned().collect())
        }
        _ => None,
    }
}

#[derive(Default)]
struct Reader {
    module: Vec<String>,
    imports: Vec<Vec<String>>,
    types: Vec<String>,
    test_lines: Vec<(usize, usize)>,
    test_modules: Vec<Vec<String>>,
    test_files: Vec<String>,
    tests: usize,
}

impl Reader {
    /// Whether what has these attributes is for tests; it is not looked into then.
    fn is_test(&mut self, attributes: &[Attribute], item: &impl syn::spanned::Spanned) -> bool {
        let is_mark = |a: &&Attribute| {
            a.path().is_ident("cfg") && a.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
        };
        if attributes.iter().find(is_mark).is_none() {
            return false;
        }
        self.tests += 1;
        let (from, to) = (item.span().start().line, item.span().end().line);
        let from = attributes.iter().map(|a| a.span().start().line).min().unwrap_or(from).min(from);
        self.test_lines.push((from, to));
        true
    }

    fn import(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before)),
            UseTree::Glob(_) => self.imports.extend(absolute(before, &self.module)),
            UseTree::Name(name) if name.ident == "self" => {
                self.imports.extend(absolute(before, &self.module));
            }
            UseTree::Name(name) => self.imports.extend(absolute(&with(&name.ident), &self.module)),
            UseTree::Rename(name) => self.imports.extend(absolute(&with(&name.ident), &self.module)),
        }
    }
}

/// The file that `#[path = "…"]` names.
fn path_of(attribute: &Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(literal) = &pair.value else { return None };
    let syn::Lit::Str(text) = &literal.lit else { return None };
    pair.path.is_ident("path").then(|| text.value())
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if self.is_test(attributes(item), item) {
            if let Item::Mod(module) = item
                && module.content.is_none()
            {
                let name = self.module.iter().cloned().chain([module.ident.to_string()]).collect();
                self.test_modules.push(name);
                self.test_files.extend(module.attrs.iter().find_map(path_of));
            }
            return;
        }
        match item {
            Item::Struct(i) => self.types.push(i.ident.to_string()),
            Item::Enum(i) => self.types.push(i.ident.to_string()),
            Item::Trait(i) => self.types.push(i.ident.to_string()),
            Item::Type(i) => self.types.push(i.ident.to_string()),
            Item::Use(i) => self.import(&i.tree, &[]),
            Item::Mod(i) if i.content.is_some() => {
                self.module.push(i.ident.to_string());
                syn::visit::visit_item(self, item);
                self.module.pop();
                return;
            }
            _ => {}
        }
        syn::visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !self.is_test(&function.attrs, function) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_impl_item_const(&mut self, constant: &'ast syn::ImplItemConst) {
        self.is_test(&constant.attrs, constant);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.is_test(&field.attrs, field);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !self.is_test(&local.attrs, local) {
            syn::visit::visit_local(self, local);
        }
    }
}

#[test]
fn what_ships_is_what_is_not_for_tests_wherever_it_stands() {
    let text = "//! A file.\n\
        use crate::api::{names, labels::{self, JOB}};\n\
        #[cfg(test)]\n\
        #[path = \"beside.rs\"]\n\
        mod tests_of_it;\n\
        fn before() { crate::runtime::clock::now(); }\n\
        #[cfg(test)]\n\
        mod tests {\n    use super::super::other;\n    struct OfTests;\n}\n\
        struct After;\n\
        impl After {\n    #[cfg(test)]\n    fn only_in_tests() {}\n    fn shipped() { super::beside::go(); }\n}\n\
        // crate::in_a_comment\n";
    let source = Source::read("src/cli/views/x.rs", text);
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    let expected =
        ["api::names", "api::labels", "api::labels::JOB", "runtime::clock::now", "cli::views::beside::go"];
    for import in expected {
        assert!(source.imports.contains(&path(import)), "{import} in {:?}", source.imports);
    }
    assert!(!source.imports.iter().any(|i| i.contains(&"other".to_owned())), "{:?}", source.imports);
    assert_eq!(source.types, ["After"]);
    assert_eq!(source.test_modules, [path("cli::views::x::tests_of_it")]);
    let lines: Vec<usize> = source.lines.iter().map(|(number, _)| *number).collect();
    assert_eq!(lines, [2, 6, 12, 13, 16, 17]);
    assert_eq!(source.test_files, ["src/cli/views/beside.rs"]);
}
