//! What is wrong with a configuration, and how it reads.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("read the configuration {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than [`super::FILE_LIMIT_BYTES`].
    #[error("the configuration {} is {found_bytes} bytes long; accepted: up to {}", path.display(), super::FILE_LIMIT_BYTES)]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        found_bytes: u64,
    },
    /// The file is not text.
    #[error("the configuration {} is not UTF-8 text: line {line}", path.display())]
    NotText {
        /// Which file.
        path: PathBuf,
        /// The line of the first bad byte, from 1.
        line: usize,
    },
    /// The text was read and is not accepted.
    #[error("{0}")]
    Invalid(Report),
}

impl Error {
    /// As a person reads it, with or without colours (ANSI escapes).
    pub fn render(&self, colour: bool) -> String {
        match self {
            Error::Invalid(report) => report.render(colour),
            other => {
                let title = Group::with_title(Level::ERROR.primary_title(other.to_string()));
                renderer(colour).render(&[title])
            }
        }
    }

    /// The problems one by one; none if there was no text to find them in.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Error::Invalid(report) => &report.problems,
            _ => &[],
        }
    }
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted, and probably not what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The key: `worker.fast.slots`. Empty where the text is no TOML.
    pub key: String,
    /// What is wrong: one line, complete in itself.
    pub title: String,
    /// The value as it stands in the file, cut to a line. Empty where there is none.
    pub found: String,
    /// What stands at the caret: the reason, and what is accepted with unit and range.
    pub label: String,
    /// What to do, where that is clear.
    pub help: Option<String>,
    /// The line, from 1. `None` where the problem is about no line.
    pub line: Option<usize>,
    /// Bytes of the text that it is about.
    #[serde(skip)]
    pub span: Option<Range<usize>>,
}

/// All problems of one text, in the order of its lines.
#[derive(Clone, Debug, Default)]
pub struct Report {
    path: Option<PathBuf>,
    text: Arc<str>,
    problems: Vec<Problem>,
}

/// A report shows so many problems and counts the rest: nobody reads on, and a broken file of megabytes
/// would fill the log.
const SHOWN: usize = 50;

impl Report {
    /// `secrets` are the ranges that no message may show.
    pub(super) fn new(
        path: Option<PathBuf>,
        text: Arc<str>,
        mut problems: Vec<Problem>,
        secrets: &[Range<usize>],
    ) -> Report {
        if problems.is_empty() {
            // Nothing to show: the text need not be kept for it.
            return Report { path, ..Report::default() };
        }
        let text = masked(text, secrets);
        for p in &mut problems {
            p.span = p.span.take().map(|s| inside(&text, s));
        }
        problems.sort_by_key(|p| p.span.as_ref().map(|s| s.start));
        let (mut line, mut at) = (1, 0);
        for p in &mut problems {
            let Some(span) = &p.span else { continue };
            line += text.as_bytes()[at..span.start].iter().filter(|b| **b == b'\n').count();
            at = span.start;
            p.line = Some(line);
            p.found = one_line(&text[span.clone()]);
        }
        Report { path, text, problems }
    }

    /// The problems one by one, in the order of the lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }

    /// As a person reads it, with or without colours (ANSI escapes): for each problem what is wrong, the
    /// line, a caret, and what is accepted.
    pub fn render(&self, colour: bool) -> String {
        let path = self.path.as_deref().unwrap_or(Path::new("built-in defaults")).display().to_string();
        let renderer = renderer(colour);
        let mut shown: Vec<String> =
            self.problems.iter().take(SHOWN).map(|p| renderer.render(&self.groups(p, &path))).collect();
        if let Some(rest) = self.problems.len().checked_sub(SHOWN).filter(|n| *n > 0) {
            shown.push(format!("… and {rest} more"));
        }
        shown.join("\n\n")
    }

    fn groups<'a>(&'a self, problem: &'a Problem, path: &str) -> Vec<Group<'a>> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&problem.title);
        let mut group = match (&problem.span, problem.line) {
            // Only the line itself: the renderer walks all that it is given, for each problem.
            (Some(span), Some(line)) => {
                let start = self.text[..span.start].rfind('\n').map_or(0, |n| n + 1);
                let end = self.text[span.end..].find('\n').map_or(self.text.len(), |n| span.end + n);
                let mark = AnnotationKind::Primary.span(span.start - start..span.end - start);
                let source = Snippet::source(&self.text[start..end]).line_start(line).path(path.to_owned());
                title.element(source.annotation(mark.label(&problem.label)))
            }
            _ => Group::with_title(title).element(Level::NOTE.message(&problem.label)),
        };
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help));
        }
        vec![group]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

fn renderer(colour: bool) -> Renderer {
    if colour { Renderer::styled() } else { Renderer::plain() }
}

/// The same range, cut to the text, to its first line and to whole characters.
fn inside(text: &str, span: Range<usize>) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    let end = floor(span.end).max(start);
    let line = text[start..end].find('\n').map_or(end, |n| start + n);
    // A range that is nothing but a line end keeps it: there is no other character to point at.
    start..if line > start { line } else { end }
}

/// The text with `*` for every byte of the secrets, so that all other places stay where they are.
fn masked(text: Arc<str>, secrets: &[Range<usize>]) -> Arc<str> {
    if secrets.is_empty() {
        return text;
    }
    let mut bytes = text.as_bytes().to_vec();
    for range in secrets {
        let range = range.start.min(bytes.len())..range.end.min(bytes.len());
        bytes[range].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b'*');
    }
    // A range that cuts a character leaves half of it; the place of the rest is what matters.
    String::from_utf8_lossy(&bytes).into()
}

/// A piece of the file as a message can hold it: printable, not longer than a line.
pub(super) fn one_line(text: &str) -> String {
    let mut cut: String = text.chars().take(80).collect::<String>().escape_debug().to_string();
    cut = cut.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(80).is_some() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(span: Option<Range<usize>>) -> Problem {
        Problem {
            severity: Severity::Error,
            key: "worker.fast.slots".into(),
            title: "slots of worker `fast` is out of range".into(),
            found: String::new(),
            label: "accepted: 1 to 1024".into(),
            help: None,
            line: None,
            span,
        }
    }

    #[test]
    fn shows_line_and_caret() {
        let text = "[worker.fast]\nslots = 0\n";
        let report = Report::new(Some("a.toml".into()), text.into(), vec![problem(Some(22..23))], &[]);
        assert_eq!(report.problems()[0].line, Some(2));
        assert_eq!(report.problems()[0].found, "0");
        let shown = report.render(false);
        assert!(shown.contains("--> a.toml:2:9"), "{shown}");
        assert!(shown.contains("        ^ accepted: 1 to 1024"), "{shown}");
        assert!(report.render(true).contains("\u{1b}["));
    }

    #[test]
    fn any_range_can_be_shown() {
        for text in ["", "ä", "a\nb", "\r\n\t\u{1b}[31m", "a = \"\u{202e}x\"\n"] {
            for start in 0..8 {
                for end in start..8 {
                    Report::new(None, text.into(), vec![problem(Some(start..end))], &[]).render(true);
                }
            }
        }
        assert!(Report::new(None, "".into(), vec![problem(None)], &[]).render(false).contains("accepted"));
    }
}
