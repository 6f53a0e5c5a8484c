//! The imports between files: they form no circle, and layers import downwards.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Macro, Path, UseTree, Visibility};

use super::assert_none;
use crate::sources::rust_texts;

/// The path of a module from the crate root, such as `["clients", "import", "row"]`.
type Module = Vec<String>;

/// The paths that a file names, each from the crate root.
struct Named {
    module: Module,
    /// The modules that the file declares in files of their own.
    children: BTreeSet<String>,
    /// The inline modules around the visited item.
    inline: Vec<String>,
    paths: BTreeSet<Module>,
}

impl Named {
    fn of(module: &Module, text: &str) -> BTreeSet<Module> {
        let file = syn::parse_file(text).unwrap_or_else(|e| panic!("{}: {e}", module.join("/")));
        let children = file.items.iter().filter_map(|item| match item {
            Item::Mod(child) if child.content.is_none() => Some(child.ident.to_string()),
            _ => None,
        });
        let mut named = Self {
            module: module.clone(),
            children: children.collect(),
            inline: Vec::new(),
            paths: BTreeSet::new(),
        };
        named.visit_file(&file);
        named.paths
    }

    /// Adds a path if it leads to this crate.
    fn add(&mut self, path: &[String]) {
        let mut base: Module = self.module.iter().chain(&self.inline).cloned().collect();
        let mut rest = path;
        match path.first().map(String::as_str) {
            Some("crate") => (base, rest) = (Module::new(), &path[1..]),
            Some("self") => rest = &path[1..],
            Some("super") => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            Some(name) if self.inline.is_empty() && self.children.contains(name) => {}
            _ => return,
        }
        base.extend(rest.iter().cloned());
        self.paths.insert(base);
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&path.tree, &with(path.ident.to_string())),
            UseTree::Name(name) if name.ident == "self" => self.add(before),
            UseTree::Name(name) => self.add(&with(name.ident.to_string())),
            UseTree::Rename(name) => self.add(&with(name.ident.to_string())),
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
        }
    }

    /// Adds the paths in the tokens of a macro, which are not parsed.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 => path.push(name.to_string()),
                TokenTree::Ident(name) => {
                    self.add(&std::mem::take(&mut path));
                    path.push(name.to_string());
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.add(&std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.add(&path);
    }
}

/// Returns true for an item that only tests have.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

impl<'a> Visit<'a> for Named {
    fn visit_item(&mut self, item: &'a Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'a ItemMod) {
        self.inline.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.inline.pop();
    }

    // a re-export is a name for the outside, which the file itself does not need
    fn visit_item_use(&mut self, item: &'a ItemUse) {
        if matches!(item.vis, Visibility::Inherited) {
            self.add_tree(&item.tree, &[]);
        }
    }

    // `pub(super)` imports nothing
    fn visit_visibility(&mut self, _: &'a Visibility) {}

    fn visit_path(&mut self, path: &'a Path) {
        self.add(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'a Macro) {
        self.add_tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

/// Returns the files as modules, each with the other files that it imports from.
fn imports(files: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let file_of = |path: &Module| {
        let known = (1..=path.len()).rev().map(|length| path[..length].to_vec());
        known.into_iter().find(|module| files.contains_key(module))
    };
    let of = |(module, text): (&Module, &String)| {
        let named = Named::of(module, text);
        let others = named.iter().filter_map(file_of).filter(|other| other != module);
        (module.clone(), others.collect())
    };
    files.iter().map(of).collect()
}

/// Returns the files of the program, without tests.
fn program() -> BTreeMap<Module, String> {
    let files = rust_texts("src").into_iter().filter(|(path, _)| {
        !path.contains("/tests/") && !path.ends_with("/tests.rs") && path != "lib.rs" && path != "main.rs"
    });
    let module = |path: &str| path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    files.map(|(path, text)| (module(&path), text)).collect()
}

/// Returns the files that can be reached from one over one or more imports.
fn reached(from: &Module, imports: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    let mut next: Vec<_> = imports[from].iter().collect();
    while let Some(module) = next.pop() {
        if found.insert(module.clone()) {
            next.extend(&imports[module]);
        }
    }
    found
}

/// Returns a line for each import that is part of a circle.
fn circles(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let reached: BTreeMap<_, _> = imports.keys().map(|module| (module, reached(module, imports))).collect();
    let mut found = Vec::new();
    for (module, others) in imports {
        for other in others.iter().filter(|other| reached[other].contains(module)) {
            found.push(format!("{} imports {}", module.join("/"), other.join("/")));
        }
    }
    found
}

/// Files that are still in a circle, in seven groups. The list may only become shorter.
const STILL_IN_A_CIRCLE: &[&str] = &[
    "clients/repo",
    "clients/repo/many",
    "clients/repo/new",
    "clients/repo/row",
    "config",
    "config/channels",
    "config/check",
    "config/rules",
    "config/sections",
    "config/setting",
    "events/order",
    "events/repo",
    "events/repo/row",
    "messages/repo",
    "messages/repo/in_flight",
    "messages/repo/row",
    "messages/repo/status",
    "notifications/repo",
    "notifications/repo/list",
    "notifications/repo/row",
    "sandbox",
    "sandbox/channel",
    "sandbox/message",
    "sandbox/provider",
    "sandbox/request_log",
    "sandbox/routes",
    "sandbox/stats",
    "templates/language/parser",
    "templates/language/parser/expression",
];

#[test]
fn files_import_each_other_in_one_direction() {
    let program = program();
    assert!(program.len() > 300, "only {} files were found", program.len());
    let circles = circles(&imports(&program));
    let file = |line: &str| line.split(' ').next().expect("a file").to_owned();
    let of_known = |line: &&String| STILL_IN_A_CIRCLE.contains(&file(line).as_str());
    let (known, new): (Vec<_>, Vec<_>) = circles.iter().partition(of_known);
    assert_none(&new.into_iter().cloned().collect::<Vec<_>>());
    let known: BTreeSet<String> = known.into_iter().map(|line| file(line)).collect();
    let listed: BTreeSet<String> = STILL_IN_A_CIRCLE.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(known, listed, "a file is in no circle any more: take it off the list");
}

#[test]
fn models_import_no_other_layer_and_repos_none_above_them() {
    let layer = |module: &Module| module.iter().rev().find_map(|name| rank(name));
    let mut wrong = Vec::new();
    for (module, others) in imports(&program()) {
        let Some(own) = layer(&module) else { continue };
        for other in others.iter().filter(|other| layer(other).is_some_and(|rank| rank > own)) {
            wrong.push(format!("{} imports {}", module.join("/"), other.join("/")));
        }
    }
    assert_none(&wrong);
}

/// Returns the rank of a layer, from the bottom up.
fn rank(name: &str) -> Option<usize> {
    ["model", "repo", "usecase", "views", "handler"].iter().position(|layer| *layer == name)
}

#[test]
fn circles_are_found_through_each_kind_of_import() {
    let found = |texts: &[(&str, &str)]| {
        let module = |path: &str| path.split('/').map(str::to_owned).collect();
        let files = texts.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect();
        circles(&imports(&files)).len()
    };
    assert_eq!(found(&[("a", "use crate::b::{self, C as D};"), ("b", "fn f() { crate::a::g() }")]), 2);
    assert_eq!(found(&[("a", "mod b; fn f() { b::g() }"), ("a/b", "use super::f;")]), 2);
    assert_eq!(found(&[("a", "mod b; pub use self::b::g;"), ("a/b", "use super::f;")]), 0);
    assert_eq!(found(&[("a", "rows!(T, crate::b::C);"), ("b", "mod c { use super::super::a::*; }")]), 2);
    assert_eq!(found(&[("a", "use crate::b::C;"), ("b", "#[cfg(test)] mod tests { use crate::a; }")]), 0);
    assert_eq!(found(&[("a", "use crate::b::C;"), ("b", "use crate::c::D;"), ("c", "use crate::a;")]), 3);
    assert_eq!(found(&[("a", "use b::C;"), ("b", "use crate::a::D;")]), 0);
}
