/* A disk that fails when told to, preloaded into a test's child process (LD_PRELOAD).
 *
 * It stands between the process and the files below one folder, and knows of each what a disk
 * would have if the power went now: what was written or renamed since the last successful sync
 * is remembered with what was there before. A crash gives some of it back and kills the process;
 * a failed sync makes it lost (the page cache still shows it, no later sync saves it), as Linux
 * does; POSIX_FADV_DONTNEED makes what is lost visible.
 *
 * System calls are caught by a seccomp filter that turns them into SIGSYS, not by replacing
 * functions of libc: Rust crates also make system calls without libc. Our own calls carry PASS
 * in the sixth argument, which none of the caught ones uses.
 *
 * Simplified: the old content of a sector is that of the last sync, never one in between; names
 * become durable in their order; a file's name needs a sync of its folder, not only of the file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define ARG(u, i) ((u)->uc_mcontext.gregs[(const int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9}[i]])
#define RESULT(u) ((u)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#define ARG(u, i) ((u)->uc_mcontext.regs[i])
#define RESULT(u) ((u)->uc_mcontext.regs[0])
#else
#error "no fault injection for this processor"
#endif

#define PASS 0x6477637064776370L
#define SECTOR 512
#define BUCKETS 1024

/* Classes of operations that can be counted, and what is done at the chosen one. */
enum { WRITE = 1, SYNC = 2, NAME = 4, READ = 8 };
enum { GO = 0, FAIL = 1, BEFORE = 2, TORN = 3, AFTER = 4 };
enum { KEEP_NOTHING = 0, KEEP_SOME = 1, KEEP_ALL = 2 };

struct sector { uint64_t no; int lost; struct sector *next; unsigned char old[SECTOR]; };
struct file {
    uint64_t ino;
    int fd;
    uint64_t durable_len;
    struct sector *dirty[BUCKETS];
    struct file *next;
};
enum { MADE, REMOVED, RENAMED, FOLDER };
struct name { int what; uint64_t folder; char *from, *to, *kept; };

/* Our own malloc may make a caught call of files outside the root (glibc counts processors). */
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char root[PATH_MAX], trash[PATH_MAX];
static size_t root_len;
static long watched, at, times, act, error_no, keep, cut, seen;
static const char *tally;
static uint64_t random_state;
static struct file *files;
static struct name *names;
static size_t name_count, name_room, kept_count;

static long call(long nr, long a, long b, long c, long d, long e) {
    long r = syscall(nr, a, b, c, d, e, PASS);
    return r == -1 ? -errno : r;
}
#define CALL(nr, ...) CALL_(nr, __VA_ARGS__, 0, 0, 0, 0, 0)
#define CALL_(nr, a, b, c, d, e, ...) call(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

static uint64_t chance(uint64_t below) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return below ? (random_state >> 33) % below : 0;
}

/* ---- names ---- */

static uint64_t folder_of(const char *path) {
    char folder[PATH_MAX];
    struct stat s;
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0;
    return stat(folder, &s) == 0 ? s.st_ino : 0;
}

static void note_name(int what, const char *from, const char *to, char *kept) {
    if (name_count == name_room) {
        name_room = name_room ? 2 * name_room : 64;
        names = realloc(names, name_room * sizeof *names);
    }
    names[name_count++] =
        (struct name){what, folder_of(from), strdup(from), to ? strdup(to) : NULL, kept};
}

/* Another name for a file that is about to lose its own, so that it can come back. */
static char *keep_file(const char *path) {
    char kept[PATH_MAX + 32];
    snprintf(kept, sizeof kept, "%s/%zu", trash, kept_count++);
    long r = CALL(SYS_linkat, AT_FDCWD, path, AT_FDCWD, kept);
    return r == 0 ? strdup(kept) : NULL;
}

static void undo_name(const struct name *n) {
    switch (n->what) {
    case MADE: CALL(SYS_unlinkat, AT_FDCWD, n->from); break;
    case FOLDER: CALL(SYS_unlinkat, AT_FDCWD, n->from, AT_REMOVEDIR); break;
    case REMOVED:
        if (n->kept) CALL(SYS_renameat2, AT_FDCWD, n->kept, AT_FDCWD, n->from);
        break;
    case RENAMED:
        CALL(SYS_renameat2, AT_FDCWD, n->to, AT_FDCWD, n->from);
        if (n->kept) CALL(SYS_renameat2, AT_FDCWD, n->kept, AT_FDCWD, n->to);
        break;
    }
}

static void names_synced(uint64_t folder) {
    size_t left = 0;
    for (size_t i = 0; i < name_count; i++)
        if (names[i].folder != folder) names[left++] = names[i];
    name_count = left;
}

/* The whole path, and whether it is below the root. */
static int inside(int dir, const char *path, char *full) {
    char base[PATH_MAX] = "", link[64];
    if (path[0] != '/') {
        if (dir == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
            ssize_t n = readlink(link, base, sizeof base - 1);
            if (n < 0) return 0;
            base[n] = 0;
        }
        if (snprintf(full, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
    } else if (snprintf(full, PATH_MAX, "%s", path) >= PATH_MAX) {
        return 0;
    }
    return strncmp(full, root, root_len) == 0 && full[root_len] == '/';
}

/* ---- contents ---- */

static uint64_t len_of(int fd) {
    struct stat s;
    return fstat(fd, &s) == 0 ? (uint64_t)s.st_size : 0;
}

static struct file *find(int fd) {
    struct stat s;
    if (fstat(fd, &s) || !S_ISREG(s.st_mode)) return NULL;
    for (struct file *f = files; f; f = f->next)
        if (f->ino == s.st_ino) return f;
    return NULL;
}

static void track(int fd, int is_new) {
    struct stat s;
    char link[64];
    if (find(fd) || fstat(fd, &s) || !S_ISREG(s.st_mode)) return;
    struct file *f = calloc(1, sizeof *f);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    f->ino = s.st_ino;
    f->fd = (int)CALL(SYS_openat, AT_FDCWD, link, O_RDWR | O_CLOEXEC);
    f->durable_len = is_new ? 0 : (uint64_t)s.st_size;
    f->next = files;
    files = f;
}

/* Remembers what is there now of every sector from one byte to another. */
static void save(struct file *f, uint64_t from, uint64_t to) {
    uint64_t len = len_of(f->fd);
    for (uint64_t no = from / SECTOR; no * SECTOR < to; no++) {
        struct sector *s = f->dirty[no % BUCKETS];
        while (s && s->no != no) s = s->next;
        if (s) {
            s->lost = 0; /* written again: the next sync can save it */
            continue;
        }
        s = calloc(1, sizeof *s);
        s->no = no;
        if (no * SECTOR < len) CALL(SYS_pread64, f->fd, s->old, SECTOR, no * SECTOR);
        s->next = f->dirty[no % BUCKETS];
        f->dirty[no % BUCKETS] = s;
    }
}

static void give_back(struct file *f, const struct sector *s, uint64_t len) {
    uint64_t from = s->no * SECTOR;
    if (from < len) CALL(SYS_pwrite64, f->fd, s->old, len - from < SECTOR ? len - from : SECTOR, from);
}

/* A sync: what is dirty becomes durable, or lost when it fails. */
static void synced(struct file *f, int ok) {
    for (int b = 0; b < BUCKETS; b++) {
        struct sector **link = &f->dirty[b];
        while (*link) {
            struct sector *s = *link;
            if (!ok) s->lost = 1;
            if (s->lost) {
                link = &s->next;
            } else {
                *link = s->next;
                free(s);
            }
        }
    }
    if (ok) f->durable_len = len_of(f->fd);
}

/* The kernel drops its pages: what was lost is no longer shown. */
static void dropped(struct file *f) {
    for (int b = 0; b < BUCKETS; b++) {
        struct sector **link = &f->dirty[b];
        while (*link) {
            struct sector *s = *link;
            if (!s->lost) {
                link = &s->next;
                continue;
            }
            give_back(f, s, len_of(f->fd));
            *link = s->next;
            free(s);
        }
    }
}

/* What a disk has after the power went. */
static void power_off(struct file *f) {
    uint64_t now = len_of(f->fd);
    int old_len = keep == KEEP_NOTHING || (now != f->durable_len && chance(2));
    uint64_t len = old_len ? f->durable_len : now;
    for (int b = 0; b < BUCKETS; b++)
        for (struct sector *s = f->dirty[b]; s; s = s->next)
            /* What a file lost by being cut off comes back with its length. */
            if (keep == KEEP_NOTHING || s->lost || s->no * SECTOR >= now || chance(2))
                give_back(f, s, len);
    CALL(SYS_ftruncate, f->fd, len);
}

static void crash(void) {
    if (keep != KEEP_ALL) {
        for (struct file *f = files; f; f = f->next) power_off(f);
        size_t stay = keep == KEEP_SOME ? chance(name_count + 1) : 0;
        while (name_count > stay) undo_name(&names[--name_count]);
    }
    CALL(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts an operation and says what happens to it. */
static int point(int class) {
    if (!(class & watched)) return GO;
    seen++;
    if (!at || seen < at || (times && seen >= at + times)) return GO;
    if (act == BEFORE) crash();
    return (int)act;
}

/* ---- system calls ---- */

static long on_open(long nr, int dir, const char *path, int flags, int mode) {
    char full[PATH_MAX];
    if (!inside(dir, path, full)) return CALL(nr, dir, path, flags, mode);
    int there = CALL(SYS_faccessat, AT_FDCWD, full, F_OK) == 0;
    int makes = (flags & O_CREAT) && !there;
    int action = makes ? point(NAME) : GO;
    if (action == FAIL) return -error_no;
    if ((flags & O_TRUNC) && there) {
        int fd = (int)CALL(SYS_openat, AT_FDCWD, full, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            track(fd, 0);
            struct file *f = find(fd);
            if (f) save(f, 0, len_of(fd));
            close(fd);
        }
    }
    long fd = CALL(nr, dir, path, flags, mode);
    if (fd < 0) return fd;
    track((int)fd, makes);
    if (makes) note_name(MADE, full, NULL, NULL);
    if (action > FAIL) crash();
    return fd;
}

static long on_write(long nr, const long *a) {
    struct file *f = find((int)a[0]);
    if (!f) return call(nr, a[0], a[1], a[2], a[3], a[4]);
    int action = point(WRITE);
    if (action == FAIL) return -error_no;
    uint64_t from, len = (uint64_t)a[2];
    if (nr == SYS_pwrite64) from = (uint64_t)a[3];
    else if (fcntl((int)a[0], F_GETFL) & O_APPEND) from = len_of(f->fd);
    else from = (uint64_t)lseek((int)a[0], 0, SEEK_CUR);
    if (action == TORN) len = chance(len);
    save(f, from, from + len);
    long r = call(nr, a[0], a[1], (long)len, a[3], a[4]);
    if (action > FAIL) crash();
    return r;
}

static long on_truncate(int fd, long len) {
    struct file *f = find(fd);
    if (!f) return CALL(SYS_ftruncate, fd, len);
    int action = point(WRITE);
    if (action == FAIL) return -error_no;
    /* Only what holds data: a hole comes back with the length. */
    off_t data = lseek(f->fd, len, SEEK_DATA);
    while (data >= 0) {
        off_t hole = lseek(f->fd, data, SEEK_HOLE);
        save(f, (uint64_t)data, (uint64_t)hole);
        data = lseek(f->fd, hole, SEEK_DATA);
    }
    long r = CALL(SYS_ftruncate, fd, len);
    if (action > FAIL) crash();
    return r;
}

static long on_sync(long nr, int fd) {
    char link[64], path[PATH_MAX], full[PATH_MAX];
    struct stat s;
    struct file *f = find(fd);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = f ? 0 : readlink(link, path, sizeof path - 2);
    if (n < 0 || fstat(fd, &s)) return CALL(nr, fd);
    if (!f) {
        path[n] = 0;
        strcat(path, "/"); /* the root itself counts */
        if (!S_ISDIR(s.st_mode) || !inside(AT_FDCWD, path, full)) return CALL(nr, fd);
    }
    int action = point(SYNC);
    if (action == FAIL) {
        if (f) synced(f, 0);
        return -error_no;
    }
    if (action == TORN) crash(); /* half a sync is what KEEP_SOME makes of it */
    if (f) synced(f, 1);
    else names_synced(s.st_ino);
    if (action == AFTER) crash();
    return 0;
}

static long on_rename(long nr, const long *a, int from_dir, const char *from, int to_dir, const char *to) {
    char old[PATH_MAX], new[PATH_MAX];
    if (!inside(from_dir, from, old) || !inside(to_dir, to, new)) return call(nr, a[0], a[1], a[2], a[3], a[4]);
    int action = point(NAME);
    if (action == FAIL) return -error_no;
    char *kept = keep_file(new);
    long r = call(nr, a[0], a[1], a[2], a[3], a[4]);
    if (r == 0) note_name(RENAMED, old, new, kept);
    if (action > FAIL) crash();
    return r;
}

static long on_remove(long nr, const long *a, int dir, const char *path, int is_folder) {
    char full[PATH_MAX];
    if (!inside(dir, path, full) || is_folder) return call(nr, a[0], a[1], a[2], a[3], a[4]);
    int action = point(NAME);
    if (action == FAIL) return -error_no;
    char *kept = keep_file(full);
    long r = call(nr, a[0], a[1], a[2], a[3], a[4]);
    if (r == 0) note_name(REMOVED, full, NULL, kept);
    if (action > FAIL) crash();
    return r;
}

static long on_mkdir(long nr, const long *a, int dir, const char *path) {
    char full[PATH_MAX];
    if (!inside(dir, path, full)) return call(nr, a[0], a[1], a[2], a[3], a[4]);
    int action = point(NAME);
    if (action == FAIL) return -error_no;
    long r = call(nr, a[0], a[1], a[2], a[3], a[4]);
    if (r == 0) note_name(FOLDER, full, NULL, NULL);
    if (action > FAIL) crash();
    return r;
}

static long dispatch(long nr, const long *a) {
    struct file *f;
    switch (nr) {
    case SYS_openat: return on_open(nr, (int)a[0], (char *)a[1], (int)a[2], (int)a[3]);
    case SYS_write:
    case SYS_pwrite64: return on_write(nr, a);
    case SYS_ftruncate: return on_truncate((int)a[0], a[1]);
    case SYS_fsync:
    case SYS_fdatasync: return on_sync(nr, (int)a[0]);
    case SYS_renameat:
    case SYS_renameat2: return on_rename(nr, a, (int)a[0], (char *)a[1], (int)a[2], (char *)a[3]);
    case SYS_unlinkat: return on_remove(nr, a, (int)a[0], (char *)a[1], (int)a[2] & AT_REMOVEDIR);
    case SYS_mkdirat: return on_mkdir(nr, a, (int)a[0], (char *)a[1]);
#ifdef SYS_rename
    case SYS_rename: return on_rename(nr, a, AT_FDCWD, (char *)a[0], AT_FDCWD, (char *)a[1]);
    case SYS_unlink: return on_remove(nr, a, AT_FDCWD, (char *)a[0], 0);
    case SYS_mkdir: return on_mkdir(nr, a, AT_FDCWD, (char *)a[0]);
#endif
    case SYS_fadvise64:
        f = find((int)a[0]);
        if (f && a[3] == POSIX_FADV_DONTNEED) dropped(f);
        return 0;
    case SYS_read:
    case SYS_pread64:
        if (find((int)a[0]) && point(READ) == FAIL) return -error_no;
        return call(nr, a[0], a[1], a[2], a[3], a[4]);
    default: /* caught, and not modelled: writev, fallocate, copy_file_range */
        return find((int)a[0]) ? -EOPNOTSUPP : call(nr, a[0], a[1], a[2], a[3], a[4]);
    }
}

static void on_sigsys(int signal, siginfo_t *info, void *context) {
    (void)signal;
    ucontext_t *u = context;
    long a[5];
    for (int i = 0; i < 5; i++) a[i] = (long)ARG(u, i);
    int saved = errno;
    pthread_mutex_lock(&lock);
    long r = dispatch(info->si_syscall, a);
    pthread_mutex_unlock(&lock);
    errno = saved;
    RESULT(u) = r;
}

static const int caught[] = {
    SYS_openat, SYS_write, SYS_pwrite64, SYS_writev, SYS_ftruncate, SYS_fallocate, SYS_fsync,
    SYS_fdatasync, SYS_renameat, SYS_renameat2, SYS_unlinkat, SYS_mkdirat, SYS_fadvise64,
    SYS_read, SYS_pread64,
#ifdef SYS_rename
    SYS_rename, SYS_unlink, SYS_mkdir,
#endif
};
#define CAUGHT (sizeof caught / sizeof *caught)

static int install(void) {
    struct sock_filter code[2 * CAUGHT + 16];
    size_t n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5]));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)PASS, 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < CAUGHT; i++) {
        if ((caught[i] == SYS_read || caught[i] == SYS_pread64) && !(watched & READ)) continue;
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)caught[i], 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)n, code};
    struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER};
    if (sigaction(SIGSYS, &action, NULL)) return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void start(void) {
    const char *folder = getenv("DWCP_DISK_ROOT"), *kept = getenv("DWCP_DISK_TRASH");
    if (!folder || !kept || !realpath(folder, root) || !realpath(kept, trash)) return;
    root_len = strlen(root);
    watched = number("DWCP_DISK_WATCH");
    at = number("DWCP_DISK_AT");
    times = number("DWCP_DISK_TIMES");
    act = number("DWCP_DISK_ACT");
    error_no = number("DWCP_DISK_ERRNO");
    keep = number("DWCP_DISK_KEEP");
    cut = number("DWCP_DISK_CUT");
    random_state = (uint64_t)number("DWCP_DISK_SEED");
    tally = getenv("DWCP_DISK_TALLY");
    struct rlimit most;
    if (getrlimit(RLIMIT_NOFILE, &most) == 0) {
        most.rlim_cur = most.rlim_max;
        setrlimit(RLIMIT_NOFILE, &most);
    }
    if (install()) {
        fprintf(stderr, "the failing disk cannot be installed: %s\n", strerror(errno));
        _exit(77);
    }
}

/* At the end of the process: says how many operations there were, or pulls the plug. */
__attribute__((destructor)) static void end(void) {
    if (!root_len) return;
    pthread_mutex_lock(&lock);
    if (tally) {
        char text[32];
        int n = snprintf(text, sizeof text, "%ld\n", seen);
        int fd = (int)CALL(SYS_openat, AT_FDCWD, tally, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd >= 0) CALL(SYS_write, fd, text, n);
    }
    if (cut) crash();
    pthread_mutex_unlock(&lock);
}
