//! `forestage submit`.

use super::args;
use super::client::Target;
use super::exit::Exit;
use super::session::{Session, complain, deadline, exit_of, worse};
use super::{progress, say, wait};
use crate::api::wire::{Submit, Submitted};
use crate::time::Span;
use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

/// Lines of one request: enough that the record's group commit is worth it, few enough that progress shows.
const BATCH_LINES: usize = 1_000;
/// Bytes of one request; well below what the daemon takes.
const BATCH_BYTES: usize = 4 << 20;
/// Longest line. A payload has at most 64 KiB, escaped six times that.
const LINE_LIMIT_BYTES: u64 = 4 << 20;

/// Submit a task, or many from a file.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The task type.
    #[arg(value_name = "TYPE", required_unless_present = "file")]
    pub task_type: Option<String>,
    /// What the task is about: the thing whose history is followed.
    #[arg(long, short)]
    pub entity: Option<String>,
    /// A value of {arg.NAME}; may be repeated.
    #[arg(long = "arg", short = 'a', value_name = "NAME=VALUE", value_parser = args::pair)]
    pub args: Vec<(String, String)>,
    /// An object to read besides those that the type derives, as source:path; may be repeated.
    #[arg(long = "input", short, value_name = "OBJECT")]
    pub inputs: Vec<String>,
    /// Priority class, 0 to 9; higher goes first [default: the type's].
    #[arg(long, short, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: Option<u8>,
    /// Return the task of this type that has this key already, instead of a new one.
    #[arg(long, short)]
    pub key: Option<String>,
    /// Start only when this task is done; may be repeated.
    #[arg(long, value_name = "TASK")]
    pub after: Vec<u64>,
    /// Start no earlier than so long from now, as 90s or 10min.
    #[arg(long, value_name = "TIME", value_parser = args::span)]
    pub delay: Option<Span>,
    /// Fail the task if it has not started when so long has passed.
    #[arg(long, value_name = "TIME", value_parser = args::span)]
    pub deadline: Option<Span>,
    /// The group that it belongs to: groups can be paused and share the slots by weight.
    #[arg(long, short, value_name = "NAME")]
    pub group: Option<String>,
    /// Ask the sources anew for every input.
    #[arg(long)]
    pub fresh: bool,
    /// Passed to the worker as it is, at most 64 KiB.
    #[arg(long, value_name = "TEXT")]
    pub payload: Option<String>,
    /// Submit every line of this file, one JSON object each; - is standard input.
    #[arg(long, short, value_name = "FILE", conflicts_with_all = [
        "task_type", "entity", "args", "inputs", "priority", "key", "after", "delay", "deadline", "group",
        "fresh", "payload",
    ])]
    pub file: Option<PathBuf>,
    /// Wait until all have ended; the exit code then says whether all are done.
    #[arg(long, short)]
    pub wait: bool,
    /// Wait no longer than this, as 90s or 10min.
    #[arg(long, value_name = "TIME", value_parser = args::span, requires = "wait")]
    pub timeout: Option<Span>,
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let (ids, exit) = match args.file.clone() {
        Some(file) => submit_file(&file, s, args.wait).await?,
        None => (vec![submit_one(&args, s).await?], Exit::Ok),
    };
    if !args.wait {
        return Ok(exit);
    }
    if let (&[id], None) = (ids.as_slice(), &args.file) {
        let task = s.wait(id, deadline(args.timeout)).await?;
        s.show(&task, |t, _| format!("{}\n", wait::sentence(t)))?;
        return Ok(exit_of(&task));
    }
    Ok(worse(exit, wait::all(&ids, deadline(args.timeout), s).await?))
}

async fn submit_one(args: &Args, s: &mut Session<'_>) -> anyhow::Result<u64> {
    let submit = Submit {
        task_type: args.task_type.clone().unwrap_or_default(),
        entity: args.entity.clone(),
        args: args.args.iter().cloned().collect(),
        inputs: args.inputs.clone(),
        priority: args.priority,
        key: args.key.clone(),
        after: args.after.clone(),
        delay_s: args.delay.map(Span::as_s),
        deadline_s: args.deadline.map(Span::as_s),
        group: args.group.clone(),
        fresh: args.fresh,
        payload: args.payload.clone(),
    };
    let answer: Submitted = s.client.post(&Target::of(&["tasks"]), Some(&submit)).await?;
    let id = answer.id.context("the daemon accepted the task without giving it a number")?;
    let known = if answer.existing { " (the key was known)" } else { "" };
    s.show(&answer, |_, _| format!("task {id}{known}\n"))?;
    Ok(id)
}

/// Submits a file in batches; a line that is refused is reported and does not stop the others.
async fn submit_file(file: &PathBuf, s: &mut Session<'_>, keep: bool) -> anyhow::Result<(Vec<u64>, Exit)> {
    let (input, length): (Box<dyn Read>, u64) = if file.as_os_str() == "-" {
        (Box::new(std::io::stdin()), 0)
    } else {
        let open = std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
        let length = open.metadata().map_or(0, |m| m.len());
        (Box::new(open), length)
    };
    let mut input = BufReader::with_capacity(1 << 16, input);
    let bar = progress::bytes("submit", length);
    let (mut ids, mut tally) = (Vec::new(), Tally::default());
    let mut line_number = 0;
    while let Some((batch, numbers)) = next_batch(&mut input, &mut line_number)? {
        bar.inc(batch.len() as u64);
        let answers: Vec<Submitted> = s.client.post_lines(&Target::of(&["tasks"]), batch).await?;
        anyhow::ensure!(answers.len() == numbers.len(), "the daemon did not answer for every line");
        for (answer, number) in answers.iter().zip(numbers) {
            tally.count(answer);
            if s.screen.json {
                s.screen.object(answer)?;
            }
            if let Some(error) = &answer.error {
                complain(&format!("line {number}"), &renumbered(error));
            }
            if keep {
                ids.extend(answer.id);
            }
        }
    }
    bar.finish_and_clear();
    if !s.screen.json {
        s.screen.line(tally.sentence())?;
    }
    Ok((ids, if tally.refused > 0 { Exit::Refused } else { Exit::Ok }))
}

/// The daemon counts the lines of its request; the reader counts those of the file.
fn renumbered(error: &crate::api::wire::ErrorBody) -> crate::api::wire::ErrorBody {
    let mut error = error.clone();
    if let Some((place, why)) = error.message.split_once(": ")
        && let Some(at) = place.find("line ")
        && place[at + 5..].bytes().all(|b| b.is_ascii_digit())
    {
        let field = place[..at].trim_end_matches(" of ").trim_end();
        error.message = if field.is_empty() { why.to_owned() } else { format!("{field}: {why}") };
    }
    error
}

#[derive(Default)]
struct Tally {
    accepted: u64,
    existing: u64,
    refused: u64,
    first: Option<u64>,
    last: Option<u64>,
}

impl Tally {
    fn count(&mut self, answer: &Submitted) {
        if answer.error.is_some() {
            self.refused += 1;
        } else if answer.existing {
            self.existing += 1;
        } else {
            self.accepted += 1;
            self.first = self.first.or(answer.id);
            self.last = answer.id.or(self.last);
        }
    }

    fn sentence(&self) -> String {
        let mut text = format!("{} accepted", say::count(self.accepted, "task", "tasks"));
        if let (Some(first), Some(last)) = (self.first, self.last) {
            let range = if first == last { first.to_string() } else { format!("{first} to {last}") };
            text.push_str(&format!(" ({range})"));
        }
        if self.existing > 0 {
            text.push_str(&format!(", {} known by key", self.existing));
        }
        if self.refused > 0 {
            text.push_str(&format!(", {} refused", self.refused));
        }
        text
    }
}

/// The next lines that are not blank, with their numbers in the file; `None` at its end.
fn next_batch(input: &mut impl BufRead, line_number: &mut u64) -> anyhow::Result<Option<(Bytes, Vec<u64>)>> {
    let (mut batch, mut numbers) = (BytesMut::new(), Vec::new());
    let mut line = Vec::new();
    while numbers.len() < BATCH_LINES && batch.len() < BATCH_BYTES {
        line.clear();
        let read = input.by_ref().take(LINE_LIMIT_BYTES).read_until(b'\n', &mut line);
        if read.context("read the tasks")? == 0 {
            break;
        }
        *line_number += 1;
        if line.last() != Some(&b'\n') {
            anyhow::ensure!(
                (line.len() as u64) < LINE_LIMIT_BYTES,
                "line {line_number} is longer than {LINE_LIMIT_BYTES} bytes"
            );
            line.push(b'\n');
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            batch.extend_from_slice(&line);
            numbers.push(*line_number);
        }
    }
    Ok((!numbers.is_empty()).then(|| (batch.freeze(), numbers)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::ErrorBody;

    #[test]
    fn batches_skip_blank_lines_and_keep_their_numbers() {
        let text = "a\n\n  \nb\nc";
        let mut at = 0;
        let (batch, numbers) = next_batch(&mut text.as_bytes(), &mut at).unwrap().unwrap();
        assert_eq!((&batch[..], numbers), (&b"a\nb\nc\n"[..], vec![1, 4, 5]));
        assert!(next_batch(&mut "\n\n".as_bytes(), &mut 0).unwrap().is_none());
        let many = "x\n".repeat(BATCH_LINES + 1);
        let mut rest = many.as_bytes();
        assert_eq!(next_batch(&mut rest, &mut 0).unwrap().unwrap().1.len(), BATCH_LINES);
        assert_eq!(next_batch(&mut rest, &mut 0).unwrap().unwrap().1.len(), 1);
    }

    #[test]
    fn errors_lose_the_line_of_the_request() {
        let error =
            |message: &str| ErrorBody { code: String::new(), message: message.to_owned(), detail: None };
        assert_eq!(renumbered(&error("line 3: missing field `type`")).message, "missing field `type`");
        assert_eq!(renumbered(&error("field `a` of line 3: bad")).message, "field `a`: bad");
        assert_eq!(renumbered(&error("line 3 is not JSON: x")).message, "line 3 is not JSON: x");
        assert_eq!(renumbered(&error("type `x` is unknown")).message, "type `x` is unknown");
    }
}
