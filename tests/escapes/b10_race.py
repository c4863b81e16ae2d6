"""B10: executes a program that is mapped, and writes and unmaps it while the exec is under way.

Arguments: the program, the place of one byte in it, that byte as listed and as not listed, how
often to execute, and the longest time until the write in microseconds. Prints how often each
outcome came to be, as exit codes: 200 where the exec found the program busy, 201 where it failed
otherwise.
"""

import collections
import json
import mmap
import os
import random
import sys
import time

PROGRAM = sys.argv[1]
AT, LISTED, OTHER, TRIES, LONGEST_US = map(int, sys.argv[2:7])


def mapped():
    """A mapping with the listed content and the page dirty; its file is closed."""
    file = os.open(PROGRAM, os.O_RDWR)
    pages = mmap.mmap(file, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    os.close(file)
    pages[AT] = LISTED
    return pages


def attempt():
    pages = mapped()
    # A file that has just changed is hashed later.
    time.sleep(0.025)
    child = os.fork()
    if child == 0:
        # The child has the mapping too; its exec lets go of it, but too late.
        pages.close()
        os.nice(19)
        try:
            os.execv(PROGRAM, [PROGRAM])
        except OSError as error:
            os._exit(200 if error.errno == 26 else 201)
    time.sleep(random.uniform(0, LONGEST_US / 1e6))
    pages[AT] = OTHER
    pages.close()
    return f"code {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}"


outcomes = collections.Counter(attempt() for _ in range(TRIES))
print(json.dumps(outcomes), flush=True)
sys.stdin.readline()
