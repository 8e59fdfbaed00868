//! What rules and channels name, and whether it is there.

use crate::channel::{Channel, ChannelSpec};
use crate::settings::MuteTime;
use crate::store::DocumentStore;
use std::collections::BTreeSet;
use tidemark_rules::Routing;
use tidemark_rules::rule::{RuleSpec, WEBHOOK_CHANNEL};
use tidemark_rules::store::StoreError;

/// The names of what rules and channels can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    channels: BTreeSet<String>,
    mute_times: BTreeSet<String>,
}

impl Names {
    /// All that are stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(store: &impl DocumentStore) -> Result<Self, StoreError> {
        let (channels, mute_times) = futures::try_join!(store.load::<Channel>(), store.load::<MuteTime>())?;
        Ok(Self {
            channels: channels.into_iter().map(|channel| channel.id).collect(),
            mute_times: mute_times.into_iter().map(|mute_time| mute_time.id).collect(),
        })
    }

    /// What a rule names and does not exist, each a sentence. It may be created later than the rule, and so it is no error.
    #[must_use]
    pub fn missing_of_rule(&self, rule: &RuleSpec) -> Vec<String> {
        let mut missing = Vec::new();
        for used in &rule.notification_channels {
            let has_own = used.channel == WEBHOOK_CHANNEL && rule.webhook_url.is_some();
            if !has_own && !self.channels.contains(&used.channel) {
                let name = &used.channel;
                missing.push(format!("the channel `{name}` is not configured: nobody is told there"));
            }
            missing.extend(self.missing_mute_times(&used.routing));
        }
        missing
    }

    /// What a channel names and does not exist, each a sentence.
    #[must_use]
    pub fn missing_of_channel(&self, channel: &ChannelSpec) -> Vec<String> {
        self.missing_mute_times(&channel.routing).collect()
    }

    fn missing_mute_times<'a>(&'a self, routing: &'a Routing) -> impl Iterator<Item = String> + 'a {
        let named = routing.mute_times.iter().flatten();
        named
            .filter(|name| !self.mute_times.contains(*name))
            .map(|name| format!("the mute time `{name}` is not configured: it mutes nothing"))
    }
}
