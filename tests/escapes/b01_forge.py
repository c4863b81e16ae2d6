"""B1: a process says that it executes another file, as /proc/<pid>/exe then shows, and connects.

Argument: {"do": how, "exe": the other file, "addr": IPv4 address, "port": .., "nobody": whether it
becomes uid nobody first}. How:
  prctl       tries what PR_SET_MM offers and tells each outcome
  forge       replaces the file by PR_SET_MM_EXE_FILE, with CAP_SYS_RESOURCE
  forge_map   the same by PR_SET_MM_MAP, in a user namespace of its own
  plain       connects without that

The kernel replaces the file only where the old one is not mapped any more, Python itself included.
So a child makes its last system calls from a table, by machine code in a page of its own.
"""
import ctypes
import errno
import json
import os
import mmap
import platform
import socket
import struct
import sys

PR_SET_DUMPABLE, PR_SET_MM = 4, 35
PR_SET_MM_EXE_FILE, PR_SET_MM_MAP, PR_SET_MM_MAP_SIZE = 13, 14, 15
CLONE_NEWUSER = 0x10000000
NOBODY = 65534
HIGH = 1 << 32  # the kernel takes the option as an int

libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_void_p
ask = json.loads(sys.argv[1])


def tell(step, **what):
    print(json.dumps({"step": step, **what}), flush=True)


def outcome(number):
    return {"errno": number, "name": errno.errorcode.get(number, "ok")}


def of_libc(result):
    return outcome(ctypes.get_errno() if result == -1 else 0)


def prctl(option, what, address, size):
    ctypes.set_errno(0)
    arguments = [ctypes.c_ulong(value) for value in (option, what, address, size, 0)]
    return of_libc(libc.prctl(*arguments))


def memory_map(exe_fd):
    """`struct prctl_mm_map` (include/uapi/linux/prctl.h) as it is now, with another executable."""
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    field = lambda number: int(fields[number - 3])  # as proc_pid_stat(5) counts
    addresses = [field(number) for number in (26, 27, 45, 46, 47)]
    addresses += [libc.sbrk(0), field(28), field(48), field(49), field(50), field(51)]
    return struct.pack("=11QQII", *addresses, 0, 0, exe_fd & 0xFFFFFFFF)


def try_all():
    file = os.open(ask["exe"], os.O_RDONLY)
    same = ctypes.create_string_buffer(memory_map(-1))
    other = ctypes.create_string_buffer(memory_map(file))
    size = ctypes.c_uint()
    length = len(same) - 1
    tell("size", **prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, ctypes.addressof(size), 0))
    tell("same", **prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(same), length))
    tell("map", **prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(other), length))
    tell("exe_file", **prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, file, 0))
    tell("high", **prctl(HIGH | PR_SET_MM, PR_SET_MM_MAP_SIZE, ctypes.addressof(size), 0))
    ctypes.set_errno(0)
    tell("unshare", **of_libc(libc.unshare(CLONE_NEWUSER)))


def connect():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as talk:
        talk.settimeout(20)
        try:
            talk.connect((ask["addr"], ask["port"]))
            tell("connect", errno=0)
        except OSError as error:
            tell("connect", errno=error.errno, name=errno.errorcode.get(error.errno))


# Each entry of the table: number of the call, six arguments, room for the result. The code takes one
# entry after the other; the last call does not return.
ENTRY_BYTES = 64
NOT_MADE = 1 << 62  # as a result: there was no such call yet
MACHINES = {
    "x86_64": {
        # mov rbx,rdi; loop: mov rax,[rbx]; mov rdi,[rbx+8]; mov rsi,[rbx+16]; mov rdx,[rbx+24];
        # mov r10,[rbx+32]; mov r8,[rbx+40]; mov r9,[rbx+48]; syscall; mov [rbx+56],rax;
        # add rbx,64; jmp loop
        "code": "4889fb 488b03 488b7b08 488b7310 488b5318 4c8b5320 4c8b4328 4c8b4b30 0f05 48894338 4883c340 ebd9",
        "munmap": 11, "prctl": 157, "socket": 41, "connect": 42, "exit_group": 231,
        "readlinkat": 267,
    },
    "aarch64": {
        # mov x19,x0; loop: ldr x8,[x19]; ldp x0,x1,[x19,8]; ldp x2,x3,[x19,24]; ldp x4,x5,[x19,40];
        # svc 0; str x0,[x19,56]; add x19,x19,64; b loop
        "code": "f30300aa 680240f9 608640a9 628e41a9 649642a9 010000d4 601e00f9 73020191 f9ffff17",
        "munmap": 215, "prctl": 167, "socket": 198, "connect": 203, "exit_group": 94,
        "readlinkat": 78,
    },
}


def own_pieces():
    """Where this process's executable is mapped."""
    exe = os.readlink("/proc/self/exe")
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, *_rest = line.split()
            if line.rstrip("\n").endswith(exe):
                start, end = (int(address, 16) for address in addresses.split("-"))
                yield start, end - start


def executable(code):
    """Maps machine code from a file, so that no cache of the processor holds other bytes."""
    file = os.memfd_create("code")
    os.write(file, code)
    libc.mmap.restype = ctypes.c_void_p
    size, offset = ctypes.c_size_t(mmap.PAGESIZE), ctypes.c_long(0)
    return libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_SHARED, file, offset)


def from_a_table(forge):
    """Makes the child's last calls; tells the outcome of each."""
    machine = MACHINES[platform.machine()]
    page = mmap.mmap(-1, 65536, mmap.MAP_SHARED)
    base = ctypes.addressof(ctypes.c_char.from_buffer(page))
    data_at, room_at, table_at = 0, 6144, 8192
    code = executable(bytes.fromhex(machine["code"]))
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return read_table(page, table_at, room_at)

    def data(content):
        nonlocal data_at
        at, data_at = data_at, data_at + (len(content) + 15 & ~15)
        page[at : at + len(content)] = content
        return base + at

    file = os.open(ask["exe"], os.O_RDONLY)
    if forge == "map":
        libc.unshare(CLONE_NEWUSER)
    calls = [("munmap", *piece) for piece in own_pieces()]
    if forge == "map":
        content = memory_map(file)
        calls.append(("prctl", PR_SET_MM, PR_SET_MM_MAP, data(content), len(content), 0))
    elif forge == "exe_file":
        calls.append(("prctl", PR_SET_MM, PR_SET_MM_EXE_FILE, file, 0, 0))
    link = data(b"/proc/self/exe\0")
    calls.append(("readlinkat", -100 & (1 << 64) - 1, link, base + room_at, 1024))
    talk = socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach()
    place = struct.pack("=H", socket.AF_INET) + struct.pack("!H", ask["port"])
    place += socket.inet_aton(ask["addr"]) + bytes(8)
    calls.append(("connect", talk, data(place), len(place)))
    calls.append(("exit_group", 0))
    numbers = {name: number for name, number in machine.items() if name != "code"}
    for position, (name, *arguments) in enumerate(calls):
        arguments += [0] * (6 - len(arguments))
        entry = struct.pack("=7Qq", numbers[name], *arguments, NOT_MADE)
        at = table_at + position * ENTRY_BYTES
        page[at : at + ENTRY_BYTES] = entry
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code)(base + table_at)


def read_table(page, table_at, room_at):
    machine = MACHINES[platform.machine()]
    names = {number: name for name, number in machine.items() if name != "code"}
    at = table_at
    while True:
        number, *_arguments, result = struct.unpack("=7Qq", page[at : at + ENTRY_BYTES])
        name = names[number]
        if result == NOT_MADE:
            return
        if name == "readlinkat":
            tell("shown", exe=page[room_at : room_at + max(result, 0)].decode())
        else:
            tell(name, **outcome(max(-result, 0)))
        at += ENTRY_BYTES


WAYS = {
    "prctl": try_all,
    "plain": lambda: from_a_table(None),
    "forge": lambda: from_a_table("exe_file"),
    "forge_map": lambda: from_a_table("map"),
}
if ask.get("nobody"):
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # A change of user takes that away, and with it the process's own files in /proc.
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
WAYS[ask["do"]]()
if ask["do"] == "prctl":
    connect()
