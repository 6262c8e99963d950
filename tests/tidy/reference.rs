//! docs/reference is what the program and the types say; `make reference` writes it, by the test that compares it.

mod cli;
mod conditions;
mod kinds;

use std::{collections::BTreeSet, env, fs};

use crate::{pages::anchor, source::root};

/// What stands above each page.
const MARK: &str = "<!-- Written by `make reference`: what stands here is changed in the sources. -->\n\n";
/// Longest line of a page. Only what stands between backticks may be longer.
const WIDTH: usize = 118;

#[test]
fn the_reference_is_what_the_program_and_the_types_say() {
    let pages = [("cli.md", cli::page()), ("conditions.md", conditions::page()), ("kinds.md", kinds::page())];
    let folder = root().join("docs/reference");
    let mut stale = Vec::new();
    for (name, text) in pages {
        let (path, page) = (folder.join(name), format!("{MARK}{text}"));
        if env::var_os("UPDATE_REFERENCE").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &page).unwrap();
        }
        if fs::read_to_string(&path).unwrap_or_default() != page {
            stale.push(name);
        }
    }
    assert_eq!(stale, Vec::<&str>::new(), "run `make reference`");
}

#[test]
fn every_heading_of_the_reference_is_a_link_target_of_its_own() {
    for page in [cli::page(), conditions::page(), kinds::page()] {
        let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
        let mut targets = BTreeSet::new();
        for heading in headings.map(|rest| rest.trim_start_matches('#').trim()) {
            assert!(targets.insert(anchor(heading)), "two headings `{heading}`");
        }
        assert!(targets.len() > 5, "{targets:?}");
    }
}

/// `text` in lines that are not too long, the first after `first`, the others after `rest`. What stands between backticks
/// stays on one line.
fn wrap(first: &str, rest: &str, text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(last) if last.matches('`').count() % 2 == 1 => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    let (mut lines, mut line, mut is_begun) = (String::new(), first.to_owned(), false);
    for word in words {
        if is_begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push_str(line.trim_end());
            lines.push('\n');
            (line, is_begun) = (rest.to_owned(), false);
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(&word);
        is_begun = true;
    }
    lines + line.trim_end() + "\n"
}

/// A help text or description as a sentence.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() || text.ends_with(['.', ']', ':']) { text } else { text + "." }
}

#[test]
fn lines_are_broken_between_words_and_never_in_code() {
    let words = "word ".repeat(30);
    let broken = wrap("- ", "  ", &words);
    let lines: Vec<&str> = broken.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("- word") && lines[0].len() <= WIDTH);
    assert!(lines[1].starts_with("  word") && broken.ends_with("word\n"));
    let code = format!("`{}`", "a b ".repeat(40));
    assert_eq!(wrap("", "", &format!("see {code} there")).lines().count(), 3);
}
