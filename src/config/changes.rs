//! What differs between two configurations: for a reload that applies what it can and names the rest.

use super::Config;

/// What differs between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Full keys whose text differs, or that only one of them has, sorted: `worker.fast.slots`.
    pub keys: Vec<String>,
    /// Sections whose ids mean something else in the new one: a name was removed, or is at another place, or
    /// came in before another. Names that were appended change no id.
    pub renumbered: Vec<&'static str>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.renumbered.is_empty()
    }
}

impl Config {
    /// What differs in `new`. A value that is written in another way (`"60s"` for `"1min"`) counts as
    /// another; comments, spaces between values and the order of keys do not count.
    pub fn changes(&self, new: &Config) -> Changes {
        let mut keys: Vec<String> =
            self.leaves().filter(|(k, v)| new.text_of(k) != Some(*v)).map(own).collect();
        keys.extend(new.leaves().filter(|(k, _)| self.text_of(k).is_none()).map(own));
        keys.sort();
        keys.dedup();
        let sections: [(&'static str, Vec<&str>, Vec<&str>); 5] = [
            ("cell", names(&self.cells, |c| &c.name), names(&new.cells, |c| &c.name)),
            ("source", names(&self.sources, |s| &s.name), names(&new.sources, |s| &s.name)),
            ("cache", names(&self.caches, |c| &c.name), names(&new.caches, |c| &c.name)),
            ("worker", names(&self.workers, |w| &w.name), names(&new.workers, |w| &w.name)),
            ("type", names(&self.types, |t| &t.name), names(&new.types, |t| &t.name)),
        ];
        let moved = sections.iter().filter(|(_, old, new)| !new.starts_with(old));
        Changes { keys, renumbered: moved.map(|(section, ..)| *section).collect() }
    }

    /// Every key that holds a value of its own, with its text: not the tables around it, not the items in it.
    fn leaves(&self) -> impl Iterator<Item = (&str, &str)> {
        let spans = &self.origin.spans;
        let holds_more = |key: &str| {
            let inside = format!("{key}.");
            spans.range(inside.clone()..).next().is_some_and(|(next, _)| next.starts_with(&inside))
        };
        let keys = spans.keys().filter(move |k| !k.contains('[') && !holds_more(k));
        keys.filter_map(|k| Some((k.as_str(), self.text_of(k)?)))
    }

    fn text_of(&self, key: &str) -> Option<&str> {
        self.origin.text.get(self.origin.spans.get(key)?.clone())
    }
}

fn own((key, _): (&str, &str)) -> String {
    key.to_owned()
}

fn names<T>(all: &[T], name: impl Fn(&T) -> &String) -> Vec<&str> {
    all.iter().map(|t| name(t).as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Surroundings;

    fn config(text: &str) -> Config {
        let around =
            Surroundings { state_dir: "/s".into(), cache_dir: "/c".into(), runtime_dir: None, cores: 2 };
        Config::parse(text, None, &around).unwrap_or_else(|e| panic!("{e}"))
    }

    const OLD: &str = r#"
        staging = { mode = "on" }
        [worker.a]
        slots = 1
        [worker.b]
        [type.x]
        argv = ["true"]
        args = { level = '[0-9]' }
    "#;

    #[test]
    fn the_same_text_in_another_layout_is_no_change() {
        let new = "[type.x]\nargs = { level = '[0-9]' }\nargv = [\"true\"]\n[worker.a]\nslots=1 # one\n[worker.b]\n[staging]\nmode = \"on\"\n";
        assert_eq!(config(OLD).changes(&config(new)), Changes::default());
    }

    #[test]
    fn names_the_keys_that_changed_came_and_went() {
        let new = OLD
            .replace("slots = 1", "slots = 2\ncpus = 1")
            .replace("mode = \"on\"", "")
            .replace("[0-9]", "[1-9]");
        let changes = config(OLD).changes(&config(&new));
        assert_eq!(changes.keys, ["staging.mode", "type.x.args.level", "worker.a.cpus", "worker.a.slots"]);
        assert!(changes.renumbered.is_empty());
    }

    #[test]
    fn says_which_ids_mean_something_else() {
        let appended = format!("{OLD}\n[worker.c]\n");
        let changes = config(OLD).changes(&config(&appended));
        assert_eq!((changes.keys, changes.renumbered), (vec!["worker.c".to_owned()], vec![]));
        let first =
            format!("[worker.c]\n{}", OLD.replace("staging = { mode = \"on\" }", "[staging]\nmode = \"on\""));
        assert_eq!(config(OLD).changes(&config(&first)).renumbered, ["worker"]);
        let gone = OLD.replace("[worker.b]", "");
        assert_eq!(config(OLD).changes(&config(&gone)).renumbered, ["worker"]);
    }
}
