"""B9: rewrites a program all the time while it is executed: written between hash and exec.

Arguments: the program, the place of one byte in it, that byte as listed and as not listed, how
often to execute, and `wait` or `ask`: whether the writer waits for a lease to be given back. Prints
how often each outcome came to be: an exit code, or the errno of a failed exec.
"""

import collections
import json
import os
import random
import subprocess
import sys
import time

PROGRAM, HOW = sys.argv[1], sys.argv[6]
AT, LISTED, OTHER, TRIES = map(int, sys.argv[2:6])
FLAGS = os.O_WRONLY | (os.O_NONBLOCK if HOW == "ask" else 0)


def write(byte):
    try:
        file = os.open(PROGRAM, FLAGS)
    except OSError:
        return  # It is being executed, or has a lease.
    os.pwrite(file, bytes([byte]), AT)
    os.close(file)


def write_for_ever():
    random.seed(os.getpid())
    while os.getppid() != 1:
        # A file that has just changed is hashed later: some pauses are long enough for that, and
        # some so short that the change time may be the same after them.
        write(OTHER)
        time.sleep(random.uniform(0, 0.004))
        write(LISTED)
        time.sleep(random.choice((random.uniform(0, 0.004), random.uniform(0, 0.060))))


def execute():
    try:
        return f"code {subprocess.run([PROGRAM]).returncode}"
    except OSError as error:
        return f"errno {error.errno}"


writer = os.fork()
if writer == 0:
    write_for_ever()
    os._exit(0)
outcomes = collections.Counter(execute() for _ in range(TRIES))
os.kill(writer, 9)
os.waitpid(writer, 0)
print(json.dumps(outcomes), flush=True)
sys.stdin.readline()
