"""Does one thing a line, as JSON tells it, and prints what came of it.

Answers: {"ok": ..., "ms": n} or {"errno": n, "name": "EPERM", "ms": n}; `pid` and `tid` are numbers
of the sandbox's own pid namespace.
"""

import errno
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

MSG_FASTOPEN = 0x20000000
KINDS = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM, "raw": socket.SOCK_RAW}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def family(ask):
    if "family" in ask:
        return FAMILIES[ask["family"]]
    return socket.AF_INET6 if ":" in ask["addr"] else socket.AF_INET


def make(ask, kind, protocol=0):
    made = socket.socket(family(ask), kind, ask.get("protocol", protocol))
    made.settimeout(ask.get("timeout", 10))
    if ask.get("v4_on_v6"):
        # The same socket, seen as an IPv4 one: its calls carry an IPv4 sockaddr.
        six = socket.socket(socket.AF_INET6, kind, 0)
        made = socket.socket(socket.AF_INET, kind, 0, fileno=six.detach())
        made.settimeout(10)
    if "bind" in ask:
        made.bind((ask["bind"], 0))
    if ask.get("broadcast"):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if "device" in ask:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ask["device"].encode())
    return made


def place(ask):
    return (ask["addr"], ask["port"])


def say(talk):
    talk.sendall(b"ping")
    return talk.recv(64).decode()


def tcp(ask):
    with make(ask, socket.SOCK_STREAM) as talk:
        talk.connect(place(ask))
        return say(talk) if ask.get("talk", True) else "connected"


def udp_connect(ask):
    with make(ask, socket.SOCK_DGRAM) as talk:
        talk.connect(place(ask))
        return say(talk)


def udp_sendto(ask):
    with make(ask, socket.SOCK_DGRAM) as talk:
        talk.sendto(b"ping", place(ask))
        return talk.recv(64).decode()


def udp_sendmsg(ask):
    with make(ask, socket.SOCK_DGRAM) as talk:
        talk.sendmsg([b"pi", b"ng"], [], 0, place(ask))
        return talk.recv(64).decode()


def udp_sendmmsg(ask):
    """Two datagrams in one call: the first to a listed address, the second to the one asked for."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    class Iovec(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]

    class Msghdr(ctypes.Structure):
        _fields_ = [
            ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.POINTER(Iovec)),
            ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
            ("flags", ctypes.c_int),
        ]

    class Mmsghdr(ctypes.Structure):
        _fields_ = [("hdr", Msghdr), ("len", ctypes.c_uint)]

    def sockaddr(addr):
        return ctypes.create_string_buffer(
            struct.pack("=H", socket.AF_INET) + struct.pack("!H", ask["port"]) + socket.inet_aton(addr) + bytes(8), 16)

    data = ctypes.create_string_buffer(b"ping", 4)
    names = [sockaddr(ask["first"]), sockaddr(ask["addr"])]
    vector = Iovec(ctypes.addressof(data), 4)
    messages = (Mmsghdr * 2)()
    for message, name in zip(messages, names):
        message.hdr = Msghdr(ctypes.addressof(name), 16, ctypes.pointer(vector), 1, None, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talk:
        sent = libc.sendmmsg(talk.fileno(), messages, 2, 0)
        if sent < 0:
            raise OSError(ctypes.get_errno(), "sendmmsg")
        return sent


def fastopen(ask):
    with make(ask, socket.SOCK_STREAM) as talk:
        talk.setblocking(True)
        if ask.get("call") == "sendmsg":
            talk.sendmsg([b"pi", b"ng"], [], MSG_FASTOPEN, place(ask))
        else:
            talk.sendto(b"ping", MSG_FASTOPEN, place(ask))
        return talk.recv(64).decode()


def nonblocking(ask):
    with make(ask, socket.SOCK_STREAM) as talk:
        talk.setblocking(False)
        talk.connect(place(ask))
        return "connected at once"


def make_socket(ask):
    socket.socket(FAMILIES.get(ask["family"], ask["family"]), KINDS[ask["kind"]], ask["protocol"]).close()
    return "made"


def listen(ask):
    """Accepts one connection on a socket of the sandbox's own."""
    with socket.socket(family(ask), socket.SOCK_STREAM) as server:
        server.bind((ask["addr"], 0))
        server.listen()
        port = server.getsockname()[1]

        def serve():
            try:
                peer, _ = server.accept()
            except OSError:
                return  # closed, because the connect was refused
            with peer:
                peer.sendall(peer.recv(64))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        return tcp({**ask, "addr": ask.get("to", ask["addr"]), "port": port})


KEPT = {}


def echo(server):
    while True:
        peer, _ = server.accept()
        with peer:
            peer.sendall(peer.recv(64))


def serve(ask):
    """A TCP echo server until the end; tells its port. Without `addr` it is bound by listen(2) alone."""
    server = socket.socket(family(ask), socket.SOCK_STREAM)
    if "addr" in ask:
        server.bind((ask["addr"], ask.get("port", 0)))
    server.listen()
    threading.Thread(target=echo, args=(server,), daemon=True).start()
    return server.getsockname()[1]


def keep_socket(ask):
    """A socket that stays, under a name; tells its descriptor."""
    KEPT[ask["name"]] = socket.socket(FAMILIES[ask["family"]], KINDS[ask["kind"]])
    return KEPT[ask["name"]].fileno()


def open_flow(ask):
    """A connected socket that stays, under a name."""
    kind = KINDS[ask.get("kind", "stream")]
    talk = make(ask, kind)
    talk.connect(place(ask))
    KEPT[ask["name"]] = talk
    return say(talk)


def say_on(ask):
    """Once more on such a socket."""
    return say(KEPT[ask["name"]])


def send_on(ask):
    """A datagram with an address of its own, on a socket that stays."""
    talk = KEPT[ask["name"]]
    talk.settimeout(5)
    talk.sendto(b"ping", place(ask))
    return talk.recv(64).decode()


def wait_on(ask):
    """Waits for data on such a socket."""
    talk = KEPT[ask["name"]]
    talk.settimeout(ask.get("timeout", 30))
    return talk.recv(64).decode()


def thread(ask):
    answers = []
    worker = threading.Thread(target=lambda: answers.append(answer(ask["ask"])))
    worker.start()
    worker.join()
    return answers[0]


def fork(ask):
    """The same, in a child that executes nothing."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, json.dumps(answer(ask["ask"])).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text)


def run(ask):
    done = subprocess.run(ask["argv"], capture_output=True, text=True, timeout=300, input=ask.get("input"))
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


def begin(ask):
    """Starts a program and tells its first line; it goes on until `finish`."""
    child = subprocess.Popen(ask["argv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    KEPT[ask["name"]] = child
    return child.stdout.readline()


def finish(ask):
    """Gives such a program the end of its input; tells its exit code."""
    child = KEPT.pop(ask["name"])
    child.communicate(timeout=60)
    return child.returncode


def write(ask):
    with open(ask["path"], "wb") as file:
        file.write(open(ask["from"], "rb").read() if "from" in ask else ask["text"].encode())
    os.chmod(ask["path"], 0o755)
    return "written"


def pid(_ask):
    return os.getpid()


def loop(ask):
    """Repeats an attempt until a file appears and tells each change of the outcome, in order, and how
    often each came."""
    outcomes, times, count = [], [], 0
    while not os.path.exists(ask["until"]):
        got = answer(ask["ask"])
        shown = got.get("name", "ok")
        count += 1
        time.sleep(0.002)
        if not outcomes or outcomes[-1] != shown:
            outcomes.append(shown)
            times.append(0)
        times[-1] += 1
    return {"outcomes": outcomes, "times": times, "count": count}


def watch(ask):
    """Repeats attempts until a file appears, each with the outcomes that it may have, and tells how often
    each was made, and whatever else came of them. With `pause` seconds between two rounds."""
    counts, wrong = [0] * len(ask["asks"]), []
    while True:
        last = os.path.exists(ask["until"])
        for at, (attempt, allowed) in enumerate(ask["asks"]):
            got = answer(attempt)
            shown = got.get("name", got.get("ok"))
            if isinstance(shown, dict):
                shown = shown["code"]
            counts[at] += 1
            if shown not in allowed and len(wrong) < 20:
                wrong.append([attempt, got])
        if last:
            return {"counts": counts, "wrong": wrong}
        time.sleep(ask.get("pause", 0.001))


def answer(ask):
    start = time.monotonic()

    def elapsed():
        return (time.monotonic() - start) * 1000

    try:
        return {"ok": globals()[ask["do"]](ask), "ms": elapsed()}
    except TimeoutError:
        return {"errno": errno.ETIMEDOUT, "name": "timeout", "ms": elapsed()}
    except OSError as error:
        return {"errno": error.errno, "name": errno.errorcode.get(error.errno, "?"), "ms": elapsed()}
    except Exception as error:  # told, so that a mistake in a test shows as one
        return {"errno": 0, "name": repr(error), "ms": elapsed()}


print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
