//! What template.yaml says, as far as the installation on LocalStack follows it: read, not repeated.

use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use tidemark_tests::harness::suites::KeyTypes;

const TEMPLATE: &str = include_str!("../../../template.yaml");

/// The text of a resource, without its name.
fn resource(name: &str) -> anyhow::Result<&'static str> {
    let (_, rest) = TEMPLATE
        .split_once(&format!("\n  {name}:\n"))
        .with_context(|| format!("template.yaml has no {name}"))?;
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        // The next resource or comment between resources.
        if line.starts_with("  ") && !line.starts_with("   ") {
            break;
        }
        end += line.len();
    }
    Ok(&rest[..end])
}

/// The names of all resources of a type.
fn of_type(kind: &str) -> Vec<&'static str> {
    let lines: Vec<&str> = TEMPLATE.lines().collect();
    let typed = format!("    Type: {kind}");
    lines
        .windows(2)
        .filter(|pair| pair[1] == typed)
        .map(|pair| pair[0].trim().trim_end_matches(':'))
        .collect()
}

/// The tables: the name of each and the types of its keys.
pub(crate) fn tables() -> anyhow::Result<BTreeMap<&'static str, KeyTypes<'static>>> {
    let mut tables = BTreeMap::new();
    for name in of_type("AWS::DynamoDB::Table") {
        let text = resource(name)?;
        ensure!(text.contains("BillingMode: PAY_PER_REQUEST"), "{name} is not on demand");
        let kind = |key: &str| {
            ["S", "B", "N"]
                .into_iter()
                .find(|kind| text.contains(&format!("{{AttributeName: {key}, AttributeType: {kind}}}")))
        };
        ensure!(text.contains("{AttributeName: pk, KeyType: HASH}"), "{name} has no pk");
        let partition_key = kind("pk").with_context(|| format!("{name} has no pk"))?;
        let sort_key = text.contains("{AttributeName: sk, KeyType: RANGE}");
        ensure!(sort_key == kind("sk").is_some(), "{name} has half a sort key");
        tables.insert(name, (partition_key, kind("sk")));
    }
    Ok(tables)
}

/// The functions, by the name of their program: the variables that each gets.
pub(crate) fn functions() -> anyhow::Result<BTreeMap<&'static str, Vec<&'static str>>> {
    let mut functions = BTreeMap::new();
    for name in of_type("AWS::Serverless::Function") {
        let text = resource(name)?;
        let (_, binary) = text.split_once("BuildProperties: {Binary: ").context("no binary")?;
        let (binary, _) = binary.split_once('}').context("no binary")?;
        let (_, variables) = text.split_once("        Variables:\n").context("no variables")?;
        let variables = variables
            .lines()
            .take_while(|line| line.starts_with("          "))
            .filter_map(|line| line.trim().split_once(':'))
            .map(|(variable, _)| variable)
            .collect();
        functions.insert(binary, variables);
    }
    Ok(functions)
}

/// The default of a parameter.
pub(crate) fn default(parameter: &str) -> anyhow::Result<&'static str> {
    let (_, text) = resource(parameter)?
        .split_once("Default: ")
        .with_context(|| format!("{parameter} has no default"))?;
    text.lines().next().map(str::trim).context("an empty default")
}

#[test]
fn the_template_is_read_as_it_stands() {
    let tables = tables().unwrap();
    assert_eq!(tables["SegmentsTable"], ("S", Some("B")));
    assert_eq!(tables["MetricsTable"], ("B", Some("B")));
    assert_eq!(tables["CacheTable"], ("S", None));
    assert_eq!(tables.len(), TEMPLATE.matches("AWS::DynamoDB::Table\n").count());
    let functions = functions().unwrap();
    assert_eq!(functions.len(), 7);
    assert!(functions["compact"].contains(&"COMPACTION_GRACE_SECONDS"));
    assert_eq!(functions["ingest"], ["STREAM_NAME", "BUCKETS", "RAW_RETENTION_DAYS"]);
    assert!(functions["notify"].contains(&"NOTIFY_QUEUE_URL"));
    assert_eq!(default("Buckets").unwrap(), "16");
    assert!(
        resource("NotifySubscription")
            .unwrap()
            .contains("RawMessageDelivery: true")
    );
}
