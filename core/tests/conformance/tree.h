// The tree that the cases work on, the paths into it, and what changed in it.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utime.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#ifndef SYS_openat2
#define SYS_openat2 437
#endif

#define BAD ((char *)8)
// The kernel's answer: a result, or minus an error number.
#define raw(...) ({ long result_ = syscall(__VA_ARGS__); result_ == -1 ? -(long)errno : result_; })

static const char *top;

static const char *error_name(long number) {
    static char other[32];
#define NAME(error) case error: return #error;
    switch (number) {
    NAME(EPERM) NAME(ENOENT) NAME(ENXIO) NAME(E2BIG) NAME(ENOEXEC) NAME(EBADF) NAME(EACCES) NAME(EFAULT) NAME(EBUSY) NAME(EEXIST)
    NAME(EXDEV) NAME(ENODEV) NAME(ENOTDIR) NAME(EISDIR) NAME(EINVAL) NAME(ETXTBSY) NAME(EROFS) NAME(ERANGE) NAME(ENAMETOOLONG)
    NAME(ENOSYS) NAME(ENOTEMPTY) NAME(ELOOP) NAME(ENODATA) NAME(EOVERFLOW) NAME(EOPNOTSUPP) NAME(EADDRINUSE) NAME(ECONNREFUSED)
    NAME(ENOTTY) NAME(ENOTCONN) NAME(EDESTADDRREQ) NAME(EPROTOTYPE) NAME(ENOTSOCK)
    }
    sprintf(other, "E%ld", number);
    return other;
}

// --- The tree.

static void wipe(int depth) {
    struct dirent **entries;
    int count = scandir(".", &entries, NULL, NULL);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        struct stat st;
        if (strcmp(name, ".") && strcmp(name, "..") && strcmp(name, "kept") && unlink(name) && !lstat(name, &st) && S_ISDIR(st.st_mode)) {
            if (strcmp(name, "ro")) chmod(name, 0755);
            if (strcmp(name, "ro") && !chdir(name)) { wipe(depth + 1); if (chdir("..")) abort(); }
            rmdir(name);
        }
        free(entries[i]);
    }
    if (count >= 0) free(entries);
}

static void put(const char *name, const char *text, int mode) {
    int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (write(fd, text, strlen(text)) < 0 || fchmod(fd, mode)) abort();
    close(fd);
}

// Makes the tree what it was at first. Mount points stay; `kept` too, since a descriptor is open on it.
static void make_tree(void) {
    char text[400];
    chmod("/", 0755), chmod(".", 0755), chmod("boundfile", 0644), chmod("/bin/conformance", 0755), chmod("/proc/self/fd/7", 0644);
    if (chdir(top)) abort();
    wipe(0);
    mkdir("kept", 0755), chmod("kept", 0755);
    put("file", "guest file\n", 0644), put("script", "#!/bin/conformance --probe-script\n", 0755);
    put("garbage", "guest\1\2\3garbage", 0755), put("lost", "#!/no/such\n", 0755), put("private", "guest private", 0);
    syscall(SYS_setxattr, "file", "user.name", "guest", 5, 0);
    mkdir("dir", 0755), mkdir("dir/sub", 0755), mkdir("empty", 0755), put("dir/inner", "guest inner", 0640);
    link("file", "hard"), mknod("fifo", S_IFIFO | 0644, 0), mknod("sock", S_IFSOCK | 0644, 0);
    symlink("file", "rel"), symlink("dir", "reldir"), symlink("bind/inner", "tobind"), symlink("bind", "tobinddir");
    symlink("ro/inner", "toro"), symlink("dir/none", "dangling"), symlink("loop", "loop"), symlink("/proc/self/exe", "selfexe");
    symlink("../../../../../../../../../../etc/passwd", "above"), symlink("/proc/self/fd/7", "tofd"), symlink("script", "toscript");
    sprintf(text, "%s/file", top), symlink(text, "abs");
    sprintf(text, "%s/dir", top), symlink(text, "absdir");
    sprintf(text, "%s/bind/inner", top), symlink(text, "tobindabs");
    mkdir("closed", 0700), put("closed/x", "guest closed", 0644), chmod("closed", 0);
    put("bind/inner", "bound inner", 0640), mkdir("bind/sub", 0755), symlink("../dir/inner", "bind/backrel");
    sprintf(text, "%s/dir/inner", top), symlink(text, "bind/back");
    put("boundfile", "bound file\n", 0644);
    syscall(SYS_removexattr, "boundfile", "user.other"), syscall(SYS_removexattr, "boundfile", "user.name");
}

// --- What changed: names, modes, sizes, links and link counts.

struct list { int count; char lines[96][200]; };
static struct list before, now;

static void list_directory(struct list *list, const char *path) {
    struct dirent **entries;
    int count = scandir(*path ? path : ".", &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char name[1000], link[512] = "";
        struct stat st;
        snprintf(name, sizeof name, "%s%s%s", path, *path ? "/" : "", entries[i]->d_name);
        int dots = !strcmp(entries[i]->d_name, ".") || !strcmp(entries[i]->d_name, "..");
        free(entries[i]);
        if (dots || lstat(name, &st)) continue;
        if (S_ISLNK(st.st_mode) && readlink(name, link, sizeof link - 1) < 0) abort();
        if (list->count < 96) snprintf(list->lines[list->count++], 200, "%.150s:%o:%ld:%ld%s%.20s", name, st.st_mode, S_ISDIR(st.st_mode) ? 0 : (long)st.st_size, S_ISDIR(st.st_mode) ? 0 : (long)st.st_nlink, *link ? ":" : "", link);
        if (S_ISDIR(st.st_mode)) list_directory(list, name);
    }
    if (count >= 0) free(entries);
}
static void note_tree(void) { list_directory(&before, ""); }
static int holds(const struct list *list, const char *line) {
    for (int i = 0; i < list->count; i++) if (!strcmp(list->lines[i], line)) return 1;
    return 0;
}
static int print_changes(void) {
    int count = 0;
    now.count = 0;
    list_directory(&now, "");
    for (int i = 0; i < before.count; i++) if (!holds(&now, before.lines[i])) count += printf(" -%s", before.lines[i]);
    for (int i = 0; i < now.count; i++) if (!holds(&before, now.lines[i])) count += printf(" +%s", now.lines[i]);
    return count;
}

// --- Paths.

enum { USED_BY_ALL = 1, EXEC = 2, FEW = 4, SUB = 8 };
struct path { const char *shown, *text; int kind; };

static const struct path *all_paths(void) {
    static const char *plain[] = {
        "file", "", "dir", "dir/", "dir/.", "dir/..", "dir/inner", "dir/sub/..", "dir/../file", "file/", "file/.", "file/x", "file/..",
        "rel", "rel/", "abs", "abs/", "reldir", "reldir/", "reldir/.", "reldir/..", "reldir/inner", "reldir/../file", "absdir", "absdir/", "absdir/inner",
        "absdir/../file", "tobind", "tobindabs", "tobinddir", "tobinddir/", "tobinddir/inner", "tobinddir/..", "bind", "bind/", "bind/.", "bind/..",
        "bind/inner", "bind/back", "bind/backrel", "bind/sub", "bind/none", "bind/../file", "ro", "ro/", "ro/..", "ro/inner", "ro/none", "ro/none/", "ro/none/x",
        "ro/sub", "ro/link", "ro/sub/.", "toro", "boundfile", "boundfile/", "boundfile/x", "boundfile/..", "dangling", "dangling/", "loop", "loop/", "loop/x", "none", "none/", "none/.",
        "none/..", "none/x", "fifo", "sock", "hard", "above", "selfexe", "tofd", "private", "closed", "closed/", "closed/x", "closed/..", ".", "..", "./file",
        ".//dir///inner", "empty", "empty/..", "/", "//", "/.", "/..", "/etc", "/etc/passwd", "/etc/hostname", "/home", "/root", "/usr/include", "/proc", "/proc/", "/proc/self", "/proc/self/",
        "/proc/self/exe", "/proc/self/exe/", "/proc/self/root", "/proc/self/root/", "/proc/self/root/..", "/proc/self/root/etc/passwd", "/proc/self/root/etc/hostname",
        "/proc/self/cwd", "/proc/self/cwd/", "/proc/self/cwd/file", "/proc/self/cwd/..", "/proc/self/cwd/reldir/inner", "/proc/self/fd/7", "/proc/self/fd/7/", "/proc/self/fd/8", "/proc/self/fd/8/",
        "/proc/self/fd/8/file", "/proc/self/fd/8/absdir/inner", "/proc/self/fd/8/..", "/proc/self/fd/99", "/proc/self/fd", "/proc/self/fd/7/x", "/proc/thread-self", "/proc/thread-self/cwd/file", "/proc/none",
    };
    static const char *programs[] = {"script", "toscript", "garbage", "lost", "/bin/conformance", "/bin/../bin/./conformance", "/proc/self/fd/10", "bind/script"};
    static char name255[300], name256[300], name107[120], name108[120], path4095[5000], path4096[5000], path5000[6000];
    static struct path paths[240];
    int count = 0;
    if (paths[0].shown) return paths;
    for (unsigned i = 0; i < sizeof plain / sizeof *plain; i++)
        paths[count++] = (struct path){*plain[i] ? plain[i] : "(empty)", plain[i], USED_BY_ALL | (i < 3 ? FEW : 0) | (i % 4 ? 0 : SUB)};
    for (unsigned i = 0; i < sizeof programs / sizeof *programs; i++) paths[count++] = (struct path){programs[i], programs[i], EXEC};
    memset(name255, 'n', 255), memset(name256, 'n', 256), memset(name107, 'n', 107), memset(name108, 'n', 108);
    for (int i = 0; i < 2600; i++) strcat(path5000, "./");
    memcpy(path4095, path5000, 4091), memcpy(path4095 + 4091, "file", 4);
    memcpy(path4096, path5000, 4092), memcpy(path4096 + 4092, "file", 4);
    const struct path made[] = {{"(255)", name255}, {"(256)", name256}, {"(107)", name107}, {"(108)", name108}, {"(4095)", path4095}, {"(4096)", path4096}, {"(5200)", path5000}, {"(null)", NULL}, {"(bad)", BAD}};
    for (unsigned i = 0; i < sizeof made / sizeof *made; i++) {
        paths[count] = made[i];
        paths[count++].kind = USED_BY_ALL | FEW;
    }
    return paths;
}

static const char *sources[] = {"file", "dir", "dir/", "rel", "reldir/", "absdir", "tobind", "bind", "bind/", "bind/inner", "bind/sub", "boundfile", "ro/inner", "none", "none/",
    "dangling", "dir/..", ".", "/", "fifo", "hard", "empty", "file/x", "closed/x", "/proc/self/fd/7", NULL};
static const char *targets[] = {"new", "new/", "file", "dir", "empty", "bind", "bind/new", "bind/inner", "boundfile", "ro/new", "ro/inner", "rel", "reldir/", "dangling", "dangling/", "none/x",
    "dir/new", "dir/..", ".", "/", "file/x", "closed/x", "dir/sub/new", "hard", "", NULL};
