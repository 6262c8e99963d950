//! docs/reference/cli.md, from the definition of the command line.

use std::{collections::BTreeSet, ffi::OsString, fmt::Write as _};

use clap::{Arg, Command};

use super::{sentence, wrap};

/// What is not a verb of the fleet, but a role that runs in a pod.
const ROLES: [&str; 2] = ["control-plane", "data-plane"];

pub fn page() -> String {
    let called = |name: &str| {
        let mut command = medusa_fleet::cli::command(Some(&OsString::from(name)));
        command.build();
        command
    };
    let (mut plugin, mut program) = (called("kubectl-medusa"), called("medusa-fleet"));
    let mut page = "# The command line\n\n".to_owned();
    page += &wrap(
        "",
        "",
        "Every verb of `kubectl medusa`, and the two roles of `medusa-fleet`. Both are one program, and each verb works under \
         both names. An option wins over its environment variable, and that over the default. A length of time is \
         written with the units `s`, `m`, `h`, `d` and `w`, such as `90s`, `1h30m` or `365d`.",
    );
    let exits = plugin.get_after_help().map(ToString::to_string).unwrap_or_default();
    page.push('\n');
    page += &wrap("", "", &exits);
    page += "\n## Global options\n";
    options(&plugin, true, &mut page);
    for verb in shown(&mut plugin).filter(|verb| !ROLES.contains(&verb.get_name())) {
        let title = verb.get_name().to_owned();
        section(verb, 2, &title, &mut page);
    }
    for role in shown(&mut program).filter(|role| ROLES.contains(&role.get_name())) {
        let title = format!("medusa-fleet {}", role.get_name());
        section(role, 2, &title, &mut page);
    }
    page
}

fn shown(command: &mut Command) -> impl Iterator<Item = &mut Command> {
    command.get_subcommands_mut().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
}

fn section(command: &mut Command, level: usize, title: &str, page: &mut String) {
    writeln!(page, "\n{} {title}\n", "#".repeat(level)).unwrap();
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let aliases: Vec<String> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    let also = if aliases.is_empty() {
        String::new()
    } else {
        format!(" It is also called {}.", aliases.join(", "))
    };
    *page += &wrap("", "", &(sentence(&about) + &also));
    let usage = command.render_usage().to_string();
    let usage: Vec<&str> = usage.lines().map(|line| line.trim_start_matches("Usage:").trim()).collect();
    writeln!(page, "\n```\n{}\n```", usage.join("\n")).unwrap();
    options(command, false, page);
    for sub in shown(command) {
        let title = format!("{title} {}", sub.get_name());
        section(sub, level + 1, &title, page);
    }
}

/// The arguments and options of a command: those that every verb takes, or its own, those under a heading last.
fn options(command: &Command, global: bool, page: &mut String) {
    let is_shown = |arg: &&Arg| {
        !arg.is_hide_set()
            && arg.is_global_set() == global
            && !["help", "version"].contains(&arg.get_id().as_str())
    };
    let args: Vec<&Arg> = command.get_arguments().filter(is_shown).collect();
    let headings: BTreeSet<Option<&str>> = args.iter().map(|arg| arg.get_help_heading()).collect();
    for heading in headings {
        if let Some(heading) = heading.filter(|_| !global) {
            writeln!(page, "\n{heading}:").unwrap();
        }
        page.push('\n');
        for arg in args.iter().filter(|arg| arg.get_help_heading() == heading) {
            *page += &option(arg);
        }
    }
}

/// One option: its names, what it is for, and what holds without it.
fn option(arg: &Arg) -> String {
    let takes_value = arg.get_action().takes_values();
    let values: Vec<String> =
        arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let value = if takes_value { values.join(" ") } else { String::new() };
    let mut names: Vec<String> = arg.get_short().map(|short| format!("-{short}")).into_iter().collect();
    let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
    names.extend(longs.iter().map(|long| format!("--{long}")));
    match names.last_mut() {
        Some(last) if takes_value => *last = format!("{last} {value}"),
        Some(_) => {}
        None => names.push(value),
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    // What holds without the option, where only the help text can say it.
    let (said, told) = match help.trim().strip_suffix(']').and_then(|rest| rest.rsplit_once(" [default: ")) {
        Some((said, default)) => (said, format!(" Default: {default}.")),
        None => (help.as_str(), String::new()),
    };
    let mut text = sentence(said);
    if takes_value && arg.get_value_delimiter() == Some(',') {
        text += " Several are separated by commas.";
    }
    text += &told;
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if takes_value && !defaults.is_empty() {
        write!(text, " Default: `{}`.", defaults.join(",")).unwrap();
    }
    if let Some(variable) = arg.get_env() {
        write!(text, " Environment: `{}`.", variable.to_string_lossy()).unwrap();
    }
    let mut lines = wrap(&format!("- {}: ", names.join(", ")), "  ", &text);
    if takes_value && !arg.is_hide_possible_values_set() {
        for choice in arg.get_possible_values().iter().filter(|choice| !choice.is_hide_set()) {
            let help = choice.get_help().map(|help| format!(": {}", sentence(&help.to_string())));
            lines += &wrap("  - ", "    ", &format!("`{}`{}", choice.get_name(), help.unwrap_or_default()));
        }
    }
    lines
}
