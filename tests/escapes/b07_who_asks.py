"""B7: whichever way a process comes to be, it is judged by what it executes itself.

Argument: {"do": how, "addr": .., "port": .., "run": [argv, with a path]}. How:
  connect        this process connects
  thread_exec    a thread other than the first executes `run`
  fork           a child that executes nothing connects
  spawn          a child by vfork executes `run`; then this process connects
  orphan         a grandchild that has outlived its parent connects, then executes `run`
What is executed prints to this program's own output; every line of that is JSON.
"""
import errno
import json
import os
import socket
import sys
import threading
import time

ask = json.loads(sys.argv[1])


def tell(step, **what):
    os.write(1, (json.dumps({"step": step, "pid": os.getpid(), **what}) + "\n").encode())


def connect(step):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as talk:
        talk.settimeout(20)
        try:
            talk.connect((ask["addr"], ask["port"]))
            talk.sendall(b"ping")
            tell(step, got=talk.recv(64).decode())
        except OSError as error:
            tell(step, errno=error.errno, name=errno.errorcode.get(error.errno))


def told(status):
    return os.waitstatus_to_exitcode(status)


def thread_exec():
    def execute():
        tell("thread", first=threading.get_native_id() == os.getpid())
        os.execv(ask["run"][0], ask["run"])

    threading.Thread(target=execute).start()
    time.sleep(60)


def fork():
    child = os.fork()
    if child == 0:
        connect("child")
        os._exit(0)
    os.waitpid(child, 0)


def spawn():
    # glibc makes the child with CLONE_VM | CLONE_VFORK: it shares this process's memory until it
    # has executed the program.
    child = os.posix_spawn(ask["run"][0], ask["run"], dict(os.environ))
    tell("spawned", code=told(os.waitpid(child, 0)[1]))
    connect("parent")


def orphan():
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        parent = os.getpid()
        if os.fork() == 0:
            while os.getppid() == parent:
                time.sleep(0.001)
            tell("orphan", parent=os.getppid())
            connect("alone")
            # The program keeps the pipe open until it ends.
            os.set_inheritable(writer, True)
            os.execv(ask["run"][0], ask["run"])
        os._exit(0)
    os.close(writer)
    os.waitpid(middle, 0)
    os.read(reader, 1)


WAYS = {
    "connect": lambda: connect("self"),
    "thread_exec": thread_exec,
    "fork": fork,
    "spawn": spawn,
    "orphan": orphan,
}
WAYS[ask["do"]]()
