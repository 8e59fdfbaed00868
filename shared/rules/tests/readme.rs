//! The README's table of what happens when names the tests that hold it.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fs;
use std::path::Path;

fn read_all(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, text);
        } else {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_readme_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut source = String::new();
    read_all(&root.join("src"), &mut source);
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (_, table) = readme.split_once("## What happens when").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut named = 0;
    for row in rows {
        let column = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<&str> = column
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| name.contains('_'))
            .collect();
        assert!(!names.is_empty(), "no test holds: {row}");
        for name in names {
            assert!(source.contains(&format!("fn {name}(")), "there is no test `{name}`");
            named += 1;
        }
    }
    assert!(named > 30, "{named} names were found");
}
