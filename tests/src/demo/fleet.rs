//! The five agents together.

use super::agents::{Host, PROFILES};
use super::{STEP_DEADLINE, Screen};
use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::{Child, Command};

#[derive(Debug)]
pub(crate) struct Fleet {
    agent: Child,
    real_host: String,
    hosts: Vec<Host>,
}

impl Fleet {
    /// Starts the agent for this machine and the four simulated hosts.
    pub(crate) fn start(screen: &Screen, url: &str) -> anyhow::Result<Self> {
        let program = agent_program()?;
        let real_host = sysinfo_host_name()?;
        let arguments = ["--interval", "2", "--label", "region=local", "--label", "job=node"];
        let agent = Command::new(&program)
            .args(["--url", url])
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} did not start", program.display()))?;
        screen.line(&format!(
            "{real_host}: this machine, tidemark-agent {} (process {})",
            arguments.join(" "),
            agent.id().unwrap_or(0)
        ));
        let mut hosts = Vec::new();
        for profile in PROFILES {
            hosts.push(Host::start(profile, url)?);
            screen.line(&format!("{}: simulated, region {}", profile.host, profile.region));
        }
        Ok(Self {
            agent,
            real_host,
            hosts,
        })
    }

    /// Every host that reports.
    pub(crate) fn host_names(&self) -> Vec<&str> {
        std::iter::once(self.real_host.as_str())
            .chain(self.hosts.iter().map(|h| h.profile.host))
            .collect()
    }

    /// The samples per series that each simulated host has pushed so far.
    pub(crate) fn pushed(&self) -> BTreeMap<&'static str, u64> {
        self.hosts.iter().map(|h| (h.profile.host, h.rounds())).collect()
    }

    /// The host that will have a problem.
    pub(crate) fn troubled_host(&self) -> &'static str {
        PROFILES[2].host
    }

    /// Gives the troubled host its load, or takes it away.
    pub(crate) fn heat(&self, hot: bool) {
        for host in self.hosts.iter().filter(|h| h.profile.host == self.troubled_host()) {
            host.heat(hot);
        }
    }

    /// Stops all five and returns how many samples of each simulated host were accepted.
    pub(crate) async fn stop(mut self, screen: &Screen) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        let mut accepted = BTreeMap::new();
        let mut rows = Vec::new();
        for host in self.hosts {
            let name = host.profile.host;
            let stats = host
                .stop(STEP_DEADLINE)
                .await
                .with_context(|| format!("{name} could not send everything"))?;
            ensure!(
                stats.rejected == 0 && stats.dropped == 0,
                "{name} lost samples: {stats:?}"
            );
            accepted.insert(name, stats.accepted);
            rows.push(vec![
                name.to_owned(),
                stats.accepted.to_string(),
                stats.requests.to_string(),
                stats.retried.to_string(),
            ]);
        }
        screen.table(&["host", "accepted samples", "requests", "retried"], &rows);
        let code = stop_agent(&mut self.agent).await?;
        ensure!(code == Some(0), "tidemark-agent ended with {code:?}");
        screen.line(&format!(
            "  tidemark-agent on {} ended on SIGTERM with everything sent (exit code 0)",
            self.real_host
        ));
        Ok(accepted)
    }
}

/// SIGTERM, as a service manager sends it: the agent then sends what is left.
async fn stop_agent(agent: &mut Child) -> anyhow::Result<Option<i32>> {
    let id = agent.id().context("tidemark-agent has ended by itself")?;
    // The shell's own `kill`: a machine without the program `kill` has a shell all the same.
    let sent = Command::new("sh")
        .args(["-c", "kill \"$0\"", &id.to_string()])
        .status()
        .await
        .context("sh -c kill")?;
    ensure!(sent.success(), "tidemark-agent could not be signalled");
    let status = tokio::time::timeout(STEP_DEADLINE, agent.wait())
        .await
        .context("tidemark-agent did not end")??;
    Ok(status.code())
}

/// The agent is built into the same folder as this program.
fn agent_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("tidemark-agent");
    ensure!(
        program.is_file(),
        "{} is missing; `make demo` builds it",
        program.display()
    );
    Ok(program)
}

fn sysinfo_host_name() -> anyhow::Result<String> {
    sysinfo::System::host_name().context("this machine has no host name")
}
