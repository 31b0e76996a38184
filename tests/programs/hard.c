/* What a tracer may get wrong: stops, signals in calls, threads that execute, failures of exec, and what /proc tells.
 * Each part prints what it found; natively and traced it is the same. */
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile long *shared;
static const char *self;
static void pause_ms(int n) { usleep(n * 1000); }
static const char *name(int error) { return error ? strerrorname_np(error) : "0"; }
static int status_of(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) == -1 && errno == EINTR) {}
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}
static void *busy(void *unused) {
    struct stat seen;
    (void)unused;
    for (;;) {
        close(open("/etc/passwd", O_RDONLY));
        stat("/no/such", &seen);
        shared[0]++;
    }
    return NULL;
}
static void *replace(void *word) {
    pause_ms(5);
    execl(self, self, "child", word, NULL);
    return NULL;
}
static void handler(int number) { (void)number; shared[1]++; }
static sigjmp_buf back;
static void jump(int number) { (void)number; siglongjmp(back, 1); }

static void threads_that_execute(void) {
    int right = 0;
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            for (int t = 0; t < 8; t++) pthread_create(&thread, NULL, busy, NULL);
            pthread_create(&thread, NULL, replace, "7");
            if (i % 2) pthread_exit(NULL);
            for (;;) pause();
        }
        right += status_of(child) == 7;
    }
    printf("threads execute: %d\n", right);
}

static void stops(void) {
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        for (int t = 0; t < 4; t++) pthread_create(&thread, NULL, busy, NULL);
        busy(NULL);
    }
    int status, moved = 0, seen = 0;
    for (int i = 0; i < 10; i++) {
        pause_ms(5);
        kill(child, SIGSTOP);
        seen += waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP;
        pause_ms(5);
        long before = shared[0];
        pause_ms(10);
        moved += shared[0] != before;
        kill(child, SIGCONT);
        seen += waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status);
        before = shared[0];
        for (int n = 0; n < 2000 && shared[0] == before; n++) pause_ms(1);
        moved += shared[0] == before;
    }
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    kill(child, SIGTERM);
    pause_ms(5);
    seen += waitpid(child, &status, WNOHANG) == 0;
    kill(child, SIGCONT);
    printf("stops: seen %d moved %d ended %d\n", seen, moved, status_of(child));
    for (int i = 0; i < 20; i++) {
        child = fork();
        if (child == 0) {
            pthread_t thread;
            for (int t = 0; t < 4; t++) pthread_create(&thread, NULL, busy, NULL);
            busy(NULL);
        }
        usleep(i * 500);
        if (i % 2) kill(child, SIGSTOP);
        kill(child, SIGKILL);
        if (status_of(child) != 1000 + SIGKILL) printf("killed otherwise\n");
    }
    child = fork();
    if (child == 0) {
        // In a process group without a parent in the session these stop nobody.
        setpgid(0, 0);
        raise(SIGTSTP);
        raise(SIGTTIN);
        _exit(3);
    }
    int numbers[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        waitpid(child, &status, WUNTRACED);
        numbers[i] = WIFSTOPPED(status) ? WSTOPSIG(status) : -1;
        kill(child, SIGCONT);
    }
    printf("stopped by %d %d, ended %d\n", numbers[0], numbers[1], status_of(child));
}

static void signals_in_calls(void) {
    mkfifo("/tmp/fifo", 0600);
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGALRM, &action, NULL);
    ualarm(20000, 0);
    int fd = open("/tmp/fifo", O_RDONLY);
    printf("interrupted: %d %s\n", fd, name(errno));
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    pid_t child = fork();
    if (child == 0) {
        pause_ms(100);
        fd = open("/tmp/fifo", O_WRONLY);
        _exit(write(fd, "x", 1) != 1);
    }
    ualarm(10000, 10000);
    fd = open("/tmp/fifo", O_RDONLY);
    ualarm(0, 0);
    char byte = 0;
    printf("restarted: %d %c %d\n", fd >= 0, read(fd, &byte, 1) == 1 ? byte : '?', status_of(child));
    close(fd);
    action.sa_handler = jump;
    sigaction(SIGALRM, &action, NULL);
    volatile int jumps = 0;
    for (int i = 0; i < 20; i++) {
        if (sigsetjmp(back, 1) == 0) {
            ualarm(3000, 0);
            open("/tmp/fifo", O_WRONLY);
        } else if (access("/tmp/fifo", F_OK) == 0 && access("/tmp/none", F_OK) == -1) {
            jumps++;
        }
    }
    printf("jumped: %d\n", jumps);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int queue = signalfd(-1, &set, SFD_CLOEXEC);
    union sigval value = {.sival_int = 42};
    sigqueue(getpid(), SIGUSR1, value);
    struct signalfd_siginfo got;
    int whole = read(queue, &got, sizeof got) == sizeof got;
    printf("signalfd: %d %d\n", whole, got.ssi_int);
    kill(getpid(), SIGUSR1);
    struct timespec second = {1, 0};
    siginfo_t info;
    int number = sigtimedwait(&set, &info, &second);
    printf("sigtimedwait: %d from myself %d\n", number, info.si_pid == getpid());
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void failures_of_exec(void) {
    char *none[] = {NULL}, *words[] = {"x", NULL};
    int fd = open("/tmp/text", O_CREAT | O_WRONLY, 0755);
    if (write(fd, "no program\n", 11) != 11) printf("not written\n");
    close(fd);
    fd = open("/tmp/lost", O_CREAT | O_WRONLY, 0755);
    if (write(fd, "#!/no/such\n", 11) != 11) printf("not written\n");
    close(fd);
    close(open("/tmp/empty", O_CREAT | O_WRONLY, 0755));
    symlink("loop", "/tmp/loop");
    const char *paths[] = {"/no/such", "/etc/passwd", "/etc", "/etc/passwd/x", "/tmp/text", "/tmp/lost", "/tmp/empty", "/tmp/loop", "", NULL};
    for (int i = 0; paths[i]; i++) {
        execve(paths[i], words, none);
        printf("exec %s: %s\n", paths[i], name(errno));
    }
    execve((char *)8, words, none);
    printf("exec of no address: %s\n", name(errno));
    execve("/bin/true", (char **)8, none);
    printf("exec of no list: %s\n", name(errno));
    char *big = malloc(4 << 20);
    memset(big, 'x', 4 << 20);
    big[(4 << 20) - 1] = 0;
    char *many[] = {"x", big, NULL};
    execve("/bin/true", many, none);
    printf("exec of 4 MiB: %s\n", name(errno));
    for (int i = 0; i < 200; i++) {
        volatile int mark = 1;
        pid_t child = vfork();
        if (child == 0) {
            mark = 2;
            execve("/no/such", words, none);
            execve(i % 2 ? "/bin/true" : "/bin/false", words, none);
            _exit(9);
        }
        if (mark != 2 || status_of(child) != !(i % 2)) printf("vfork %d\n", i);
    }
    fd = open("/tmp/script", O_CREAT | O_WRONLY, 0755);
    dprintf(fd, "#!%s child script\n", self);
    close(fd);
    fd = open("/tmp/script", O_RDONLY);
    pid_t child = fork();
    if (child == 0) fexecve(fd, words, environ), _exit(98);
    printf("script by descriptor: %d\n", status_of(child));
}

static void text_of(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);
    text[length < 0 ? 0 : length] = 0;
    close(fd);
    for (ssize_t i = 0; i < length - 1; i++) if (text[i] == 0) text[i] = ' ';
}
static int headers(struct dl_phdr_info *info, size_t size, void *seen) {
    (void)size;
    if (!*info->dlpi_name) *(const void **)seen = info->dlpi_phdr;
    return 1;
}
/* What the program is told of itself. */
static void about_self(void) {
    char text[4096];
    ssize_t length = readlink("/proc/self/exe", text, sizeof text - 1);
    text[length < 0 ? 0 : length] = 0;
    printf("exe %s\n", text);
    text_of("/proc/self/comm", text, sizeof text);
    printf("comm %s", text);
    text_of("/proc/self/cmdline", text, sizeof text);
    printf("cmdline %s\n", text);
    text_of("/proc/self/environ", text, sizeof text);
    printf("environ %s\n", text);
    printf("execfn %s\n", (char *)getauxval(AT_EXECFN));
    const void *seen = NULL;
    dl_iterate_phdr(headers, &seen);
    printf("headers %d entry %d base %d secure %lu page %lu\n", seen == (void *)getauxval(AT_PHDR), getauxval(AT_ENTRY) != 0,
           getauxval(AT_BASE) != 0, getauxval(AT_SECURE), getauxval(AT_PAGESZ));
    int fd = open("/proc/self/fd/1", O_WRONLY);
    printf("fd 1 again %d\n", fd >= 0);
    close(fd);
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(directory)) count++;
    closedir(directory);
    printf("descriptors %d\n", count - 3);
    prctl(PR_SET_NAME, "renamed");
    text_of("/proc/self/comm", text, sizeof text);
    printf("comm %s", text);
    stack_t stack;
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    sigaltstack(NULL, &stack);
    int blocked = 0;
    for (int i = 1; i < 65; i++) blocked += sigismember(&mask, i) == 1;
    printf("blocked %d altstack %d umask %o pdeathsig ", blocked, stack.ss_flags, umask(022));
    int signal = -1;
    prctl(PR_GET_PDEATHSIG, &signal);
    printf("%d dumpable %d nice %d\n", signal, prctl(PR_GET_DUMPABLE), getpriority(PRIO_PROCESS, 0));
}

static int born(void *unused) {
    struct stat seen;
    (void)unused;
    int right = 0;
    for (int i = 0; i < 100; i++) right += stat("/etc/passwd", &seen) == 0 && stat("/no/such", &seen) == -1;
    chdir("/etc");
    return right == 100 ? 6 : 5;
}
static void births(void) {
    char *stack = malloc(1 << 16);
    int kinds[] = {SIGCHLD, SIGCHLD | CLONE_VM, SIGCHLD | CLONE_FS, SIGCHLD | CLONE_FILES, SIGCHLD | CLONE_VM | CLONE_VFORK | CLONE_FS};
    for (int i = 0; i < 5; i++) {
        chdir("/");
        pid_t child = clone(born, stack + (1 << 16), kinds[i], NULL);
        int status = status_of(child);
        char where[100];
        printf("clone %d: %d in %s\n", i, status, getcwd(where, sizeof where));
    }
    chdir("/");
    int right = 0;
    for (int i = 0; i < 300; i++) {
        pid_t child = fork();
        if (child == 0) _exit(access("/etc/passwd", R_OK) || access("/no/such", R_OK) != -1);
        right += child > 0 && status_of(child) == 0;
    }
    printf("forks %d\n", right);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork() == 0) {
            pause_ms(30);
            _exit(access("/etc/passwd", R_OK) ? 1 : 4);
        }
        _exit(2);
    }
    int first = status_of(child), status;
    child = wait(&status);
    printf("daemon %d %d\n", first, child > 0 ? WEXITSTATUS(status) : -1);
}

static void paths(void) {
    char *longest = malloc(8192), where[16384];
    int depth = 0;
    mkdir("/tmp/deep", 0700);
    chdir("/tmp/deep");
    memset(longest, 'd', 200);
    longest[200] = 0;
    while (depth < 15 && mkdir(longest, 0700) == 0 && chdir(longest) == 0) depth++;
    printf("depth %d %s\n", depth, name(depth < 15 ? errno : 0));
    printf("getcwd %s\n", getcwd(where, sizeof where) ? "some" : name(errno));
    close(open("here", O_CREAT | O_WRONLY, 0600));
    printf("here %s\n", name(access("here", F_OK) ? errno : 0));
    chdir("/tmp/deep");
    for (int i = 0; i < 5; i++) chdir(longest);
    for (int i = 0; i < 5; i++) chdir("..");
    printf("back in %s\n", getcwd(where, sizeof where));
    memset(longest, 'n', 256);
    longest[256] = 0;
    printf("256 %s\n", name(access(longest, F_OK) ? errno : 0));
    memset(longest, '/', 4095);
    strcpy(longest + 4091, "etc");
    printf("4094 %s\n", name(access(longest, F_OK) ? errno : 0));
    memset(longest, '/', 8000);
    strcpy(longest + 4100, "etc");
    printf("4103 %s\n", name(access(longest, F_OK) ? errno : 0));
    mkdir("/tmp/gone", 0700);
    chdir("/tmp/gone");
    rmdir("/tmp/gone");
    printf("gone: getcwd %s, ", getcwd(where, sizeof where) ? "some" : name(errno));
    printf("open %s\n", name(open("x", O_CREAT | O_WRONLY, 0600) < 0 ? errno : 0));
    chdir("/");
}

int main(int count, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count > 2 && !strcmp(argv[1], "child")) return atoi(argv[2]);
    if (count > 1 && !strcmp(argv[1], "child script")) return 21;
    if (count > 1 && !strcmp(argv[1], "self")) return about_self(), 0;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    self = argv[0];
    threads_that_execute();
    stops();
    signals_in_calls();
    failures_of_exec();
    births();
    paths();
    return 11;
}
