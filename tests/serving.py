"""The dashboard on a free port of this machine, in a thread, and requests to it byte by byte."""

import contextlib
import http.client
import json
import socket
import threading
import time

import uvicorn

from benchmark.dashboard import server


class Served:
    """A dashboard that listens. `get` and `post` give (status, headers, content), content parsed where it is JSON."""

    def __init__(self, folders, **options):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.app = server.application(folders, options.pop("host", "127.0.0.1"), self.port, **options)
        self.runs = self.app.state.dashboard.runs
        config = uvicorn.Config(self.app, log_level="warning", ws="none", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), daemon=True)
        self.thread.start()
        end = time.monotonic() + 20
        while not self.server.started and time.monotonic() < end:
            time.sleep(0.01)

    def ask(self, method, path, headers=None, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            given = {"host": f"127.0.0.1:{self.port}", "content-length": str(len(data)), **(headers or {})}
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            content = answer.read()
            found = {name.lower(): value for name, value in answer.getheaders()}
        if found.get("content-type", "").startswith("application/json") and "content-encoding" not in found:
            content = json.loads(content)
        return answer.status, found, content

    def get(self, path, **headers):
        return self.ask("GET", path, {name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path, body, **headers):
        return self.ask("POST", path, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    def close(self):
        self.server.should_exit = True
        self.thread.join(20)
        self.listener.close()


@contextlib.contextmanager
def serving(folders, **options):
    served = Served(folders, **options)
    try:
        yield served
    finally:
        served.close()
