//! The daemon's configuration for the demonstration: TOML text.

use super::stream::Step;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Workers of the demonstration; they differ in their claim on the processors.
pub const WORKERS: [(&str, u32); 2] = [("fast", 200), ("steady", 100)];
/// Slots of each of them.
pub const SLOTS: usize = 2;

/// What a configuration is made for. The two sides of a comparison differ in `staging` alone.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Everything the daemon writes goes there.
    pub folder: &'a Path,
    /// `on` or `off`.
    pub staging: &'a str,
    /// The pool's size.
    pub capacity_bytes: u64,
    /// Address of the object server.
    pub url: &'a str,
}

impl Settings<'_> {
    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("forestage.sock")
    }

    /// Where copies lie.
    pub fn copies(&self) -> PathBuf {
        self.folder.join("copies")
    }

    /// Daemon, pool, workers and the source `volumes`, without task types.
    pub fn common(&self, workers: &[(&str, u32)], slots: usize) -> String {
        let path = |name: &str| quoted(&self.folder.join(name).to_string_lossy());
        let mut text = format!(
            "[daemon]\nstate_dir = {}\nwork_dir = {}\nsocket = {}\nlog = \"human\"\n\
             drain_deadline = \"2s\"\n\n\
             [staging]\nmode = {}\n\n\
             [cache.local]\ndir = {}\ncapacity = {}\nmin_free = 0\n\n\
             [source.volumes]\nkind = \"http\"\nurl = {}\nconsistency = \"immutable\"\n",
            path("state"),
            path("work"),
            quoted(&self.socket().to_string_lossy()),
            quoted(self.staging),
            path("pool"),
            self.capacity_bytes,
            quoted(self.url),
        );
        for (name, weight) in workers {
            _ = write!(text, "\n[worker.{name}]\nslots = {slots}\ncpu_weight = {weight}\n");
        }
        text
    }

    /// The whole configuration of the demonstration; its tasks are run by `program`.
    pub fn demo(&self, program: &Path) -> String {
        let mut text = self.common(&WORKERS, SLOTS);
        _ = write!(
            text,
            "\n[source.copies]\nkind = \"file\"\npath = {}\nwritable = true\n",
            quoted(&self.copies().to_string_lossy())
        );
        for step in Step::ALL {
            text.push_str(&self.task_type(step, program));
        }
        text
    }

    fn task_type(&self, step: Step, program: &Path) -> String {
        let (files, copy) = step.reads();
        let mut inputs: Vec<String> = files.iter().map(|f| format!("volumes:{{entity}}/{f}")).collect();
        if copy {
            inputs.push(COPY.to_owned());
        }
        let copy_file = format!("{}/{{entity}}/copy.img", literal(&self.copies().to_string_lossy()));
        let out = if step == Step::Delete { copy_file } else { "{workdir}/out".to_owned() };
        let program = literal(&program.to_string_lossy());
        let argv = [&program, super::work::ARGUMENT, step.word(), "{arg.ms}", &out, "{inputs}"];
        let mut text = format!(
            "\n[type.{}]\nargv = {}\ninputs = {}\nargs = {{ ms = '[0-9]+(\\.[0-9]+)?' }}\nattempts = 1\n",
            step.task_type(),
            list(argv),
            list(inputs.iter().map(String::as_str)),
        );
        match step {
            Step::Copy => {
                _ = writeln!(text, "outputs = [{{ file = \"copy.img\", object = {} }}]", quoted(COPY))
            }
            Step::Delete => _ = writeln!(text, "writes = {}", list([COPY])),
            _ => {}
        }
        text
    }
}

/// The copy of a volume.
const COPY: &str = "copies:{entity}/copy.img";

/// A TOML string.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A TOML list of strings.
pub fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

/// A template that stands for the text itself.
pub fn literal(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, StagingMode, Surroundings};

    fn parse(text: &str) -> Config {
        let around =
            Surroundings { state_dir: "/s".into(), cache_dir: "/c".into(), runtime_dir: None, cores: 2 };
        Config::parse(text, None, &around).unwrap_or_else(|e| panic!("{}\n{text}", e.render(false)))
    }

    #[test]
    fn the_daemon_accepts_it_whatever_the_folder_is_called() {
        let folder = Path::new("/tmp/a {b} \"c\"");
        let settings =
            |staging| Settings { folder, staging, capacity_bytes: 40 << 20, url: "http://127.0.0.1:9/" };
        let config = parse(&settings("on").demo(Path::new("/opt/{x}/forestage")));
        assert_eq!(config.staging.mode, StagingMode::On);
        assert_eq!(config.workers.len(), WORKERS.len());
        assert_eq!(config.types.len(), Step::ALL.len());
        assert!(config.types.iter().all(|t| t.inputs.iter().all(|i| i.derivable())));
        assert!(config.warnings.is_empty(), "{}", config.warnings);
        assert_eq!(config.caches[0].dir, folder.join("pool"));
        let off = settings("off").demo(Path::new("/opt/{x}/forestage"));
        assert_eq!(off.replace("\"off\"", "\"on\""), settings("on").demo(Path::new("/opt/{x}/forestage")));
    }
}
