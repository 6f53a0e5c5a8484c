//! Checks the documentation against the code: settings, metrics, links and Makefile targets.

use std::collections::HashSet;
use std::path::Path;

use fanfare::config::{DEFAULT, SECTIONS};

use crate::settings;
use crate::sources::rust_texts;

const MAKEFILE: &str = include_str!("../Makefile");
const METRICS: &str = include_str!("../src/metrics.rs");

const README: &str = include_str!("../README.md");
const CONTRIBUTING: &str = include_str!("../CONTRIBUTING.md");
const SECURITY: &str = include_str!("../SECURITY.md");
const API: &str = include_str!("../docs/api.md");
const ARCHITECTURE: &str = include_str!("../docs/architecture.md");
const BENCHMARKS: &str = include_str!("../docs/benchmarks.md");
const EVENTS: &str = include_str!("../docs/events.md");
const BROKER: &str = include_str!("../docs/broker.md");
const CHANNELS: &str = include_str!("../docs/channels.md");
const CONFIGURATION: &str = include_str!("../docs/configuration.md");
const CREDENTIALS: &str = include_str!("../docs/credentials.md");
const DEAD_LETTERS: &str = include_str!("../docs/dead-letters.md");
const INBOX: &str = include_str!("../docs/inbox.md");
const METRICS_PAGE: &str = include_str!("../docs/metrics.md");
const REQUESTS_EXAMPLES: &str = include_str!("../docs/requests-examples.md");
const PREFERENCES: &str = include_str!("../docs/preferences.md");
const REQUESTS: &str = include_str!("../docs/requests.md");
const OPERATIONS: &str = include_str!("../docs/operations.md");
const TEMPLATES: &str = include_str!("../docs/templates.md");

/// Each page with its path from the root of the repository.
const PAGES: &[(&str, &str)] = &[
    ("README.md", README),
    ("CONTRIBUTING.md", CONTRIBUTING),
    ("SECURITY.md", SECURITY),
    ("docs/api.md", API),
    ("docs/architecture.md", ARCHITECTURE),
    ("docs/benchmarks.md", BENCHMARKS),
    ("docs/broker.md", BROKER),
    ("docs/events.md", EVENTS),
    ("docs/channels.md", CHANNELS),
    ("docs/configuration.md", CONFIGURATION),
    ("docs/credentials.md", CREDENTIALS),
    ("docs/dead-letters.md", DEAD_LETTERS),
    ("docs/inbox.md", INBOX),
    ("docs/metrics.md", METRICS_PAGE),
    ("docs/operations.md", OPERATIONS),
    ("docs/templates.md", TEMPLATES),
    ("docs/preferences.md", PREFERENCES),
    ("docs/requests.md", REQUESTS),
    ("docs/requests-examples.md", REQUESTS_EXAMPLES),
];

/// Returns the cells of a page's table rows.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    page.lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

#[test]
fn the_texts_of_settings_are_those_of_their_declarations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, text, generated) in [
        ("config/default.toml", DEFAULT, settings::default_file()),
        ("docs/configuration.md", CONFIGURATION, settings::page(CONFIGURATION)),
    ] {
        if std::env::var_os("FANFARE_TEST_REWRITE").is_some() {
            std::fs::write(root.join(path), &generated).expect("a file of the repository");
        } else {
            assert!(text == generated, "{path} differs from the declarations: run `make settings`");
        }
    }
}

#[test]
fn the_configuration_page_has_every_section_once() {
    let mut documented = settings::sections_of(CONFIGURATION);
    documented.sort_unstable();
    let mut sections: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
    sections.sort_unstable();
    assert_eq!(documented, sections);
}

/// Returns the string literals of src/metrics.rs that are metric names.
fn metric_names() -> Vec<&'static str> {
    let is_name = |text: &&str| {
        text.starts_with("fanfare_") && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    METRICS.split('"').filter(is_name).collect()
}

#[test]
fn the_metrics_page_lists_exactly_the_metrics_of_the_code() {
    let names = metric_names();
    assert!(names.len() > 15, "only {} metrics were found in src/metrics.rs", names.len());
    let documented: Vec<&str> = rows(METRICS_PAGE).map(|cells| cells[0].trim_matches('`')).collect();
    for name in &names {
        assert!(documented.contains(name), "docs/metrics.md has no row for {name}");
    }
    for name in documented.iter().filter(|name| name.starts_with("fanfare_")) {
        assert!(names.contains(name), "docs/metrics.md documents {name}, which does not exist");
    }
}

/// Returns the targets of a page's links `[text](target)`, outside of code blocks.
fn links(page: &str) -> Vec<&str> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        if !in_code {
            let ends = line.split("](").skip(1);
            found.extend(ends.filter_map(|rest| rest.split_once(')').map(|(target, _)| target)));
        }
    }
    found
}

/// Returns the anchor that GitHub and GitLab give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_leads_to_an_existing_file_and_heading() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, page) in PAGES {
        for link in links(page).into_iter().filter(|link| !link.contains("://")) {
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let folder = root.join(path).parent().expect("a page is in a folder").to_owned();
            let target = if file.is_empty() { root.join(path) } else { folder.join(file) };
            assert!(target.exists(), "{path} links to {link}, which does not exist");
            if !fragment.is_empty() {
                let text = std::fs::read_to_string(&target).expect("a page that can be read");
                let there = text.lines().any(|line| line.starts_with('#') && anchor(line) == fragment);
                assert!(there, "{path} links to {link}, a heading that does not exist");
            }
        }
    }
}

/// Returns the targets of the `make` commands in a page's code. Variables may precede `make`.
fn make_targets(page: &str) -> Vec<&str> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        // a whole line of a code block, or every second piece between backticks
        let pieces: Vec<&str> =
            if in_code { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for piece in pieces {
            let mut words = piece.split_whitespace().skip_while(|word| word.contains('='));
            if words.next() == Some("make") {
                found.extend(words.next());
            }
        }
    }
    found
}

#[test]
fn every_documented_make_command_is_a_makefile_target() {
    let has = |target: &str| MAKEFILE.lines().any(|line| line.starts_with(&format!("{target}:")));
    let mut seen = 0;
    for (path, page) in PAGES {
        for target in make_targets(page) {
            assert!(has(target), "{path} mentions `make {target}`, which the Makefile does not have");
            seen += 1;
        }
    }
    assert!(seen > 5, "only {seen} make commands were found");
}

/// Returns the pieces of a page between backticks, outside of blocks of code.
fn code_spans(page: &str) -> Vec<&str> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

#[test]
fn the_architecture_page_names_files_and_types_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source: String = rust_texts("src").into_iter().map(|(_, text)| text).collect();
    let words: HashSet<&str> = source.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let (mut files, mut types) = (0, 0);
    for span in code_spans(ARCHITECTURE) {
        let is_file = [".rs", ".sql", ".toml", ".md"].iter().any(|suffix| span.ends_with(suffix));
        if is_file && !span.contains([' ', '*', '<', '{']) {
            let exists = root.join(span).exists() || root.join("src").join(span).exists();
            assert!(exists, "docs/architecture.md names {span}, which does not exist");
            files += 1;
        }
        let segments: Vec<&str> = span.split("::").collect();
        let is_word =
            |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let is_type = |word: &&str| {
            word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.contains(|c: char| c.is_ascii_lowercase())
        };
        if segments.iter().all(is_word) && (segments.len() > 1 || segments.iter().any(is_type)) {
            for segment in segments {
                assert!(
                    words.contains(segment),
                    "docs/architecture.md names `{span}`: src has no `{segment}`"
                );
            }
            types += 1;
        }
    }
    assert!(files > 50 && types > 30, "{files} files and {types} types were found");
}
