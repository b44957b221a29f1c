//! Where commands write: a terminal, a file or a pipe, for people or for programs.

use crate::draw::{Colour, Zone};
use crate::time::{Clock, Time};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Width where nobody says one.
const DEFAULT_WIDTH: usize = 100;

/// What the other side can show.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether it is a terminal.
    pub terminal: bool,
    /// Which colours it has.
    pub colour: Colour,
    /// How wide it is, characters; `None` where lines may be as long as they are.
    pub width: Option<usize>,
    /// The reader's time zone.
    pub zone: Zone,
    /// What relative times are measured from; the clock when `None`.
    pub now: Option<Time>,
}

impl Look {
    /// Of this process's standard output. `NO_COLOR` is honoured.
    pub fn here() -> Look {
        let terminal = io::stdout().is_terminal();
        let width = comfy_table::Table::new().width().map(usize::from).filter(|_| terminal);
        let zone = Zone(crate::monitor::sample::utc_offset_s(clock()));
        Look { terminal, colour: Colour::detect(terminal, |n| std::env::var(n).ok()), width, zone, now: None }
    }

    /// A pipe.
    #[cfg(test)]
    pub fn plain() -> Look {
        Look { terminal: false, colour: Colour::None, width: None, zone: Zone::UTC, now: None }
    }

    /// Seconds since the Unix epoch, now.
    pub fn now_s(&self) -> f64 {
        self.now.unwrap_or_else(clock).as_s()
    }

    /// Characters that a drawing may use.
    pub fn drawing_width(&self) -> usize {
        self.width.unwrap_or(DEFAULT_WIDTH)
    }
}

fn clock() -> Time {
    Clock::start(Time::ZERO).now()
}

/// Where a command writes its answer. Errors and progress go to standard error.
pub struct Screen<'a> {
    out: &'a mut dyn Write,
    /// What it can show.
    pub look: Look,
    /// Whether programs read it: one JSON object a line.
    pub json: bool,
}

impl<'a> Screen<'a> {
    /// A screen over `out`.
    pub fn new(out: &'a mut dyn Write, look: Look, json: bool) -> Screen<'a> {
        Screen { out, look, json }
    }

    /// A line for people.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", text.as_ref())
    }

    /// Several lines for people, as they are.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn text(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.raw(text.as_ref().as_bytes())
    }

    /// One object for programs.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn object(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut *self.out, object)?;
        self.out.write_all(b"\n")
    }

    /// One object a line for programs.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn objects<T: Serialize>(&mut self, objects: &[T]) -> io::Result<()> {
        objects.iter().try_for_each(|o| self.object(o))
    }

    /// Bytes as they are, at once.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }
}
