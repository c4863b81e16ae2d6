"""N8: socket options that would have packets go by way of another host than the one that is judged.

Argument: {"near": [IPv4, IPv6] whom it may reach, "far": as many whom not, "port": where all listen}. After
each attempt a datagram goes to the near one. Prints one JSON object, its own pid and each attempt's level,
option and errno, and waits for the end of its input.
"""
import json
import os
import socket
import struct
import sys

ask = json.loads(sys.argv[1])
four, six = socket.IPPROTO_IP, socket.IPPROTO_IPV6
far4, near6, far6 = (
    socket.inet_pton(socket.AF_INET, ask["far"][0]),
    socket.inet_pton(socket.AF_INET6, ask["near"][1]),
    socket.inet_pton(socket.AF_INET6, ask["far"][1]),
)
# RFC 791, 3.1: loose source route; RFC 8754: segment routing, one segment left; RFC 6275, 6.4: the routing
# header that takes no privilege; RFC 8200, 4.2: padding.
source_route = bytes([131, 7, 4]) + far4 + bytes([0])
segments = bytes([0, 4, 4, 1, 1, 0, 0, 0]) + far6 + near6
home = bytes([0, 2, 2, 1, 0, 0, 0, 0]) + far6
padding = bytes([0, 0, 1, 4, 0, 0, 0, 0])
# A message of ancillary data with that header (cmsg(3)), as two options take it.
message = struct.pack("=Qii", 16 + len(home), six, 57) + home
# struct in6_flowlabel_req: for the near one, to be made (IPV6_FL_F_CREATE), for this socket alone.
label = near6 + struct.pack("=IBBHHHI", 0, 0, 1, 1, 0, 0, 0) + message
ATTEMPTS = [
    (four, 4, source_route),  # IP_OPTIONS
    (six, 3, padding),  # IPV6_2292HOPOPTS
    (six, 4, padding),  # IPV6_2292DSTOPTS
    (six, 5, home),  # IPV6_2292RTHDR
    (six, 6, message),  # IPV6_2292PKTOPTIONS
    (six, 32, label),  # IPV6_FLOWLABEL_MGR
    (six, 54, padding),  # IPV6_HOPOPTS
    (six, 55, padding),  # IPV6_RTHDRDSTOPTS
    (six, 57, segments),  # IPV6_RTHDR
    (six, 59, padding),  # IPV6_DSTOPTS
]

outcomes = []
for level, option, data in ATTEMPTS:
    family = socket.AF_INET if level == four else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as talk:
        talk.settimeout(20)
        try:
            talk.setsockopt(level, option, data)
            error = 0
        except OSError as refused:
            error = refused.errno
        outcomes.append([level, option, error])
        talk.sendto(b"ping", (ask["near"][level == six], ask["port"]))
        talk.recv(64)
print(json.dumps({"pid": os.getpid(), "outcomes": outcomes}), flush=True)
sys.stdin.read()
