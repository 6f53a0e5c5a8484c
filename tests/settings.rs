//! Writes config/default.toml and the generated parts of docs/configuration.md from the declarations of the settings.

use fanfare::config::{Form, SECTIONS, Setting, settings};

/// The beginning of config/default.toml.
const HEAD: &str = "\
# All settings of Fanfare with their defaults. `make settings` writes this file.
#
# To change a value, put it into a file `fanfare.toml` in the working directory (or another file, by --config or
# FANFARE_CONFIG), or set the environment variable that its comment names. The environment overrides the file, and the
# file overrides these defaults. Durations are written like \"10s\", \"500ms\", \"2m\".
";

/// The greatest width of a comment.
const WIDTH: usize = 120;

/// Returns the text of config/default.toml.
pub fn default_file() -> String {
    let mut file = HEAD.to_owned();
    for section in SECTIONS {
        file += &format!("\n{}[{}]\n", comment(&plain(section.about)), section.name);
        for setting in section.settings {
            let bounds = bounds(setting).map(|bounds| format!(" ({bounds})")).unwrap_or_default();
            let variable = setting.variable.map(|name| format!("{name}{bounds}: ")).unwrap_or_default();
            file += &comment(&(variable + &plain(setting.text)));
            let name = setting.key.trim_start_matches(section.name).trim_start_matches('.');
            match (setting.default, setting.example) {
                (Some(value), _) => file += &format!("{name} = {value}\n"),
                (None, Some(value)) => file += &format!("# {name} = {value}\n"),
                (None, None) => {}
            }
        }
    }
    file
}

/// Returns docs/configuration.md with its generated parts: the block after each comment `<!-- settings: SECTION … -->`
/// is a table, and the one after `<!-- secrets -->` a list.
pub fn page(old: &str) -> String {
    let mut page = String::new();
    let mut lines = old.lines().peekable();
    while let Some(line) = lines.next() {
        page += &format!("{line}\n");
        let block = match line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            Some("secrets") => secrets(),
            Some(marker) => match marker.strip_prefix("settings: ") {
                Some(sections) => table(sections),
                None => continue,
            },
            None => continue,
        };
        while lines.next_if(|line| line.is_empty()).is_some() {}
        while lines.next_if(|line| !line.is_empty()).is_some() {}
        page += &format!("\n{block}");
    }
    page
}

/// Returns the names of the sections in the comments of docs/configuration.md.
pub fn sections_of(page: &str) -> Vec<&str> {
    let markers = page.lines().filter_map(|line| line.strip_prefix("<!-- settings: ")?.strip_suffix(" -->"));
    markers.flat_map(str::split_whitespace).collect()
}

fn secrets() -> String {
    let secrets = settings().filter(|setting| setting.form == Form::Secret);
    let names: Vec<_> = secrets.filter_map(|s| Some(format!("`{}`", s.variable?))).collect();
    names.join(", ") + "\n"
}

fn table(sections: &str) -> String {
    let mut table = "| key | variable | default | bounds | meaning |\n|---|---|---|---|---|\n".to_owned();
    for name in sections.split_whitespace() {
        let section = SECTIONS.iter().find(|section| section.name == name);
        let section = section.unwrap_or_else(|| panic!("docs/configuration.md names a section {name}"));
        for setting in section.settings {
            let Some(variable) = setting.variable else { continue };
            let default = match setting.default.map(|value| value.trim_matches('"')) {
                None => "unset".to_owned(),
                Some("") => "empty".to_owned(),
                Some(value) => format!("`{value}`"),
            };
            let (key, bounds) = (setting.key, bounds(setting).unwrap_or_default());
            let text = setting.text.trim();
            table += &format!("| `{key}` | `{variable}` | {default} | {bounds} | {text} |\n");
        }
    }
    table
}

/// Returns the bounds as users write the values.
fn bounds(setting: &Setting) -> Option<String> {
    let bounds = setting.bounds.as_ref()?;
    let written = |value: f64| match setting.form {
        Form::Duration => duration(value),
        _ => value.to_string(),
    };
    Some(format!("{} to {}", written(*bounds.start()), written(*bounds.end())))
}

/// Returns a duration in the largest unit without a fraction.
fn duration(seconds: f64) -> String {
    let units = [(86_400.0, "days"), (3600.0, "h"), (60.0, "m"), (1.0, "s")];
    let unit = units.into_iter().find(|(size, _)| seconds >= *size && seconds % size == 0.0);
    match unit {
        _ if seconds == 0.0 => "0s".to_owned(),
        Some((size, "days")) if seconds == size => "1day".to_owned(),
        Some((size, name)) => format!("{}{name}", seconds / size),
        None => format!("{}ms", seconds * 1000.0),
    }
}

/// Returns Markdown without code spans and links.
fn plain(markdown: &str) -> String {
    let mut text = markdown.trim().replace('`', "");
    while let Some((head, rest)) = text.split_once("](") {
        let (before, label) = head.rsplit_once('[').expect("the beginning of a link");
        let (_, after) = rest.split_once(')').expect("the end of a link");
        let folder = if label.ends_with(".md") { "docs/" } else { "" };
        text = format!("{before}{folder}{label}{after}");
    }
    text
}

/// Returns the lines of a comment.
fn comment(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), "#".to_owned());
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{line}\n");
            "#".clone_into(&mut line);
        }
        line += &format!(" {word}");
    }
    lines + &line + "\n"
}
