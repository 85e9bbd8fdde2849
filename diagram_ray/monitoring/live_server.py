"""A page that shows a study while it runs, served from the process that runs it. It can be read, and nothing else.

Who asks must know the token: as `?token=` the first time, then as a cookie that scripts cannot see. The address with
the token stands in the study's folder, in `page.url`, which only its owner can read; it is in no log.
"""

import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from diagram_ray.errors import UsageError
from diagram_ray.monitoring.live_page import live_page
from diagram_ray.monitoring.snapshot import StudySnapshot

FILE = "page.url"
COOKIE = "diagram_ray"
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; script-src 'nonce-{}'"


@contextmanager
def study_page(folder: Path, host: str, port: int, look: Callable[[], StudySnapshot]) -> Iterator[str]:
    """Serves the page while the body runs; yields its address without the token. `port` 0: one that is free.

    Raises UsageError if the address cannot be had.
    """
    token = secrets.token_urlsafe(24)
    try:
        server = _Server((host, port), _Handler)
    except OSError as error:
        raise UsageError(f"page: {host}:{port}: the study's page cannot be served there: {error}") from None
    server.token, server.look = token, look
    address = f"http://{host}:{server.server_address[1]}/"
    _keep(folder / FILE, f"{address}?token={token}\n")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
        with suppress(OSError):
            (folder / FILE).unlink()


def _keep(path: Path, text: str) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    token: str
    look: Callable[[], StudySnapshot]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10
    server_version, sys_version = "diagram_ray", ""

    def do_GET(self) -> None:
        """Answers with the page, or with state.json."""
        url = urlsplit(self.path)
        token = parse_qs(url.query).get("token", [""])[0]
        if token and self._is_token(token):
            cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"
            self._answer(HTTPStatus.SEE_OTHER, "", "text/plain", {"Location": url.path, "Set-Cookie": cookie})
        elif not self._is_token(self._cookie()):
            self._answer(HTTPStatus.FORBIDDEN, "The address with the token is in page.url in the study's folder.\n")
        elif url.path == "/":
            nonce = secrets.token_urlsafe(16)
            page = live_page(self.server.look(), nonce)
            self._answer(HTTPStatus.OK, page, "text/html", {"Content-Security-Policy": POLICY.format(nonce)})
        elif url.path == "/state.json":
            self._answer(HTTPStatus.OK, json.dumps(self.server.look().plain()), "application/json")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "There are / and /state.json.\n")

    def log_message(self, *_: Any) -> None:
        """Logs nothing: requests have the token in them."""

    def _cookie(self) -> str:
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return ""
        return cookie.value if cookie else ""

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self.server.token.encode())

    def _answer(
        self, status: HTTPStatus, text: str, kind: str = "text/plain", more: dict[str, str] | None = None
    ) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in {**HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
