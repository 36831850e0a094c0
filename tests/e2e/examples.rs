//! Every config of the repository is correct: what a reader copies works.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use wasmgate_tests::{binary, certificates};

#[test]
fn every_config_passes_the_check() {
    let root = wasmgate_build::workspace();
    wasmgate_build::plugins().expect("the plugins can be built");
    let mut files = toml_files(&root.join("config"));
    files.extend(toml_files(&root.join("plugins")).into_iter().filter(|file| file.ends_with("gateway.toml")));
    assert!(files.len() > 5, "{files:?}");
    let (cache, certificates) = (tempfile::tempdir().unwrap(), certificates());
    let mut faults = Vec::new();
    for file in files {
        // A copy beside the original, with a compile cache that the test may write, and secrets that exist.
        let text = fs::read_to_string(&file)
            .unwrap()
            .replace("/var/cache/wasmgate", &cache.path().display().to_string())
            .replace("/etc/wasmgate/tls", &certificates.path().display().to_string());
        let copy = file.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&copy, &text).unwrap();
        let mut check = Command::new(binary());
        check.arg("check").arg(&copy).envs(variables(&text).map(|name| (name, "a-secret-of-some-length")));
        let output = check.output();
        fs::remove_file(&copy).unwrap();
        let output = output.unwrap();
        if !output.status.success() {
            faults.push(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Names in `${env:NAME}`.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${env:").skip(1).filter_map(|rest| rest.split('}').next())
}

fn toml_files(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).expect("a folder of the repository").flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries
        .flat_map(|path| if path.is_dir() { toml_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| path.file_name().is_some_and(|name| name != "Cargo.toml"))
        .collect();
    files.sort();
    files
}
