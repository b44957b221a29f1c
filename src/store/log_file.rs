//! The log's file under SQLite's hands: one write and one `fdatasync` a commit.
//!
//! Left to itself, SQLite writes each page of a commit with two calls, and then calls `fsync`, which on ext4
//! writes the file's times through the journal as well. For a group of ten tasks that is a third of the commit's
//! time. The file is therefore ours: writes that follow one another are gathered and go out as one before
//! anything is read, measured or synced. Nothing else of SQLite's ways with files is touched; the database, the
//! shared index and all locks remain the system's default.
//!
//! Why gathering is safe: SQLite syncs a commit (`synchronous = FULL`) before it tells other connections of
//! its frames, so what they look for is in the file. Frames of a transaction that is not committed are looked
//! for by their own connection only, whose reads come here.
//!
//! There are two such file systems, by name: [`SYNCED`], and [`LAZY`], where the sync of a commit writes but does
//! not sync. (SQLite's other syncs of the log, around a checkpoint, do in both: they are told apart by
//! `checkpoint_fullfsync`.)

use rusqlite::ffi;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// Every commit is on disk when it returns.
pub(super) const SYNCED: &CStr = c"forestage";
/// Every commit is written when it returns.
pub(super) const LAZY: &CStr = c"forestage-lazy";

/// More than this is not gathered.
const GATHER_BYTES: usize = 1 << 20;

/// Makes both names known to SQLite, once a process.
///
/// # Errors
/// SQLite's code, if it has no file system of its own or refuses ours.
pub(super) fn register() -> Result<(), c_int> {
    static DONE: OnceLock<Result<(), c_int>> = OnceLock::new();
    *DONE.get_or_init(|| add(SYNCED, false).and_then(|()| add(LAZY, true)))
}

/// What a file system of ours needs to know.
struct Own {
    /// The one it stands before.
    system: *mut ffi::sqlite3_vfs,
    lazy: bool,
}

fn add(name: &'static CStr, lazy: bool) -> Result<(), c_int> {
    // SAFETY: null asks for the default file system; what comes back is null or lives as long as the process.
    let system = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
    if system.is_null() {
        return Err(ffi::SQLITE_NOTFOUND);
    }
    // SAFETY: it is not null, and the struct is plain data that SQLite itself copies from.
    let mut ours = unsafe { *system };
    let own = Box::leak(Box::new(Own { system, lazy }));
    ours.pNext = std::ptr::null_mut();
    ours.zName = name.as_ptr();
    ours.szOsFile += HEAD_BYTES as c_int;
    ours.pAppData = std::ptr::from_mut(own).cast();
    ours.xOpen = Some(open);
    // Made before any connection and never taken back: SQLite keeps the pointer.
    let ours = Box::leak(Box::new(ours));
    // SAFETY: `ours` is complete and is never freed; 0: it does not become the default.
    match unsafe { ffi::sqlite3_vfs_register(ours, 0) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(code),
    }
}

/// What SQLite holds as an open log. The system's own file object follows it in the same allocation, because
/// `szOsFile` asks for room for both.
#[repr(C)]
struct LogFile {
    methods: *const ffi::sqlite3_io_methods,
    system: *mut ffi::sqlite3_file,
    log: *mut Log,
}

const HEAD_BYTES: usize = size_of::<LogFile>();
// SQLite aligns file objects to eight bytes, ours must leave the system's at such a place.
const _: () = assert!(HEAD_BYTES.is_multiple_of(8) && align_of::<LogFile>() <= 8);

/// The log's file and what was not written to it yet.
struct Log {
    file: File,
    gathered: Vec<u8>,
    /// Where the gathered bytes belong.
    at: u64,
    lazy: bool,
}

impl Log {
    fn write(&mut self, bytes: &[u8], at: u64) -> std::io::Result<()> {
        let follows = at == self.at + self.gathered.len() as u64;
        if !follows || self.gathered.len() + bytes.len() > GATHER_BYTES {
            self.put()?;
            self.at = at;
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what was gathered. After an error it is gone: SQLite gives the transaction up.
    fn put(&mut self) -> std::io::Result<()> {
        let result = self.file.write_all_at(&self.gathered, self.at);
        self.gathered.clear();
        self.at = u64::MAX;
        result
    }

    /// Reads; how many bytes there were.
    fn read(&mut self, into: &mut [u8], at: u64) -> std::io::Result<usize> {
        self.put()?;
        let mut n = 0;
        while n < into.len() {
            match self.file.read_at(&mut into[n..], at + n as u64) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(n)
    }

    fn sync(&mut self, of_commit: bool) -> std::io::Result<()> {
        self.put()?;
        if of_commit && self.lazy { Ok(()) } else { self.file.sync_data() }
    }
}

/// SQLite's code for an I/O error; a full disk has one of its own.
fn code(result: std::io::Result<()>, otherwise: c_int) -> c_int {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match result {
        Ok(()) => ffi::SQLITE_OK,
        Err(e) if matches!(e.kind(), StorageFull | QuotaExceeded) => ffi::SQLITE_FULL,
        Err(_) => otherwise,
    }
}

/// Opens any file as the system does; one that is a log gets our methods in front of the system's.
unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes the struct that `add` registered, whose `pAppData` is a leaked `Own`.
    let own = unsafe { &*(*vfs).pAppData.cast::<Own>() };
    // SAFETY: the system's struct lives as long as the process.
    let Some(system_open) = (unsafe { (*own.system).xOpen }) else { return ffi::SQLITE_CANTOPEN };
    if flags & ffi::SQLITE_OPEN_WAL == 0 || name.is_null() {
        // SAFETY: the arguments are SQLite's own, passed on as they are; there is room for the system's object.
        return unsafe { system_open(own.system, name, file, flags, out_flags) };
    }
    let ours = file.cast::<LogFile>();
    // SAFETY: the allocation has `szOsFile` bytes, `HEAD_BYTES` more than the system's object needs.
    let system = unsafe { file.cast::<u8>().add(HEAD_BYTES) }.cast::<ffi::sqlite3_file>();
    // SAFETY: `ours` is writable and aligned; null methods tell SQLite that there is nothing to close yet. The
    // system's object gets the arguments that SQLite meant for it.
    let opened = unsafe {
        (*ours).methods = std::ptr::null();
        (*system).pMethods = std::ptr::null();
        system_open(own.system, name, system, flags, out_flags)
    };
    if opened != ffi::SQLITE_OK {
        // SAFETY: `system` is as the system's open left it.
        unsafe { close_system(system) };
        return opened;
    }
    // SAFETY: a file that was opened has a name, which SQLite ends with a zero byte.
    let path = OsStr::from_bytes(unsafe { CStr::from_ptr(name.cast::<c_char>()) }.to_bytes());
    let write = flags & ffi::SQLITE_OPEN_READWRITE != 0;
    let Ok(file) = File::options().read(true).write(write).open(path) else {
        // SAFETY: it was opened above.
        unsafe { close_system(system) };
        return ffi::SQLITE_CANTOPEN;
    };
    let log = Box::new(Log { file, gathered: Vec::new(), at: u64::MAX, lazy: own.lazy });
    // SAFETY: `ours` is writable and aligned; from here on it is whole.
    unsafe { ours.write(LogFile { methods: &METHODS, system, log: Box::into_raw(log) }) };
    ffi::SQLITE_OK
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    // A log is not locked: the shared index is.
    xLock: Some(no_lock),
    xUnlock: Some(no_lock),
    xCheckReservedLock: Some(no_reserved),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// The log behind a file object.
///
/// # Safety
/// `file` was opened by [`open`] as a log and is not closed. SQLite calls its methods one at a time.
unsafe fn log<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Log {
    // SAFETY: `open` left a whole `LogFile` there, whose `log` only `close` frees.
    unsafe { &mut *(*file.cast::<LogFile>()).log }
}

/// The system's object behind ours, with its methods.
///
/// # Safety
/// As for [`log`].
unsafe fn system<'a>(file: *mut ffi::sqlite3_file) -> (*mut ffi::sqlite3_file, &'a ffi::sqlite3_io_methods) {
    // SAFETY: the system's open succeeded, so its methods are set, and they are static.
    unsafe {
        let system = (*file.cast::<LogFile>()).system;
        (system, &*(*system).pMethods)
    }
}

/// Closes the system's object, if its open got so far as to need that.
///
/// # Safety
/// `system` was passed to the system's open and is not closed.
unsafe fn close_system(system: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: methods are null or the system's own.
    match unsafe { (*system).pMethods.as_ref() }.and_then(|m| m.xClose) {
        // SAFETY: it is the system's own object.
        Some(close) => unsafe { close(system) },
        None => ffi::SQLITE_OK,
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let ours = file.cast::<LogFile>();
    // SAFETY: SQLite closes a file once; the box is the one that `open` made.
    let mut log = unsafe { Box::from_raw((*ours).log) };
    let put = code(log.put(), ffi::SQLITE_IOERR_WRITE);
    drop(log);
    // SAFETY: it was opened by `open` and is closed here only.
    let closed = unsafe { close_system((*ours).system) };
    if put == ffi::SQLITE_OK { closed } else { put }
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, into: *mut c_void, n: c_int, at: i64) -> c_int {
    let (Ok(n), Ok(at)) = (usize::try_from(n), u64::try_from(at)) else { return ffi::SQLITE_IOERR_READ };
    // SAFETY: SQLite passes room for `n` bytes, and an open log.
    let (into, log) = unsafe { (std::slice::from_raw_parts_mut(into.cast::<u8>(), n), log(file)) };
    match log.read(into, at) {
        Ok(got) if got == n => ffi::SQLITE_OK,
        Ok(got) => {
            // What is not there reads as zeros: SQLite counts on it.
            into[got..].fill(0);
            ffi::SQLITE_IOERR_SHORT_READ
        }
        Err(_) => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, n: c_int, at: i64) -> c_int {
    let (Ok(n), Ok(at)) = (usize::try_from(n), u64::try_from(at)) else { return ffi::SQLITE_IOERR_WRITE };
    // SAFETY: SQLite passes `n` bytes, and an open log.
    let (bytes, log) = unsafe { (std::slice::from_raw_parts(from.cast::<u8>(), n), log(file)) };
    code(log.write(bytes, at), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: SQLite passes an open log.
    let log = unsafe { log(file) };
    let cut = log.put().and_then(|()| log.file.set_len(u64::try_from(size).unwrap_or(0)));
    code(cut, ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let of_commit = flags & 0x0f != ffi::SQLITE_SYNC_FULL;
    // SAFETY: SQLite passes an open log.
    code(unsafe { log(file) }.sync(of_commit), ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: SQLite passes an open log.
    let log = unsafe { log(file) };
    match log.put().and_then(|()| log.file.metadata()) {
        Ok(m) => {
            // SAFETY: SQLite passes room for the answer.
            unsafe { *size = i64::try_from(m.len()).unwrap_or(i64::MAX) };
            ffi::SQLITE_OK
        }
        Err(_) => ffi::SQLITE_IOERR_FSTAT,
    }
}

unsafe extern "C" fn no_lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn no_reserved(_: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes room for the answer.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    // SAFETY: SQLite passes an open log; the request is its own, for the system's object.
    unsafe {
        let (system, methods) = system(file);
        methods.xFileControl.map_or(ffi::SQLITE_NOTFOUND, |f| f(system, op, arg))
    }
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite passes an open log.
    unsafe {
        let (system, methods) = system(file);
        methods.xSectorSize.map_or(4096, |f| f(system))
    }
}

unsafe extern "C" fn characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite passes an open log.
    unsafe {
        let (system, methods) = system(file);
        methods.xDeviceCharacteristics.map_or(0, |f| f(system))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::{Connection, OpenFlags};

    fn connect(db: &std::path::Path, name: &CStr) -> Connection {
        register().unwrap();
        let conn = Connection::open_with_flags_and_vfs(db, OpenFlags::default(), name).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = 20")
            .unwrap();
        conn
    }

    #[test]
    fn a_connection_without_it_sees_every_commit_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        for name in [SYNCED, LAZY] {
            let db = dir.path().join(name.to_str().unwrap());
            let conn = connect(&db, name);
            conn.execute_batch("CREATE TABLE t(x)").unwrap();
            let other = Connection::open(&db).unwrap();
            let count =
                |c: &Connection| c.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).unwrap();
            // A small cache, so that pages of an open transaction go to the log and are read back from it.
            let fill = "INSERT INTO t SELECT randomblob(900) FROM (WITH RECURSIVE n(i) AS
                        (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i FROM n)";
            for round in 1..=4 {
                conn.execute_batch(&format!("BEGIN; {fill}; {fill}; UPDATE t SET x = randomblob(800)"))
                    .unwrap();
                assert_eq!((count(&conn), count(&other)), (1_000 * round, 1_000 * (round - 1)));
                conn.execute_batch("COMMIT").unwrap();
                assert_eq!(count(&other), 1_000 * round);
                conn.execute_batch(&format!("BEGIN; {fill}; ROLLBACK")).unwrap();
                assert_eq!(count(&conn), 1_000 * round);
            }
            let sound: String = other.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
            assert_eq!(sound, "ok");
            drop(other);
            conn.close().unwrap();
            assert_eq!(count(&Connection::open(&db).unwrap()), 4_000);
        }
    }

    #[test]
    fn a_commit_is_one_write() {
        let dir = tempfile::tempdir().unwrap();
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(dir.path().join("f"));
        let mut log = Log { file: file.unwrap(), gathered: Vec::new(), at: u64::MAX, lazy: false };
        log.write(&[1; 24], 32).unwrap();
        log.write(&[2; 100], 56).unwrap();
        assert_eq!((log.file.metadata().unwrap().len(), log.gathered.len()), (0, 124));
        log.write(&[3; 10], 40).unwrap();
        assert_eq!(log.file.metadata().unwrap().len(), 156, "what does not follow sends the rest out");
        let mut back = [0; 200];
        assert_eq!(log.read(&mut back, 30).unwrap(), 126);
        assert_eq!(back[..12], [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3]);
    }
}
