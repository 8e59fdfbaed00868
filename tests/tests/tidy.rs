//! The project's own law: what `ARCHITECTURE.md` promises of the crates, and what the runbook promises of the errors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tidemark_wire::ErrorId;

/// The shared crates in their one order: a crate depends only on those before it.
const ORDER: [&str; 8] = ["model", "encoding", "wire", "http", "tsdb", "rules", "notify", "aws"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of a crate's ordinary dependencies.
fn dependencies(folder: &str) -> Vec<String> {
    let manifest = read(format!("{folder}/Cargo.toml"));
    let section = manifest.split("[dependencies]").nth(1).expect("a dependencies section");
    let lines = section.lines().skip(1).take_while(|line| !line.starts_with('['));
    let names = lines
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty());
    names.filter(|name| !name.starts_with('#')).map(str::to_owned).collect()
}

fn folders(parent: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(parent)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut folders: Vec<String> = names.map(|name| format!("{parent}/{name}")).collect();
    folders.sort();
    folders
}

#[test]
fn a_shared_crate_depends_only_on_those_before_it() {
    for (at, name) in ORDER.iter().enumerate() {
        for dependency in dependencies(&format!("shared/{name}")) {
            let Some(other) = dependency.strip_prefix("tidemark-") else {
                continue;
            };
            let place = ORDER.iter().position(|known| *known == other);
            assert!(place.is_some_and(|place| place < at), "{name} depends on {other}");
        }
    }
}

#[test]
fn only_one_crate_names_the_aws_sdk() {
    for folder in [folders("shared"), folders("functions")].concat() {
        let names = dependencies(&folder);
        let sdk = names
            .iter()
            .any(|name| name.starts_with("aws-sdk") || name.starts_with("aws-smithy"));
        assert!(!sdk || folder == "shared/aws", "{folder} names the AWS SDK");
    }
}

#[test]
fn the_client_knows_nothing_of_the_server() {
    assert!(
        dependencies("shared/client")
            .iter()
            .all(|name| !name.starts_with("tidemark-"))
    );
}

#[test]
fn the_runbook_has_every_error_and_its_status_and_no_other() {
    let runbook = read("infra/runbooks/errors.md");
    let rows = runbook.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: BTreeSet<String> = rows
        .map(|row| {
            row.split('|')
                .take(2)
                .map(|cell| cell.trim().trim_end_matches('`'))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let known = ErrorId::ALL
        .iter()
        .map(|id| format!("{} {}", id.as_str(), id.status()))
        .collect();
    assert_eq!(told, known);
}

#[test]
fn every_crate_is_in_the_architecture() {
    let page = read("ARCHITECTURE.md");
    for folder in folders("shared") {
        assert!(
            page.contains(&format!("`{folder}`")),
            "{folder} is not in ARCHITECTURE.md"
        );
    }
}
