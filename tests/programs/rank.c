// What a rank sees and gets, one word a behaviour; static, so that it is the same program in and out of a container.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static volatile int counts[65];
static void count(int signal) { counts[signal]++; }

// Counts signals; answers each line of input with the counts that are not 0. Ends with 9 at the end of input.
static int counting(void) {
    struct sigaction action = {.sa_handler = count};
    for (int signal = 1; signal < 65; signal++)
        if (signal != SIGCHLD) sigaction(signal, &action, NULL);
    printf("ready %d\n", getpid());
    char byte;
    for (;;) {
        ssize_t got = read(0, &byte, 1);
        if (got == 0) return 9;
        if (got == 1 && byte == '\n') {
            for (int signal = 1; signal < 65; signal++)
                if (counts[signal]) printf("%d:%d ", signal, counts[signal]);
            printf("\n");
        }
    }
}

// Waits for signals as they come by default, or ignores them: `waiting`, `ignoring`.
static int waiting(void (*what)(int)) {
    for (int signal = 1; signal < 32; signal++)
        if (signal != SIGCHLD) sigaction(signal, &(struct sigaction){.sa_handler = what}, NULL);
    printf("ready %d\n", getpid());
    char byte;
    while (read(0, &byte, 1) < 0) {}
    return 9;
}

// Works without a call that anybody could stop at; one byte on stdout now and then.
static int working(void) {
    printf("ready %d\n", getpid());
    for (;;) {
        for (volatile int turn = 0; turn < 2000000; turn++) {}
        if (write(1, ".", 1) != 1) return 9;
    }
}

// Lists the open descriptors: number, and what it is.
static int descriptors(void) {
    for (int fd = 0; fd < 1100; fd++) {
        struct stat what;
        if (fstat(fd, &what)) continue;
        int flags = fcntl(fd, F_GETFD);
        printf("%d %s%s\n", fd, S_ISSOCK(what.st_mode) ? "socket" : S_ISFIFO(what.st_mode) ? "pipe"
            : S_ISREG(what.st_mode) ? "file" : S_ISCHR(what.st_mode) ? "device" : S_ISDIR(what.st_mode) ? "directory"
            : "other", flags & FD_CLOEXEC ? " cloexec" : "");
    }
    DIR *listed = opendir("/proc/self/fd");
    int count = 0;
    while (listed && readdir(listed)) count++;
    // Not the two dots, not the list's own.
    printf("listed %d\n", listed ? count - 3 : -1);
    return 0;
}

// Speaks PMI-1 as simple_pmi.c of MPICH does.
static char line[1024];
static void ask(FILE *wire, const char *question, const char *wanted) {
    fputs(question, wire);
    fflush(wire);
    if (!wanted) return;
    if (!fgets(line, sizeof line, wire) || strcmp(line, wanted)) {
        printf("asked %sgot %s", question, line);
        exit(1);
    }
}
static int pmi(void) {
    const char *fd = getenv("PMI_FD"), *rank = getenv("PMI_RANK"), *size = getenv("PMI_SIZE");
    if (!fd || !rank || !size) return 2;
    FILE *wire = fdopen(atoi(fd), "r+");
    if (!wire) return printf("PMI_FD %s: %s\n", fd, strerror(errno)), 3;
    char question[256], wanted[256];
    ask(wire, "cmd=init pmi_version=1 pmi_subversion=1\n", "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n");
    ask(wire, "cmd=get_maxes\n", "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024\n");
    ask(wire, "cmd=get_appnum\n", "cmd=appnum appnum=0\n");
    ask(wire, "cmd=get_my_kvsname\n", "cmd=my_kvsname kvsname=kvs_1_0\n");
    snprintf(question, sizeof question, "cmd=put kvsname=kvs_1_0 key=card-%s value=of rank %s/%s\n", rank, rank, size);
    ask(wire, question, "cmd=put_result rc=0 msg=success\n");
    ask(wire, "cmd=barrier_in\n", "cmd=barrier_out\n");
    for (int other = 0; other < atoi(size); other++) {
        snprintf(question, sizeof question, "cmd=get kvsname=kvs_1_0 key=card-%d\n", other);
        snprintf(wanted, sizeof wanted, "cmd=get_result rc=0 msg=success value=of rank %d/%s\n", other, size);
        ask(wire, question, wanted);
    }
    ask(wire, "cmd=finalize\n", "cmd=finalize_ack\n");
    fclose(wire);
    printf("rank %s of %s done\n", rank, size);
    // The wire is closed; the process manager must see its end though we live on.
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0) {}
    return 7;
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "counting")) return counting();
    if (!strcmp(what, "waiting")) return waiting(SIG_DFL);
    if (!strcmp(what, "ignoring")) return waiting(SIG_IGN);
    if (!strcmp(what, "working")) return working();
    if (!strcmp(what, "descriptors")) return descriptors();
    if (!strcmp(what, "pmi")) return pmi();
    if (!strcmp(what, "name")) return printf("%s\n", words[0]), 0;
    return 1;
}
