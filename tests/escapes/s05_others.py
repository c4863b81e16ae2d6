"""S5, S2: reach a process outside, and execute what was written.

Argument: {"pid": a process of the host with this very user, "work": a folder to write in}. Prints one
JSON object: each attempt with its errno, 0 if it succeeded.
"""
import ctypes
import json
import mmap
import os
import shutil
import signal
import sys

PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206

ask = json.loads(sys.argv[1])
pid, work = ask["pid"], ask["work"]
libc = ctypes.CDLL(None, use_errno=True)
outcomes = {}


def attempt(name, what):
    try:
        what()
    except OSError as error:
        outcomes[name] = error.errno
    else:
        outcomes[name] = 0


def of_libc(function, *arguments):
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def mapped(path):
    file = os.open(path, os.O_RDONLY)
    try:
        mmap.mmap(file, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
    finally:
        os.close(file)


def executed(path):
    child = os.posix_spawn(path, [path], {})
    os.waitpid(child, 0)


attempt("kill", lambda: os.kill(pid, signal.SIGKILL))
attempt("kill group", lambda: os.killpg(pid, signal.SIGKILL))
attempt("signal pidfd", lambda: os.close(os.pidfd_open(pid)))
attempt("attach", lambda: of_libc(libc.ptrace, PTRACE_ATTACH, pid, 0, 0))
attempt("seize", lambda: of_libc(libc.ptrace, PTRACE_SEIZE, pid, 0, 0))
attempt("read memory", lambda: of_libc(libc.process_vm_readv, pid, None, 0, None, 0, 0))
for name in ("mem", "environ", "cmdline", "root", "fd", "maps"):
    attempt(f"peek {name}", lambda: os.stat(f"/proc/{pid}/{name}"))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
program = f"{work}/program"
shutil.copy("/usr/bin/true", program)
os.chmod(program, 0o755)
attempt("execute", lambda: executed(program))
attempt("map", lambda: mapped(program))
attempt("map what was not written", lambda: mapped("/usr/bin/true"))
print(json.dumps(outcomes))
