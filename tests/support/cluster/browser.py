"""Chromium as a reader of pages: what they say once their scripts have run, and how they look."""

import asyncio
import base64
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
PATIENCE = 120.0


@dataclass(frozen=True)
class View:
    """How large the window is, and whether its owner likes dark pages."""

    width: int = 1280
    height: int = 1000
    dark: bool = False


class Browser:
    """Talks to a Chromium that listens at `port`, in its DevTools protocol."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"

    def read(
        self,
        url: str,
        until: Callable[[str], bool],
        picture: Path,
        view: View = View(),
        cookies: Mapping[str, str] = {},
    ) -> str:
        """The text of the page at `url` as soon as `until` is true of it; what is seen then goes into `picture`."""
        return asyncio.run(self._read(url, until, picture, view, cookies))

    async def _read(
        self, url: str, until: Callable[[str], bool], picture: Path, view: View, cookies: Mapping[str, str]
    ) -> str:
        async with aiohttp.ClientSession() as session, session.put(f"{self._root}/json/new?about:blank") as made:
            address = (await made.json())["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=2**26) as socket:
                tab = _Tab(socket)
                metrics = {"width": view.width, "height": view.height, "deviceScaleFactor": 1, "mobile": False}
                await tab.do("Emulation.setDeviceMetricsOverride", **metrics)
                scheme = {"name": "prefers-color-scheme", "value": "dark" if view.dark else "light"}
                await tab.do("Emulation.setEmulatedMedia", features=[scheme])
                for name, value in cookies.items():
                    await tab.do("Network.setCookie", name=name, value=value, url=url)
                await tab.do("Page.navigate", url=url)
                text = await _text(tab, until)
                shot = await tab.do("Page.captureScreenshot", captureBeyondViewport=True)
                picture.write_bytes(base64.b64decode(shot["data"]))
                await tab.do("Page.close")
                return text


class _Tab:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0

    async def do(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while (answer := await self._socket.receive_json(timeout=PATIENCE)).get("id") != self._number:
            pass
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result


async def _text(tab: _Tab, until: Callable[[str], bool]) -> str:
    end, text = time.monotonic() + PATIENCE, ""
    while time.monotonic() < end:
        found = await tab.do("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        text = found["result"].get("value", "")
        if until(text):
            return text
        await asyncio.sleep(0.2)
    raise TimeoutError(f"the page says after {PATIENCE:g} s: {text[:2000]}")


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A Chromium with its profile in `folder`."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen([str(CHROMIUM), *options, f"--user-data-dir={folder}"], stdout=log, stderr=log)
    try:
        told, end = folder / "DevToolsActivePort", time.monotonic() + PATIENCE
        while not (told.is_file() and told.read_text().count("\n")):
            assert process.poll() is None, (folder / "chromium.log").read_text()[-2000:]
            assert time.monotonic() < end, (folder / "chromium.log").read_text()[-2000:]
            time.sleep(0.1)
        yield Browser(int(told.read_text().split()[0]))
    finally:
        process.terminate()
        process.wait(30)
