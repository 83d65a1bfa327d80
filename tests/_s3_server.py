"""An S3 server on loopback, moto's, behind a network that may be slow or broken."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

BUCKET = "music"


class S3Server:
    """The server, and what it was asked.

    Attributes:
        url: Its endpoint.
        env: The environment of programs that use it.
        before: Seconds until a PUT of an MP3 is done.
        after: Seconds from then until it is answered.
        broken: How many of the next PUTs of an MP3 are answered with 503, undone.
        begun: How many PUTs of an MP3 have begun.
        puts: Names of the MP3s that were stored, in order.
        ended: Set at its end, so that no PUT is slow any more.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self.before = self.after = 0.0
        self.broken = 0
        self.begun = 0
        self.puts: list[str] = []
        self.ended = threading.Event()
        self.server = make_server("127.0.0.1", 0, self, threaded=True)
        # Its end waits for uploads that a cancelled batch has left behind.
        self.server.daemon_threads = False  # type: ignore[attr-defined, unused-ignore]
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.env = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": self.url,
            "AWS_ALLOW_HTTP": "true",
        }

    def __call__(
        self, environ: dict[str, Any], start: Callable[..., Any]
    ) -> Iterable[bytes]:
        """WSGI."""
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] != "PUT" or not path.endswith(".mp3"):
            whole: Iterable[bytes] = self._app(environ, start)
            return whole
        if self.broken:
            self.broken -= 1
            environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            start("503 Slow Down", [("Content-Length", "0")])
            return []
        self.begun += 1
        self.ended.wait(self.before)
        body = list(self._app(environ, start))
        self.puts.append(path.rpartition("/")[2])
        self.ended.wait(self.after)
        return body


@contextmanager
def s3_server() -> Generator[S3Server]:
    """Run a server with one empty bucket."""
    from moto import settings
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        create_backend_app,
    )

    settings.TEST_SERVER_MODE = True  # type: ignore[attr-defined, unused-ignore]
    server = S3Server(DomainDispatcherApplication(create_backend_app))
    # It looks for its end that often, and each test would wait for it.
    serve = partial(server.server.serve_forever, poll_interval=0.02)
    threading.Thread(target=serve, daemon=True).start()
    import httpx

    with httpx.Client(base_url=server.url, verify=False, trust_env=False) as http:  # noqa: S501 - loopback, without TLS
        http.put(f"/{BUCKET}").raise_for_status()
        try:
            yield server
        finally:
            server.ended.set()
            http.post("/moto-api/reset").raise_for_status()
            server.server.shutdown()
            server.server.server_close()
