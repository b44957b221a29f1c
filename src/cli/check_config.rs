//! `forestage check-config`.

use super::exit::Exit;
use super::screen::{Look, Screen};
use crate::config::{Config, Error, Located, Report, Surroundings, check_host, locate};
use std::io::Write;
use std::path::PathBuf;

/// Check a configuration, and whether this host can do what it says.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file [default: $FORESTAGE_CONFIG, else /etc/forestage/forestage.toml].
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Do not look at this host: folders, file systems, programs.
    #[arg(long)]
    pub no_host: bool,
    /// Print one JSON object for each problem.
    #[arg(long)]
    pub json: bool,
}

/// Checks and prints what is wrong, with line and caret.
pub(super) fn run(args: Args, out: &mut dyn Write, look: Look) -> anyhow::Result<Exit> {
    let located = locate(args.file, |name| std::env::var_os(name));
    let mut screen = Screen::new(out, look, args.json);
    let checked = Config::load(&located, &Surroundings::here()).and_then(|config| {
        let host = if args.no_host { Report::default() } else { check_host(&config)? };
        Ok((config, host))
    });
    match checked {
        Ok((config, host)) => {
            print(&config.warnings, &mut screen)?;
            print(&host, &mut screen)?;
            if !screen.json {
                screen.line(format!("{} is accepted", name(&located)))?;
            }
            Ok(Exit::Ok)
        }
        Err(Error::Invalid(report)) => {
            print(&report, &mut screen)?;
            Ok(Exit::Failed)
        }
        Err(e) => Err(e.into()),
    }
}

fn name(located: &Located) -> String {
    match located {
        Located::File { path, .. } => path.display().to_string(),
        Located::Defaults => "the built-in configuration".to_owned(),
    }
}

fn print(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    if report.is_empty() {
        return Ok(());
    }
    if screen.json {
        screen.objects(report.problems())?;
    } else {
        let colour = screen.look.colour != crate::draw::Colour::None;
        screen.line(report.render(colour))?;
    }
    Ok(())
}
