"""B9: has a file open for writing until it is told to end, and changes nothing."""

import json
import os
import sys

FILE = os.open(sys.argv[1], os.O_WRONLY)
print(json.dumps("open"), flush=True)
sys.stdin.readline()
os.close(FILE)
print(json.dumps("closed"), flush=True)
sys.stdin.readline()
