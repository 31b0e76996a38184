/* Runs a program to which one call is refused (EPERM) where its first argument is this. The test fills both in. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int count, char **argv) {
    struct sock_filter filter[] = {
        {0x20, 0, 0, 0}, {0x15, 0, 3, CALL}, {0x20, 0, 0, 16}, {0x15, 0, 1, FIRST},
        {0x06, 0, 0, 0x00050001}, {0x06, 0, 0, 0x7fff0000},
    };
    struct sock_fprog program = {6, filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, 2, &program);
    execv(argv[1], argv + 1);
    return 99;
}
