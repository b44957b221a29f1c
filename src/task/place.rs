//! Where objects live: from a name to a cell and a shard.

use crate::flow::{CellId, Map, ObjectName, Place, SourceId};
use regex::Regex;

/// What is needed of one source to place its objects.
#[derive(Clone, Debug)]
pub struct SourcePlace {
    /// The source's name.
    pub name: String,
    /// The cell it stands in.
    pub cell: CellId,
    /// The first capture decides the shard; without a pattern the whole path does.
    pub shard_by: Option<Regex>,
    /// How many shards it has, at least 1.
    pub shards: u16,
}

/// All sources and cells, by index and by name.
#[derive(Clone, Debug, Default)]
pub struct Places {
    sources: Vec<SourcePlace>,
    by_name: Map<String, SourceId>,
    cells: Vec<String>,
}

impl Places {
    /// `sources` in the order of [`SourceId`], `cells` in the order of [`CellId`].
    pub fn new(sources: Vec<SourcePlace>, cells: Vec<String>) -> Places {
        let by_name = sources.iter().enumerate().map(|(i, s)| (s.name.clone(), SourceId(i as u16))).collect();
        Places { sources, by_name, cells }
    }

    /// The source that an object belongs to; `None` if none has that name.
    pub fn source(&self, object: &ObjectName) -> Option<SourceId> {
        self.by_name.get(object.source()).copied()
    }

    /// The object's cell and shard; `None` if it has no known source.
    pub fn of(&self, object: &ObjectName) -> Option<Place> {
        let source = &self.sources[usize::from(self.source(object)?.0)];
        let path = object.path();
        let part =
            source.shard_by.as_ref().and_then(|r| r.captures(path)?.get(1)).map_or(path, |m| m.as_str());
        // Stable over restarts and versions: shards are compared in persisted series.
        let shard = xxhash_rust::xxh3::xxh3_64(part.as_bytes()) % u64::from(source.shards.max(1));
        Some(Place { cell: source.cell, shard: shard as u16 })
    }

    /// A cell's name.
    pub fn cell_name(&self, cell: CellId) -> &str {
        self.cells.get(usize::from(cell.0)).map_or("", String::as_str)
    }

    /// Names of all sources, for messages.
    pub fn source_names(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|s| s.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::parse_object;

    #[test]
    fn objects_of_one_capture_share_a_shard() {
        let places = Places::new(
            vec![SourcePlace {
                name: "volumes".into(),
                cell: CellId(0),
                shard_by: Some(Regex::new("^([^/]+)/").unwrap()),
                shards: 8,
            }],
            vec!["nas".into()],
        );
        let of = |n: &str| places.of(&parse_object(n).unwrap());
        assert_eq!(of("volumes:vol-7/a"), of("volumes:vol-7/b"));
        let all: std::collections::BTreeSet<_> =
            (0..100).map(|i| of(&format!("volumes:vol-{i}/a")).unwrap().shard).collect();
        assert_eq!(all.len(), 8, "a hundred volumes use all shards");
        assert_eq!(of("other:x"), None);
    }
}
