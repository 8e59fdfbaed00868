//! The functions are held to the roles of template.yaml.

use anyhow::Context as _;
use tidemark_tests::harness::api::Api;
use tidemark_tests::harness::variable;

/// All other tests pass under this: an action that template.yaml does not allow fails here as on AWS.
#[tokio::test]
async fn roles_are_enforced_while_all_of_this_passes() -> anyhow::Result<()> {
    let emulator = Api::new(&variable("AWS_ENDPOINT_URL")?)?;
    let health = emulator.get("/_ministack/health", &[]).await?.expect(200)?;
    let text = health.to_string();
    anyhow::ensure!(text.contains("\"auth\":\"enabled\""), "{text}");
    health.as_object().context("no object").map(drop)
}
