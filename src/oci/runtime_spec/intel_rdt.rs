//! Shares of caches and memory bandwidth.
//!
//! Specification: runtime-spec, `config-linux.md#intelrdt`.

use serde::{Deserialize, Serialize};

use crate::oci::descriptor::null_is_empty;

/// The class of service that the container's processes are in.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IntelRdt {
    /// Its name; without one, the container's own. `/` is the class that everything is in.
    #[serde(default, rename = "closID", skip_serializing_if = "Option::is_none")]
    pub clos_id: Option<String>,
    /// Parts of the caches of level 3: `L3:0=7f0;1=1f`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth: `MB:0=20;1=70`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// Lines as the kernel takes them, behind the other two.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Whether what the container uses is counted on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_monitoring: Option<bool>,
}
