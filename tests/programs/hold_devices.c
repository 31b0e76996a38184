/* hold_devices GROUP MAJOR:MINOR…: lets the processes of a control group of version 2 make, read and write these character devices
 * (MINOR `*`: all of MAJOR) and no other device, by a program as container runtimes load it. It stays as long as the group. */
#include <fcntl.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIELD(to, name) \
    { .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = to, .src_reg = 1, .off = offsetof(struct bpf_cgroup_dev_ctx, name) }
#define AND(to, value) { .code = BPF_ALU | BPF_AND | BPF_K, .dst_reg = to, .imm = value }
#define SKIP_UNLESS(reg, value, count) { .code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = reg, .imm = value, .off = count }
#define ANSWER(value) { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = value }
#define END { .code = BPF_JMP | BPF_EXIT }

static struct bpf_insn program[256] = {
    /* The low half is the kind of device, the high one what is asked for. */
    FIELD(2, access_type), AND(2, 0xffff), FIELD(3, major), FIELD(4, minor),
    SKIP_UNLESS(2, BPF_DEVCG_DEV_CHAR, 0), /* to the end: below */
};
static int count = 5;

static void add(struct bpf_insn instruction) {
    if (count == sizeof program / sizeof *program) exit(2);
    program[count++] = instruction;
}

static int bpf(int command, union bpf_attr *attr) { return syscall(SYS_bpf, command, attr, sizeof *attr); }

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    for (int i = 2; i < argc; i++) {
        int major, minor, all = strstr(argv[i], ":*") != NULL;
        if (sscanf(argv[i], "%d:%d", &major, &minor) != 2 - all) return 2;
        add((struct bpf_insn)SKIP_UNLESS(3, major, all ? 2 : 3));
        if (!all) add((struct bpf_insn)SKIP_UNLESS(4, minor, 2));
        add((struct bpf_insn)ANSWER(1));
        add((struct bpf_insn)END);
    }
    program[4].off = count - 5;
    add((struct bpf_insn)ANSWER(0));
    add((struct bpf_insn)END);
    union bpf_attr load, attach;
    memset(&load, 0, sizeof load);
    memset(&attach, 0, sizeof attach);
    load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    load.insns = (uintptr_t)program;
    load.insn_cnt = count;
    load.license = (uintptr_t) "";
    attach.attach_type = BPF_CGROUP_DEVICE;
    attach.target_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    attach.attach_bpf_fd = bpf(BPF_PROG_LOAD, &load);
    if (bpf(BPF_PROG_ATTACH, &attach) == 0) return 0;
    perror(argv[1]);
    return 1;
}
