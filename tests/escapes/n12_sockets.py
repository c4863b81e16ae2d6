"""N12, S9: talk to what listens on the host, and write to what clawd itself lives by.

Argument: {"connect": paths of unix sockets, "abstract": names, "open": paths}. Prints one JSON object:
each with its errno, 0 if it succeeded.
"""
import json
import os
import socket
import sys

ask = json.loads(sys.argv[1])
outcomes = {}


def attempt(name, what):
    try:
        what()
    except OSError as error:
        outcomes[name] = error.errno
    else:
        outcomes[name] = 0


def connected(address):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.settimeout(5)
        unix.connect(address)
        unix.sendall(b"inside")


for path in ask["connect"]:
    attempt(path, lambda: connected(path))
for name in ask["abstract"]:
    attempt(name, lambda: connected("\0" + name))
for path in ask["open"]:
    attempt(f"read {path}", lambda: os.close(os.open(path, os.O_RDONLY)))
    attempt(f"write {path}", lambda: os.close(os.open(path, os.O_WRONLY)))
    attempt(f"make {path}", lambda: os.mkdir(f"{path}/made-inside"))
print(json.dumps(outcomes))
