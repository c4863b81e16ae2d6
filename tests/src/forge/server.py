"""A forge's web side: git over smart HTTP, files, and uploads.

Arguments: its folder, the address, the port, and a certificate with its key where it speaks TLS.
Serves `files`, stores what is put in `uploads`, and has `git http-backend` serve `repositories`
below /git. Each request is a line of `requests.log`.
"""

import http.server
import os
import ssl
import subprocess
import sys

FOLDER, ADDRESS, PORT, *CERTIFICATE = sys.argv[1:]


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments):
        super().__init__(*arguments, directory=os.path.join(FOLDER, "files"))

    def log_message(self, *_):
        with open(os.path.join(FOLDER, "requests.log"), "a") as log:
            log.write(f"{PORT} {self.command} {self.path}\n")

    def do_GET(self):
        self.git(b"") if self.path.startswith("/git/") else super().do_GET()

    def do_POST(self):
        self.git(self.body())

    def do_PUT(self):
        name = os.path.basename(self.path)
        with open(os.path.join(FOLDER, "uploads", name), "wb") as file:
            file.write(self.body())
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def body(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def git(self, body):
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": FOLDER,
            "GIT_PROJECT_ROOT": os.path.join(FOLDER, "repositories"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "git",
            "REMOTE_ADDR": self.client_address[0],
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path.removeprefix("/git"),
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        backend = ["git", "http-backend"]
        answer = subprocess.run(backend, input=body, env=environment, stdout=subprocess.PIPE)
        head, _, content = answer.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((value for name, value in lines if name == "Status"), "200 OK")
        self.send_response(int(status.split(" ")[0]))
        for name, value in lines:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


server = http.server.ThreadingHTTPServer((ADDRESS, int(PORT)), Handler)
if CERTIFICATE:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*CERTIFICATE)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
