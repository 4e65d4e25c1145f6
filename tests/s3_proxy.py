"""A proxy before a server of S3's protocol that fails as networks and servers do."""

import http.client
import http.server
import socket
import struct
import threading
import time

KEY_ID, SECRET = "AKIDOFTHETESTS", "the-secret-of-the-tests"
ERROR = "<Error><Code>{}</Code><Message>key {} secret {}</Message></Error>"


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards requests to the server, but for what `fault(method, path)` asks for, and remembers them.

    A fault is a status (int) to answer with, "reset" to cut the connection, seconds (float) to hold the answer back, or
    None. `moved` collects (method, path) of all requests, `headers` the names of their headers in lower case.
    """

    daemon_threads = True

    def __init__(self, target, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.target, self.moved, self.headers, self.fault = target, [], set(), lambda method, path: None
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request, address):
        pass  # clients that are killed

    def puts(self):
        return [path for method, path in self.moved if method == "PUT"]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.moved.append((self.command, self.path))
        self.server.headers.update(name.lower() for name in self.headers)
        fault = self.server.fault(self.command, self.path)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if isinstance(fault, int):
            code = {403: "AccessDenied", 503: "ServiceUnavailable"}.get(fault, "InternalError")
            status, headers, content = fault, [], ERROR.format(code, KEY_ID, SECRET).encode()
        else:
            connection = http.client.HTTPConnection(*self.server.target)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            status, headers, content = answer.status, answer.getheaders(), answer.read()
            connection.close()
            time.sleep(fault or 0)
        self.send_response_only(status)
        if self.command != "HEAD":
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
            headers.append(("Content-Length", str(len(content))))
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

    def log_message(self, *args):
        pass
