"""B2: gives a listed program another name, or another program its name, and executes it.

Arguments: the trick, and a folder that may be written and executed, with `fetch`, which is listed,
and `other`, which is not and has the same size. Prints what came of executing the listed program,
waits for a line, plays the trick, and prints what came of that.
"""

import json
import os
import subprocess
import sys

FOLDER = sys.argv[2]


def at(name):
    return os.path.join(FOLDER, name)


def content(name):
    with open(at(name), "rb") as file:
        return file.read()


def copy(source, target):
    data = content(source)
    with open(at(target), "wb") as file:
        file.write(data)
    os.chmod(at(target), 0o755)


def own():
    """Makes the listed program a file of the sandbox's user."""
    copy("fetch", "own")
    os.rename(at("own"), at("fetch"))


# Each yields what to execute, twice: before the trick and after it.


def copied():
    yield "fetch"
    copy("fetch", "elsewhere")
    yield "elsewhere"


def hard_linked():
    own()
    yield "fetch"
    os.link(at("fetch"), at("link"))
    yield "link"


def linked():
    yield "fetch"
    os.symlink(at("fetch"), at("link"))
    yield "link"


def moved():
    yield "fetch"
    os.rename(at("fetch"), at("elsewhere"))
    yield "elsewhere"


def executed():
    yield "fetch"
    yield "other"


def copied_over():
    yield "fetch"
    os.unlink(at("fetch"))
    copy("other", "fetch")
    yield "fetch"


def hard_linked_over():
    yield "fetch"
    copy("other", "mine")
    os.unlink(at("fetch"))
    os.link(at("mine"), at("fetch"))
    yield "fetch"


def linked_over():
    yield "fetch"
    os.unlink(at("fetch"))
    os.symlink(at("other"), at("fetch"))
    yield "fetch"


def renamed_over():
    yield "fetch"
    copy("other", "mine")
    os.rename(at("mine"), at("fetch"))
    yield "fetch"


def restore_times(before):
    os.utime(at("fetch"), ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(at("fetch"))
    for what in ("st_ino", "st_size", "st_mode", "st_uid", "st_mtime_ns"):
        assert getattr(before, what) == getattr(after, what), what


def edited():
    own()
    yield "fetch"
    before, data = os.stat(at("fetch")), content("other")
    file = os.open(at("fetch"), os.O_WRONLY)
    os.pwrite(file, data, 0)
    os.close(file)
    restore_times(before)
    yield "fetch"


def inode_reused():
    own()
    yield "fetch"
    before = os.stat(at("fetch"))
    os.unlink(at("fetch"))
    for number in range(1000):
        copy("other", f"new{number}")
        if os.stat(at(f"new{number}")).st_ino == before.st_ino:
            os.rename(at(f"new{number}"), at("fetch"))
            break
    restore_times(before)
    yield "fetch"


def execute(name):
    try:
        return {"code": subprocess.run([at(name)]).returncode}
    except OSError as error:
        return {"errno": error.errno}


for name in globals()[sys.argv[1]]():
    print(json.dumps(execute(name)), flush=True)
    sys.stdin.readline()
