"""The page of a running study: only with the token, read only, up to date, whatever stands in the study."""

import http.client
import json
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from diagram_ray.errors import UsageError
from diagram_ray.monitoring.live_page import SHOWN, live_page
from diagram_ray.monitoring.live_server import study_page
from diagram_ray.monitoring.snapshot import Row, StudySnapshot
from diagram_ray.search.messages import Device

ROWS = (
    Row(2, "running", "k 3", (), None, 0, 1, ""),
    Row(1, "pruned", "k 1", (0.4, 0.6), 0.5, 1, 1, "pruned: <script>alert(1)</script>", training_auc=0.6875),
    Row(0, "complete", "k 2", (0.9, 0.95), 0.925, 2, 3, ""),
)
BEST = {"number": 0, "mean": 0.925, "sd": 0.035, "low": 0.86, "high": 0.97}
SNAPSHOT = StudySnapshot(
    "a <b>study</b>", "phantom, 24 images", "2 at once", "", 10, 2, {"complete": 1, "pruned": 1}, BEST, 17, 1, 3.5,
    540.0, "about 9 min", ("2 folds x 1 epochs", "2 folds x 3 epochs"), ROWS, 0.0,
)  # fmt: skip


class Server:
    """A study whose number of ended trials grows with each look."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.looks = folder, 0

    def look(self) -> StudySnapshot:
        self.looks += 1
        return replace(SNAPSHOT, done=self.looks)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, str]:
        address = urlsplit((self.folder / "page.url").read_text())
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer, answer.read().decode()
        finally:
            connection.close()

    @property
    def token(self) -> str:
        return (self.folder / "page.url").read_text().strip().partition("token=")[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    with study_page(tmp_path, "127.0.0.1", 0, made.look):
        yield made


def test_the_address_is_for_its_owner_and_ends_with_the_study(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = Server(tmp_path)
    with study_page(tmp_path, "127.0.0.1", 0, made.look) as address:
        assert stat.S_IMODE((tmp_path / "page.url").stat().st_mode) == 0o600
        assert made.token not in address
        assert len(made.token) >= 32
        made.ask(f"/?token={made.token}")
        token = made.token
    assert not (tmp_path / "page.url").exists()
    assert token not in "".join(capfd.readouterr())
    host, port = urlsplit(address).hostname, urlsplit(address).port
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection(host, port, timeout=5).request("GET", "/")


@pytest.mark.parametrize(
    ("path", "cookie"),
    [("/", ""), ("/state.json", ""), ("/?token=", ""), ("/?token=wrong", ""), ("/", "diagram_ray=wrong"),
     ("/", ";;=\x00,"), ("/?token=%ff%00", ""), ("/nowhere", "")],
)  # fmt: skip
def test_without_the_token_there_is_nothing(server: Server, path: str, cookie: str) -> None:
    answer, text = server.ask(path, Cookie=cookie)
    assert answer.status == 403
    assert "phantom" not in text
    assert server.token not in text
    assert server.looks == 0


def test_the_token_becomes_a_cookie(server: Server) -> None:
    answer, text = server.ask(f"/?token={server.token}")
    assert (answer.status, answer.getheader("Location"), text) == (303, "/", "")
    cookie = answer.getheader("Set-Cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    answer, text = server.ask("/", Cookie=cookie.partition(";")[0])
    assert answer.status == 200
    for words in (
        "0.925 ± 0.035",
        "0.860 to 0.970",
        "about 9 min",
        "3.5 a minute",
        "1 complete, 1 pruned",
        "2 folds x 3",
        "0.688",  # training AUC of trial 1
    ):
        assert words in text
    policy = answer.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert f'nonce="{policy.rpartition("nonce-")[2].rstrip(chr(39))}"' in text
    assert answer.getheader("Cache-Control") == "no-store"
    assert answer.getheader("X-Frame-Options") == "DENY"


def with_cookie(server: Server) -> dict[str, str]:
    return {"Cookie": f"diagram_ray={server.token}"}


def test_the_state_as_json(server: Server) -> None:
    answer, text = server.ask("/state.json", **with_cookie(server))
    assert answer.status == 200
    assert json.loads(text) == json.loads(json.dumps(replace(SNAPSHOT, done=1).plain()))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_done_but_reading(server: Server, method: str) -> None:
    assert server.ask("/", method, **with_cookie(server))[0].status == 501
    assert server.looks == 0


@pytest.mark.parametrize("path", ["/../page.url", "/page.url", "//etc/passwd", "/%2e%2e/page.url", "/favicon.ico"])
def test_there_are_no_files(server: Server, path: str) -> None:
    answer, text = server.ask(path, **with_cookie(server))
    assert answer.status == 404
    assert server.token not in text


def test_what_stands_in_a_study_is_text(server: Server) -> None:
    text = live_page(SNAPSHOT, "n")
    assert "<script>alert" not in text
    assert "<b>study" not in text
    assert "pruned: &lt;script&gt;alert(1)" in text


def test_devices_and_what_they_cost() -> None:
    one, other = Device("10.0.0.7", "1"), Device("10.0.0.8")
    rows = (replace(ROWS[0], devices=(one, other)), replace(ROWS[1], number=3, devices=(one,)), ROWS[2])
    snapshot = replace(SNAPSHOT, rows=rows, worker_hours=2.0, worker_hours_left=3.0, origin="commit abc")
    text = live_page(snapshot, "n")
    for words in (
        "10.0.0.7 GPU 1 (2 workers), 10.0.0.8 CPU. ",
        "on 10.0.0.7 GPU 1, 10.0.0.8 CPU",
        "commit abc",
        "2.00 h",
    ):
        assert words in text
    priced = live_page(replace(snapshot, price=0.5), "n")
    assert "2.00 worker-hours of training at 0.5 in this run; about 1.50 more" in priced
    assert '<p class="big">1.00</p>' in priced
    assert replace(snapshot, price=0.5).plain()["cost_left"] == 1.5
    many = tuple(replace(ROWS[0], number=n, devices=(Device(f"10.0.0.{n:03d}"),)) for n in range(20))
    assert "10.0.0.007 CPU, and others. " in live_page(replace(SNAPSHOT, rows=many), "n")


def test_only_the_newest_trials_are_shown() -> None:
    rows = tuple(replace(ROWS[0], number=number) for number in range(SHOWN + 4, -1, -1))
    text = live_page(replace(SNAPSHOT, rows=rows), "n")
    assert "And 5 older ones" in text
    assert text.count('<td class="trial">') == SHOWN


def test_a_study_that_has_only_begun(server: Server) -> None:
    text = live_page(replace(SNAPSHOT, rows=(), best=None, counts={}, pace=None, left="", done=0), "n")
    assert "No trial is complete yet" in text
    assert "None has ended yet" in text


def test_many_ask_at_once(server: Server) -> None:
    found: list[int] = []
    ask = lambda: found.append(server.ask("/", **with_cookie(server))[0].status)  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 20


def test_an_address_that_is_taken_is_told(server: Server, tmp_path: Path) -> None:
    port = urlsplit((tmp_path / "page.url").read_text()).port
    (tmp_path / "other").mkdir()
    page = study_page(tmp_path / "other", "127.0.0.1", port, server.look)
    with pytest.raises(UsageError, match=f"page: 127.0.0.1:{port}: the study's page cannot be served there"):
        page.__enter__()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_keeps_it_up_to_date(server: Server, tmp_path: Path) -> None:
    address = (tmp_path / "page.url").read_text().strip()
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=9000", "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert server.looks >= 3, "it asked once and never again"
    assert f"{server.looks} of 10" in done.stdout or f"{server.looks - 1} of 10" in done.stdout
    assert 'class=""' in done.stdout  # the last answer came
    assert "token=" not in done.stdout
