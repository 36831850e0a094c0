//! The shape of host/src, as host/ARCHITECTURE.md tells it, and the frozen plugin interface.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Files of the host by their path below host/src, without tests at their ends.
fn sources() -> BTreeMap<String, String> {
    let root = wasmgate_build::workspace().join("host/src");
    let mut all = BTreeMap::new();
    for file in rust_files(&root) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        if !name.split('/').any(|part| part == "tests" || part == "tests.rs") {
            all.insert(name, code);
        }
    }
    assert!(all.len() > 50, "{:?}", all.keys());
    all
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The top module of a file: `proxy` of `proxy/body.rs`.
fn module(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Levels by module, from the table in ARCHITECTURE.md: `| 6 | `proxy` | ...`.
fn levels() -> BTreeMap<String, u32> {
    let text = fs::read_to_string(wasmgate_build::workspace().join("host/ARCHITECTURE.md")).unwrap();
    let mut levels = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, level, modules, ..] = cells[..] else { continue };
        let Ok(level) = level.parse() else { continue };
        for name in modules.split(',') {
            levels.insert(name.trim().trim_matches('`').to_owned(), level);
        }
    }
    levels
}

/// Top modules that a file names after `crate::`, alone or in braces.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => found.push(first_word(rest)),
            Some(group) => found.extend(top_items(group)),
        }
    }
    found
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// First words of the items of a `use` group, without those of inner groups.
fn top_items(group: &str) -> Vec<String> {
    let (mut depth, mut items, mut start) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && depth == 0 && !c.is_whitespace() => {
                items.push(first_word(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    items
}

#[test]
fn modules_import_only_from_lower_levels() {
    let levels = levels();
    let mut faults = Vec::new();
    for (file, code) in sources() {
        if file == "lib.rs" {
            continue;
        }
        let own = module(&file);
        let Some(level) = levels.get(own) else {
            faults.push(format!("{file}: {own} has no level in ARCHITECTURE.md"));
            continue;
        };
        for import in imports(&code) {
            let lower = levels.get(&import).is_some_and(|other| other < level);
            if import != own && !lower {
                faults.push(format!(
                    "{file} (level {level}) imports {import} (level {:?})",
                    levels.get(&import)
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn wasmtime_is_named_in_wasm_only() {
    for (file, code) in sources() {
        let named =
            code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("wasmtime"));
        assert!(!named || module(&file) == "wasm", "{file} names wasmtime");
    }
}

#[test]
fn every_module_says_what_it_owns_and_has_a_name_of_the_field() {
    for (file, code) in sources() {
        assert!(code.starts_with("//!"), "{file} does not begin with //!");
        assert!(!file.ends_with("mod.rs"), "{file}");
        for name in ["util", "utils", "common", "helper", "helpers", "manager"] {
            assert!(!file.split('/').any(|part| part.trim_end_matches(".rs") == name), "{file}");
        }
    }
}

/// The drivers of connections, and what looks after upstreams.
const SPAWNING: [&str; 3] = ["upstream/pool", "upstream/keeper", "capability/redis"];

#[test]
fn tasks_are_spawned_where_the_order_of_the_end_is_known() {
    for (file, code) in sources() {
        let may = matches!(module(&file), "server" | "admin" | "gateway")
            || SPAWNING.iter().any(|own| file.starts_with(own));
        let spawns = ["tokio::spawn", "spawn_local(", "task::spawn"].iter().any(|call| code.contains(call));
        assert!(may || !spawns, "{file} spawns a task");
    }
}

#[test]
fn unsafe_stands_in_one_place() {
    let unsafes: Vec<_> = sources()
        .into_iter()
        .filter(|(_, code)| {
            code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe {"))
        })
        .map(|(file, _)| file)
        .collect();
    assert_eq!(unsafes, ["wasm/compile.rs"]);
}

#[test]
fn the_plugin_interface_changes_only_on_purpose() {
    let wit = wasmgate_build::workspace().join("wit");
    let readme = fs::read_to_string(wit.join("README.md")).unwrap();
    let told = readme.trim_end().lines().last().and_then(|line| line.strip_prefix("sha256 of v0.1: "));
    let mut files: Vec<_> =
        fs::read_dir(wit.join("v0.1")).unwrap().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file).unwrap());
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(told, Some(digest.as_str()), "wit/v0.1 and the last line of wit/README.md belong together");
}

#[test]
fn the_import_scanner_sees_groups_and_paths() {
    let code = "use crate::{\n    body::Body,\n    plugin::{\n        self, chain::Tap,\n    },\n};\nlet x = crate::config::load();";
    assert_eq!(imports(code), ["body", "plugin", "config"]);
}
