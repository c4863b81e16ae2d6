"""Makes one attempt of agent.sh's with Python's sockets and reports it in one line.

Usage: dial.py NAME WAY ADDRESS PORT, where WAY is one of
  get      a page over TCP
  connect  a datagram over a connected socket
  send     a datagram that names its destination itself
"""
import errno
import os
import socket
import sys
import time

REQUEST = b"GET /small HTTP/1.0\r\n\r\n"
DATAGRAM = b"small datagram\n"
TIMEOUT_S = 5


def answer_of(reply):
    """The status of an HTTP reply, 000 for none, and the first line of what was got."""
    head, _, body = reply.rpartition(b"\r\n\r\n")
    status = head.split(b" ")[1].decode() if head.startswith(b"HTTP/") else "000"
    return status, body.split(b"\n")[0].decode().replace(" ", "_")


def exchange(sock, way, to):
    if way == "send":
        sock.sendto(DATAGRAM, to)
        return sock.recv(1000)
    sock.connect(to)
    sock.sendall(REQUEST if way == "get" else DATAGRAM)
    if way == "connect":
        return sock.recv(1000)
    reply = b""
    while part := sock.recv(1000):
        reply += part
    return reply


def main(name, way, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind, protocol = (socket.SOCK_STREAM, "tcp") if way == "get" else (socket.SOCK_DGRAM, "udp")
    reply, status, error = b"", 0, "-"
    with socket.socket(family, kind) as sock:
        sock.settimeout(TIMEOUT_S)
        began = time.monotonic_ns()
        try:
            reply = exchange(sock, way, (address, int(port)))
        except OSError as problem:
            status, error = 1, errno.errorcode.get(problem.errno, type(problem).__name__)
        us = (time.monotonic_ns() - began) // 1000
    http, answer = answer_of(reply)
    call = "sendmsg" if way == "send" else "connect"
    print(f"attempt name={name} program={os.path.realpath(sys.executable)} call={call} "
          f"protocol={protocol} address={address} port={port} "
          f"exit={status} errno={error} us={us} http={http} answer={answer}")


main(*sys.argv[1:])
