//! Ghosts: the names and sizes of entries that left not long ago.
//!
//! A miss on a ghost says that a larger share would have kept the object. Bounded by bytes (the caller's
//! figure) and by number, oldest first out.

use super::keys::KeyMap;

/// No list of ghosts is longer: at 24 bytes each and their index, about 8 MiB.
const MAX_GHOSTS: usize = 1 << 17;

const NIL: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Ghost {
    key: u64,
    bytes: u64,
    older: u32,
    newer: u32,
}

/// A list of ghosts, oldest first.
pub(super) struct Ghosts {
    at: KeyMap<u32>,
    ghosts: Vec<Ghost>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    bytes: u64,
}

impl Ghosts {
    /// None yet.
    pub(super) fn new() -> Ghosts {
        Ghosts { at: KeyMap::default(), ghosts: vec![], free: vec![], oldest: NIL, newest: NIL, bytes: 0 }
    }
    /// Sum of the sizes that the ghosts had.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
    /// An entry left.
    pub(super) fn push(&mut self, key: u64, bytes: u64) {
        self.remove(key);
        if self.at.len() >= MAX_GHOSTS {
            self.pop();
        }
        let ghost = Ghost { key, bytes, older: self.newest, newer: NIL };
        let i = match self.free.pop() {
            Some(i) => {
                self.ghosts[i as usize] = ghost;
                i
            }
            None => {
                self.ghosts.push(ghost);
                self.ghosts.len() as u32 - 1
            }
        };
        match self.newest {
            NIL => self.oldest = i,
            n => self.ghosts[n as usize].newer = i,
        }
        self.newest = i;
        self.at.insert(key, i);
        self.bytes += bytes;
    }
    /// Forgets one; says whether it was there.
    pub(super) fn remove(&mut self, key: u64) -> bool {
        let Some(i) = self.at.remove(&key) else { return false };
        let Ghost { bytes, older, newer, .. } = self.ghosts[i as usize];
        match older {
            NIL => self.oldest = newer,
            o => self.ghosts[o as usize].newer = newer,
        }
        match newer {
            NIL => self.newest = older,
            n => self.ghosts[n as usize].older = older,
        }
        self.free.push(i);
        self.bytes -= bytes;
        true
    }
    /// Forgets the oldest; says whether there was one.
    pub(super) fn pop(&mut self) -> bool {
        self.oldest != NIL && self.remove(self.ghosts[self.oldest as usize].key)
    }
    /// Memory, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.ghosts.capacity() * size_of::<Ghost>() + self.at.capacity() * 17 + self.free.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_ghost_goes_first_and_bytes_add_up() {
        let mut ghosts = Ghosts::new();
        for key in 0..5 {
            ghosts.push(key, 10 + key);
        }
        assert!(ghosts.remove(0));
        ghosts.push(1, 100);
        assert!(ghosts.pop(), "2 is now the oldest");
        assert!(!ghosts.remove(2));
        assert_eq!(ghosts.bytes(), 13 + 14 + 100);
        while ghosts.pop() {}
        assert_eq!(ghosts.bytes(), 0);
    }

    #[test]
    fn number_of_ghosts_is_bounded() {
        let mut ghosts = Ghosts::new();
        for key in 0..MAX_GHOSTS as u64 + 10 {
            ghosts.push(key, 1);
        }
        assert_eq!(ghosts.bytes(), MAX_GHOSTS as u64);
        assert!(!ghosts.remove(9) && ghosts.remove(10));
    }
}
