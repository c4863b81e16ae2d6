"""Uses up what the host has: processes, memory, disk, descriptors. Asked in JSON, tells in JSON lines."""

import errno
import json
import os
import signal
import sys
import time

ask = json.loads(sys.argv[1])


def tell(step, **what):
    print(json.dumps({"step": step, **what}), flush=True)


def fork_bomb(seconds):
    """Every process forks on and on; the first one lives to tell, some seconds after it was refused."""
    end = time.monotonic() + 60
    refused = None
    first = os.getpid()
    while time.monotonic() < end:
        try:
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        except OSError as error:
            if refused is None:
                end = time.monotonic() + seconds
            refused = errno.errorcode[error.errno]
            time.sleep(0.01)
    if os.getpid() != first:
        os._exit(0)
    tell("fork_bomb", refused=refused)


def memory_bomb(mebibytes):
    """A child takes more and more memory, and touches all of it."""
    child = os.fork()
    if child == 0:
        held = []
        for _ in range(mebibytes):
            held.append(bytearray(b"x" * (1 << 20)))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    tell("memory_bomb", signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)


def fill(path, mebibytes):
    """Writes until something says no."""
    written, refused = 0, None
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with open(os.path.join(path, "full"), "wb", buffering=0) as file:
            for _ in range(mebibytes):
                written += file.write(b"x" * (1 << 20))
    except OSError as error:
        refused = errno.errorcode[error.errno]
    tell("fill", path=path, mebibytes=written >> 20, refused=refused)
    os.unlink(os.path.join(path, "full"))


def descriptors(wanted):
    """Opens as many as it may have."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    raised = None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
    except (OSError, ValueError) as error:
        raised = type(error).__name__
    count, refused = 0, None
    try:
        while count < wanted:
            os.dup(1)
            count += 1
    except OSError as error:
        refused = errno.errorcode[error.errno]
    os.closerange(3, hard)
    tell("descriptors", hard=hard, count=count, refused=refused, raised=raised)


kind = ask["do"]
if kind == "fork":
    fork_bomb(ask["seconds"])
elif kind == "memory":
    memory_bomb(ask["mebibytes"])
elif kind == "fill":
    fill(ask["path"], ask["mebibytes"])
elif kind == "descriptors":
    descriptors(ask["wanted"])
