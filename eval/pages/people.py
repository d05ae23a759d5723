"""The page on which people judge, served to this machine alone.

Another machine cannot connect. A page of another site, open in the same browser, knows no token, and a name that it
points at this machine is in the Host header. Responses are escaped, and no script but the page's own may run.
"""

import secrets
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from eval.pages.html import render
from recipes.config import UserError

HOST = "127.0.0.1"
LARGEST = 1000  # bytes of a form
POLICY = (
    "default-src 'none'; img-src data:; style-src 'nonce-{0}'; script-src 'nonce-{0}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(ThreadingHTTPServer):
    """Shows `page()`, and gives `choose` the pair and the choice of every form that is sent."""

    daemon_threads = True

    def __init__(self, port: int, page: Callable[[], dict[str, Any]], choose: Callable[[str, str], None]) -> None:
        """Listen.

        Raises:
            UserError: the port is taken.
        """
        self.page, self.choose = page, choose
        self.lock, self.path = threading.Lock(), f"/{secrets.token_urlsafe(16)}/"
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"port={port} cannot be used ({error}): name another") from None

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_address[1]}{self.path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about a connection that the browser broke off."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    timeout = 60  # seconds, for a connection that sends nothing

    def do_GET(self) -> None:
        """Show the page."""
        if self.allowed():
            nonce = secrets.token_urlsafe(16)
            with self.server.lock:
                values = self.server.page()
            page = render("people.html.jinja", values | {"title": "Which response is better?", "nonce": nonce})
            self.send(200, page, {"Content-Security-Policy": POLICY.format(nonce)})

    def do_POST(self) -> None:
        """Keep a vote and go to the next page."""
        if not self.allowed():
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST:
            return self.send(400, "That is no vote.")
        form = parse_qs(self.rfile.read(int(length)).decode(errors="replace"), keep_blank_values=True)
        try:
            with self.server.lock:
                self.server.choose(form.get("pair", ["none"])[0], form.get("choice", ["none"])[0])
        except OSError as error:
            return self.send(500, f"The vote was not saved: {error.strerror}. Go back and try again.")
        self.send(303, "", {"Location": self.server.path})

    def allowed(self) -> bool:
        """Whether the request names this machine and knows the token; else it is answered."""
        named = self.headers.get("Host", "").rpartition(":")[0] in (HOST, "localhost")
        known = secrets.compare_digest(self.path.encode(), self.server.path.encode())
        if not (named and known):
            self.send(403, "Use the address that make judge prints.")
        return named and known

    def send(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        data = body.encode(errors="replace")
        self.send_response(status)
        kind = "text/html" if status == 200 else "text/plain"
        described = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(data))}
        for name, value in (HEADERS | described | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *values: Any) -> None:
        """Stay silent."""
