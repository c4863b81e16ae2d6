"""B4: a dynamic loader is executed, and maps a listed program instead of executing it.

Argument: {"argv": [...]}: the loader, the program, what the program is to do.
"""
import errno
import json
import subprocess
import sys

ask = json.loads(sys.argv[1])
try:
    done = subprocess.run(ask["argv"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    came = {"code": done.returncode, "out": done.stdout, "err": done.stderr}
except OSError as error:
    came = {"errno": error.errno, "name": errno.errorcode.get(error.errno)}
print(json.dumps({"step": "run", **came}))
