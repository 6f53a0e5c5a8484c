//! The files under `monitoring/`, as far as the tests read them.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file or folder of `monitoring/`.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring").join(name)
}

/// The text of a file of `monitoring/`.
pub fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("monitoring/{name}: {e}"))
}

/// Returns each query of every panel of every dashboard, with the panel's title.
pub fn dashboard_queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path("grafana/dashboards")).expect("the dashboards") {
        let file = entry.expect("an entry").path();
        if file.extension().is_some_and(|extension| extension == "json") {
            let json = std::fs::read_to_string(&file).expect("a dashboard");
            collect(&serde_json::from_str(&json).expect("JSON"), &mut found);
        }
    }
    found
}

/// Returns a query with every variable of the dashboard at "All", as Grafana fills it in.
pub fn filled(query: &str) -> String {
    query.replace("$instance", ".*").replace("$channel", ".*").replace("$__rate_interval", "1m")
}

/// Collects the queries of panels. A row is a panel that contains others.
fn collect(dashboard: &Value, found: &mut Vec<(String, String)>) {
    for panel in dashboard["panels"].as_array().map_or(&[][..], Vec::as_slice) {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().map_or(&[][..], Vec::as_slice) {
            let query =
                target["expr"].as_str().unwrap_or_else(|| panic!("{title}: a target without an expr"));
            found.push((title.to_owned(), query.to_owned()));
        }
        collect(panel, found);
    }
}

/// Returns each alert with its expression. The YAML has one shape, so its lines are enough.
pub fn alerts() -> Vec<(String, String)> {
    let (mut found, mut in_expression) = (Vec::<(String, String)>::new(), false);
    for line in text("prometheus/alerts.yml").lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert:") {
            found.push((name.trim().to_owned(), String::new()));
            in_expression = false;
        } else if let Some(expression) = line.strip_prefix("expr:") {
            in_expression = true;
            append(&mut found, expression.trim().trim_start_matches('>'));
        } else if in_expression {
            in_expression = !["for:", "labels:", "annotations:"].iter().any(|key| line.starts_with(key));
            if in_expression {
                append(&mut found, line);
            }
        }
    }
    assert!(found.len() > 5 && found.iter().all(|(_, expr)| !expr.trim().is_empty()), "{found:?}");
    found
}

fn append(found: &mut [(String, String)], text: &str) {
    let (_, expression) = found.last_mut().expect("an alert before its expression");
    expression.push(' ');
    expression.push_str(text);
}

/// Returns the names of metrics in a query: words with the prefix of the service or of the process.
pub fn metric_names(query: &str) -> Vec<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("fanfare_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}
