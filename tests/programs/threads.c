/* Threads that look and list beside fork, vfork, exec and signals; prints what went right. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t ticks;
static void tick(int number) {
    int kept = errno;
    struct stat seen;
    (void)number;
    if (stat("/etc", &seen) == 0) ticks++;
    errno = kept;
}
static void *look(void *right) {
    struct stat seen;
    for (int i = 0; i < 300; i++) {
        int fd = open("/etc/passwd", O_RDONLY);
        if (fd >= 0 && read(fd, &seen, 1) == 1) ++*(int *)right;
        close(fd);
        if (stat("/no/such", &seen) == -1 && errno == ENOENT) ++*(int *)right;
    }
    return NULL;
}
static void *list(void *right) {
    for (int i = 0; i < 20; i++) {
        DIR *directory = opendir("/usr");
        int found = 0;
        while (directory && readdir(directory)) found++;
        if (directory) closedir(directory);
        if (found > 5) ++*(int *)right;
    }
    return NULL;
}
extern char **environ;
int main(void) {
    struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval each = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &each, NULL);
    pthread_t threads[16];
    int right[16] = {0}, sum = 0, children = 0;
    for (int i = 0; i < 16; i++) pthread_create(&threads[i], NULL, i % 2 ? list : look, &right[i]);
    for (int i = 0; i < 30; i++) {
        int status;
        pid_t child;
        if (i % 3 == 0) {
            char *words[] = {"true", NULL};
            if (posix_spawn(&child, "/bin/true", NULL, NULL, words, environ)) continue;
        } else if (i % 3 == 1) {
            child = vfork();
            if (child == 0) {
                execl("/bin/sh", "sh", "-c", "exit 0", NULL);
                _exit(1);
            }
        } else {
            child = fork();
            if (child == 0) _exit(access("/etc/passwd", R_OK) ? 1 : 0);
        }
        while (waitpid(child, &status, 0) == -1 && errno == EINTR) {}
        children += status == 0;
    }
    for (int i = 0; i < 16; i++) {
        pthread_join(threads[i], NULL);
        sum += right[i];
    }
    while (ticks < 10) pause();
    printf("right %d children %d\n", sum, children);
    return 0;
}
