/* Says what dangerous system calls return to the process that makes them: the name of the error, or `allowed`. Each is made with
   arguments that do no harm where it is allowed, in a child, for one that kills. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#define NEWUSER 0x10000000
#define NEWNS 0x00020000

struct call { const char *name; long number; long args[6]; };

static char tmp[] = "/tmp", none[] = "/nonexistent", tmpfs[] = "tmpfs", empty[4096];

#define P(x) ((long)(x))
static const struct call calls[] = {
    {"mount", SYS_mount, {P(tmpfs), P(tmp), P(tmpfs), 0, 0}},
    {"umount2", SYS_umount2, {P("/proc/kcore"), 2}},
    {"pivot_root", SYS_pivot_root, {P(tmp), P(tmp)}},
    {"chroot", SYS_chroot, {P(tmp)}},
    {"fsopen", 430, {P(tmpfs), 0}},
    {"fsmount", 432, {-1, 0, 0}},
    {"fspick", 433, {-100, P(tmp), 0}},
    {"open_tree", 428, {-100, P(tmp), 1}},
    {"move_mount", 429, {-1, P(tmp), -1, P(tmp), 0}},
    {"mount_setattr", 442, {-100, P(tmp), 0, 0, 0}},
    {"unshare user", SYS_unshare, {NEWUSER}},
    {"unshare mount", SYS_unshare, {NEWNS}},
    {"setns", SYS_setns, {-1, 0}},
    {"clone user", SYS_clone, {NEWUSER | SIGCHLD, 0, 0, 0, 0}},
    {"clone3", SYS_clone3, {0, 0}},
    {"ptrace me", SYS_ptrace, {0, 0, 0, 0}},
    {"process_vm_readv", SYS_process_vm_readv, {1, 0, 0, 0, 0, 0}},
    {"kcmp", SYS_kcmp, {1, 1, 0, 0, 0}},
    {"pidfd_getfd", 438, {-1, 0, 0}},
    {"bpf", SYS_bpf, {0, P(empty), 64}},
    {"perf_event_open", SYS_perf_event_open, {P(empty), 0, -1, -1, 0}},
    {"userfaultfd", SYS_userfaultfd, {0}},
    {"io_uring_setup", 425, {1, P(empty)}},
    {"io_uring_enter", 426, {-1, 0, 0, 0}},
    {"add_key", SYS_add_key, {P("user"), P("x"), P("x"), 1, -3}},
    {"request_key", SYS_request_key, {P("user"), P("x"), 0, 0}},
    {"keyctl", SYS_keyctl, {0, -3, 0}},
    {"init_module", SYS_init_module, {P(empty), 1, P(empty)}},
    {"finit_module", SYS_finit_module, {-1, P(empty), 0}},
    {"delete_module", SYS_delete_module, {P("nosuch"), 0}},
    {"kexec_load", SYS_kexec_load, {0, 0, 0, 0}},
    {"kexec_file_load", SYS_kexec_file_load, {-1, -1, 0, 0, 0}},
    {"reboot", SYS_reboot, {0, 0, 0, 0}},
    {"swapon", SYS_swapon, {P(none), 0}},
    {"swapoff", SYS_swapoff, {P(none)}},
    {"acct", SYS_acct, {P(none)}},
    {"quotactl", SYS_quotactl, {0, P(none), 0, 0}},
    {"settimeofday", SYS_settimeofday, {0, 0}},
    {"clock_settime", SYS_clock_settime, {99, P(empty)}},
    {"adjtimex write", SYS_adjtimex, {0}},
    {"sethostname", SYS_sethostname, {P("x"), 1}},
    {"setdomainname", SYS_setdomainname, {P("x"), 1}},
    {"syslog", SYS_syslog, {10, 0, 0}},
    {"open_by_handle_at", SYS_open_by_handle_at, {-1, P(empty), 0}},
    {"name_to_handle_at", SYS_name_to_handle_at, {-100, P(tmp), P(empty), P(empty), 0}},
    {"fanotify_init", SYS_fanotify_init, {0, 0}},
    {"mbind", SYS_mbind, {0, 0, 0, 0, 0, 0}},
    {"move_pages", SYS_move_pages, {1, 0, 0, 0, 0, 0}},
    {"personality", SYS_personality, {0x20000000}},
    {"vhangup", SYS_vhangup, {0}},
    {"lookup_dcookie", 212, {0, 0, 0}},
    {"iopl", 172, {3}},
    {"ioperm", 173, {0x80, 1, 1}},
    {"mknod device", SYS_mknodat, {-100, P("/tmp/node"), 020600, 0x801}},
    {"ioctl TIOCSTI", SYS_ioctl, {0, 0x5412, P(empty)}},
    {"ioctl TIOCLINUX", SYS_ioctl, {0, 0x541c, P(empty)}},
    {"socket packet", SYS_socket, {17, 3, 0}},
    {"socket raw", SYS_socket, {2, 3, 1}},
    {"socket vsock", SYS_socket, {40, 1, 0}},
    {"socket vsock 64", SYS_socket, {0x100000028, 1, 0}},
    {"socket alg", SYS_socket, {38, 5, 0}},
    {"socket netlink", SYS_socket, {16, 3, 0}},
    {"unknown call", 4095, {0}},
};

static int in_child(const struct call *c)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        const long *a = c->args;
        errno = 0;
        long result = syscall(c->number, a[0], a[1], a[2], a[3], a[4], a[5]);
        _exit(result < 0 ? errno : 0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
    for (unsigned long i = 0; i < sizeof calls / sizeof *calls; i++) {
        int result = in_child(&calls[i]);
        printf("%s: %s\n", calls[i].name,
               result == 0 ? "allowed" : result < 0 ? "killed" : strerrorname_np(result));
    }
    return 0;
}
