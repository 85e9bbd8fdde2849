"""A browser shows the whole page: every picture, no error on its console, nothing asked of the network."""

import re
import shutil
import subprocess
import sys
import zlib

import pytest

from diagram_ray.report import write_report

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to render the report with"),
    pytest.mark.skipif(sys.platform == "win32", reason="headless flags differ"),
]

# The report itself forbids scripts, so a frame around it looks inside and writes down what it sees.
FRAME = """<!doctype html><html><body><iframe id="page" src="report.html" width="WIDTH" height="900"></iframe><script>
addEventListener("load", () => {
  const page = document.getElementById("page").contentDocument;
  const pictures = [...page.images].map(i => i.complete && i.naturalWidth > 40 && i.getBoundingClientRect().width > 40);
  const root = page.documentElement;
  document.body.dataset.seen = [pictures.length, pictures.every(Boolean), root.scrollWidth - root.clientWidth,
    page.querySelectorAll("h2").length, getComputedStyle(page.querySelector(".tile")).backgroundColor].join(" ");
});
</script></body></html>"""


def chromium(tmp_path, *arguments):
    """Runs the browser without a network; returns its output and its log."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    logging = ["--enable-logging=stderr", "--v=0", f"--user-data-dir={tmp_path / 'profile'}"]
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={tmp_path / 'net.json'}"]
    command = [str(CHROMIUM), *flags, *logging, *offline, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.mark.parametrize("width", [400, 1280])
def test_everything_is_shown(usual_study, tmp_path, width):
    write_report([usual_study], tmp_path / "report.html")
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)))
    dom, log = chromium(tmp_path, "--virtual-time-budget=8000", "--dump-dom", (tmp_path / "frame.html").as_uri())
    seen = re.search(r'data-seen="([^"]*)"', dom)
    assert seen is not None, log
    count, shown, overflow, headings, tile = seen.group(1).split(" ", 4)
    assert (count, shown, overflow) == ("14", "true", "0")
    assert int(headings) >= 10
    assert tile == "rgb(255, 255, 255)"  # the style sheet is in force
    assert "CONSOLE" not in log
    assert "Refused to" not in log


def test_nothing_is_asked_of_the_network(usual_study, tmp_path):
    report = write_report([usual_study], tmp_path / "report.html")
    picture = tmp_path / "page.png"
    _, log = chromium(tmp_path, "--window-size=1280,3000", f"--screenshot={picture}", report.as_uri())
    assert "CONSOLE" not in log
    requests = re.findall(r'"url":"(https?://[^"]*)"', (tmp_path / "net.json").read_text(errors="replace"))
    # The browser itself asks its maker for updates; the page must ask nobody.
    assert [url for url in requests if not re.search(r"google|gstatic|gvt1|chromium", url)] == []
    assert len(set(_rows(picture.read_bytes()))) > 500


def _rows(png):
    """The lines of a PNG's pixels, compressed away filters and all: enough to tell a picture from an empty page."""
    data, at = b"", 8
    while at < len(png):
        length, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        data += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    width, depth = int.from_bytes(png[16:20], "big"), {2: 3, 6: 4}[png[25]]
    pixels, stride = zlib.decompress(data), width * depth + 1
    return [pixels[i : i + stride] for i in range(0, len(pixels), stride)]
