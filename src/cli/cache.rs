//! `forestage cache`: pools, and what is in them.

use super::client::{Error, Target};
use super::exit::Exit;
use super::screen::Look;
use super::session::{Session, worse};
use super::table::Table;
use super::{progress, say};
use crate::api::wire::{Cache, CacheAnswer, CacheOrder, CachedObject};

/// List pools and objects; stage, pin, unpin, evict and verify objects.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum What {
    /// List pools, or with --objects what is in them.
    List(List),
    /// Stage objects, or the inputs that a task type derives from an entity.
    Stage(Stage),
    /// Pin objects: they are not evicted until they are unpinned. What is absent is staged first.
    Pin(Named),
    /// Unpin objects.
    Unpin(Named),
    /// Evict objects.
    Evict(Named),
    /// Read and check the files of objects [default: of all].
    Verify(Verify),
}

/// Arguments of `cache list`.
#[derive(Clone, Debug, clap::Args)]
pub struct List {
    /// List objects instead of pools.
    #[arg(long, short)]
    pub objects: bool,
    /// Only this pool.
    #[arg(long, value_name = "NAME")]
    pub cache: Option<String>,
    /// Only objects whose name begins like this.
    #[arg(long, value_name = "TEXT", requires = "objects")]
    pub prefix: Option<String>,
    /// At most this many objects, 1 to 10000.
    #[arg(long, short = 'n', default_value_t = 100, requires = "objects",
        value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub limit: u16,
}

/// Which objects, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct Named {
    /// Objects, as source:path.
    #[arg(value_name = "OBJECT", required_unless_present = "task_type", conflicts_with = "task_type")]
    pub objects: Vec<String>,
    /// The inputs that this task type derives from --entity.
    #[arg(long = "type", short, value_name = "TYPE", requires = "entity")]
    pub task_type: Option<String>,
    /// The entity that they are derived from.
    #[arg(long, short, requires = "task_type")]
    pub entity: Option<String>,
    /// Only in this pool.
    #[arg(long, value_name = "NAME")]
    pub cache: Option<String>,
}

/// Arguments of `cache stage`.
#[derive(Clone, Debug, clap::Args)]
pub struct Stage {
    /// Which objects.
    #[command(flatten)]
    pub named: Named,
    /// Wait until all of it is there.
    #[arg(long, short)]
    pub wait: bool,
}

/// Arguments of `cache verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct Verify {
    /// Objects, as source:path [default: all].
    #[arg(value_name = "OBJECT")]
    pub objects: Vec<String>,
    /// Only in this pool.
    #[arg(long, value_name = "NAME")]
    pub cache: Option<String>,
}

impl Named {
    fn order(self) -> CacheOrder {
        let Named { objects, task_type, entity, cache } = self;
        CacheOrder { cache, objects, task_type, entity, wait: false }
    }
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    match args.what {
        What::List(args) => list(args, s).await,
        What::Stage(args) => stage(args, s).await,
        What::Pin(args) => carry_out("pin", args.order(), s).await,
        What::Unpin(args) => carry_out("unpin", args.order(), s).await,
        What::Evict(args) => carry_out("evict", args.order(), s).await,
        What::Verify(Verify { objects, cache }) => {
            let spinner = progress::spinner("verify");
            let order = CacheOrder { cache, objects, ..CacheOrder::default() };
            let done = carry_out("verify", order, s).await;
            spinner.finish_and_clear();
            done
        }
    }
}

async fn list(args: List, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    if args.objects {
        let target = Target::of(&["cache", "objects"])
            .with("cache", args.cache)
            .with("prefix", args.prefix)
            .with("limit", Some(args.limit));
        let objects: Vec<CachedObject> = s.client.get(&target).await?;
        s.show_list(&objects, object_table)?;
        return Ok(Exit::Ok);
    }
    let mut pools: Vec<Cache> = s.client.get(&Target::of(&["cache"])).await?;
    if let Some(name) = &args.cache {
        let names: Vec<String> = pools.iter().map(|p| format!("`{}`", p.name)).collect();
        pools.retain(|p| p.name == *name);
        anyhow::ensure!(!pools.is_empty(), "there is no pool `{name}`; there are: {}", names.join(", "));
    }
    s.show_list(&pools, pool_table)?;
    Ok(Exit::Ok)
}

/// Pools as a table.
pub(super) fn pool_table(pools: &[Cache], look: &Look) -> String {
    let columns = ["CACHE", "POLICY", ">USED", ">PINNED", ">HELD", ">OBJECTS", ">FOUND", "FOLDER"];
    let mut table = Table::new(look, &columns);
    for p in pools {
        let demands = p.hits + p.misses;
        let found = if demands == 0 { "–".to_owned() } else { say::share(p.hits as f64 / demands as f64) };
        table.row([
            p.name.clone(),
            p.policy.clone(),
            say::part_of(p.used_bytes, p.capacity_bytes),
            say::bytes(p.pinned_bytes),
            say::bytes(p.zombie_bytes),
            p.objects.to_string(),
            found,
            p.dir.clone(),
        ]);
    }
    table.text()
}

/// Cached objects as a table.
pub(super) fn object_table(objects: &[CachedObject], look: &Look) -> String {
    if objects.is_empty() {
        return "no objects\n".to_owned();
    }
    let mut table = Table::new(look, &["OBJECT", "CACHE", ">SIZE", "STATE"]);
    for o in objects {
        let in_use =
            (o.in_use > 0).then(|| format!("in use by {}", say::count(o.in_use.into(), "task", "tasks")));
        let words = [o.staged.then(|| "staged".to_owned()), o.pinned.then(|| "pinned".to_owned()), in_use];
        let state = words.into_iter().flatten().collect::<Vec<_>>().join(", ");
        table.row([o.object.clone(), o.cache.clone(), say::bytes(o.bytes), state]);
    }
    table.text()
}

/// Stages. To wait, all are ordered first, so that they are fetched side by side, then each is waited for.
async fn stage(args: Stage, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let order = args.named.order();
    if !args.wait {
        return carry_out("stage", order, s).await;
    }
    if order.objects.len() < 2 {
        let spinner = progress::spinner("stage");
        let done = carry_out("stage", CacheOrder { wait: true, ..order }, s).await;
        spinner.finish_and_clear();
        return done;
    }
    let _: Vec<CacheAnswer> = ask("stage", &order, s).await?;
    let bar = progress::bar("stage", order.objects.len() as u64);
    let mut exit = Exit::Ok;
    for object in &order.objects {
        let one = CacheOrder { objects: vec![object.clone()], wait: true, ..order.clone() };
        let answers: Vec<CacheAnswer> = ask("stage", &one, s).await?;
        bar.inc(1);
        exit = bar.suspend(|| report(&answers, s)).map(|e| worse(exit, e))?;
    }
    bar.finish_and_clear();
    Ok(exit)
}

async fn carry_out(verb: &str, order: CacheOrder, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let answers: Vec<CacheAnswer> = ask(verb, &order, s).await?;
    report(&answers, s)
}

async fn ask(verb: &str, order: &CacheOrder, s: &mut Session<'_>) -> Result<Vec<CacheAnswer>, Error> {
    s.client.post(&Target::of(&["cache", verb]), Some(order)).await
}

fn report(answers: &[CacheAnswer], s: &mut Session<'_>) -> anyhow::Result<Exit> {
    s.show_list(answers, |answers, _| answers.iter().map(|a| sentence(a) + "\n").collect())?;
    let bad =
        |a: &CacheAnswer| a.error.is_some() || matches!(a.result.as_str(), "failed" | "damaged" | "in use");
    Ok(if answers.iter().any(bad) { Exit::Failed } else { Exit::Ok })
}

/// What became of an object, in one line.
pub(super) fn sentence(a: &CacheAnswer) -> String {
    let size = a.bytes.map(|b| format!(", {}", say::bytes(b))).unwrap_or_default();
    let why = a.error.as_ref().map(|e| format!(": {e}")).unwrap_or_default();
    format!("{}  {} in {}{size}{why}", a.object, a.result, a.cache)
}
