// Makes every system call that takes a path, in every form of its arguments, on paths of every kind, and prints one line
// per case: CALL.FLAGS FORM PATH -> RESULT FACTS. Nothing that differs between two runs on equal trees is printed.
//
//   conformance DIRECTORY [EVERY]   the cases, in a directory that holds the mounts `bind`, `ro` (read-only) and
//                                   `boundfile`; of the paths, each EVERYth
//   conformance --calls             the names of the calls that have cases
//   conformance --probe             what a program that was executed sees of itself
#include "tree.h"

static char facts[4096];
static struct stat st;
static unsigned char area[4096];
static int dirfd_, subfd, filefd;
static unsigned long how[3];
static int every = 1;

// Processes have other numbers in each run.
static void hide_numbers(char *text) {
    static const char *before[] = {"/proc/", "/task/"};
    for (int i = 0; i < 2; i++) for (char *at = text; (at = strstr(at, before[i])); ) {
        size_t digits = strspn(at += 6, "0123456789");
        if (digits) memmove(at + 1, at + digits, strlen(at + digits) + 1), *at = 'N';
    }
}
static void fact(const char *format, ...) {
    va_list list;
    size_t length = strlen(facts);
    va_start(list, format);
    vsnprintf(facts + length, sizeof facts - length, format, list);
    va_end(list);
    for (char *byte = facts + length; *byte; byte++) if (*byte < ' ') *byte = '_';
    hide_numbers(facts + length);
}

// --- What is read of a success.

static long see_stat(long result) {
    if (result == 0) {
        fact(" %o", st.st_mode);
        if (!S_ISDIR(st.st_mode)) fact(" %ld", (long)st.st_size);
        if (S_ISREG(st.st_mode)) fact(" *%ld", (long)st.st_nlink);
    }
    return result;
}
static long see_statx(long result) {
    if (result == 0) fact(" %o", *(unsigned short *)(area + 28));
    if (result == 0 && !S_ISDIR(*(unsigned short *)(area + 28))) fact(" %ld", *(long *)(area + 40));
    return result;
}
static long see_text(long result) {
    // The process's own number is another in each run.
    if (result > 0 && area[0] >= '1' && area[0] <= '9') { fact(" PID"); return 0; }
    if (result > 0) fact(" `%.*s`", (int)result, area);
    return result;
}
static long see_open(long fd) {
    char link[64], text[4200] = {0};
    if (fd < 0) return fd;
    raw(SYS_fstat, fd, &st);
    see_stat(0);
    sprintf(link, "/proc/self/fd/%ld", fd);
    ssize_t length = readlink(link, text, sizeof text - 1);
    // Files without a name are called by their number.
    if (length > 0 && strncmp(text, "/proc/", 6) && !strstr(text, "(deleted)")) fact(" %.*s", (int)length, text);
    if (S_ISREG(st.st_mode) && (length = read(fd, area, 12)) > 0 && area[0] != 0x7f) fact(" `%.*s`", (int)length, area);
    raw(SYS_close, fd);
    return 0;
}
static long see_time(long result, const char *path, int flags) {
    if (result == 0 && path && raw(SYS_newfstatat, AT_FDCWD, path, &st, flags) == 0 && st.st_mtime < 1000) fact(" time %ld", (long)st.st_mtime);
    return result;
}
static long see_directory(long result) {
    if (result < 0) return result;
    long length = raw(SYS_getcwd, area, sizeof area);
    if (length > 0) fact(" %s", area); else fact(" getcwd %ld", length);
    raw(SYS_fchdir, dirfd_);
    return result;
}
static long see_list(long result, long size) {
    // The order is the file system's; security labels are the host's.
    if (result > 0 && size) for (char *name = (char *)area; name < (char *)area + result; name += strlen(name) + 1)
        if (!strncmp(name, "user.", 5)) fact(" %s", name);
    return result < 0 ? result : 0;
}
static long see_value(long result, long size) {
    if (result > 0 && size) fact(" `%.*s`", (int)result, area);
    return result;
}

// --- Calls whose arguments need preparation.

static long opened2(int d, const char *p, long f) {
    // The low half are flags of open, the high half those of the resolution.
    how[0] = f & 0xffffff, how[1] = f & O_CREAT ? 0640 : 0, how[2] = (unsigned long)f >> 24;
    return see_open(raw(SYS_openat2, d, p, how, sizeof how));
}
static long executed(int number, int d, const char *p, int f) {
    static volatile long result;
    char *argv[] = {"name", "--probe", "argument", NULL}, *envp[] = {"A=b", NULL};
    fflush(stdout);
    result = 0;
    pid_t child = vfork();
    if (child == 0) {
        result = number == SYS_execve ? raw(SYS_execve, p, argv, envp) : raw(SYS_execveat, d, p, argv, envp, f);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status) fact(" status %x", status);
    return result;
}
static long addressed(int number, const char *p, int type) {
    struct sockaddr_un name = {.sun_family = AF_UNIX}, told = {0};
    unsigned length = 2, room = sizeof told;
    if (p && p != BAD) {
        size_t bytes = strlen(p);
        memcpy(name.sun_path, p, bytes < 108 ? bytes : 108);
        length = bytes < 108 ? 2 + bytes + 1 : 110;
    }
    const void *at = p && p != BAD ? (void *)&name : p;
    if (at != &name) length = sizeof name;
    long s = raw(SYS_socket, AF_UNIX, type, 0), result;
    struct iovec part = {"x", 1};
    struct mmsghdr many[2] = {{.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}}, {.msg_hdr = {.msg_name = (void *)at, .msg_namelen = length, .msg_iov = &part, .msg_iovlen = 1}}};
    if (number == SYS_sendto) result = raw(number, s, "x", 1, MSG_NOSIGNAL, at, length);
    else if (number == SYS_sendmsg) result = raw(number, s, &many[1].msg_hdr, MSG_NOSIGNAL);
    else if (number == SYS_sendmmsg) { result = raw(number, s, many + 1, 1, MSG_NOSIGNAL); if (result > 0) fact(" sent %u", many[1].msg_len); }
    else result = raw(number, s, at, length);
    if (result >= 0 && number != SYS_sendto && raw(number == SYS_bind ? SYS_getsockname : SYS_getpeername, s, &told, &room) == 0)
        fact(" %u %.108s", room, told.sun_path);
    raw(SYS_close, s);
    return result;
}
// Inotify's queue is made once: closing one takes some 10 ms of waiting for RCU, and a user has 128 of them in all, which other
// tests use as well.
static long queue_of(int number) {
    static long inotify = -1;
    if (number != SYS_inotify_add_watch) return raw(SYS_fanotify_init, 0x200, 0);
    for (int tries = 0; inotify < 0 && tries < 300; tries++)
        if ((inotify = raw(SYS_inotify_init1, 0)) < 0) usleep(100000);
    if (inotify < 0) { perror("inotify_init1"); exit(1); }
    return inotify;
}
static long watched(int number, int d, const char *p, long f) {
    long queue = queue_of(number), result;
    if (number == SYS_inotify_add_watch) {
        result = raw(number, queue, p, 2 | f);
        if (result > 0) raw(SYS_inotify_rm_watch, queue, result);
        return result < 0 ? result : 0;
    }
    result = raw(number, queue, 1 | f, 2, d, p);
    raw(SYS_close, queue);
    return result;
}
static long handled(int d, const char *p, int f) {
    int mount;
    *(unsigned *)area = 128;
    return raw(SYS_name_to_handle_at, d, p, area, &mount, f);
}
static long created(const char *p) {
    // A named pipe would wait for its reader.
    if (p && p != BAD && !stat(p, &st) && S_ISFIFO(st.st_mode)) return -ENXIO;
    return raw(SYS_creat, p, 0640);
}
static long attributes(int number, int d, const char *p, int f) {
    memset(area, 0, 24);
    return raw(number, d, p, area, 24, f);
}
static long valued(int number, int d, const char *p, int f) {
    struct { unsigned long value; unsigned size, flags; } value = {(unsigned long)(number == 463 ? (void *)"text" : area), number == 463 ? 4 : 64, 0};
    return raw(number, d, p, f, "user.name", &value, sizeof value);
}
// A descriptor of the path, changed by it.
static long by_descriptor(int number, const char *p) {
    long fd = raw(SYS_open, p, O_RDONLY | O_NONBLOCK, 0), result = fd, flags = 0;
    if (fd < 0) { fact(" at open"); return fd; }
    switch (number) {
    case SYS_fchmod: result = raw(number, fd, 0751); break;
    case SYS_fchown: result = raw(number, fd, -1, -1); break;
    case SYS_fsetxattr: result = raw(number, fd, "user.name", "text", 4, 0); break;
    case SYS_fremovexattr: result = raw(number, fd, "user.name"); break;
    case SYS_ioctl: result = raw(number, fd, 0x80086601, &flags); if (result == 0) result = raw(number, fd, 0x40086602, &flags); break;
    }
    raw(SYS_close, fd);
    return result;
}
// Where this process may run: its tracer keeps it near, and it does not see that.
static long see_cpus(void) {
    unsigned long cpus[128] = {0};
    long size = raw(SYS_sched_getaffinity, 0, sizeof cpus, cpus);
    if (size < 0) return size;
    fact(" cpus %lx", cpus[0]);
    return 0;
}
// On its first CPU alone for a moment.
static long confined(void) {
    unsigned long all[128] = {0}, first[128] = {0};
    long size = raw(SYS_sched_getaffinity, 0, sizeof all, all);
    if (size < 0) return size;
    first[0] = all[0] & -all[0];
    long result = raw(SYS_sched_setaffinity, 0, size, first);
    see_cpus();
    raw(SYS_sched_setaffinity, 0, size, all);
    see_cpus();
    return result;
}

static struct timeval tv[2] = {{500, 0}, {600, 0}};
static struct timespec ts[2] = {{500, 0}, {600, 0}};
static struct utimbuf ut = {500, 600};

enum { PLAIN = 0, AT = 1, CHANGES = 2 };
#define NOFOLLOW 0x100
#define EMPTY 0x1000
#define R(resolve) ((long)(resolve) << 24)

// CALL(kind, name of the call, name of the case, what is done with directory d, path p and flags f, the flags…)
#define CALLS \
CALL(PLAIN, stat, stat, see_stat(raw(SYS_stat, p, &st)), 0) \
CALL(PLAIN, lstat, lstat, see_stat(raw(SYS_lstat, p, &st)), 0) \
CALL(AT, newfstatat, newfstatat, see_stat(raw(SYS_newfstatat, d, p, &st, f)), 0, NOFOLLOW, EMPTY, NOFOLLOW | EMPTY, 0x800, 2) \
CALL(AT, statx, statx, see_statx(raw(SYS_statx, d, p, f, 0x7ff, area)), 0, NOFOLLOW, EMPTY, NOFOLLOW | EMPTY, 2) \
CALL(PLAIN, access, access, raw(SYS_access, p, f), F_OK, R_OK, W_OK, X_OK, 8) \
CALL(AT, faccessat, faccessat, raw(SYS_faccessat, d, p, f), F_OK, W_OK) \
CALL(AT, faccessat2, faccessat2, raw(439, d, p, f & 7, f & ~7), R_OK, W_OK | NOFOLLOW, X_OK | 0x200, R_OK | EMPTY, 0x10) \
CALL(PLAIN, readlink, readlink, see_text(raw(SYS_readlink, p, area, f)), 4000, 3, 0, -1) \
CALL(AT, readlinkat, readlinkat, see_text(raw(SYS_readlinkat, d, p, area, 4000)), 0) \
CALL(PLAIN, getxattr, getxattr, see_value(raw(SYS_getxattr, p, "user.name", area, f), f), 100, 2, 0) \
CALL(PLAIN, lgetxattr, lgetxattr, see_value(raw(SYS_lgetxattr, p, "user.name", area, 100), 1), 0) \
CALL(PLAIN, listxattr, listxattr, see_list(raw(SYS_listxattr, p, area, f), f), 1000, 0) \
CALL(PLAIN, llistxattr, llistxattr, see_list(raw(SYS_llistxattr, p, area, 1000), 1000), 0) \
CALL(AT, getxattrat, getxattrat, see_value(valued(464, d, p, f), 1), 0, NOFOLLOW, EMPTY, 2) \
CALL(AT, listxattrat, listxattrat, see_list(raw(465, d, p, f, area, 1000), 1000), 0, NOFOLLOW, EMPTY, 2) \
CALL(PLAIN, chdir, chdir, see_directory(raw(SYS_chdir, p)), 0) \
CALL(PLAIN, getcwd, getcwd, see_directory(raw(SYS_chdir, p)), 0) \
CALL(PLAIN, chroot, chroot, raw(SYS_chroot, p), 0) \
CALL(PLAIN, statfs, statfs, raw(SYS_statfs, p, area), 0) \
CALL(PLAIN, inotify_add_watch, inotify_add_watch, watched(SYS_inotify_add_watch, 0, p, f), 0, 0x2000000, 0x1000000) \
CALL(AT, fanotify_mark, fanotify_mark, watched(SYS_fanotify_mark, d, p, f), 0, 4, 8) \
CALL(AT, name_to_handle_at, name_to_handle_at, handled(d, p, f), 0, 0x400, EMPTY, 2) \
CALL(AT, file_getattr, file_getattr, attributes(468, d, p, f), 0, NOFOLLOW, EMPTY) \
CALL(PLAIN, open, open, see_open(raw(SYS_open, p, f | O_NONBLOCK, 0)), 0, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_PATH | O_NOFOLLOW, O_RDWR) \
CALL(AT, openat, openat, see_open(raw(SYS_openat, d, p, f | O_NONBLOCK, 0)), 0, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_PATH | O_NOFOLLOW | O_DIRECTORY, O_WRONLY | O_APPEND) \
CALL(AT, openat2, openat2, opened2(d, p, f | O_NONBLOCK), 0, O_NOFOLLOW, R(1), R(2), R(4), R(8), R(0x10), R(0x18), R(0x14), R(0x40)) \
CALL(PLAIN, execve, execve, executed(SYS_execve, 0, p, 0), 0) \
CALL(AT, execveat, execveat, executed(SYS_execveat, d, p, f), 0, NOFOLLOW, EMPTY, 2) \
CALL(PLAIN, connect, connect, addressed(SYS_connect, p, SOCK_STREAM), 0) \
CALL(PLAIN, sendto, sendto, addressed(SYS_sendto, p, SOCK_DGRAM), 0) \
CALL(PLAIN, sendmsg, sendmsg, addressed(SYS_sendmsg, p, SOCK_DGRAM), 0) \
CALL(PLAIN, sendmmsg, sendmmsg, addressed(SYS_sendmmsg, p, SOCK_DGRAM), 0) \
CALL(PLAIN | CHANGES, bind, bind, addressed(SYS_bind, p, SOCK_DGRAM), 0) \
CALL(PLAIN | CHANGES, open, open_new, see_open(raw(SYS_open, p, f | O_NONBLOCK, 0640)), O_CREAT | O_WRONLY, O_CREAT | O_EXCL | O_RDWR, O_TRUNC | O_RDWR, O_TMPFILE | O_RDWR) \
CALL(AT | CHANGES, openat, openat_new, see_open(raw(SYS_openat, d, p, f | O_NONBLOCK, 0640)), O_CREAT | O_RDWR, O_CREAT | O_NOFOLLOW | O_RDWR, O_CREAT | O_DIRECTORY) \
CALL(AT | CHANGES, openat2, openat2_new, opened2(d, p, f | O_NONBLOCK), O_CREAT | O_RDWR, O_CREAT | O_EXCL | O_RDWR, O_CREAT | O_RDWR | R(8), O_CREAT | O_RDWR | R(0x10)) \
CALL(PLAIN | CHANGES, creat, creat, see_open(created(p)), 0) \
CALL(PLAIN | CHANGES, truncate, truncate, raw(SYS_truncate, p, f), 3, -1) \
CALL(PLAIN | CHANGES, mkdir, mkdir, raw(SYS_mkdir, p, 0750), 0) \
CALL(AT | CHANGES, mkdirat, mkdirat, raw(SYS_mkdirat, d, p, 0750), 0) \
CALL(PLAIN | CHANGES, mknod, mknod, raw(SYS_mknod, p, f, 0), S_IFREG | 0640, S_IFIFO | 0640, S_IFCHR | 0640, S_IFDIR) \
CALL(AT | CHANGES, mknodat, mknodat, raw(SYS_mknodat, d, p, f, 0), 0640, S_IFSOCK | 0640) \
CALL(PLAIN | CHANGES, symlink, symlink, raw(SYS_symlink, "/no/where", p), 0) \
CALL(AT | CHANGES, symlinkat, symlinkat, raw(SYS_symlinkat, "text", d, p), 0) \
CALL(PLAIN | CHANGES, rmdir, rmdir, raw(SYS_rmdir, p), 0) \
CALL(PLAIN | CHANGES, unlink, unlink, raw(SYS_unlink, p), 0) \
CALL(AT | CHANGES, unlinkat, unlinkat, raw(SYS_unlinkat, d, p, f), 0, AT_REMOVEDIR, 2) \
CALL(PLAIN | CHANGES, chmod, chmod, raw(SYS_chmod, p, 0751), 0) \
CALL(AT | CHANGES, fchmodat, fchmodat, raw(SYS_fchmodat, d, p, 0751), 0) \
CALL(AT | CHANGES, fchmodat2, fchmodat2, raw(452, d, p, 0751, f), 0, NOFOLLOW, EMPTY, 2) \
CALL(PLAIN, chown, chown, raw(SYS_chown, p, -1, -1), 0) \
CALL(PLAIN, lchown, lchown, raw(SYS_lchown, p, -1, -1), 0) \
CALL(AT, fchownat, fchownat, raw(SYS_fchownat, d, p, -1, -1, f), 0, NOFOLLOW, EMPTY, 2) \
CALL(PLAIN | CHANGES, utime, utime, see_time(raw(SYS_utime, p, &ut), p, 0), 0) \
CALL(PLAIN | CHANGES, utimes, utimes, see_time(raw(SYS_utimes, p, tv), p, 0), 0) \
CALL(AT | CHANGES, futimesat, futimesat, see_time(raw(SYS_futimesat, d, p, tv), p, 0), 0) \
CALL(AT | CHANGES, utimensat, utimensat, see_time(raw(SYS_utimensat, d, p, ts, f), p, f & NOFOLLOW), 0, NOFOLLOW, EMPTY, 2) \
CALL(PLAIN | CHANGES, setxattr, setxattr, raw(SYS_setxattr, p, "user.other", "x", 1, f), 0, 2, 9) \
CALL(PLAIN | CHANGES, lsetxattr, lsetxattr, raw(SYS_lsetxattr, p, "user.other", "x", 1, 0), 0) \
CALL(AT | CHANGES, setxattrat, setxattrat, valued(463, d, p, f), 0, NOFOLLOW, EMPTY) \
CALL(PLAIN | CHANGES, removexattr, removexattr, raw(SYS_removexattr, p, "user.name"), 0) \
CALL(PLAIN | CHANGES, lremovexattr, lremovexattr, raw(SYS_lremovexattr, p, "user.name"), 0) \
CALL(AT | CHANGES, removexattrat, removexattrat, raw(466, d, p, f, "user.name"), 0, NOFOLLOW, EMPTY) \
CALL(AT, file_setattr, file_setattr, attributes(469, d, p, f), 0, NOFOLLOW, EMPTY) \
CALL(PLAIN | CHANGES, fchmod, fchmod, by_descriptor(SYS_fchmod, p), 0) \
CALL(PLAIN, fchown, fchown, by_descriptor(SYS_fchown, p), 0) \
CALL(PLAIN | CHANGES, fsetxattr, fsetxattr, by_descriptor(SYS_fsetxattr, p), 0) \
CALL(PLAIN | CHANGES, fremovexattr, fremovexattr, by_descriptor(SYS_fremovexattr, p), 0) \
CALL(PLAIN, ioctl, ioctl, by_descriptor(SYS_ioctl, p), 0) \
CALL(PLAIN, sched_getaffinity, sched_getaffinity, see_cpus(), 0) \
CALL(PLAIN, sched_setaffinity, sched_setaffinity, confined(), 0)

#define CALL(kind, call, name, expression, ...) static long do_##name(int d, const char *p, long f) { (void)d; (void)p; (void)f; return expression; }
CALLS
#undef CALL
#define CALL(kind, call, name, expression, ...) {kind, #call, #name, do_##name, sizeof((long[]){__VA_ARGS__}) / sizeof(long), {__VA_ARGS__}},
static const struct call { int kind; const char *call, *name; long (*run)(int, const char *, long); int count; long flags[10]; } calls[] = { CALLS };

static void print_case(const char *name, long flags, const char *form, const char *path, long result, int changes) {
    printf("%s.%lx %s %s -> ", name, flags, form, path);
    if (result < 0) printf("%s", error_name(-result)); else printf("%ld", result);
    printf("%s", facts);
    facts[0] = 0;
    if (changes && result >= 0 && print_changes()) make_tree();
    printf("\n");
}

static void one(const struct call *call, const char *form, int d, const char *path, const char *shown) {
    for (int i = 0; i < call->count; i++) {
        long result = call->run(d, path, call->flags[i]);
        print_case(call->name, call->flags[i], form, shown, result, call->kind & CHANGES);
    }
}

static void every_form(const struct call *call, const struct path *path) {
    char text[9000];
    const char *p = path->text, *shown = path->shown;
    int at = call->kind & AT;
    if (p && p != BAD && p[0] == '/') { one(call, "abs", -1, p, shown); return; }
    one(call, "rel", AT_FDCWD, p, shown);
    if (at) one(call, "at", dirfd_, p, shown);
    if (at && (path->kind & FEW)) { one(call, "none", -1, p, shown); one(call, "file", filefd, p, shown); }
    if (!p || p == BAD || !*p || strlen(p) > 4000) return;
    if (call->kind == (AT | CHANGES) && !(path->kind & FEW)) return;
    sprintf(text, "%s/%s", top, p);
    one(call, "abs", -1, text, shown);
    if (at && !(call->kind & CHANGES) && path->kind & SUB) { sprintf(text, "../%s", p); one(call, "sub", subfd, text, shown); }
}

// --- Calls with two paths.

static long renamed(int number, int d, const char *from, const char *to, int f) {
    if (number == SYS_rename) return raw(number, from, to);
    return raw(number, d, from, d, to, f);
}
static void two_paths(const char *name, int number, const char **from, const char **to, long flags) {
    char first[400], second[400], shown[900];
    for (const char **p = from; *p; p++) for (const char **q = to; *q; q++) for (int form = 0; form < 2; form++) {
        // The full paths with some only: it is the same resolution.
        if (form == 1 && ((p - from) + (q - to)) % 6 || (p - from + q - to) % every) continue;
        int plain = number == SYS_rename || number == SYS_link;
        sprintf(first, form && **p != '/' ? "%s/%s" : "%.0s%s", top, *p);
        sprintf(second, form && **q != '/' ? "%s/%s" : "%.0s%s", top, *q);
        int d = form ? -1 : plain ? AT_FDCWD : dirfd_;
        if (number == SYS_linkat && flags & EMPTY) d = filefd;
        long result = number == SYS_link ? raw(number, first, second) : renamed(number, d, first, second, flags);
        snprintf(shown, sizeof shown, "%s %s", *p, *q);
        print_case(name, flags, form ? "abs" : plain ? "rel" : "at", shown, result, 1);
    }
}
#define TWO(call, flags) two_paths(#call, SYS_##call, sources, targets, flags);
#define FEW_OF(call, flags) two_paths(#call, SYS_##call, few, targets, flags);
static const char *few[] = {"file", "bind/inner", "reldir/", NULL};

static void all_pairs(void) {
    TWO(rename, 0) FEW_OF(renameat, 0) TWO(renameat2, 1) TWO(renameat2, 2) FEW_OF(renameat2, 8) FEW_OF(renameat2, 3)
    TWO(link, 0) FEW_OF(linkat, 0) TWO(linkat, 0x400) FEW_OF(linkat, 2)
    const char *nothing[] = {"", NULL};
    two_paths("linkat", SYS_linkat, nothing, targets, EMPTY);
}

// --- Calls that the engine refuses, and what has no path to vary.

static void refused(void) {
    static const int numbers[] = {SYS_uselib, SYS_pivot_root, SYS_acct, SYS_mount, SYS_umount2, SYS_swapon, SYS_swapoff, SYS_quotactl, 304, 308, 425, 428, 429, 430, 433, 442, 457, 458, 467};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        long result = numbers[i] == 425 ? raw(425, 1, memset(area, 0, 120)) : raw(numbers[i], "dir", "dir", "tmpfs", 0, 0);
        if (result >= 0 && numbers[i] >= 425) { raw(SYS_close, result); result = 0; }
        sprintf(facts, " of %d", numbers[i]);
        print_case("refused", numbers[i], "-", "dir", result, 0);
    }
}

static void directories(void) {
    long size;
    for (size = 0; size < 200; size += 9) print_case("getcwd", size, "-", "size", raw(SYS_getcwd, area, size) > 0 ? 0 : -errno, 0);
    print_case("getcwd", 0, "-", "(bad)", raw(SYS_getcwd, BAD, 4096L), 0);
    raw(SYS_mkdir, "gone", 0700), raw(SYS_chdir, "gone"), raw(SYS_rmdir, "../gone");
    print_case("getcwd", 0, "-", "gone", raw(SYS_getcwd, area, 4096L), 0);
    static const char *paths[] = {".", "..", "x", "../file", "/", "", NULL};
    for (const char **p = paths; *p; p++) {
        print_case("stat", 0, "gone", *p, see_stat(raw(SYS_stat, *p, &st)), 0);
        print_case("open", O_CREAT, "gone", *p, see_open(raw(SYS_open, *p, O_CREAT | O_RDWR, 0600)), 0);
        print_case("mkdir", 0, "gone", *p, raw(SYS_mkdir, *p, 0700), 0);
    }
    raw(SYS_fchdir, dirfd_);
    // A file without a name gets one.
    long fd = raw(SYS_open, ".", O_TMPFILE | O_RDWR, 0640);
    char link[64];
    sprintf(link, "/proc/self/fd/%ld", fd);
    print_case("linkat", 0x400, "-", "(tmpfile)", raw(SYS_linkat, AT_FDCWD, link, dirfd_, "made", 0x400), 1);
    raw(SYS_close, fd);
}

static void sockets(void) {
    struct sockaddr_un name = {AF_UNIX, "dir/../peer"}, told = {0};
    long server = raw(SYS_socket, AF_UNIX, SOCK_STREAM, 0), client = raw(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    for (unsigned room = 0; room < 40; room += 3) {
        unsigned length = room;
        memset(&told, 0, sizeof told);
        if (room == 0) {
            print_case("bind", 0, "-", name.sun_path, raw(SYS_bind, server, &name, sizeof name), 0);
            raw(SYS_listen, server, 1);
            print_case("connect", 0, "-", name.sun_path, raw(SYS_connect, client, &name, sizeof name), 0);
        }
        long result = raw(SYS_getsockname, server, &told, &length);
        fact(" %u %s", length, told.sun_path);
        print_case("getsockname", room, "-", "-", result, 0);
        length = room;
        memset(&told, 0, sizeof told);
        result = raw(SYS_getpeername, client, &told, &length);
        fact(" %u %s", length, told.sun_path);
        print_case("getpeername", room, "-", "-", result, 0);
    }
    print_case("getsockname", 0, "-", "(bad)", raw(SYS_getsockname, server, BAD, BAD), 0);
    unsigned length = 110;
    print_case("getsockname", 0, "-", "(bad address)", raw(SYS_getsockname, server, BAD, &length), 0);
    print_case("getpeername", 0, "-", "unconnected", raw(SYS_getpeername, server, &told, &length), 0);
    raw(SYS_close, server), raw(SYS_close, client);
    make_tree();
}

static int probe(int count, char **argv) {
    char exe[4096] = {0}, cwd[4096];
    if (readlink("/proc/self/exe", exe, sizeof exe - 1) < 0) strcpy(exe, "?");
    hide_numbers(exe);
    printf("  probe %d %s exe %s cwd %s execfn %s environment %s\n", count, argv[0], exe, getcwd(cwd, sizeof cwd), (char *)getauxval(AT_EXECFN), getenv("A"));
    for (int i = 1; i < count; i++) printf("  argument %s\n", argv[i]);
    return 0;
}

int main(int count, char **argv) {
    if (count > 1 && !strcmp(argv[1], "--calls")) {
        for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) puts(calls[i].call);
        return puts("rename\nrenameat\nrenameat2\nlink\nlinkat\ngetsockname\ngetpeername") < 0;
    }
    if (count > 1 && !strncmp(argv[1], "--probe", 7)) return probe(count, argv);
    umask(022);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    if (chdir(top = argv[1])) return 1;
    if (count > 2) every = atoi(argv[2]);
    make_tree();
    note_tree();
    // Their numbers are part of the paths.
    filefd = dup2(open("file", O_RDONLY), 7), dirfd_ = dup2(open(".", O_RDONLY | O_DIRECTORY), 8);
    subfd = dup2(open("kept", O_RDONLY | O_DIRECTORY), 9);
    dup2(open("/bin/conformance", O_RDONLY), 10);
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
        for (const struct path *path = all_paths(); path->shown; path++)
            if ((path - all_paths() + i) % every == 0 && path->kind & USED_BY_ALL || (strstr(calls[i].name, "exec") && path->kind & EXEC)) every_form(&calls[i], path);
    all_pairs();
    directories();
    sockets();
    refused();
    return 0;
}
