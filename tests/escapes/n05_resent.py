"""N5: datagrams on a connected socket that are sent elsewhere, by every call that takes an address.

Argument: {"near": whom it may reach, "far": whom not, "port": where both listen}. Prints one JSON object,
its own pid and what came of each attempt (an errno, or what was heard or returned), and waits for the end
of its input.
"""
import ctypes
import json
import os
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
ask = json.loads(sys.argv[1])
near, far = (ask["near"], ask["port"]), (ask["far"], ask["port"])
family = socket.AF_INET6 if ":" in ask["near"] else socket.AF_INET
outcomes = {}


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


def sockaddr(place, said_family=family):
    address = socket.inet_pton(family, place[0])
    rest = bytes(8) if family == socket.AF_INET else bytes(4)
    flow = b"" if family == socket.AF_INET else bytes(4)
    return struct.pack("=H", said_family) + struct.pack("!H", place[1]) + flow + address + rest


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def sendmmsg(place):
    name = sockaddr(place)
    data = ctypes.create_string_buffer(b"ping", 4)
    address = ctypes.create_string_buffer(name, len(name))
    vector = Iovec(ctypes.addressof(data), 4)
    message = Mmsghdr(Msghdr(ctypes.addressof(address), len(name), ctypes.pointer(vector), 1, None, 0, 0), 0)
    checked(libc.sendmmsg(talk.fileno(), ctypes.byref(message), 1, 0))
    return "sent"


def of_no_family(place):
    """By IPv4 the kernel takes AF_UNSPEC for AF_INET, by IPv6 for no address."""
    name = sockaddr(place, socket.AF_UNSPEC)
    checked(libc.sendto(talk.fileno(), b"ping", 4, 0, name, len(name)))
    return talk.recv(64).decode()


def disconnect():
    name = sockaddr(far, socket.AF_UNSPEC)
    return checked(libc.connect(talk.fileno(), name, len(name)))


def heard(sent):
    assert sent == 4
    return talk.recv(64).decode()


def attempt(name, what):
    try:
        outcomes[name] = what()
    except OSError as error:
        outcomes[name] = error.errno


talk = socket.socket(family, socket.SOCK_DGRAM)
talk.settimeout(20)
talk.connect(near)
attempt("sendto", lambda: talk.sendto(b"ping", far))
attempt("sendmsg", lambda: talk.sendmsg([b"pi", b"ng"], [], 0, far))
attempt("sendmmsg", lambda: sendmmsg(far))
attempt("of no family", lambda: of_no_family(far))
attempt("connect", lambda: talk.connect(far))
attempt("still its peer", lambda: heard(talk.send(b"ping")))
attempt("disconnect", disconnect)
attempt("no peer", lambda: talk.send(b"ping"))
attempt("sendto afterwards", lambda: talk.sendto(b"ping", far))
attempt("its peer by name", lambda: heard(talk.sendto(b"ping", near)))
print(json.dumps({"pid": os.getpid(), "outcomes": outcomes}), flush=True)
sys.stdin.read()
