"""B9: executes a program while another process has it open for writing.

Argument: the program, in a folder that may be written and executed. Prints what came of executing
it before, while it is open for writing (after a line), and after it was closed (after a line).
"""

import json
import os
import subprocess
import sys

PROGRAM = sys.argv[1]


def execute():
    try:
        return {"code": subprocess.run([PROGRAM]).returncode}
    except OSError as error:
        return {"errno": error.errno}


def tell(what):
    print(json.dumps(what), flush=True)
    sys.stdin.readline()


tell(execute())
opened, told = os.pipe()
close, closing = os.pipe()
writer = os.fork()
if writer == 0:
    os.close(closing)
    os.open(PROGRAM, os.O_WRONLY)
    os.write(told, b".")
    os.read(close, 1)
    os._exit(0)
os.read(opened, 1)
tell(execute())
os.close(closing)
os.waitpid(writer, 0)
tell(execute())
