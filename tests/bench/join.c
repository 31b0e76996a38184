/* The least that joining a container costs: enter the mount namespace of process PID and the user namespace that owns it,
 * and execute PROGRAM.  usage: join PID PROGRAM */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#define NS_GET_USERNS _IO(0xb7, 0x1)
int main(int argc, char **argv) {
    char path[64];
    (void)argc;
    snprintf(path, sizeof path, "/proc/%s/ns/mnt", argv[1]);
    int mounts = open(path, O_RDONLY | O_CLOEXEC), user = ioctl(mounts, NS_GET_USERNS);
    if (user < 0 || setns(user, CLONE_NEWUSER) || setns(mounts, CLONE_NEWNS)) return perror("join"), 125;
    execv(argv[2], argv + 2);
    return perror(argv[2]), 127;
}
