"""B7: children that come to be and are killed, so that another process can have the number of one.

Reads a line of JSON at a time: {"do": "fork"} makes a child that executes nothing, {"do": "start",
"as": path} one that executes that Python, {"do": "connect", "addr": .., "port": ..} has the latest child connect, {"do": "kill"} kills it and waits for its end;
each is answered by a line.
"""
import errno
import json
import os
import signal
import socket
import subprocess
import sys


def connect(ask):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as talk:
        talk.settimeout(20)
        try:
            talk.connect((ask["addr"], ask["port"]))
            talk.sendall(b"ping")
            return {"got": talk.recv(64).decode()}
        except OSError as error:
            return {"errno": error.errno, "name": errno.errorcode.get(error.errno)}


def serve(asks, answers):
    """Connects when it is told to."""
    while asked := os.read(asks, 4096):
        os.write(answers, json.dumps(connect(json.loads(asked))).encode())
    os._exit(0)


class Child:
    """A process that connects when it is told to: this program, or `program` as an exec of it."""

    def __init__(self, program=None):
        from_parent, self.asks = os.pipe()
        self.answers, to_parent = os.pipe()
        if program:
            script = sys.orig_argv[sys.orig_argv.index("-c") + 1]
            ends = (str(from_parent), str(to_parent))
            self.pid = subprocess.Popen(
                [program, "-I", "-c", script, *ends], pass_fds=(from_parent, to_parent)
            ).pid
        else:
            self.pid = os.fork()
            if self.pid == 0:
                os.close(self.asks)
                serve(from_parent, to_parent)
        os.close(from_parent)
        os.close(to_parent)

    def connect(self, ask):
        os.write(self.asks, json.dumps(ask).encode())
        return json.loads(os.read(self.answers, 4096))

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.asks)
        os.close(self.answers)


if len(sys.argv) > 1:
    serve(int(sys.argv[1]), int(sys.argv[2]))

child = None
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    answer = {}
    if ask["do"] in ("fork", "start"):
        child = Child(ask.get("as"))
    elif ask["do"] == "connect":
        answer = child.connect(ask)
    else:
        child.kill()
    print(json.dumps({"step": ask["do"], **answer}), flush=True)
