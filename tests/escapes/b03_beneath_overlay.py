"""B3: other bytes for an executable of an overlay, written to the file beneath it.

Argument: {"path": the file beneath, "old": text in it, "new": as many bytes}. The bytes go through a
shared mapping, which on tmpfs moves no change time.
"""
import json
import mmap
import os
import sys

ask = json.loads(sys.argv[1])
old, new = ask["old"].encode(), ask["new"].encode()
assert len(old) == len(new)
file = os.open(ask["path"], os.O_RDWR)
before = os.fstat(file)
with mmap.mmap(file, 0, mmap.MAP_SHARED) as bytes_of_it:
    at = bytes_of_it.find(old)
    bytes_of_it[at:at + len(new)] = new
after = os.fstat(file)
print(json.dumps({"step": "written", "at": at, "unseen": before.st_ctime_ns == after.st_ctime_ns}))
