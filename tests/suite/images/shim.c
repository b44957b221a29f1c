// Stands between a process and its file system (LD_PRELOAD), for the folders named in SHIM_DIRS (colon-separated).
//
// Records: each change and each sync is appended to SHIM_LOG, in the order in which they happened, as a header
// {kind, inode, offset, length} and its data:
//   C create (path)    W write (bytes)    T set size    S sync of data    R rename, L link (from \n to)
//   U unlink, M make folder, D remove folder (path)
// Fails: if the file SHIM_FAULT exists, its content "write 28" or "sync 5" makes every write or sync give that errno.
//
// Stores through mmap are not seen: SQLite's -shm, which is rebuilt anyway.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name)                                                                                                  \
    static __typeof__(name) *real;                                                                                  \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define LOCK pthread_mutex_lock(&order)
#define UNLOCK pthread_mutex_unlock(&order)

enum { PATH = 1024 };
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int journal = -1;

static int raw_open(const char *path, int flags, mode_t mode) {
    static int (*real)(const char *, int, ...);
    if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    return real(path, flags, mode);
}
static ssize_t raw_write(int fd, const void *bytes, size_t n) {
    REAL(write);
    return real(fd, bytes, n);
}

static int is_ours(const char *path) {
    const char *dirs = getenv("SHIM_DIRS");
    while (dirs && *dirs) {
        const char *end = strchrnul(dirs, ':');
        size_t n = (size_t)(end - dirs);
        if (n && !strncmp(path, dirs, n) && (path[n] == '/' || path[n] == 0)) return 1;
        dirs = *end ? end + 1 : end;
    }
    return 0;
}
// The path of a descriptor; 0 if there is none.
static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH - 1);
    path[n > 0 ? n : 0] = 0;
    return n > 0;
}
static int is_our_fd(int fd, int64_t *inode) {
    char path[PATH];
    struct stat s;
    if (fd <= 2 || !path_of(fd, path) || !is_ours(path) || fstat(fd, &s) || S_ISDIR(s.st_mode)) return 0;
    *inode = (int64_t)s.st_ino;
    return 1;
}
static void absolute(int dir, const char *path, char *out) {
    char base[PATH];
    if (path[0] == '/') {
        snprintf(out, PATH, "%s", path);
        return;
    }
    if (dir != AT_FDCWD ? !path_of(dir, base) : !getcwd(base, sizeof base)) base[0] = 0;
    snprintf(out, PATH, "%.500s/%.500s", base, path);
}

struct header {
    int64_t kind, inode, offset, length;
};
static void note(char kind, int64_t inode, int64_t offset, const void *bytes, size_t n) {
    const char *log = getenv("SHIM_LOG");
    if (!log) return;
    if (journal < 0) journal = raw_open(log, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644);
    struct header h = {kind, inode, offset, (int64_t)n};
    // One piece, so that what another process appends never lands in the middle.
    char *whole = malloc(sizeof h + n);
    if (!whole) abort();
    memcpy(whole, &h, sizeof h);
    if (n) memcpy(whole + sizeof h, bytes, n);
    if (raw_write(journal, whole, sizeof h + n) != (ssize_t)(sizeof h + n)) abort();
    free(whole);
}
static void note_paths(char kind, const char *from, const char *to) {
    char both[2 * PATH];
    if (!is_ours(from) && !is_ours(to)) return;
    int n = snprintf(both, sizeof both, "%s\n%s", from, to);
    note(kind, 0, 0, both, (size_t)n);
}

// The errno that `what` is to fail with now; 0 for none.
static int fault(const char *what) {
    const char *path = getenv("SHIM_FAULT");
    char text[64];
    if (!path) return 0;
    int fd = raw_open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    size_t length = strlen(what);
    return !strncmp(text, what, length) && text[length] == ' ' ? atoi(text + length + 1) : 0;
}
static int fails(const char *what) {
    int code = fault(what);
    if (code) errno = code;
    return code;
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
    REAL(pwrite64);
    int64_t inode;
    if (!is_our_fd(fd, &inode)) return real(fd, bytes, n, at);
    if (fails("write")) return -1;
    LOCK;
    ssize_t done = real(fd, bytes, n, at);
    if (done > 0) note('W', inode, at, bytes, (size_t)done);
    if (done > 0 && (fcntl(fd, F_GETFL) & O_DSYNC)) note('S', inode, 0, 0, 0);
    UNLOCK;
    return done;
}
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) { return pwrite64(fd, bytes, n, at); }
ssize_t write(int fd, const void *bytes, size_t n) {
    int64_t inode;
    if (!is_our_fd(fd, &inode)) return raw_write(fd, bytes, n);
    if (fails("write")) return -1;
    LOCK;
    ssize_t done = raw_write(fd, bytes, n);
    if (done > 0) note('W', inode, lseek(fd, 0, SEEK_CUR) - done, bytes, (size_t)done);
    UNLOCK;
    return done;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    int64_t inode;
    if (!is_our_fd(fd, &inode)) return real(fd, parts, count);
    ssize_t sum = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (done < 0) return sum ? sum : done;
        sum += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return sum;
}
static int synced(int fd, int result, int64_t inode) {
    if (!result) note('S', inode, 0, 0, 0);
    (void)fd;
    return result;
}
int fdatasync(int fd) {
    REAL(fdatasync);
    int64_t inode;
    if (!is_our_fd(fd, &inode)) return real(fd);
    if (fails("sync")) return -1;
    LOCK;
    int result = synced(fd, real(fd), inode);
    UNLOCK;
    return result;
}
int fsync(int fd) {
    REAL(fsync);
    char path[PATH];
    int64_t inode;
    if (!is_our_fd(fd, &inode)) {
        // A folder's sync makes names durable.
        inode = 0;
        if (!path_of(fd, path) || !is_ours(path)) return real(fd);
    }
    if (fails("sync")) return -1;
    LOCK;
    int result = synced(fd, real(fd), inode);
    UNLOCK;
    return result;
}
int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    int64_t inode;
    if (!is_our_fd(fd, &inode)) return real(fd, size);
    LOCK;
    int result = real(fd, size);
    if (!result) note('T', inode, size, 0, 0);
    UNLOCK;
    return result;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fallocate64(int fd, int mode, off64_t at, off64_t length) {
    REAL(fallocate64);
    int64_t inode;
    struct stat s;
    if (!is_our_fd(fd, &inode)) return real(fd, mode, at, length);
    if (fails("write")) return -1;
    LOCK;
    int result = real(fd, mode, at, length);
    if (!result && !fstat(fd, &s)) note('T', inode, s.st_size, 0, 0);
    UNLOCK;
    return result;
}
int fallocate(int fd, int mode, off_t at, off_t length) { return fallocate64(fd, mode, at, length); }
int posix_fallocate64(int fd, off64_t at, off64_t length) { return fallocate64(fd, 0, at, length) ? errno : 0; }
int posix_fallocate(int fd, off_t at, off_t length) { return posix_fallocate64(fd, at, length); }

static int open_at(int dir, const char *name, int flags, mode_t mode) {
    static int (*real)(int, const char *, int, ...);
    if (!real) real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat");
    char path[PATH];
    struct stat s;
    if (!(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE) return real(dir, name, flags, mode);
    absolute(dir, name, path);
    if (!is_ours(path)) return real(dir, name, flags, mode);
    LOCK;
    int is_new = faccessat(dir, name, F_OK, 0);
    int fd = real(dir, name, flags, mode);
    if (fd >= 0 && !fstat(fd, &s) && !S_ISDIR(s.st_mode)) {
        if (is_new) note('C', (int64_t)s.st_ino, 0, path, strlen(path));
        else if (flags & O_TRUNC) note('T', (int64_t)s.st_ino, 0, 0, 0);
    }
    UNLOCK;
    return fd;
}
#define OPEN(name, ...)                                                                                             \
    va_list rest;                                                                                                   \
    va_start(rest, flags);                                                                                          \
    mode_t mode = va_arg(rest, mode_t);                                                                             \
    va_end(rest);                                                                                                   \
    return open_at(__VA_ARGS__, name, flags, mode)
int open(const char *name, int flags, ...) { OPEN(name, AT_FDCWD); }
int open64(const char *name, int flags, ...) { OPEN(name, AT_FDCWD); }
int openat(int dir, const char *name, int flags, ...) { OPEN(name, dir); }
int openat64(int dir, const char *name, int flags, ...) { OPEN(name, dir); }

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    REAL(renameat);
    char a[PATH], b[PATH];
    absolute(from_dir, from, a);
    absolute(to_dir, to, b);
    LOCK;
    int result = real(from_dir, from, to_dir, to);
    if (!result) note_paths('R', a, b);
    UNLOCK;
    return result;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    REAL(linkat);
    char a[PATH], b[PATH];
    absolute(from_dir, from, a);
    absolute(to_dir, to, b);
    LOCK;
    int result = real(from_dir, from, to_dir, to, flags);
    if (!result) note_paths('L', a, b);
    UNLOCK;
    return result;
}
int unlinkat(int dir, const char *name, int flags) {
    REAL(unlinkat);
    char path[PATH];
    absolute(dir, name, path);
    LOCK;
    int result = real(dir, name, flags);
    if (!result) note_paths(flags & AT_REMOVEDIR ? 'D' : 'U', path, "");
    UNLOCK;
    return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int mkdirat(int dir, const char *name, mode_t mode) {
    REAL(mkdirat);
    char path[PATH];
    absolute(dir, name, path);
    LOCK;
    int result = real(dir, name, mode);
    if (!result) note_paths('M', path, "");
    UNLOCK;
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
