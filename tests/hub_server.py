"""A hub of the tests' own: it takes uploads as the Hugging Face hub does, and remembers what it was sent."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub(ThreadingHTTPServer):
    """What was asked for, and the files that arrived."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.visible: str | None = None  # of the one repository, once there is one
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def listening() -> Iterator[Hub]:
    """A hub that listens."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """The five requests of an upload."""

    server: Hub  # type: ignore[assignment]

    def do_GET(self) -> None:
        """Say what is known of the repository."""
        if self.server.visible is None:
            self.answer({"error": "not found"}, 404, "RepoNotFound")
        else:
            self.answer({"id": "me/tiny", "private": self.server.visible == "private"})

    def do_POST(self) -> None:
        """Make the repository, say how to send, or take a commit."""
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        self.server.tokens.add(self.headers["authorization"])
        if self.path == "/api/repos/create":
            self.server.visible = json.loads(body)["visibility"]
            self.answer({"url": f"{self.server.url}/me/tiny"})
        elif "/preupload/" in self.path:
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitOid": "0" * 40, "commitUrl": f"{self.server.url}/me/tiny/commit/0"})
        else:
            self.answer({"errors": [], "warnings": []})

    def answer(self, value: Any, status: int = 200, code: str = "") -> None:
        """Send JSON."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
