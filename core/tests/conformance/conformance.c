// Makes every system call that takes a path, in every form of its arguments, on paths of every kind, and prints one line a
// case: call, form, path, result or errno, and what was seen. Two runs in equal trees print the same.
//
//   conformance TOP [STEP]   TOP: absolute; it holds bind/ (a mount), ro/ (a read-only mount) and bindfile (a mounted file);
//                            STEP: every how many-th case is tried
//   conformance run          ends with 42: what the cases of execve start
//
// The tree in TOP is made anew after each call that changed it. TOP is printed as @.
#include "tree.h"

static char seen[512];
static struct stat st;

// Who owns what in /proc depends on the user namespace.
static long show_stat(const char *path, long result) {
    int uid = result == 0 && !strncmp(path, "/proc/", 6) ? -1 : (int)st.st_uid;
    if (result == 0) snprintf(seen, sizeof seen, "mode %o uid %d size %ld", st.st_mode, uid, S_ISDIR(st.st_mode) ? -1 : (long)st.st_size);
    return result;
}
static long show_open(long fd) {
    if (fd >= 0) {
        char text[9] = "";
        ssize_t count = read(fd, text, 8);
        text[strcspn(text, "\n")] = 0;
        snprintf(seen, sizeof seen, "%s", count < 0 ? (errno == EISDIR ? "a directory" : "unreadable") : text);
        close(fd);
        return 0;
    }
    return fd;
}
static long show_text(long result, char *text) {
    if (result >= 0) {
        text[result] = 0;
        const char *at = strstr(text, top);
        if (at) snprintf(seen, sizeof seen, "%.*s@%.*s", (int)(at - text), text, (int)(result - (at - text) - strlen(top)), at + strlen(top));
        else if (strncmp(text, "/proc/", 6) && (*text < '0' || *text > '9')) snprintf(seen, sizeof seen, "%.*s", (int)result, text);
        return 0;
    }
    return result;
}
static long show_child(const char *path, int dir, int flags, int at) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        char *const argv[] = {"conformance", "run", NULL}, *const envp[] = {NULL};
        long result = at ? syscall(SYS_execveat, dir, path, argv, envp, flags) : syscall(SYS_execve, path, argv, envp);
        _exit(result == -1 ? 100 + errno : 99);
    }
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status)) return -2;
    if (WEXITSTATUS(status) < 100) { snprintf(seen, sizeof seen, "ran %d", WEXITSTATUS(status)); return 0; }
    errno = WEXITSTATUS(status) - 100;
    return -1;
}
static long with_socket(int type, int (*use)(int, const struct sockaddr *, socklen_t), const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) > sizeof address.sun_path) { errno = ENAMETOOLONG; return -1; }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, type, 0);
    long result = use(fd, (void *)&address, offsetof(struct sockaddr_un, sun_path) + strlen(path) + (strlen(path) < 108));
    int error = errno;
    close(fd);
    errno = error;
    return result;
}
static long with_message(const char *path, int many) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) { errno = ENAMETOOLONG; return -1; }
    strcpy(address.sun_path, path);
    struct iovec part = {"x", 1};
    struct mmsghdr message = {{.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &part, .msg_iovlen = 1}, 0};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    long result = many ? syscall(SYS_sendmmsg, fd, &message, 1, 0) : syscall(SYS_sendmsg, fd, &message.msg_hdr, 0);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}
static int send_to(int fd, const struct sockaddr *address, socklen_t length) { return sendto(fd, "x", 1, 0, address, length); }
static long back(long result) { int error = errno; if (result == 0 && chdir(top)) result = -3; errno = error; return result; }

static struct timespec times[2] = {{1000, 0}, {2000, 0}};
static struct timeval coarse[2] = {{1000, 0}, {2000, 0}};
static struct utimbuf old = {1000, 2000};
static char text[8192];
static unsigned long how[3], attributes[8];
static unsigned handle[40];
static struct { unsigned long value; unsigned size, flags; } xattr = {(unsigned long)"v", 1, 0};

// NAME, whether it has a directory argument, whether it changes something, its flags, and the call with d, p and f.
#define SOME(...) {__VA_ARGS__, -1}
#define READS 0
#define CHANGES 1
#define CALLS(CASE) \
    CASE(stat, 0, READS, SOME(0), show_stat(p, syscall(SYS_stat, p, &st))) \
    CASE(lstat, 0, READS, SOME(0), show_stat(p, syscall(SYS_lstat, p, &st))) \
    CASE(newfstatat, 1, READS, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_NO_AUTOMOUNT), show_stat(p, syscall(SYS_newfstatat, d, p, &st, f))) \
    CASE(statx, 1, READS, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH), syscall(SYS_statx, d, p, f, 0x7ff, text)) \
    CASE(access, 0, READS, SOME(0, R_OK, W_OK, X_OK), syscall(SYS_access, p, f)) \
    CASE(faccessat, 1, READS, SOME(0, W_OK), syscall(SYS_faccessat, d, p, f)) \
    CASE(faccessat2, 1, READS, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EACCESS, AT_EMPTY_PATH), syscall(439, d, p, W_OK, f)) \
    CASE(readlink, 0, READS, SOME(0), show_text(syscall(SYS_readlink, p, text, sizeof text - 1), text)) \
    CASE(readlinkat, 1, READS, SOME(0), show_text(syscall(SYS_readlinkat, d, p, text, sizeof text - 1), text)) \
    CASE(open, 0, CHANGES, SOME(O_RDONLY, O_NOFOLLOW, O_WRONLY, O_RDWR | O_CREAT, O_CREAT | O_EXCL | O_RDWR, O_DIRECTORY, O_PATH, O_PATH | O_NOFOLLOW, O_TRUNC | O_WRONLY, O_TMPFILE | O_RDWR), show_open(syscall(SYS_open, p, f | O_NONBLOCK, 0644))) \
    CASE(openat, 1, CHANGES, SOME(O_RDONLY, O_NOFOLLOW, O_WRONLY | O_CREAT, O_CREAT | O_EXCL | O_RDWR), show_open(syscall(SYS_openat, d, p, f | O_NONBLOCK, 0644))) \
    CASE(openat2, 1, CHANGES, SOME(0, 0x01, 0x02, 0x04, 0x08, 0x10), (how[0] = O_RDONLY | O_NONBLOCK, how[2] = f, show_open(syscall(437, d, p, how, sizeof how)))) \
    CASE(creat, 0, CHANGES, SOME(0), show_open(syscall(SYS_creat, p, 0600))) \
    CASE(mkdir, 0, CHANGES, SOME(0), syscall(SYS_mkdir, p, 0750)) \
    CASE(mkdirat, 1, CHANGES, SOME(0), syscall(SYS_mkdirat, d, p, 0750)) \
    CASE(mknod, 0, CHANGES, SOME(S_IFIFO, S_IFREG, S_IFCHR), syscall(SYS_mknod, p, f | 0600, 0x103)) \
    CASE(mknodat, 1, CHANGES, SOME(S_IFIFO, S_IFSOCK), syscall(SYS_mknodat, d, p, f | 0600, 0)) \
    CASE(rmdir, 0, CHANGES, SOME(0), syscall(SYS_rmdir, p)) \
    CASE(unlink, 0, CHANGES, SOME(0), syscall(SYS_unlink, p)) \
    CASE(unlinkat, 1, CHANGES, SOME(0, AT_REMOVEDIR), syscall(SYS_unlinkat, d, p, f)) \
    CASE(symlink, 0, CHANGES, SOME(0), syscall(SYS_symlink, "/etc/target", p)) \
    CASE(symlinkat, 1, CHANGES, SOME(0), syscall(SYS_symlinkat, "file", d, p)) \
    CASE(chmod, 0, CHANGES, SOME(0), syscall(SYS_chmod, p, 0700)) \
    CASE(fchmodat, 1, CHANGES, SOME(0), syscall(SYS_fchmodat, d, p, 0700)) \
    CASE(fchmodat2, 1, CHANGES, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH), syscall(452, d, p, 0700, f)) \
    CASE(chown, 0, CHANGES, SOME(0), syscall(SYS_chown, p, geteuid(), getegid())) \
    CASE(lchown, 0, CHANGES, SOME(0), syscall(SYS_lchown, p, geteuid(), -1)) \
    CASE(fchownat, 1, CHANGES, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH), syscall(SYS_fchownat, d, p, -1, getegid(), f)) \
    CASE(utime, 0, CHANGES, SOME(0), syscall(SYS_utime, p, &old)) \
    CASE(utimes, 0, CHANGES, SOME(0), syscall(SYS_utimes, p, coarse)) \
    CASE(futimesat, 1, CHANGES, SOME(0), syscall(SYS_futimesat, d, p, coarse)) \
    CASE(utimensat, 1, CHANGES, SOME(0, AT_SYMLINK_NOFOLLOW), syscall(SYS_utimensat, d, p, times, f)) \
    CASE(truncate, 0, CHANGES, SOME(3), syscall(SYS_truncate, p, f)) \
    CASE(statfs, 0, READS, SOME(0), syscall(SYS_statfs, p, text)) \
    CASE(chdir, 0, READS, SOME(0), back(syscall(SYS_chdir, p))) \
    CASE(chroot, 0, READS, SOME(0), syscall(SYS_chroot, p)) \
    CASE(setxattr, 0, CHANGES, SOME(0), syscall(SYS_setxattr, p, "user.a", "v", 1, 0)) \
    CASE(lsetxattr, 0, CHANGES, SOME(0), syscall(SYS_lsetxattr, p, "user.a", "v", 1, 0)) \
    CASE(getxattr, 0, READS, SOME(0), syscall(SYS_getxattr, p, "user.made", text, sizeof text)) \
    CASE(lgetxattr, 0, READS, SOME(0), syscall(SYS_lgetxattr, p, "user.made", text, 0)) \
    CASE(listxattr, 0, READS, SOME(0), syscall(SYS_listxattr, p, text, sizeof text)) \
    CASE(llistxattr, 0, READS, SOME(0), syscall(SYS_llistxattr, p, text, 2)) \
    CASE(removexattr, 0, CHANGES, SOME(0), syscall(SYS_removexattr, p, "user.made")) \
    CASE(lremovexattr, 0, CHANGES, SOME(0), syscall(SYS_lremovexattr, p, "user.made")) \
    CASE(setxattrat, 1, CHANGES, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH), syscall(463, d, p, f, "user.a", &xattr, sizeof xattr)) \
    CASE(getxattrat, 1, READS, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH), syscall(464, d, p, f, "user.made", &xattr, sizeof xattr)) \
    CASE(listxattrat, 1, READS, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH), syscall(465, d, p, f, text, sizeof text)) \
    CASE(removexattrat, 1, CHANGES, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH), syscall(466, d, p, f, "user.made")) \
    CASE(file_getattr, 1, READS, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH), syscall(468, d, p, attributes, 24, f)) \
    CASE(file_setattr, 1, CHANGES, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH), (memset(attributes, 0, 24), syscall(469, d, p, attributes, 24, f))) \
    CASE(inotify_add_watch, 0, READS, SOME(0, IN_DONT_FOLLOW, IN_ONLYDIR), syscall(SYS_inotify_add_watch, watch, p, IN_OPEN | f) > 0 ? 0 : -1) \
    CASE(fanotify_mark, 1, READS, SOME(0, FAN_DONT_FOLLOW), syscall(SYS_fanotify_mark, fan, 1 | f, 1UL, d, p)) \
    CASE(name_to_handle_at, 1, READS, SOME(0, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH), (handle[0] = 0, syscall(SYS_name_to_handle_at, d, p, handle, &handle[39], f))) \
    CASE(execve, 0, READS, SOME(0), show_child(p, d, f, 0)) \
    CASE(execveat, 1, READS, SOME(0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH), show_child(p, d, f, 1)) \
    CASE(bind, 0, CHANGES, SOME(0), with_socket(SOCK_STREAM, bind, p)) \
    CASE(connect, 0, READS, SOME(0), with_socket(SOCK_STREAM, connect, p)) \
    CASE(sendto, 0, READS, SOME(0), with_socket(SOCK_DGRAM, send_to, p)) \
    CASE(sendmsg, 0, READS, SOME(0), with_message(p, 0))

#define FAN_DONT_FOLLOW 4
static int watch, fan;
struct call { const char *name; int has_directory, changes, flags[12]; long (*make)(int, const char *, int); };
#define FUNCTION(NAME, AT, CHANGES_IT, FLAGS, CALL) static long make_##NAME(int d, const char *p, int f) { (void)d; (void)f; return CALL; }
CALLS(FUNCTION)
#define ENTRY(NAME, AT, CHANGES_IT, FLAGS, CALL) {#NAME, AT, CHANGES_IT, FLAGS, make_##NAME},
static const struct call calls[] = {CALLS(ENTRY)};

static void told(const char *call, const char *form, int flags, const char *path, long result) {
    int error = errno;
    const char *at = strlen(path) < 2000 ? strstr(path, top) : NULL;
    printf("%s %s %x ", call, form, flags);
    if (strlen(path) > 200) printf("[%zu bytes]", strlen(path));
    else if (at) printf("%.*s@%s", (int)(at - path), path, at + strlen(top));
    else printf("%s", path);
    if (result == -1) printf(" errno %d", error); else printf(" = %ld", result);
    printf("%s%s\n", *seen ? " " : "", seen);
    *seen = 0;
}

static int step = 1, count;
static int is_left_out(void) { return count++ % step != 0; }

static void try(const struct call *call, const char *form, int d, const char *p, int f) {
    if (is_left_out()) return;
    errno = 0;
    long result = call->make(d, p, f);
    told(call->name, form, f, p, result);
    // Opening changes nothing but by these flags.
    int is_harmless = !strncmp(call->name, "open", 4) && !(f & (O_CREAT | O_TRUNC));
    if (call->changes && result >= 0 && !is_harmless) make_tree();
}

static void one_path(const struct call *call, int f) {
    char path[8192];
    for (int i = 0; i < name_count; i++) {
        snprintf(path, sizeof path, "%s/%s", top, names[i]);
        try(call, "absolute", AT_FDCWD, path, f);
        try(call, "relative", AT_FDCWD, names[i], f);
        if (call->has_directory) {
            try(call, "directory", top_fd, names[i], f);
            try(call, "inner", inner_fd, names[i], f);
        }
    }
    for (int i = 0; i < special_count; i++) try(call, "special", AT_FDCWD, specials[i], f);
    if (call->has_directory) {
        try(call, "closed", 1000, "file", f);
        try(call, "file", file_fd, "file", f);
        try(call, "file", file_fd, "", f);
        snprintf(path, sizeof path, "%s/file", top);
        try(call, "closed", 1000, path, f);
    }
}

static void bad_pointers(const struct call *call, int f) {
    if (strstr("bind connect sendto sendmsg execve execveat", call->name)) return;
    const struct { const char *form; const char *pointer; } bad[] = {{"null", NULL}, {"bad", (char *)8}};
    for (int i = 0; i < 2; i++) {
        errno = 0;
        long result = call->make(AT_FDCWD, bad[i].pointer, f);
        told(call->name, bad[i].form, f, "", result);
        if (call->changes && result >= 0) make_tree();
    }
}

// rename, link and their kin: each of the pairs' names with each.
static long move(int which, const char *from, const char *to) {
    switch (which) {
    case 0: return syscall(SYS_rename, from, to);
    case 1: return syscall(SYS_renameat, top_fd, from, top_fd, to);
    case 2: return syscall(SYS_renameat2, AT_FDCWD, from, top_fd, to, 0);
    case 3: return syscall(SYS_renameat2, top_fd, from, AT_FDCWD, to, 1);
    case 4: return syscall(SYS_renameat2, top_fd, from, top_fd, to, 2);
    case 5: return syscall(SYS_link, from, to);
    case 6: return syscall(SYS_linkat, top_fd, from, AT_FDCWD, to, 0);
    default: return syscall(SYS_linkat, AT_FDCWD, from, top_fd, to, AT_SYMLINK_FOLLOW);
    }
}
static void two_paths(void) {
    const char *moves[] = {"rename", "renameat", "renameat2", "renameat2", "renameat2", "link", "linkat", "linkat"};
    for (int which = 0; which < 8; which++)
        for (int i = 0; i < pair_count; i++)
            for (int j = 0; j < pair_count; j++) {
                if (is_left_out()) continue;
                errno = 0;
                long result = move(which, pairs[i], pairs[j]);
                snprintf(seen, sizeof seen, "to %.60s", pairs[j]);
                told(moves[which], "pair", which, pairs[i], result);
                if (result >= 0) make_tree();
            }
}

// What has no path, and is about one.
static void others(void) {
    int fd = open("file", O_RDONLY), s = socket(AF_UNIX, SOCK_DGRAM, 0);
    for (int i = 0; i < name_count; i++) {
        if (chdir(names[i]) == 0) {
            long result = syscall(SYS_getcwd, text, sizeof text);
            show_text(result > 0 ? result - 1 : result, text);
            told("getcwd", "in", 0, names[i], result > 0 ? 0 : result);
            if (chdir(top)) told("chdir", "back", 0, top, -1);
        }
    }
    told("getcwd", "short", 0, "", syscall(SYS_getcwd, text, 1));
    told("fchmod", "fd", 0, "", syscall(SYS_fchmod, fd, 0600));
    told("fchown", "fd", 0, "", syscall(SYS_fchown, fd, -1, -1));
    told("fsetxattr", "fd", 0, "", syscall(SYS_fsetxattr, fd, "user.b", "v", 1, 0));
    told("fremovexattr", "fd", 0, "", syscall(SYS_fremovexattr, fd, "user.b"));
    int flags = 0;
    told("ioctl", "get", 0, "", syscall(SYS_ioctl, fd, FS_IOC_GETFLAGS, &flags));
    told("ioctl", "set", 0, "", syscall(SYS_ioctl, fd, FS_IOC_SETFLAGS, &flags));
    told("sendmmsg", "none", 0, "", syscall(SYS_sendmmsg, s, NULL, 0, 0));
    const int refused[] = {SYS_mount, SYS_umount2, SYS_pivot_root, SYS_swapon, SYS_acct, 428, 429, 430, 433, 442, SYS_open_by_handle_at, SYS_setns};
    for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++) {
        snprintf(seen, sizeof seen, "%s", syscall(refused[i], "/", "/", "/", 0, 0) == -1 ? "refused" : "done");
        printf("call %d %s\n", refused[i], seen);
    }
    *seen = 0;
    printf("io_uring %s\n", syscall(425, 1, text) == -1 ? "refused" : "done");
    close(fd);
    close(s);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "run")) return 42;
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    if (argc > 2) step = atoi(argv[2]);
    begin(argv[1]);
    watch = syscall(SYS_inotify_init1, IN_CLOEXEC);
    // FAN_REPORT_FID: for everybody since Linux 5.13.
    fan = syscall(SYS_fanotify_init, 0x200, 0);
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
        for (int j = 0; calls[i].flags[j] != -1; j++) {
            one_path(&calls[i], calls[i].flags[j]);
            if (j == 0) bad_pointers(&calls[i], calls[i].flags[j]);
        }
    two_paths();
    others();
    list_tree(".", 0);
    puts("done");
    return 0;
}
