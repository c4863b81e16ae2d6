"""S11: executes programs, all at once, and tells how each ended and after how many milliseconds.

Its argument is JSON: `commands` (lists of arguments), `ready` (a file that it makes), `go` (a file
that it waits for), `until` (goes on round after round until that file is there; one round without).
"""

import json
import os
import sys
import time


def start(command):
    child = os.fork()
    if child == 0:
        quiet = os.open("/dev/null", os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            os.execv(command[0], command)
        except OSError as error:
            os._exit(100 + error.errno)


def storm(commands):
    for command in commands:
        start(command)
    ended = []
    for _ in commands:
        _, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        ended.append({"code": code, "ms": (time.monotonic() - begun) * 1000})
    return ended


ask = json.loads(sys.argv[1])
open(ask["ready"], "w").close()
while not os.path.exists(ask["go"]):
    time.sleep(0.002)
begun = time.monotonic()
told = storm(ask["commands"])
while "until" in ask and not os.path.exists(ask["until"]):
    told += storm(ask["commands"])
print(json.dumps(told))
