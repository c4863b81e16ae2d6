"""S1: reach a file outside what is listed, or change one that is read-only.

Argument: {"outside": a file that the view does not show, "fixed": one that it shows read-only, with
mode bits that would let it be written, "work": a folder to work in}. Prints one JSON object: each
attempt with its errno, 0 if it succeeded.
"""
import ctypes
import errno
import fcntl
import json
import os
import struct
import sys
import threading
import time

FS_IOC_SETFLAGS = 0x40086602
AT_FDCWD = -100

ask = json.loads(sys.argv[1])
outside, fixed, work = ask["outside"], ask["fixed"], ask["work"]
libc = ctypes.CDLL(None, use_errno=True)
outcomes = {}


def attempt(name, what):
    try:
        what()
    except OSError as error:
        outcomes[name] = error.errno
    else:
        outcomes[name] = 0


def opened(path, flags):
    os.close(os.open(path, flags))


def flags_of(path):
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(file, FS_IOC_SETFLAGS, struct.pack("i", 0x10))  # immutable
    finally:
        os.close(file)


def everything(name, path):
    mine = f"{work}/mine"
    for old in ("taken", "linked"):
        if os.path.lexists(f"{work}/{old}"):
            os.unlink(f"{work}/{old}")
    write = lambda: open(mine, "w").close()
    write()
    attempt(f"{name} stat", lambda: os.stat(path))
    attempt(f"{name} read", lambda: opened(path, os.O_RDONLY))
    attempt(f"{name} write", lambda: opened(path, os.O_WRONLY))
    attempt(f"{name} append", lambda: opened(path, os.O_WRONLY | os.O_APPEND))
    attempt(f"{name} truncate", lambda: os.truncate(path, 0))
    attempt(f"{name} chmod", lambda: os.chmod(path, 0o777))
    attempt(f"{name} unlink", lambda: os.unlink(path))
    attempt(f"{name} take", lambda: os.rename(path, f"{work}/taken"))
    attempt(f"{name} replace", lambda: os.rename(mine, path))
    attempt(f"{name} link out", lambda: os.link(path, f"{work}/linked"))
    write()  # again, if that took it away
    attempt(f"{name} link over", lambda: os.link(mine, path + ".new"))
    attempt(f"{name} create", lambda: opened(path + ".new", os.O_CREAT | os.O_WRONLY))
    attempt(f"{name} mkdir", lambda: os.mkdir(path + ".new"))
    attempt(f"{name} flags", lambda: flags_of(path))


def raced():
    """Moves a folder while another thread climbs out of it; how often it got to `outside`."""
    os.makedirs(f"{work}/a/b/c")
    os.makedirs(f"{work}/x")
    end = time.monotonic() + 0.5
    reached = 0

    def move():
        while time.monotonic() < end:
            os.rename(f"{work}/a/b", f"{work}/x/b")
            os.rename(f"{work}/x/b", f"{work}/a/b")

    mover = threading.Thread(target=move)
    mover.start()
    up = "../" * 40
    while time.monotonic() < end:
        try:
            opened(f"{work}/a/b/c/{up}{outside}", os.O_RDONLY)
            reached += 1
        except OSError:
            pass
    mover.join()
    return reached


everything("plain", outside)
os.symlink(outside, f"{work}/link")
everything("symlink", f"{work}/link")
everything("root", "/proc/self/root" + outside)
everything("climb", f"{work}/" + "../" * 40 + outside)
everything("cwd", "/proc/self/cwd/" + "../" * 40 + outside)
everything("init", "/proc/1/root" + outside)
everything("init cwd", "/proc/1/cwd/" + "../" * 40 + outside)
everything("fixed", fixed)
os.symlink(fixed, f"{work}/fixed")
attempt("fixed through a link", lambda: opened(f"{work}/fixed", os.O_WRONLY))
# A file handle names an inode past every path.
handle = struct.pack("Ii128s", 128, 0, b"")
buffer = ctypes.create_string_buffer(handle)
mount = ctypes.c_int()


def by_handle():
    if libc.name_to_handle_at(AT_FDCWD, fixed.encode(), buffer, ctypes.byref(mount), 0) != 0:
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    folder = os.open(os.path.dirname(fixed), os.O_RDONLY)
    if libc.open_by_handle_at(folder, buffer, os.O_WRONLY) < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")


attempt("handle", by_handle)
outcomes["raced"] = raced()
print(json.dumps(outcomes))
