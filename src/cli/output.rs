//! The printer. Everything the command line writes to stdout or stderr goes through it.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{ErrorKind, IsTerminal as _, Write},
};

use clap::ValueEnum;
use comfy_table::{Table as Grid, presets::NOTHING};
use serde::Serialize;
use serde_json::{Value, json};

use super::failure::{Failure, Outcome};

/// How to print what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table with the columns people need
    #[default]
    Table,
    /// The same with more columns
    Wide,
    /// The objects as JSON
    Json,
    /// The objects as YAML
    Yaml,
}

impl Format {
    /// Whether programs read it: then nothing else may be on stdout.
    #[must_use]
    pub fn is_for_programs(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

/// A table without borders, as kubectl prints them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// The same; only where it is `wide`, with `more` columns after them.
    #[must_use]
    pub fn wide(wide: bool, header: &[&'static str], more: &[&'static str]) -> Self {
        Self::new(&if wide { [header, more].concat() } else { header.to_vec() })
    }

    /// Adds a row. Empty cells show as `-`; a cell never breaks the line. Cells without a column are left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().take(self.header.len()).map(|cell| one_line(&cell)).collect());
    }

    /// Whether there is nothing but the header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, indented by `indent`, every line ended.
    #[must_use]
    pub fn render(&self, indent: usize) -> String {
        let mut grid = Grid::new();
        grid.load_style(NOTHING).set_header(self.header.clone()).add_rows(self.rows.clone());
        for column in grid.column_iter_mut() {
            column.set_padding((0, 3));
        }
        let mut text = String::new();
        for line in grid.lines() {
            let _ = writeln!(text, "{:indent$}{}", "", line.trim_end());
        }
        text
    }
}

/// Whether a character can steer a terminal, or hide or reorder what is beside it.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` without anything but its line feeds that can steer a terminal: control characters are blanks, and what hides
/// or reorders text is shown as its number.
fn tame(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && is_unsafe(c)) {
        return Cow::Borrowed(text);
    }
    let mut tame = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => tame.push(c),
            c if c.is_control() => tame.push(' '),
            c if is_unsafe(c) => tame.extend(c.escape_unicode()),
            c => tame.push(c),
        }
    }
    Cow::Owned(tame)
}

/// `text` on one line, with nothing in it that can steer the terminal: messages come from other machines.
#[must_use]
pub fn one_line(text: &str) -> String {
    let tame = tame(text);
    let clean = tame.split_whitespace().collect::<Vec<_>>().join(" ");
    if clean.is_empty() { "-".to_owned() } else { clean }
}

/// Characters of a line of text that people read on a screen.
const LINE: usize = 100;

/// How many characters a line of text should have, when stdout is a screen.
#[must_use]
pub fn screen_width() -> Option<usize> {
    std::io::stdout().is_terminal().then_some(LINE)
}

/// `text` in lines of at most `width` characters, broken at blanks. What stands in backticks is not broken.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut length) = (String::new(), 0);
    let mut is_quoted = false;
    for word in text.split_inclusive(|c: char| {
        is_quoted ^= c == '`';
        c == ' ' && !is_quoted
    }) {
        let needed = word.trim_end_matches(' ').chars().count();
        if length > 0 && length + needed > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        line.push_str(word);
        length += word.chars().count();
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// A JSON document in which everything that can steer a terminal is escaped, as `long` does it where a character takes
/// more than four digits.
fn escaped(document: &str, long: fn(char) -> String) -> String {
    let mut text = String::with_capacity(document.len());
    for c in document.chars() {
        match c {
            '\n' => text.push(c),
            c if is_unsafe(c) && u32::from(c) > 0xffff => text.push_str(&long(c)),
            c if is_unsafe(c) => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text
}

/// `value` as JSON for people and programs.
fn json_text(value: &Value, long: fn(char) -> String) -> Result<String, serde_json::Error> {
    Ok(escaped(&serde_json::to_string_pretty(value)?, long) + "\n")
}

/// How JSON escapes a character beyond the basic plane.
fn surrogates(c: char) -> String {
    c.encode_utf16(&mut [0; 2]).iter().fold(String::new(), |mut text, unit| {
        let _ = write!(text, "\\u{unit:04x}");
        text
    })
}

/// `objects` as one Kubernetes List, without the bookkeeping nobody reads.
fn list<T: Serialize>(objects: &[T]) -> Result<Value, serde_json::Error> {
    let items = objects.iter().map(object).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}))
}

/// `value` without `metadata.managedFields`, as kubectl shows objects.
fn object<T: Serialize>(value: &T) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    Ok(value)
}

/// `value` as YAML, as kubectl prints it: only text of several lines becomes a block.
///
/// # Errors
/// When it cannot be serialized.
pub fn yaml(value: &Value) -> Result<String, serde_saphyr::ser::Error> {
    // Folding long lines would be shorter to look at, and harder to search and to paste.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options)?;
    if text.chars().any(|c| c != '\n' && is_unsafe(c)) {
        // A plain scalar cannot escape anything. JSON is YAML, and can.
        let long = |c: char| format!("\\U{:08x}", u32::from(c));
        if let Ok(json) = json_text(value, long) {
            return Ok(json);
        }
    }
    Ok(text)
}

/// `value` in a format for programs.
fn document(format: Format, value: &Value) -> Result<String, String> {
    match format {
        Format::Yaml => yaml(value).map_err(|e| e.to_string()),
        Format::Json | Format::Table | Format::Wide => {
            json_text(value, surrogates).map_err(|e| e.to_string())
        }
    }
}

/// Writes what a verb has to say.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    format: Format,
    program: &'static str,
}

impl Printer {
    /// A printer for `format`. `program` is what the person types to start us.
    #[must_use]
    pub fn new(format: Format, program: &'static str) -> Self {
        Self { format, program }
    }

    /// `words` as a command the person can type, in backticks.
    #[must_use]
    pub fn command(self, words: &str) -> String {
        format!("`{} {words}`", self.program)
    }

    /// The format asked for.
    #[must_use]
    pub fn format(self) -> Format {
        self.format
    }

    /// Writes `text`, whose line feeds are its own, to stdout. Nothing else in it steers the terminal.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn text(self, text: &str) -> Outcome {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(tame(text).as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::PipeClosed),
            Err(error) => Err(Failure::CouldNotAsk(format!("cannot write to stdout: {error}"))),
        }
    }

    /// Says something to the person: on stdout, unless a program reads that.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn say(self, line: &str) -> Outcome {
        if self.format.is_for_programs() {
            self.note(line);
            return Ok(());
        }
        self.text(&format!("{}\n", flat(line)))
    }

    /// Says something beside the point, on stderr. Whether anyone reads it changes nothing.
    pub fn note(self, line: &str) {
        aside(line);
    }

    /// The same for a text whose line feeds are its own.
    pub fn lines(self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{}", tame(text));
    }

    /// Prints `objects`: as `table`, or themselves for programs.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn objects<T: Serialize>(self, objects: &[T], table: impl FnOnce(bool) -> Table) -> Outcome {
        let text = match self.format {
            Format::Table => table(false).render(0),
            Format::Wide => table(true).render(0),
            Format::Json | Format::Yaml => {
                let list = list(objects).map_err(unprintable)?;
                document(self.format, &list).map_err(unprintable)?
            }
        };
        self.text(&text)
    }

    /// The same for what may be nothing: people are told so with `nothing`.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn listing<T: Serialize>(
        self,
        objects: &[T],
        nothing: impl FnOnce() -> String,
        table: impl FnOnce(bool) -> Table,
    ) -> Outcome {
        if objects.is_empty() {
            self.note(&nothing());
            if !self.format.is_for_programs() {
                return Ok(());
            }
        }
        self.objects(objects, table)
    }

    /// Prints one value for programs.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn value<T: Serialize>(self, value: &T) -> Outcome {
        let value = object(value).map_err(unprintable)?;
        self.text(&document(self.format, &value).map_err(unprintable)?)
    }
}

/// [`Printer::note`] for whoever has no printer.
pub fn aside(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", tame(&flat(line)));
}

/// `line` without line feeds: one that is in it came from elsewhere.
fn flat(line: &str) -> String {
    line.replace(['\n', '\r'], " ")
}

fn unprintable(error: impl std::fmt::Display) -> Failure {
    Failure::CouldNotAsk(format!("cannot print the answer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_show_a_dash_for_nothing() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(["eu-1".to_owned(), "Ready".to_owned()]);
        table.row(["a-longer-name".to_owned(), String::new()]);
        let expected = "NAME            STATE\neu-1            Ready\na-longer-name   -\n";
        assert_eq!(table.render(0), expected);
        assert!(table.render(2).lines().all(|line| line.starts_with("  ")));
    }

    #[test]
    fn foreign_text_cannot_break_the_line_or_steer_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[2Jc\t d"), "a b [2Jc d");
    }

    /// What a hostile data plane may put into any text.
    const HOSTILE: &str = "a\u{1b}[2Jb\u{9b}31mc\rd\u{7f}e\u{202e}f\u{2066}g\u{200b}h\u{2028}i\u{feff}j\u{e0041}k\u{8}l é ü 日本";

    #[test]
    fn nothing_steers_the_terminal_in_any_format() {
        let bad = |text: &str| text.chars().filter(|c| *c != '\n' && is_unsafe(*c)).count();
        assert!(bad(HOSTILE) > 10);
        assert_eq!((bad(&tame(HOSTILE)), bad(&one_line(HOSTILE))), (0, 0));
        assert!(tame(HOSTILE).contains("e\\u{202e}f") && tame(HOSTILE).contains("é ü 日本"));
        let value = json!({HOSTILE: [HOSTILE, format!("two\nlines {HOSTILE}"), "plain"], "n": 1});
        let printed = document(Format::Json, &value).unwrap();
        assert_eq!(bad(&printed), 0, "{printed}");
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), value);
        let printed = document(Format::Yaml, &value).unwrap();
        assert_eq!(bad(&printed), 0, "{printed}");
        assert_eq!(serde_saphyr::from_str::<Value>(&printed).unwrap(), value);
    }

    #[test]
    fn long_text_is_broken_at_blanks_and_commands_are_not() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        let text = "see to it: `kubectl medusa plan deploy shop` says what is done, and it is a `no`";
        let lines = wrap(text, 24);
        assert_eq!(
            lines,
            ["see to it:", "`kubectl medusa plan deploy shop`", "says what is done, and", "it is a `no`"]
        );
        assert_eq!(wrap("", 9), [""]);
        assert_eq!(wrap("ééééé ééééé", 5).len(), 2, "characters count, not bytes");
        assert_eq!(wrap("a ` b c d e f", 4).concat().replace(' ', ""), "a`bcdef", "nothing is lost");
    }

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(flat("error: a\nNAME  READY\r\nb"), "error: a NAME  READY  b");
    }

    #[test]
    fn lists_are_objects_without_managed_fields() {
        let item = json!({"kind": "A", "metadata": {"name": "a", "managedFields": [{"manager": "x"}]}});
        let list = list(&[item]).unwrap();
        assert_eq!(list.pointer("/items/0"), Some(&json!({"kind": "A", "metadata": {"name": "a"}})));
        assert_eq!(list.get("kind"), Some(&json!("List")));
    }

    #[test]
    fn yaml_reads_back_as_what_was_printed() {
        let value =
            json!({"a": "yes", "b": "1.0", "c": [true, null, "x: y"], "d": {"e": "0x1F", "f": "# no"}});
        let text = document(Format::Yaml, &value).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value);
        let value = json!({"long": "word ".repeat(40).trim_end(), "lines": "a\n  b: c\n"});
        let text = document(Format::Yaml, &value).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value);
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
