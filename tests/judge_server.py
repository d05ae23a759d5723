"""An OpenAI-compatible endpoint on this machine that answers as a test decides, and fails as real ones do."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-never-to-be-written"
Messages = list[dict[str, str]]


class Endpoint(ThreadingHTTPServer):
    """Counts what it answered by the last message's text; `faults` are sent first, one for each request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, decide: Callable[[Messages], str], faults: list[str], delay: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.decide, self.faults, self.delay = decide, iter(faults), delay
        self.lock, self.answered, self.keys = threading.Lock(), Counter[str](), set[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about the connections that a killed client leaves."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            fault = next(self.server.faults, "none")
            self.server.keys.add(self.headers["Authorization"])
        time.sleep(self.server.delay)
        if fault == "hang":
            self.rfile.read(1)  # until the client has had enough
        if fault in ("drop", "hang"):
            self.close_connection = True
        elif fault == "limit":
            self.send(429, {"error": {"message": f"slow down, {self.headers['Authorization']}"}})
        elif fault == "refuse":
            self.send(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
        elif fault == "broken":
            self.send(200, "{no JSON")
        elif fault == "half":  # fewer bytes than announced
            self.send(200, "{", length=1000)
        else:
            self.answer(request)

    def answer(self, request: dict[str, Any]) -> None:
        said = self.server.decide(request["messages"])
        with self.server.lock:
            self.server.answered[request["messages"][-1]["content"]] += 1
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": said},
        }
        if request.get("logprobs"):
            token = {"token": said, "bytes": None, "logprob": -0.0, "top_logprobs": []}
            choice["logprobs"] = {"content": [token | {"top_logprobs": [token]}]}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        self.send(
            200,
            {"id": "1", "object": "chat.completion", "created": 0, "model": "judge-2026", "usage": usage}
            | {"choices": [choice]},
        )

    def send(self, status: int, body: Any, length: int | None = None) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(data)))
        self.send_header("retry-after-ms", "10")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = bool(length)

    def log_message(self, format: str, *values: Any) -> None:
        """Stay silent."""


@contextmanager
def endpoint(
    decide: Callable[[Messages], str], faults: list[str] | None = None, delay: float = 0.0
) -> Iterator[Endpoint]:
    """Serve on a free port for as long as the test needs it."""
    server = Endpoint(decide, faults or [], delay)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
