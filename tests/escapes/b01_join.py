"""B1: what a sandbox would be without its seccomp filter, Landlock and user.

Run by root outside. Argument: {"pid": a process of the sandbox, "procs": its cgroup.procs, "run":
[argv, with a path]}: executes `run` in the sandbox's cgroup, mounts and pid namespace.
"""
import ctypes
import json
import os
import sys

CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000

libc = ctypes.CDLL(None, use_errno=True)
ask = json.loads(sys.argv[1])
spaces = [
    (os.open(f"/proc/{ask['pid']}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind)
    for name, kind in (("pid", CLONE_NEWPID), ("mnt", CLONE_NEWNS))
]
with open(ask["procs"], "w") as procs:
    procs.write(str(os.getpid()))
for space, kind in spaces:
    if libc.setns(space, kind) != 0:
        raise OSError(ctypes.get_errno(), "setns")
child = os.fork()  # a process enters a pid namespace by its children alone
if child == 0:
    os.execv(ask["run"][0], ask["run"])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
