/* The least that entering a container costs: one user and mount namespace, the mounts given, pivot_root, exec.
 *
 * floor ROOT (ro | overlay) [b:SOURCE:TARGET | t:TARGET | f:TARGET:CONTENT]... -- PROGRAM [ARGUMENT]...
 *
 * Targets lie in ROOT and exist. No path is checked, nothing is looked up, no error is explained: what our engine needs
 * more than this is what its checks cost. Built by start.py: gcc -O2 -static.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void put(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0 || write(file, text, strlen(text)) < 0) err(1, "%s", path);
    close(file);
}

static void attach(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
    if (mount(source, target, type, flags, data)) err(1, "mount on %s", target);
}

int main(int argc, char **argv)
{
    char text[8192], scratch[64];
    int next, files = 0;
    const char *root = argv[1], *scratch_target = "mnt";
    unsigned uid = geteuid(), gid = getegid();
    (void)argc;

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) err(1, "unshare");
    put("/proc/self/setgroups", "deny");
    snprintf(text, sizeof text, "%u %u 1\n", uid, uid);
    put("/proc/self/uid_map", text);
    snprintf(text, sizeof text, "%u %u 1\n", gid, gid);
    put("/proc/self/gid_map", text);
    attach(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL);
    if (!strcmp(argv[2], "ro")) {
        attach(root, root, NULL, MS_BIND, NULL);
        if (chdir(root)) err(1, "%s", root);
    } else {
        /* The upper directory needs a tmpfs, and the overlay a place: the root itself serves for both. */
        int tree = open(root, O_PATH | O_DIRECTORY);
        attach("none", root, "tmpfs", 0, NULL);
        if (chdir(root) || mkdir("u", 0700) || mkdir("w", 0700)) err(1, "%s", root);
        snprintf(text, sizeof text, "userxattr,lowerdir=/proc/self/fd/%d,upperdir=u,workdir=w", tree);
        attach("none", root, "overlay", 0, text);
        close(tree);
        if (chdir(root)) err(1, "%s", root);
    }
    for (next = 3; argv[next] && strcmp(argv[next], "--"); next++) {
        char *one = argv[next] + 2, *two = strchr(one, ':');
        if (two) *two++ = 0;
        if (argv[next][0] == 'b') {
            attach(one, two + 1, NULL, MS_BIND | MS_REC, NULL);
        } else if (argv[next][0] == 't') {
            attach("none", one + 1, "tmpfs", 0, NULL);
        } else {
            if (!files) attach("none", scratch_target, "tmpfs", 0, NULL);
            snprintf(scratch, sizeof scratch, "%s/%d", scratch_target, files++);
            put(scratch, two);
            attach(scratch, one + 1, NULL, MS_BIND, NULL);
        }
    }
    if (files && umount2(scratch_target, MNT_DETACH)) err(1, "umount2");
    if (!strcmp(argv[2], "ro")) attach(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
    if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) err(1, "pivot_root");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) err(1, "no_new_privs");
    execv(argv[next + 1], argv + next + 1);
    err(1, "%s", argv[next + 1]);
}
