/* A SPANK plugin that tells what each callback is, and what it could do there: a line each, appended to a file.
 *
 * plugstack.conf: required trace.so log=FILE [fail=CALLBACK]   FILE: all may write to it; CALLBACK returns -1 on nodes
 * A line begins with the number of its process. Numbers that vary are told as what they are, or not at all. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <slurm/spank.h>

SPANK_PLUGIN(trace, 1)

static char text[8192];
static size_t used;

static void say(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    int length = vsnprintf(text + used, sizeof text - used, format, rest);
    va_end(rest);
    if (length > 0 && (used += length) >= sizeof text) used = sizeof text - 1;
}

static const char *word(int ac, char **av, const char *name) {
    static char *kept[8];
    static int count;
    /* An option's callback is not given them. */
    if (ac > 0 && count == 0)
        for (; count < ac && count < 8; count++) kept[count] = strdup(av[count]);
    for (int i = 0; i < count; i++)
        if (!strncmp(kept[i], name, strlen(name))) return kept[i] + strlen(name);
    return NULL;
}

static const char *context_name(void) {
    switch (spank_context()) {
        case S_CTX_LOCAL: return "local";
        case S_CTX_REMOTE: return "remote";
        case S_CTX_ALLOCATOR: return "allocator";
        case S_CTX_SLURMD: return "slurmd";
        case S_CTX_JOB_SCRIPT: return "job_script";
        default: return "none";
    }
}

static const char *who(uid_t id) {
    static char numbers[8][16];
    static int next;
    if (id == 2000) return "user";
    char *number = numbers[next++ % 8];
    sprintf(number, "%u", id);
    return number;
}

static const char *kind(int fd) {
    struct stat is;
    if (fstat(fd, &is)) return "closed";
    if (S_ISFIFO(is.st_mode)) return "pipe";
    if (S_ISSOCK(is.st_mode)) return "socket";
    if (S_ISREG(is.st_mode)) return "file";
    return is.st_rdev == makedev(1, 3) ? "null" : isatty(fd) ? "tty" : "other";
}

/* The number behind `name` in /proc/self/status. */
static unsigned long long status(const char *name, int base) {
    char line[256];
    unsigned long long number = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name))) number = strtoull(line + strlen(name), NULL, base);
    if (file) fclose(file);
    return number;
}

/* How many descriptors above standard error a program would inherit. */
static int inherited(void) {
    int count = 0;
    for (int fd = 3; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);
        count += flags >= 0 && !(flags & FD_CLOEXEC);
    }
    return count;
}

static void say_step(uint32_t step) {
    if (step == 0xfffffffb) say(" step=batch");
    else if (step == 0xfffffffa) say(" step=interactive");
    else say(" step=%u", step);
}

/* A step that ends has the variables of the task that ended last, whichever that was. */
static void say_items(spank_t spank, int ends) {
    uid_t id;
    uint32_t number;
    int value, count;
    pid_t pid;
    char **words, variable[64];
    if (spank_get_item(spank, S_JOB_ID, &number) == ESPANK_SUCCESS) say(" job=%s", number ? "yes" : "0");
    if (spank_get_item(spank, S_JOB_STEPID, &number) == ESPANK_SUCCESS) say_step(number);
    if (spank_get_item(spank, S_JOB_UID, &id) == ESPANK_SUCCESS) say(" uid=%s", who(id));
    if (spank_get_item(spank, S_JOB_GID, &id) == ESPANK_SUCCESS) say(" gid=%s", who(id));
    if (spank_get_item(spank, S_JOB_NODEID, &number) == ESPANK_SUCCESS) say(" node=%u", number);
    if (spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &number) == ESPANK_SUCCESS) say(" tasks=%u", number);
    if (spank_get_item(spank, S_TASK_ID, &value) == ESPANK_SUCCESS) say(" task=%d", value);
    if (spank_get_item(spank, S_TASK_GLOBAL_ID, &number) == ESPANK_SUCCESS) say(" global=%u", number);
    if (spank_get_item(spank, S_TASK_PID, &pid) == ESPANK_SUCCESS)
        say(" pid=%s", pid == getpid() ? "own" : pid > 0 ? "other" : "none");
    if (spank_get_item(spank, S_TASK_EXIT_STATUS, &value) == ESPANK_SUCCESS) say(" exit=%d", value);
    if (spank_get_item(spank, S_JOB_ARGV, &count, &words) == ESPANK_SUCCESS)
        for (int i = 0; i < count; i++)
            say("%s%s", i ? "," : " argv=", strrchr(words[i], '/') ? strrchr(words[i], '/') + 1 : words[i]);
    if (!ends && spank_getenv(spank, "SLURM_PROCID", variable, sizeof variable) == ESPANK_SUCCESS)
        say(" rank=%s", variable);
}

/* Threads are on their way out when something ends: how many are left varies. */
static void say_process(int ends) {
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    say(" ids=%s/%s/%s", who(real), who(effective), who(saved));
    unsigned long long caps = status("CapEff:", 16);
    say(" caps=%s", caps ? "some" : "none");
    if (!ends) say(" threads=%s", status("Threads:", 10) == 1 ? "1" : "many");
    say(" stdio=%s,%s,%s", kind(0), kind(1), kind(2));
    say(" env=%s%s%s", getenv("PATH") ? "PATH" : "none", getenv("_SLURM_SPANK_OPTION_trace_trace") ? ",own" : "",
        getenv("SPANK__SLURM_SPANK_OPTION_trace_trace") ? ",script" : "");
}

static void begin(const char *callback) {
    char host[64], program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = 0;
    gethostname(host, sizeof host);
    used = 0;
    say("%d %s %s %s context=%s", getpid(), host, strrchr(program, '/') ? strrchr(program, '/') + 1 : program, callback,
        context_name());
}

static void end(void) {
    const char *path = word(0, NULL, "log=");
    int fd = path ? open(path, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
    for (char *at = text; (at = strchr(at, '\n'));) *at = '|';
    say("\n");
    if (fd >= 0) {
        if (write(fd, text, used) < 0) perror(path);
        close(fd);
    }
}

static int option(int index, const char *value, int remote) {
    (void)index;
    begin("option");
    say(" remote=%d value=%s", remote, value ? value : "none");
    say_process(0);
    end();
    return 0;
}

static struct spank_option trace = {"trace", "VALUE", "be told to callbacks", 1, 0, option};

static int tell(const char *callback, spank_t spank, int ac, char **av) {
    char *value = NULL;
    const char *fail = word(ac, av, "fail=");
    begin(callback);
    int ends = strstr(callback, "exit") != NULL;
    say_process(ends);
    say_items(spank, ends);
    if (spank_option_getopt(spank, &trace, &value) == ESPANK_SUCCESS) say(" option=%s", value ? value : "none");
    if (strstr(callback, "task_init")) say(" inherited=%d", inherited());
    end();
    return fail && !strcmp(fail, callback) && spank_remote(spank) == 1 ? -1 : 0;
}

#define TELL(name) \
    int slurm_spank_##name(spank_t spank, int ac, char **av) { return tell(#name, spank, ac, av); }

int slurm_spank_init(spank_t spank, int ac, char **av) {
    int outcome = tell("init", spank, ac, av);
    if (spank_context() != S_CTX_SLURMD) spank_option_register(spank, &trace);
    return outcome;
}
TELL(init_post_opt)
TELL(local_user_init)
TELL(job_prolog)
TELL(user_init)
TELL(task_init_privileged)
TELL(task_init)
TELL(task_post_fork)
TELL(task_exit)
TELL(job_epilog)
TELL(slurmd_exit)
TELL(exit)
