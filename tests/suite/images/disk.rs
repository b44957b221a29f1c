//! A recording of what a process did to its files, and the disks that a power cut could have left of it.
//!
//! The model of the disk: data of a file that no sync of *that file* covers may be there or not, sector by sector
//! and in any order; names and sizes (metadata) come in order, up to some point, as file systems with a journal
//! keep them; a sync of anything makes all metadata before it durable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    Create(u64, PathBuf),
    Write(u64, usize, Vec<u8>),
    SetSize(u64, usize),
    /// Of a file; 0 is a folder.
    Sync(u64),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Unlink(PathBuf),
    MakeDir(PathBuf),
    RemoveDir(PathBuf),
    /// What the test itself appended: something was acknowledged.
    Acknowledged(Ack),
}

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// This task is taken.
    Submitted(u64),
    /// This task is done.
    Done(u64),
}

/// Appends an acknowledgement to the recording at `log`, in one piece as the recorder does.
pub fn acknowledge(log: &mut std::fs::File, ack: Ack) {
    let (kind, id) = match ack {
        Ack::Submitted(id) => (b'A', id),
        Ack::Done(id) => (b'B', id),
    };
    let header: Vec<u8> = [u64::from(kind), id, 0, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
    std::io::Write::write_all(log, &header).unwrap();
}

/// Reads a recording.
pub fn read(log: &Path) -> Vec<Event> {
    let bytes = std::fs::read(log).unwrap();
    let mut events = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let word = |i: usize| u64::from_le_bytes(bytes[at + 8 * i..at + 8 * i + 8].try_into().unwrap());
        let (kind, inode, offset, len) = (word(0) as u8, word(1), word(2) as usize, word(3) as usize);
        let data = &bytes[at + 32..at + 32 + len];
        let text = || std::str::from_utf8(data).unwrap();
        let path = || PathBuf::from(text().split('\n').next().unwrap());
        let to = || PathBuf::from(text().split('\n').nth(1).unwrap());
        events.push(match kind {
            b'C' => Event::Create(inode, path()),
            b'W' => Event::Write(inode, offset, data.to_vec()),
            b'T' => Event::SetSize(inode, offset),
            b'S' => Event::Sync(inode),
            b'R' => Event::Rename(path(), to()),
            b'L' => Event::Link(path(), to()),
            b'U' => Event::Unlink(path()),
            b'M' => Event::MakeDir(path()),
            b'D' => Event::RemoveDir(path()),
            b'A' => Event::Acknowledged(Ack::Submitted(inode)),
            b'B' => Event::Acknowledged(Ack::Done(inode)),
            other => panic!("byte {at} of the recording: kind {other}"),
        });
        at += 32 + len;
    }
    events
}

/// How much of what was not synced is there after the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Dropped,
    /// Everything: as after the death of the process alone.
    Kept,
    /// Half of the pages of 4 KiB, any: reordered.
    Pages,
    /// Half of the sectors: torn as well.
    Sectors,
}

/// A file system at one moment.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    names: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, Vec<u8>>,
    dirs: BTreeSet<PathBuf>,
}

impl Disk {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Create(inode, path) => {
                self.names.insert(path.clone(), *inode);
                // A freed number may be given to a new file.
                self.files.insert(*inode, Vec::new());
            }
            Event::Write(inode, at, bytes) => self.write(*inode, *at, bytes),
            Event::SetSize(inode, size) => self.files.entry(*inode).or_default().resize(*size, 0),
            Event::Rename(from, to) => match self.names.remove(from) {
                Some(inode) => _ = self.names.insert(to.clone(), inode),
                None => self.move_folder(from, to),
            },
            Event::Link(from, to) => {
                if let Some(inode) = self.names.get(from) {
                    self.names.insert(to.clone(), *inode);
                }
            }
            Event::Unlink(path) => _ = self.names.remove(path),
            Event::MakeDir(path) => _ = self.dirs.insert(path.clone()),
            Event::RemoveDir(path) => _ = self.dirs.remove(path),
            Event::Sync(_) | Event::Acknowledged(_) => {}
        }
    }

    fn write(&mut self, inode: u64, at: usize, bytes: &[u8]) {
        let file = self.files.entry(inode).or_default();
        if file.len() < at + bytes.len() {
            file.resize(at + bytes.len(), 0);
        }
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn move_folder(&mut self, from: &Path, to: &Path) {
        let moved = |p: &PathBuf| p.strip_prefix(from).ok().map(|rest| to.join(rest));
        let names = std::mem::take(&mut self.names);
        self.names = names.into_iter().map(|(p, inode)| (moved(&p).unwrap_or(p), inode)).collect();
        let dirs = std::mem::take(&mut self.dirs);
        self.dirs = dirs.into_iter().map(|p| moved(&p).unwrap_or(p)).collect();
    }

    /// Writes what lies below `root` into the folder `to`.
    pub fn restore(&self, root: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for dir in self.dirs.iter().filter_map(|d| d.strip_prefix(root).ok()) {
            std::fs::create_dir_all(to.join(dir)).unwrap();
        }
        for (path, inode) in &self.names {
            let Ok(path) = path.strip_prefix(root) else { continue };
            // Shared memory does not survive a power cut, and is not recorded.
            if path.to_string_lossy().ends_with("-shm") {
                continue;
            }
            let path = to.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, self.files.get(inode).map_or(&[][..], Vec::as_slice)).unwrap();
        }
    }
}

/// Plays a recording; at any moment it can be asked what a cut would leave.
#[derive(Debug, Default)]
pub struct Player {
    /// What is surely on disk.
    synced: Disk,
    /// What is not, in order.
    pending: Vec<Event>,
    /// What clients were told so far.
    pub told: Vec<Ack>,
}

impl Player {
    pub fn play(&mut self, event: &Event) {
        match event {
            Event::Acknowledged(ack) => self.told.push(*ack),
            Event::Sync(inode) => {
                for event in std::mem::take(&mut self.pending) {
                    match &event {
                        Event::Write(of, ..) if of != inode => self.pending.push(event),
                        _ => self.synced.apply(&event),
                    }
                }
            }
            other => self.pending.push(other.clone()),
        }
    }

    /// One of the disks that a cut now could leave.
    pub fn cut(&self, how: Cut, rng: &mut fastrand::Rng) -> Disk {
        let mut disk = self.synced.clone();
        let is_data = |e: &&Event| matches!(e, Event::Write(..));
        let metadata = self.pending.iter().filter(|e| !is_data(e)).count();
        let mut metadata_kept = match how {
            Cut::Dropped => 0,
            Cut::Kept => metadata,
            Cut::Pages | Cut::Sectors => rng.usize(..=metadata),
        };
        for event in &self.pending {
            match (event, how) {
                (Event::Write(..), Cut::Dropped) => {}
                (Event::Write(..), Cut::Kept) => disk.apply(event),
                (Event::Write(inode, at, bytes), _) => {
                    let step = if how == Cut::Pages { 4096 } else { 512 };
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = (((at + from) / step + 1) * step - at).min(bytes.len());
                        if rng.bool() {
                            disk.write(*inode, at + from, &bytes[from..to]);
                        }
                        from = to;
                    }
                }
                _ if metadata_kept > 0 => {
                    metadata_kept -= 1;
                    disk.apply(event);
                }
                _ => {}
            }
        }
        disk
    }
}
