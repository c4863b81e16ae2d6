"""B10: writes a program through a shared mapping that is dirty already: no change time moves.

Arguments: the program, the place of one byte in it, that byte as not listed, and `execute` or
`hold`: whether to execute the program too. Prints what came of executing it before, then after each
line: while it is mapped and dirty; after it was written and unmapped, with how far that moved the
change time.
"""

import json
import mmap
import os
import subprocess
import sys

PROGRAM, HOW = sys.argv[1], sys.argv[4]
AT, OTHER = map(int, sys.argv[2:4])


def execute():
    if HOW == "hold":
        return {}
    try:
        return {"code": subprocess.run([PROGRAM]).returncode}
    except OSError as error:
        return {"errno": error.errno}


def change():
    return os.stat(PROGRAM).st_ctime_ns


def tell(what):
    print(json.dumps(what), flush=True)
    sys.stdin.readline()


tell(execute())
file = os.open(PROGRAM, os.O_RDWR)
pages = mmap.mmap(file, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
os.close(file)
pages[AT] = pages[AT]
tell(execute())
# Dirty still, unless the kernel has written the page to the disk in between.
pages[AT] = pages[AT]
before = change()
pages[AT] = OTHER
pages.close()
moved = change() - before
tell({**execute(), "moved_ns": moved})
