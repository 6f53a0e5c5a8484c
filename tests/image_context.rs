//! The build context of the image: every file that the build reads must pass .dockerignore. A real build takes minutes
//! and an engine; this test takes neither.

use std::path::{Component, Path, PathBuf};

use crate::sources::{path, rust_files, text};

/// The patterns of .dockerignore in order: true for one that includes, and the pattern.
fn patterns() -> Vec<(bool, String)> {
    let text = text(".dockerignore");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &str| match line.strip_prefix('!') {
        Some(name) => (true, name.trim_end_matches('/').to_owned()),
        None => (false, line.trim_end_matches('/').to_owned()),
    };
    lines.map(read).collect()
}

/// Returns true if a path from the root of the repository is part of the context. The last matching pattern decides.
/// The test also asserts that the file has only `*` and plain paths.
fn is_in_context(patterns: &[(bool, String)], path: &Path) -> bool {
    let mut is_in = true;
    for (lets_in, name) in patterns {
        assert!(
            name == "*" || !name.contains(['*', '?', '[', '\\']),
            "this test cannot read the pattern {name}"
        );
        if name == "*" || path.starts_with(name) {
            is_in = *lets_in;
        }
    }
    is_in
}

/// Returns a path without `.` and `..`, from the root of the repository.
fn from_root(file: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in file.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
        .strip_prefix(path(""))
        .unwrap_or_else(|_| panic!("{} is outside the repository", file.display()))
        .into()
}

/// Returns the first string argument of each call of a macro in a source; `None` for an argument that is not a string.
fn arguments<'t>(source: &'t str, of: &str) -> Vec<Option<&'t str>> {
    let call = format!("{of}!(");
    let starts = source.match_indices(&call).map(|(at, _)| source[at + call.len()..].trim_start());
    starts.map(|rest| rest.strip_prefix('"')?.split('"').next()).collect()
}

/// Returns the files that are compiled into the sources, each with the source that names it.
fn compiled_in() -> Vec<(String, PathBuf)> {
    let files = rust_files(&path("src"));
    let mut found = Vec::new();
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source");
        let who = from_root(&file).display().to_string();
        for of in ["include_str", "include_bytes", "include"] {
            for named in arguments(&source, of).into_iter().flatten() {
                found.push((who.clone(), from_root(&file.parent().expect("a folder").join(named))));
            }
        }
        // from the root of the crate
        for named in arguments(&source, "embed_migrations").into_iter().flatten() {
            found.push((who.clone(), named.into()));
        }
    }
    assert!(found.len() > 20, "what is compiled in is found: {found:?}");
    found
}

#[test]
fn whatever_the_program_has_compiled_in_is_part_of_the_images_build_context() {
    let patterns = patterns();
    for (who, file) in compiled_in() {
        assert!(path("").join(&file).exists(), "{who} names {}, which is not there", file.display());
        assert!(
            is_in_context(&patterns, &file),
            "{who} names {}, which .dockerignore leaves out",
            file.display()
        );
    }
}

#[test]
fn whatever_cargo_reads_is_part_of_the_images_build_context_and_neither_data_nor_secrets_are() {
    let patterns = patterns();
    let manifest = text("Cargo.toml");
    let benches = manifest
        .lines()
        .skip_while(|line| *line != "[[bench]]")
        .find_map(|line| line.strip_prefix("name = "));
    let bench = format!("benches/{}", benches.expect("a benchmark").trim_matches('"'));
    for needed in [
        "Cargo.toml",
        "Cargo.lock",
        ".cargo/config.toml",
        // cargo builds without it if it is missing
        "build.rs",
        "src/main.rs",
        "config/default.toml",
        &bench,
    ] {
        assert!(path(needed).exists() && is_in_context(&patterns, Path::new(needed)), "{needed}");
    }
    for private in
        [".env", "fanfare.env", "fanfare.toml", "fanfare.db", "fanfare.db-wal", ".git", "target", "backups"]
    {
        assert!(!is_in_context(&patterns, Path::new(private)), "{private}");
    }
}

#[test]
fn whatever_the_dockerfile_copies_or_runs_from_the_context_is_part_of_it() {
    let (dockerfile, patterns) = (text("Dockerfile"), patterns());
    for line in dockerfile.lines().filter(|line| line.starts_with("COPY") && !line.contains("--from=")) {
        let words: Vec<&str> =
            line.split_whitespace().skip(1).filter(|word| !word.starts_with("--")).collect();
        for source in &words[..words.len() - 1] {
            let is_there =
                *source == "." || path(source).exists() && is_in_context(&patterns, Path::new(source));
            assert!(is_there, "{line}");
        }
    }
    let scripts = dockerfile.split_whitespace().filter(|word| word.starts_with("scripts/"));
    let scripts: Vec<&str> = scripts.collect();
    assert!(!scripts.is_empty());
    for script in scripts {
        assert!(path(script).is_file() && is_in_context(&patterns, Path::new(script)), "{script}");
    }
}

#[test]
fn the_image_runs_as_a_user_without_rights_and_asks_the_service_for_its_health() {
    let dockerfile = text("Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().expect("a last stage");
    assert!(last.starts_with("scratch\n"), "nothing but the program: {last}");
    let value = |of: &str| {
        last.lines().find_map(|line| line.trim().strip_prefix(of)).unwrap_or_else(|| panic!("{of}"))
    };
    assert_eq!(value("USER "), "10001:10001", "a number: Kubernetes cannot look a name up");
    assert!(value("HEALTHCHECK ").ends_with(r#"CMD ["fanfare", "health"]"#));
    assert_eq!((value("ENTRYPOINT "), value("CMD ")), (r#"["fanfare"]"#, r#"["serve"]"#));
}

#[test]
fn patterns_are_read_as_an_engine_reads_them() {
    let patterns =
        [(false, "*".to_owned()), (true, "docs/openapi.json".to_owned()), (true, "src".to_owned())];
    for (path, expected) in [
        ("docs/openapi.json", true),
        ("docs/api.md", false),
        ("src/a/b.rs", true),
        ("srcs/a.rs", false),
        ("docs", false),
    ] {
        assert_eq!(is_in_context(&patterns, Path::new(path)), expected, "{path}");
    }
    let source = "a(include_str!(\n  \"x.sql\"\n)); include_str!($sql)";
    assert_eq!(arguments(source, "include_str"), [Some("x.sql"), None]);
}
