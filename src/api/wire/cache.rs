//! Caches, what is in them, and orders to them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One cache pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cache {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub dir: String,
    /// `lru` or `lfu`.
    pub policy: String,
    /// Most bytes.
    pub capacity_bytes: u64,
    /// Bytes of objects in it.
    pub used_bytes: u64,
    /// Bytes that pins hold.
    pub pinned_bytes: u64,
    /// Bytes of evicted files that running tasks still hold.
    pub zombie_bytes: u64,
    /// Objects in it.
    pub objects: u64,
    /// Demands that found their object whole.
    pub hits: u64,
    /// Demands that did not.
    pub misses: u64,
    /// Memory of what was learned of the order in which objects are asked for.
    #[serde(default)]
    pub model_bytes: u64,
    /// Memory of the names and sizes of those objects.
    #[serde(default)]
    pub catalogue_bytes: u64,
}

/// One cached object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CachedObject {
    /// Its name, `source:path`.
    pub object: String,
    /// The pool.
    pub cache: String,
    /// Its size.
    pub bytes: u64,
    /// Whether it was staged ahead and not used yet.
    pub staged: bool,
    /// Whether a user pinned it.
    pub pinned: bool,
    /// Tasks that use it now.
    pub in_use: u32,
    /// Version as the source names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// Which cached objects to list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct CacheFilter {
    /// Only this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Only names that begin like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// At most this many, 1 to 10000; 1000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What to do with cached objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheOrder {
    /// The pool; the only one, or all, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Objects, as `source:path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// Or the inputs that this task type derives …
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// … from this entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Whether to answer only when all of it has ended.
    #[serde(default)]
    pub wait: bool,
}

/// What became of one object of a [`CacheOrder`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CacheAnswer {
    /// The object.
    pub object: String,
    /// The pool.
    pub cache: String,
    /// `staged`, `staging`, `present`, `pinned`, `unpinned`, `evicted`, `absent`, `whole`, `damaged`, `failed`, `in use`.
    pub result: String,
    /// Its size, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
