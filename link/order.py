#!/usr/bin/env python3
"""order.py PROGRAM >link/order.ld: writes the order in which the linker lays out the program's functions.

The kernel maps a program's code in pieces of 64 KiB, so functions that run at every start had better lie side by side:
else a start touches pieces all over the file, and each counts as memory of the process. This runs what an engine asks
for, and `run`, with a breakpoint on every function, and lists those that were reached. PROGRAM must have its symbols, as
target/*/release/mydocker has. Needs root, binutils and the tests' images.

Names are written without the hashes that the compiler adds to them, so that the list holds for other compilers too. Of a
generic function that is there many times, only the hash tells which one was reached; so those stand with theirs, and once
more without at the end, for compilers whose hashes are others. A function that is not found is passed over by the linker,
and one that is not listed lies behind those that are.
"""

import collections, ctypes, json, os, re, shutil, signal, struct, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CONT, GETREGS, SETREGS, DETACH, SETOPTIONS, GETEVENTMSG, TRACEME = 7, 12, 13, 17, 0x4200, 0x4201, 0
FORK, VFORK, CLONE, EXECVE = 1, 2, 3, 4
CREATE, EXEC = 0, 3  # numbers of commands of exercise()
RIP = 16 * 8  # in struct user_regs_struct
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def symbols(program):
    """The address of each function, with its names."""
    found = {}
    for line in subprocess.check_output(["nm", program], text=True).splitlines():
        address, kind, name = line.rsplit(" ", 2)
        if address.strip() and kind in "tTwW":
            found.setdefault(int(address, 16), []).append(name)
    return found


class Tracer:
    def __init__(self, program):
        self.program = os.path.realpath(program)
        self.symbols = symbols(program)
        with open(program, "rb") as file:
            image = file.read()
        self.bytes = {a: image[self.offset(image, a)] for a in self.symbols if self.offset(image, a)}
        # For each command, what it reached.
        self.reached = []

    @staticmethod
    def offset(image, address):
        """Where in the file the code at an address is; 0 for what is not code."""
        start, count = struct.unpack_from("<Q", image, 32)[0], struct.unpack_from("<H", image, 56)[0]
        for number in range(count):
            kind, flags, at, virtual, _, size = struct.unpack_from("<IIQQQQ", image, start + 56 * number)
            if kind == 1 and flags & 1 and virtual <= address < virtual + size:
                return at + address - virtual
        return 0

    def run(self, *command):
        self.reached.append([])
        pid = os.fork()
        if pid == 0:
            null = os.open("/dev/null", os.O_RDWR)
            for stream in range(3):
                os.dup2(null, stream)
            libc.ptrace(TRACEME, 0, None, None)
            os.execv(command[0], command)
        os.waitpid(pid, 0)
        options = 1 << FORK | 1 << VFORK | 1 << CLONE | 1 << EXECVE
        libc.ptrace(SETOPTIONS, pid, None, options)
        self.plant(pid)
        libc.ptrace(CONT, pid, None, None)
        # Others that it leaves behind go on without.
        while True:
            stopped, status = os.waitpid(-1, 0x40000000)
            if not os.WIFSTOPPED(status):
                if stopped == pid:
                    return
                continue
            self.stopped(stopped, os.WSTOPSIG(status), status >> 16)

    def stopped(self, pid, signo, event):
        if event == EXECVE:
            if not self.same(pid):
                libc.ptrace(DETACH, pid, None, None)
                return
            self.plant(pid)
        elif signo == signal.SIGTRAP and not event and self.hit(pid):
            pass
        elif signo not in (signal.SIGTRAP, signal.SIGSTOP):
            libc.ptrace(CONT, pid, None, signo)
            return
        libc.ptrace(CONT, pid, None, None)

    def same(self, pid):
        return os.stat(f"/proc/{pid}/exe").st_size == os.stat(self.program).st_size

    def plant(self, pid):
        with open(f"/proc/{pid}/mem", "r+b", 0) as memory:
            for address in self.bytes:
                memory.seek(address)
                memory.write(b"\xcc")

    def hit(self, pid):
        registers = ctypes.create_string_buffer(27 * 8)
        libc.ptrace(GETREGS, pid, None, ctypes.addressof(registers))
        address = struct.unpack_from("<Q", registers, RIP)[0] - 1
        if address not in self.bytes:
            return False
        self.reached[-1].append(address)
        with open(f"/proc/{pid}/mem", "r+b", 0) as memory:
            memory.seek(address)
            memory.write(bytes([self.bytes[address]]))
        struct.pack_into("<Q", registers, RIP, address)
        libc.ptrace(SETREGS, pid, None, ctypes.addressof(registers))
        return True


def exercise(tracer, program, work):
    """What an engine does with a container, and `run`."""
    images = os.path.join(HERE, "../target/test-images")
    oci, store, states = work + "/mydocker-oci", work + "/store", work + "/states"
    os.symlink(program, oci)
    bundle = work + "/bundle"
    os.makedirs(bundle + "/rootfs")
    subprocess.check_call(["tar", "-xf", images + "/busybox.tar", "-C", bundle + "/rootfs"])
    with open(os.path.join(HERE, "../bench/config.json")) as file:
        config = json.load(file)
    # One limit of each kind, so that whatever sets them is there, and a filter.
    config["linux"]["resources"] = {"memory": {"limit": 1 << 28}, "pids": {"limit": 100}, "cpu": {"shares": 512}}
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}]}
    config["process"]["args"] = ["sleep", "600"]
    with open(bundle + "/config.json", "w") as file:
        json.dump(config, file)
    call = lambda *args: tracer.run(oci, "--root", states, *args)
    call("create", "--bundle", bundle, "--pid-file", work + "/pid", "one")
    for args in (["start", "one"], ["state", "one"], ["exec", "one", "true"], ["kill", "one", "KILL"],
                 ["delete", "--force", "one"]):
        call(*args)
    config["process"]["args"] = ["true"]
    with open(bundle + "/config.json", "w") as file:
        json.dump(config, file)
    call("run", "--bundle", bundle, "two")
    subprocess.check_call([program, "--root", store, "import", "--quiet", images + "/busybox.tar"],
                          stdout=subprocess.DEVNULL)
    tracer.run(program, "--root", store, "run", "--rm", "busybox", "true")


def quoted(name):
    """With nothing that means something else in a linker script."""
    return re.sub(r"[$]", "?", name)


def pattern(name):
    """A function's name for any compiler's hashes and any suffix of its optimiser."""
    name = re.sub(r"\.(llvm\.)?\d+$", "", name)
    name = re.sub(r"17h[0-9a-f]{16}E$", "17h*E", name)
    return quoted(re.sub(r"Cs[0-9a-zA-Z]+_(?=\d)", "Cs*_", name))


def ordered(reached):
    """All functions that were reached: those that a container's start and `exec` have in common, then those of one of the
    two, then the rest, and within these, those of many commands first: so each command touches little that it does not use."""
    users = collections.defaultdict(set)
    for command, addresses in enumerate(reached):
        for address in addresses:
            users[address].add(command)

    def key(address):
        used = users[address]
        return CREATE not in used, EXEC not in used, -len(used), sorted(used)

    # Sorting keeps the others in the order in which they were reached.
    return sorted(users, key=key)


def c_library():
    """For each function of the static C library, the member of the archive that has it."""
    archive = subprocess.check_output(["gcc", "-print-file-name=libc.a"], text=True).strip()
    found, member = {}, None
    for line in subprocess.check_output(["nm", archive], text=True, stderr=subprocess.DEVNULL).splitlines():
        if line.endswith(":"):
            member = line[:-1]
        elif len(parts := line.split()) == 3 and parts[1] in "tTwWi":
            found.setdefault(parts[2], set()).add(member)
    # A name that several have is a static function's: nobody can tell whose.
    return {name: members.pop() for name, members in found.items() if len(members) == 1}


def main():
    program = os.path.realpath(sys.argv[1])
    tracer = Tracer(program)
    work = tempfile.mkdtemp(dir="/var/tmp")
    try:
        exercise(tracer, program, work)
    finally:
        shutil.rmtree(work)
    shared = collections.Counter(pattern(name) for names in tracer.symbols.values() for name in names)
    library = c_library()
    lines, generic = [], []
    for name in [name for address in ordered(tracer.reached) for name in tracer.symbols[address]]:
        if name in library:
            lines.append(f"*libc.a:{library[name]}(.text .text.*)")
        elif name.startswith(("_ZN", "_R")):
            listed = pattern(name)
            if shared[listed] > 1:
                generic.append(listed)
                listed = quoted(name)
            lines.append(f"*(.text.{listed} .text.unlikely.{listed})")
    lines += [f"*(.text.{name} .text.unlikely.{name})" for name in generic]
    print("/* Made by link/order.py; CONTRIBUTING.md says when to make it anew. */")
    print("SECTIONS {\n  .text.startup.mydocker : {")
    for line in dict.fromkeys(lines):
        print(f"    {line}")
    print("  }\n} INSERT BEFORE .text;")


main()
