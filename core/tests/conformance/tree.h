// The tree of the conformance program, and the names that are tried in it.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utime.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <linux/fs.h>

static char top[128];
static const int top_fd = 100, inner_fd = 101, file_fd = 102;

static char name_255[256], name_256[257], up[256], to_root[600];
static const char *names[] = {
    "file", "dir", "dir/inner", "empty", "rel", "abs", "far", "up", "into", "outof", "through", "dangling", "loop", "program", "script",
    "none", "none/x", "file/x", "dir/", "file/", "none/", "rel/", "abs/inner", "abs/", "dir/.", "dir/..", "dir/../file", ".", "..", "",
    "bind", "bind/", "bind/file", "bind/dir", "bind/none", "bind/..", "bind/../file", "bind/back", "bind/back/inner", "bindfile",
    "ro", "ro/file", "ro/dir", "ro/none", "ro/..", "socket", name_255, name_256, to_root,
};
static const int name_count = sizeof names / sizeof *names;

// For calls with two paths.
static const char *pairs[] = {
    "file", "dir", "empty", "rel", "abs", "into", "outof", "dangling", "none", "none/x", "file/x", "dir/", "none/", "dir/inner", "dir/.",
    "dir/..", "..", "", "bind", "bind/file", "bind/dir", "bind/none", "bind/back/inner", "bindfile", "ro", "ro/file", "ro/none", "/",
};
static const int pair_count = sizeof pairs / sizeof *pairs;

static char long_good[4097], long_bad[4098], in_root[600], in_fd[64], in_dir_fd[64], in_thread[600];
static const char *specials[] = {
    "/", "//", "/.", "/..", "/../..", "/proc/self", "/proc/self/exe", "/proc/self/cwd", "/proc/self/cwd/file", "/proc/self/root",
    in_root, in_fd, in_dir_fd, in_thread, "/proc/self/fd/999", "/proc/none", "/proc/self/cwd/..", long_good, long_bad,
};
static const int special_count = sizeof specials / sizeof *specials;

static void must(int result, const char *what) {
    if (result == -1) { fflush(stdout); perror(what); exit(90); }
}
static void write_file(const char *path, const char *content, int mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    must(fd, path);
    must(write(fd, content, strlen(content)), path);
    must(fchmod(fd, mode), path);
    close(fd);
}
static void keep(int fd, int number) {
    must(fd, "open");
    must(dup2(fd, number), "dup2");
    close(fd);
}
static int is_mount(const char *name) { return !strcmp(name, "bind") || !strcmp(name, "bindfile") || !strcmp(name, "ro"); }

static void clear(const char *directory, int spares_mounts) {
    DIR *list = opendir(directory);
    if (!list) return;
    for (struct dirent *entry; (entry = readdir(list));) {
        char path[1024];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || (spares_mounts && is_mount(entry->d_name))) continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (unlink(path) == -1 && errno == EISDIR) {
            chmod(path, 0700);
            clear(path, 0);
            must(rmdir(path), path);
        }
    }
    closedir(list);
}

static void make_tree(void) {
    must(chdir(top), top);
    clear(top, 1);
    clear("bind", 0);
    must(chmod(top, 0755), top);
    must(chmod("bind", 0755), "bind");
    write_file("file", "a file\n", 0644);
    write_file("script", "#!/bin/true\n", 0755);
    must(setxattr("file", "user.made", "value", 5, 0), "setxattr");
    must(mkdir("dir", 0755), "dir");
    must(mkdir("empty", 0755), "empty");
    write_file("dir/inner", "inner\n", 0600);
    must(symlink("dir/inner", "rel"), "rel");
    char path[600];
    snprintf(path, sizeof path, "%s/dir", top);
    must(symlink(path, "abs"), "abs");
    must(symlink("/proc/self/exe", "program"), "program");
    // What links lead to outside.
    must(chmod("/etc/only-here", 0644), "only-here");
    must(chmod("bindfile", 0644), "bindfile");
    must(symlink("/etc/only-here", "far"), "far");
    must(symlink(up, "up"), "up");
    must(symlink("bind/file", "into"), "into");
    must(symlink("bind/back/inner", "outof"), "outof");
    must(symlink("abs/../bind/../rel", "through"), "through");
    must(symlink("dir/new", "dangling"), "dangling");
    must(symlink("loop", "loop"), "loop");
    write_file(name_255, "long\n", 0644);
    write_file("bind/file", "bound\n", 0644);
    must(mkdir("bind/dir", 0755), "bind/dir");
    must(symlink(path, "bind/back"), "bind/back");
    struct sockaddr_un address = {AF_UNIX, "socket"};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    must(bind(s, (void *)&address, sizeof address), "socket");
    close(s);
    // Descriptors of what is there now; numbers that stay.
    keep(open(".", O_RDONLY | O_DIRECTORY), top_fd);
    keep(open("dir", O_RDONLY | O_DIRECTORY), inner_fd);
    keep(open("file", O_RDONLY), file_fd);
}

static void begin(const char *path) {
    snprintf(top, sizeof top, "%s", path);
    memset(name_255, 'n', 255);
    memset(name_256, 'm', 256);
    snprintf(up, sizeof up, "../../../../../../../../../..%s/file", top);
    snprintf(to_root, sizeof to_root, "../../../../../../../../../../../..%s/dir/inner", top);
    snprintf(in_root, sizeof in_root, "/proc/self/root%s/file", top);
    snprintf(in_thread, sizeof in_thread, "/proc/thread-self/root%s/rel", top);
    snprintf(in_fd, sizeof in_fd, "/proc/self/fd/%d", file_fd);
    snprintf(in_dir_fd, sizeof in_dir_fd, "/proc/self/fd/%d/file", top_fd);
    char file[600];
    snprintf(file, sizeof file, "%s/file", top);
    memset(long_good, '/', 4095);
    strcpy(long_good + 4095 - strlen(file), file);
    memset(long_bad, '/', 4096);
    strcpy(long_bad + 4096 - strlen(file), file);
    make_tree();
}

static void list_tree(const char *directory, int depth) {
    struct dirent **list;
    int count = scandir(directory, &list, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[1024];
        struct stat found;
        if (!strcmp(list[i]->d_name, ".") || !strcmp(list[i]->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", directory, list[i]->d_name);
        must(lstat(path, &found), path);
        printf("tree %.60s %o %ld\n", path, found.st_mode, S_ISDIR(found.st_mode) ? -1 : (long)found.st_size);
        if (S_ISDIR(found.st_mode) && depth < 5) list_tree(path, depth + 1);
    }
}
