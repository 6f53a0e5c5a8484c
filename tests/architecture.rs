//! Checks the sources against the architecture: imports allowed between modules, and code allowed in one place only.

mod files;

use std::collections::BTreeSet;

use crate::sources::rust_texts;

/// Each module from the bottom up, with the modules that it may import. All other imports are forbidden.
const MAY_IMPORT: &[(&str, &str)] = &[
    ("error", ""),
    ("kinds", "error"),
    ("paging", "error"),
    ("config", "error kinds"),
    ("lifecycle", ""),
    ("descriptors", ""),
    ("failpoint", ""),
    ("seal", ""),
    ("telemetry", "config error"),
    ("metrics", "error kinds"),
    ("locale", ""),
    ("segments", ""),
    ("address", "kinds"),
    ("sheet", ""),
    ("clock", "db"),
    ("db", "error failpoint"),
    ("idempotency", "error clock db lifecycle"),
    ("templates", "error clock db kinds locale paging idempotency segments"),
    ("egress", "error failpoint"),
    ("oauth", "error clock db egress"),
    ("clients", "error address clock db kinds locale paging lifecycle failpoint idempotency sheet"),
    ("messages", "error db kinds paging failpoint"),
    ("sending", "error clock db"),
    (
        "mailings",
        "error clock db kinds locale paging templates segments clients messages failpoint idempotency",
    ),
    ("live", "error clock db kinds lifecycle clients mailings"),
    ("runtime", "clock db live metrics"),
    (
        "notifications",
        "error clock db kinds locale paging templates clients messages failpoint idempotency live metrics lifecycle runtime",
    ),
    (
        "dead_letters",
        "error clock db kinds paging lifecycle failpoint idempotency live metrics messages mailings notifications runtime",
    ),
    ("broker", "error lifecycle metrics"),
    ("routes", "error clock db kinds locale paging clients templates idempotency"),
    (
        "events",
        "error clock lifecycle db kinds paging clients templates mailings messages notifications routes dead_letters broker live metrics idempotency failpoint runtime",
    ),
    ("pending_mailing", "error clock db lifecycle metrics mailings failpoint runtime"),
    ("suppressions", "error address clock db kinds paging idempotency clients seal sheet"),
    ("preferences", "error address clock db kinds clients lifecycle seal suppressions"),
    ("channels", "error address clock db kinds egress oauth failpoint segments templates"),
    ("credentials", "error clock db kinds paging idempotency seal egress oauth channels"),
    (
        "requests",
        "error clock db kinds paging channels credentials egress messages notifications dead_letters idempotency metrics lifecycle failpoint runtime",
    ),
    (
        "people",
        "error address clock db kinds lifecycle idempotency clients messages notifications events preferences suppressions runtime",
    ),
    (
        "inbox",
        "error clock db kinds paging lifecycle live clients notifications channels failpoint seal runtime",
    ),
    ("endpoints", "error clock db kinds lifecycle paging live egress channels credentials idempotency"),
    (
        "delivery",
        "error clock db kinds lifecycle live metrics templates messages mailings notifications requests preferences egress channels failpoint sending runtime",
    ),
    ("http", "error clock db kinds metrics idempotency lifecycle sending sheet"),
    // tools beside the service: they import nothing of it, and reach it over HTTP only
    ("sandbox", ""),
    ("demo", "sandbox"),
    (
        "app",
        "error clock kinds db config lifecycle live metrics clients messages mailings notifications idempotency pending_mailing egress channels credentials endpoints inbox delivery templates routes events requests people preferences suppressions broker dead_letters http descriptors sending runtime",
    ),
    (
        "cli",
        "error clock config lifecycle metrics telemetry egress http sandbox demo app clients credentials routes",
    ),
    ("lib", ""),
    ("main", ""),
];

/// A source file, without its comments and tests.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Returns the module under `src` that the file belongs to.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().expect("a name")
    }

    /// Returns the file name without its suffix.
    fn name(&self) -> &str {
        self.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).expect("a Rust file")
    }

    /// Returns true for a file of this layer, or in a folder of this name.
    fn is_of_layer(&self, layer: &str) -> bool {
        self.name() == layer || self.path.contains(&format!("/{layer}/"))
    }

    /// Returns the modules directly under the crate root that the file imports.
    fn imports(&self) -> BTreeSet<String> {
        // the file a/b.rs is the module a::b, so two `super` lead to the root
        let depth = self.path.split('/').count();
        let to_root = format!("{}{}", "super::".repeat(depth - 1), "super::");
        let mut found = BTreeSet::new();
        for root in ["crate::", to_root.as_str()] {
            for (at, _) in self.text.match_indices(root) {
                let before = self.text.get(..at).and_then(|text| text.chars().next_back());
                if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
                    found.extend(names(self.text.get(at + root.len()..).expect("the rest")));
                }
            }
        }
        found
    }
}

/// Returns the first name of a path, or the first names of a group of paths.
fn names(path: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![word(path)] };
    let (mut level, mut found, mut begins) = (1, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            '}' => level -= 1,
            ',' if level == 1 => begins = true,
            c if c.is_whitespace() => {}
            _ if begins => {
                found.push(word(group.get(at..).expect("the rest")));
                begins = false;
            }
            _ => {}
        }
        if level == 0 {
            break;
        }
    }
    found
}

fn program() -> Vec<Source> {
    let program = rust_texts("src")
        .into_iter()
        .filter(|(path, _)| !path.contains("/tests/") && !path.ends_with("/tests.rs"));
    let sources: Vec<Source> = program
        .map(|(path, text)| {
            let code = text.split("#[cfg(test)]\nmod tests {").next().expect("a beginning");
            let lines = code.lines().map(|line| line.split("//").next().expect("a beginning"));
            Source { path, text: lines.collect::<Vec<_>>().join("\n") }
        })
        .collect();
    assert!(sources.len() > 50, "too few sources found");
    sources
}

/// Returns the files that contain a forbidden word.
fn files_that_name(words: &[&str], may_not: impl Fn(&Source) -> bool) -> Vec<String> {
    let sources = program().into_iter().filter(may_not);
    let wrong = sources.flat_map(|source| {
        let found = words.iter().filter(|word| source.text.contains(**word));
        found.map(|word| format!("{} names {word}", source.path)).collect::<Vec<_>>()
    });
    wrong.collect()
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn imports_point_downwards() {
    let mut wrong = Vec::new();
    for source in program() {
        let is_listed = MAY_IMPORT.iter().any(|(name, _)| *name == source.path);
        let module = if is_listed { source.path.as_str() } else { source.module() };
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{} is missing from MAY_IMPORT", source.path));
        for import in source.imports() {
            let is_module = MAY_IMPORT.iter().any(|(name, _)| *name == import);
            // only the handlers of a domain may use HTTP
            let is_its_http = import == "http" && source.is_of_layer("handler");
            if is_module && import != module && !is_its_http && !allowed.split(' ').any(|name| name == import)
            {
                wrong.push(format!("{} imports {import}", source.path));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn imports_have_no_cycles() {
    // each module is listed below all modules that it may import; the clock and the database share the bottom layer
    let mut above = BTreeSet::from(["db"]);
    for (module, allowed) in MAY_IMPORT {
        for import in allowed.split(' ').filter(|name| !name.is_empty()) {
            assert!(above.contains(import), "{module} is listed before {import}, which it imports");
        }
        above.insert(module);
    }
}

#[test]
fn use_cases_and_models_name_no_http_and_no_sql() {
    let wrong = files_that_name(&["actix", "diesel", "reqwest"], |source| {
        source.module() != "delivery" && (source.is_of_layer("usecase") || source.is_of_layer("model"))
    });
    assert_none(&wrong);
}

#[test]
fn handlers_name_no_sql_and_repos_no_http() {
    assert_none(&files_that_name(&["diesel", "::repo"], |source| source.is_of_layer("handler")));
    assert_none(&files_that_name(&["actix", "reqwest", "utoipa"], |source| source.is_of_layer("repo")));
}

#[test]
fn channels_use_only_the_id_types_of_the_database() {
    let wrong = program().into_iter().filter(|source| source.module() == "channels").flat_map(|source| {
        let uses = source.text.match_indices("db::").map(|(at, _)| source.text.get(at..).expect("the rest"));
        let wrong = uses.filter(|path| !path.starts_with("db::types::"));
        wrong
            .map(|path| format!("{}: {}", source.path, path.lines().next().expect("a line")))
            .collect::<Vec<_>>()
    });
    assert_none(&wrong.collect::<Vec<_>>());
    assert_none(&files_that_name(&["diesel"], |source| source.module() == "channels"));
}

#[test]
fn what_follows_from_the_channel_is_decided_by_its_table() {
    // the adapters, their settings and their wiring are made for one channel each; people export their inboxes
    let own = ["kinds", "channels", "config", "app", "people"];
    let kinds = ["Sms", "Email", "Push", "Webhook", "Discord", "InApp"];
    let decisions: Vec<String> = kinds
        .iter()
        .flat_map(|kind| {
            ["{} =>", "{} |", "= {}"].map(|form| form.replace("{}", &format!("ChannelKind::{kind}")))
        })
        .collect();
    let decisions: Vec<&str> = decisions.iter().map(String::as_str).collect();
    assert_none(&files_that_name(&decisions, |source| !own.contains(&source.module())));
}

#[test]
fn the_engine_names_no_handler() {
    assert_none(&files_that_name(&["handler", "actix", "utoipa"], |source| source.module() == "delivery"));
}

#[test]
fn http_clients_and_the_time_come_from_one_module_each() {
    let clients = ["Client::builder", "Client::new", "ClientBuilder"];
    assert_none(&files_that_name(&clients, |source| source.module() != "egress"));
    assert_none(&files_that_name(&["Utc::now", "SystemTime::now", "Local::now"], |source| {
        // the tools stand for third parties, which have their own clocks
        !["clock", "sandbox", "demo"].contains(&source.module())
    }));
}

/// Returns the schema names of a file's types in the OpenAPI document.
fn schemas(source: &Source) -> Vec<String> {
    let mut names = Vec::new();
    let (mut is_schema, mut is_coded, mut name) = (false, false, None);
    for line in source.text.lines().map(str::trim) {
        if line.starts_with("#[derive(") && line.contains("ToSchema") {
            (is_schema, name) = (true, None);
        } else if line == "coded_enum! {" {
            (is_coded, name) = (true, None);
        } else if line.starts_with("#[schema(") {
            let given = line.split("as = ").nth(1).and_then(|rest| rest.split([',', ')']).next());
            name = given.map(str::to_owned).or(name);
        } else if is_schema || is_coded {
            let line = line.trim_start_matches("pub ");
            let own = line.strip_prefix("struct ").or(line.strip_prefix("enum "));
            let own = if is_coded { line.strip_suffix(" {") } else { own };
            let Some(own) = own.and_then(|rest| rest.split([' ', '(', '<', ';']).next()) else { continue };
            names.push(name.take().unwrap_or_else(|| own.to_owned()));
            // a macro parameter
            names.retain(|name| !name.starts_with('$'));
            (is_schema, is_coded) = (false, false);
        }
    }
    names
}

#[test]
fn schema_names_are_unique() {
    // the OpenAPI document would keep only one of two types with the same name
    let sources = program();
    let mut all: Vec<String> = sources.iter().flat_map(schemas).collect();
    assert!(all.len() > 130, "only {} types were found", all.len());
    all.sort();
    let twice = all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone());
    assert_none(&twice.collect::<Vec<_>>());
}

#[test]
fn no_file_is_longer_than_six_hundred_lines() {
    let long = rust_texts("src").into_iter().map(|(path, text)| (path, text.lines().count()));
    let long =
        long.filter(|(_, lines)| *lines > 600).map(|(path, lines)| format!("{path} has {lines} lines"));
    assert_none(&long.collect::<Vec<_>>());
}

#[test]
fn import_names_are_read_from_paths_and_groups() {
    assert_eq!(names("db::types::Id;"), ["db"]);
    assert_eq!(names("{app, cli::{self, Cli}, db};"), ["app", "cli", "db"]);
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let found =
        source("clients/model.rs", "use super::repo; use super::super::http; crate::db::x()").imports();
    assert_eq!(found, BTreeSet::from(["db".to_owned(), "http".to_owned()]));
}
