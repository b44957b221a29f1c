//! A trace: what ran, where, about what, and which objects it read. Read once, names turned into numbers.
//!
//! The format is CSV, plain or gzip (told apart by content, not by name), with a header line that names at
//! least `time_s`, `task_type` and `entity`; `worker`, `duration_s`, `bytes` and `objects` may be missing or
//! empty. `objects` is `name:bytes` joined by `;`. Rows are ordered by time; rows of the same time keep the
//! order of the file.

use crate::flow::Map;
use crate::time::{Span, Time};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The columns, in the order in which traces are published.
pub const COLUMNS: [&str; 7] = ["time_s", "worker", "task_type", "entity", "duration_s", "bytes", "objects"];
/// Columns without which a row says nothing.
const REQUIRED: [usize; 3] = [0, 2, 3];
/// More task types than this are refused: task types are numbered in 16 bits.
pub const MAX_TYPES: usize = 60_000;

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or read.
    #[error("read trace {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not CSV, not UTF-8 or ends inside a compressed block.
    #[error("read trace {path}: {source}")]
    Csv {
        /// Which file.
        path: PathBuf,
        /// What the reader said.
        source: csv::Error,
    },
    /// The header lacks a column.
    #[error("trace {path}: the header has no column {column}; expected {}", COLUMNS.join(","))]
    Header {
        /// Which file.
        path: PathBuf,
        /// The first missing column.
        column: &'static str,
    },
    /// A field holds something else than its column promises.
    #[error("trace {path}, line {line}: {column} is {value:?}, expected {expected}")]
    Field {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1 for the header.
        line: u64,
        /// Which column.
        column: &'static str,
        /// What was found.
        value: String,
        /// What would have been accepted.
        expected: &'static str,
    },
}

/// One task of a trace. Numbers index the name lists of its [`Trace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Time since the start of the trace.
    pub time: Time,
    /// Index into [`Trace::workers`]; nothing where the source names none.
    pub worker: Option<u32>,
    /// Index into [`Trace::types`].
    pub task_type: u16,
    /// Index into [`Trace::entities`]; nothing where the field is empty.
    pub entity: Option<u32>,
    /// How long it ran; nothing where the source does not say.
    pub duration: Option<Span>,
    /// Input bytes; nothing where the source does not say.
    pub bytes: Option<u64>,
    /// Where its objects stand in [`Trace::reads`].
    reads: Range<u32>,
}

/// One object that a task read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRead {
    /// Index into [`Trace::objects`].
    pub object: u32,
    /// Its size; zero where the source does not know it.
    pub bytes: u64,
}

/// A whole trace in memory.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The file's name without `.csv` and `.gz`.
    pub name: String,
    /// Its tasks, by time.
    pub rows: Vec<Row>,
    /// Names of task types, in order of appearance.
    pub types: Vec<String>,
    /// Names of workers, in order of appearance.
    pub workers: Vec<String>,
    /// Names of entities, in order of appearance.
    pub entities: Vec<String>,
    /// Names of objects, in order of appearance.
    pub objects: Vec<String>,
    /// What all rows read, row after row.
    pub reads: Vec<ObjectRead>,
}

impl Trace {
    /// Reads a whole file.
    ///
    /// # Errors
    /// When it cannot be read, its header lacks a column, or a field is malformed; the message names the line.
    pub fn read(path: &Path) -> Result<Trace, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let mut magic = [0; 2];
        let got = file.read(&mut magic).map_err(io)?;
        file.rewind().map_err(io)?;
        let file = BufReader::with_capacity(1 << 16, file);
        if got == 2 && magic == [0x1f, 0x8b] {
            Trace::parse(flate2::read::MultiGzDecoder::new(file), path)
        } else {
            Trace::parse(file, path)
        }
    }

    /// Reads from anything; `path` only names the trace and its errors.
    ///
    /// # Errors
    /// As [`Trace::read`].
    pub fn parse(from: impl Read, path: &Path) -> Result<Trace, Error> {
        let csv = |source| Error::Csv { path: path.to_owned(), source };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(from);
        let columns = columns_of(reader.headers().map_err(csv)?, path)?;
        let mut names = Names::default();
        let mut trace = Trace { name: short_name(path), ..Trace::default() };
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(csv)? {
            let line = Line { path, record: &record, columns: &columns };
            let row = line.row(&mut trace, &mut names)?;
            trace.rows.push(row);
        }
        if !trace.rows.is_sorted_by_key(|r| r.time) {
            // A stable sort: rows of the same time keep the order of the file.
            trace.rows.sort_by_key(|r| r.time);
        }
        Ok(trace)
    }

    /// What a row read.
    pub fn reads_of(&self, row: &Row) -> &[ObjectRead] {
        &self.reads[row.reads.start as usize..row.reads.end as usize]
    }

    /// When the last row came; zero for an empty trace.
    pub fn end(&self) -> Time {
        self.rows.last().map_or(Time::ZERO, |r| r.time)
    }
}

/// Numbers given to names so far.
#[derive(Default)]
struct Names {
    types: Map<String, u32>,
    workers: Map<String, u32>,
    entities: Map<String, u32>,
    objects: Map<String, u32>,
}

/// The number of a name, a new one if it was not met before.
fn number(map: &mut Map<String, u32>, list: &mut Vec<String>, name: &str) -> u32 {
    if let Some(&n) = map.get(name) {
        return n;
    }
    let n = u32::try_from(list.len()).expect("a trace that fits in memory has fewer than 2^32 names");
    map.insert(name.to_owned(), n);
    list.push(name.to_owned());
    n
}

/// Where each of [`COLUMNS`] stands in the file.
fn columns_of(header: &csv::StringRecord, path: &Path) -> Result<[Option<usize>; 7], Error> {
    // A byte order mark, as spreadsheets write it, is no part of the first name.
    let at = COLUMNS.map(|c| header.iter().position(|h| h.trim_start_matches('\u{feff}').trim() == c));
    match REQUIRED.iter().find(|&&c| at[c].is_none()) {
        Some(&c) => Err(Error::Header { path: path.to_owned(), column: COLUMNS[c] }),
        None => Ok(at),
    }
}

fn short_name(path: &Path) -> String {
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.strip_suffix(".csv").unwrap_or(name).to_owned()
}

/// One line of the file, with what is needed to say what is wrong with it.
struct Line<'a> {
    path: &'a Path,
    record: &'a csv::StringRecord,
    columns: &'a [Option<usize>; 7],
}

impl Line<'_> {
    /// A field's text, empty where the column is missing.
    fn text(&self, column: usize) -> &str {
        self.columns[column].and_then(|c| self.record.get(c)).unwrap_or("").trim()
    }

    fn wrong(&self, column: usize, expected: &'static str) -> Error {
        Error::Field {
            path: self.path.to_owned(),
            line: self.record.position().map_or(0, csv::Position::line),
            column: COLUMNS[column],
            value: self.text(column).chars().take(80).collect(),
            expected,
        }
    }

    /// A number that is not negative; nothing where the field is empty.
    fn seconds(&self, column: usize) -> Result<Option<f64>, Error> {
        let text = self.text(column);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(s) if s.is_finite() && s >= 0.0 => Ok(Some(s)),
            _ => Err(self.wrong(column, "seconds, zero or more")),
        }
    }

    fn row(&self, trace: &mut Trace, names: &mut Names) -> Result<Row, Error> {
        let time = self.seconds(0)?.ok_or_else(|| self.wrong(0, "seconds since the start of the trace"))?;
        let task_type = self.text(2);
        if task_type.is_empty() {
            return Err(self.wrong(2, "the name of a task type"));
        }
        let task_type = number(&mut names.types, &mut trace.types, task_type);
        if task_type as usize >= MAX_TYPES {
            return Err(self.wrong(2, "one of at most 60,000 task types"));
        }
        let named = |map: &mut Map<String, u32>, list: &mut Vec<String>, text: &str| {
            (!text.is_empty()).then(|| number(map, list, text))
        };
        // Sizes are written by many tools as floating point ("1.0e9"): accept what is a whole number or not.
        let bytes = match self.text(5) {
            "" => None,
            text => Some(parse_bytes(text).ok_or_else(|| self.wrong(5, "a number of bytes, zero or more"))?),
        };
        Ok(Row {
            time: Time::from_s(time),
            worker: named(&mut names.workers, &mut trace.workers, self.text(1)),
            task_type: u16::try_from(task_type).expect("checked against MAX_TYPES"),
            entity: named(&mut names.entities, &mut trace.entities, self.text(3)),
            duration: self.seconds(4)?.map(Span::from_s),
            bytes,
            reads: self.objects(trace, names)?,
        })
    }

    fn objects(&self, trace: &mut Trace, names: &mut Names) -> Result<Range<u32>, Error> {
        let index =
            |n: usize| u32::try_from(n).expect("a trace that fits in memory has fewer than 2^32 reads");
        let start = index(trace.reads.len());
        for item in self.text(6).split(';').map(str::trim).filter(|i| !i.is_empty()) {
            let expected = "name:bytes joined by ;";
            let (name, bytes) = item.rsplit_once(':').ok_or_else(|| self.wrong(6, expected))?;
            let bytes = parse_bytes(bytes).ok_or_else(|| self.wrong(6, expected))?;
            let object = number(&mut names.objects, &mut trace.objects, name);
            trace.reads.push(ObjectRead { object, bytes });
        }
        Ok(start..index(trace.reads.len()))
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    if let Ok(n) = text.parse::<u64>() {
        return Some(n);
    }
    let x = text.parse::<f64>().ok()?;
    (x.is_finite() && x >= 0.0).then_some(x as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn parse(text: &str) -> Result<Trace, Error> {
        Trace::parse(text.as_bytes(), Path::new("some/chain.csv.gz"))
    }

    #[test]
    fn reads_every_column() {
        let t = parse(
            "time_s,worker,task_type,entity,duration_s,bytes,objects\n0.5,w1,copy,vol1,2.5,30,a:10;b:c:20\n",
        )
        .unwrap();
        assert_eq!(t.name, "chain");
        let row = &t.rows[0];
        assert_eq!(row.time, Time::from_us(500_000));
        assert_eq!(t.workers[row.worker.unwrap() as usize], "w1");
        assert_eq!(t.types[row.task_type as usize], "copy");
        assert_eq!(t.entities[row.entity.unwrap() as usize], "vol1");
        assert_eq!((row.duration, row.bytes), (Some(Span::from_ms(2500)), Some(30)));
        let reads: Vec<(&str, u64)> =
            t.reads_of(row).iter().map(|r| (t.objects[r.object as usize].as_str(), r.bytes)).collect();
        assert_eq!(reads, [("a", 10), ("b:c", 20)]);
    }

    #[test]
    fn empty_fields_and_missing_columns_are_nothing_and_zero_is_zero() {
        let t =
            parse("time_s,worker,task_type,entity,duration_s,bytes,objects\n0,,copy,,,,\n1,,copy,v,0,0,\n")
                .unwrap();
        assert_eq!(
            (t.rows[0].worker, t.rows[0].entity, t.rows[0].duration, t.rows[0].bytes),
            (None, None, None, None)
        );
        assert_eq!((t.rows[1].duration, t.rows[1].bytes), (Some(Span::ZERO), Some(0)));
        let t = parse("task_type,entity,time_s\ncopy,v,3\n").unwrap();
        assert_eq!(t.rows[0].time, Time::from_us(3_000_000));
        assert!(t.reads_of(&t.rows[0]).is_empty());
    }

    #[test]
    fn late_rows_are_put_in_order_and_ties_keep_theirs() {
        let t = parse("time_s,task_type,entity\n2,a,v\n1,b,v\n2,c,v\n1,d,v\n").unwrap();
        let order: Vec<&str> = t.rows.iter().map(|r| t.types[r.task_type as usize].as_str()).collect();
        assert_eq!(order, ["b", "d", "a", "c"]);
        assert_eq!(t.end(), Time::from_us(2_000_000));
    }

    #[test]
    fn gzip_is_told_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let mut z = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        z.write_all(b"time_s,task_type,entity\n0,a,v\n").unwrap();
        z.finish().unwrap();
        assert_eq!(Trace::read(&path).unwrap().rows.len(), 1);
        std::fs::write(&path, "time_s,task_type,entity\n0,a,v\n1,a,v\n").unwrap();
        assert_eq!(Trace::read(&path).unwrap().rows.len(), 2);
    }

    #[test]
    fn errors_name_file_line_and_column() {
        for (text, message) in [
            ("time_s,entity\n", "trace some/chain.csv.gz: the header has no column task_type"),
            ("time_s,task_type,entity\n0,a,v\nsoon,a,v\n", "line 3: time_s is \"soon\", expected seconds"),
            ("time_s,task_type,entity\n-1,a,v\n", "line 2: time_s is \"-1\""),
            ("time_s,task_type,entity\n1,,v\n", "line 2: task_type is \"\""),
            ("time_s,task_type,entity,bytes\n1,a,v,-4\n", "line 2: bytes is \"-4\""),
            ("time_s,task_type,entity,objects\n1,a,v,x\n", "line 2: objects is \"x\", expected name:bytes"),
        ] {
            let found = parse(text).unwrap_err().to_string();
            assert!(found.contains(message), "{found}");
        }
        let missing = Trace::read(Path::new("/nowhere/t.csv")).unwrap_err().to_string();
        assert!(missing.starts_with("read trace /nowhere/t.csv: "), "{missing}");
    }
}
