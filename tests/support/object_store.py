"""A real S3 API on this machine, served by moto in a process of its own."""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_RUNNING = re.compile(r"http://127\.0\.0\.1:[1-9]\d*")


def wait(attempt: Callable[[], object], seconds: float = 120) -> None:
    """Returns when `attempt` returns something true and raises no OSError."""
    end = time.monotonic() + seconds
    while True:
        try:
            if attempt():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise TimeoutError(f"{attempt} has come to nothing in {seconds} s")
        time.sleep(0.1)


@contextmanager
def s3_server(log: Path) -> Iterator[Any]:
    """An s3fs of a server with an empty `bucket`; the environment tells s3fs, here and in processes started from here,
    where it is."""
    import s3fs

    # The server chooses its port: one chosen here could be taken by somebody else before the server has it.
    script = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"
    with log.open("wb") as file:
        server = subprocess.Popen([sys.executable, "-c", script], stdout=file, stderr=file)
        try:
            wait(lambda: _RUNNING.search(log.read_text()) or server.poll() is not None)
            found = _RUNNING.search(log.read_text())
            assert found, log.read_text()
            address = found[0]
            wait(lambda: urllib.request.urlopen(f"{address}/moto-api/").close() or True)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("AWS_ENDPOINT_URL", address)
                patch.setenv("AWS_ACCESS_KEY_ID", "test")
                patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
                patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
                # fsspec keeps what it has opened, and the address is no part of what it finds it by.
                s3fs.S3FileSystem.clear_instance_cache()
                opened = s3fs.S3FileSystem(use_listings_cache=False)
                opened.mkdir("bucket")
                yield opened
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.terminate()
            server.wait(10)
