//! What cloud-init in the guest is told (its `NoCloud` data source).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The three documents of a `NoCloud` seed. Godwit makes a small read-only volume
/// of them on each host, the same to the byte, so that nothing has to travel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudInit {
    /// `user-data`: what to do, such as `#cloud-config` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<SeedText>,
    /// `meta-data`; instance id and host name follow from UUID and name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<SeedText>,
    /// `network-config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<SeedText>,
}

/// A document, or the file it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "must be a text, or { file = \"NAME\" }")]
pub enum SeedText {
    /// The document.
    Text(String),
    /// A file beside the spec; the command line reads it, and what is stored is its text.
    File(SeedFile),
}

/// Where a document is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeedFile {
    /// Path, relative to the spec's folder.
    pub file: String,
}

impl SeedText {
    /// The document; empty where only its file is known.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::File(_) => "",
        }
    }
}

impl CloudInit {
    /// The documents that are there, with their fields' names.
    pub fn documents(&self) -> impl Iterator<Item = (&'static str, &SeedText)> {
        let named = [
            ("user_data", &self.user_data),
            ("meta_data", &self.meta_data),
            ("network_config", &self.network_config),
        ];
        named.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)))
    }

    /// Puts the text of every file in the file's place.
    ///
    /// # Errors
    /// The first that `read` gives, with the field.
    pub fn resolve<E>(
        &mut self,
        mut read: impl FnMut(&str) -> Result<String, E>,
    ) -> Result<(), (String, E)> {
        let named = [
            ("user_data", &mut self.user_data),
            ("meta_data", &mut self.meta_data),
            ("network_config", &mut self.network_config),
        ];
        for (name, text) in named {
            if let Some(SeedText::File(at)) = text {
                let read = read(&at.file).map_err(|e| (format!("cloud_init.{name}"), e))?;
                *text = Some(SeedText::Text(read));
            }
        }
        Ok(())
    }
}
