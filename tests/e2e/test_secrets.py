"""No secret is written down: real sentinels with every secret set, driven into every failure, then a search.

What is searched is all that is left behind: the state folder, the run folders, what each process and each
command said, the tracebacks of crashes. Left out is sentinel.toml, where the user may write the ping URL.
"""

from __future__ import annotations

import base64
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import BaseModel

from rules.source import RuleErrors
from sentinel.cli import main
from sentinel.config import Service, load
from tests.e2e.scene import Scene, until
from tests.sentinel.event_files import scalar
from tests.slack_stub import TOKEN as SLACK_TOKEN
from tests.slack_stub import Reply, SlackStub
from tests.socket_stub import APP_TOKEN

PING = "ping-0f5e4c1b-of-a-dead-mans-switch"
PROXY = "pr0xy-p4ssw0rd-in-a-variable"
HOOK = "h00k-key-in-an-address"
SIGN = "s1gn-key-of-a-webhook"
BEARER = "b3arer-token-of-a-webhook"
APPRISE = "appr1se-key-in-an-address"
ALERTMANAGER = "alertm4nager-key-in-an-address"
SECRETS = (SLACK_TOKEN, APP_TOKEN, PING, PROXY, HOOK, SIGN, BEARER, APPRISE, ALERTMANAGER)

CRASH = """
import sys
from sentinel.cli import main
from sentinel.engine import Engine
ticks, tick = [], Engine.tick
def failing(self, *arguments):
    ticks.append(0)
    if len(ticks) > 6:
        raise RuntimeError("a bug in the middle of a tick")
    return tick(self, *arguments)
Engine.tick = failing
sys.exit(main(sys.argv[1:]))
"""
"""A sentinel with a bug: its traceback goes to standard error as any other."""

CHANNELS = """
[notify.webhook]
url_env = "OUR_HOOK"
secret_env = "OUR_SIGN"
token_env = "OUR_BEARER"
at_least = "info"

[notify.alertmanager]
url_env = "OUR_MANAGER"
token_env = "OUR_BEARER"
at_least = "info"
"""

PHONES = """
[notify.apprise]
urls_env = "OUR_URLS"
at_least = "info"
"""
"""In one place alone: the library takes a second to load."""

NEVER = f"""
[sentinel]
ping_url_env = "OUR_SWITCH"
{CHANNELS}
"""


class Echo(BaseHTTPRequestHandler):
    """A dead man's switch that repeats in its error what it was asked for."""

    hang = threading.Event()
    seen: list[str] = []  # noqa: RUF012  shared by all requests, as it is meant to be

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.path.startswith("/hang"):
            self.hang.wait(60)
            return
        self.send_response(500, f"no {self.path}")
        self.end_headers()
        self.wfile.write(self.path.encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Say nothing."""


@pytest.fixture
def switch() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    Echo.seen.clear()
    Echo.hang.clear()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    Echo.hang.set()
    server.shutdown()
    server.server_close()
    thread.join()


def forms(secret: str) -> list[bytes]:
    """A secret as it could lie about: plain, percent-encoded, in base64 at each of the three offsets."""
    raw = secret.encode()
    encoded = [base64.b64encode(b"x" * pad + raw + b"x" * 3)[8:-8] for pad in range(3)]
    return [raw, quote(secret, safe="").encode(), *encoded]


def left_behind(folder: Path) -> list[str]:
    """Files below a folder that hold a secret, sentinel.toml left out."""
    found, searched = [], 0
    for path in folder.rglob("*"):
        if not path.is_file() or path.name == "sentinel.toml":
            continue
        searched += 1
        content = path.read_bytes()
        found += [
            f"{path.relative_to(folder)}: {secret}"
            for secret in SECRETS
            if any(form in content for form in forms(secret))
        ]
    assert searched > 5, "there was something to be searched"
    return found


def tables(model: type[BaseModel], at: str = "") -> Iterator[tuple[str, bool]]:
    """Every setting of the service, by its path, and whether it is kept as a secret."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        parts = (kind, *getattr(kind, "__args__", ()))
        below = [each for each in parts if isinstance(each, type) and issubclass(each, BaseModel)]
        for each in below:
            yield from tables(each, f"{at}{name}.")
        if not below:
            yield f"{at}{name}", "SecretStr" in f"{kind}"


def test_every_setting_that_holds_or_names_a_secret_is_set_in_these_tests() -> None:
    """Whoever adds a secret to sentinel.toml is told here to add it to the search."""
    found = {name for name, kind in tables(Service) if kind or name.endswith("_env")}
    hook = {f"notify.webhook.{key}_env" for key in ("url", "secret", "token")}
    manager = {f"notify.alertmanager.{key}" for key in ("url", "url_env", "token_env")}
    channels = {
        "notify.slack.token_env",
        "notify.slack.app_token_env",
        "notify.apprise.urls_env",
        *hook,
        *manager,
    }
    assert found == {"sentinel.ping_url", "sentinel.ping_url_env", *channels}


class Heard(Scene):
    """A scene whose Slack is listened to besides."""

    def write_rules(self, **changes: Any) -> None:
        super().write_rules(**changes)
        table = 'channel = "#training"\napp_token_env = "SLACK_APP_TOKEN"\napprovers = ["U0ADA"]\n'
        rules = self.config.read_text(encoding="utf-8").replace('channel = "#training"\n', table)
        self.config.write_text(rules, encoding="utf-8")


class Place:
    """A scene of its own below the test's folder, with its own Slack."""

    def __init__(
        self, folder: Path, name: str, slack: SlackStub, more: str, hook: str, kind: type[Scene] = Heard
    ) -> None:
        (folder / name).mkdir()
        self.scene = kind(folder / name, slack)
        self.scene.environment["SLACK_APP_TOKEN"] = APP_TOKEN
        self.scene.write_rules(mode="observe", more=more)
        self.scene.environment |= {"OUR_SWITCH": "", "PYTHONFAULTHANDLER": "1"}
        self.scene.environment |= {"OUR_HOOK": hook, "OUR_SIGN": SIGN, "OUR_BEARER": BEARER}
        urls = f"json://me:{APPRISE}@{hook.removeprefix('http://').replace(HOOK, APPRISE)}"
        self.scene.environment["OUR_URLS"] = urls
        self.scene.environment["OUR_MANAGER"] = hook.replace(HOOK, ALERTMANAGER)
        self.run = self.scene.logdir / "a"
        self.run.mkdir()
        self.step = 0
        self.log(0.5, 3)

    def log(self, value: float, count: int) -> None:
        """Append points."""
        with (self.run / "events.out.tfevents.1700000000.t").open("ab") as file:
            for _ in range(count):
                self.step += 1
                file.write(scalar("train/loss", self.step, value, time.time()))

    def ticking(self) -> bool:
        return bool(self.scene.rows("SELECT 1 FROM meta WHERE name = 'last_tick'"))

    def reasons(self) -> str:
        """Why messages have not arrived."""
        rows = self.scene.rows("SELECT reason FROM messages WHERE channel = 'slack'")
        return " ".join(row["reason"] or "" for row in rows)


def test_no_secret_is_left_anywhere(
    tmp_path: Path, switch: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Alarms, refusals with the token in their body, nobody listening, hanging, crashes, broken files."""
    with SlackStub() as erring, SlackStub() as gone, SlackStub() as deaf:
        # It errs in every way, the token in each body, and is dead in the end.
        errs = Place(
            tmp_path,
            "errs",
            erring,
            f'\n[sentinel]\nping_url = "{switch}/{PING}"\n{CHANNELS}{PHONES}',
            f"{switch}/{HOOK}",
            Scene,
        )
        erring.script(
            Reply(500, SLACK_TOKEN.encode()),
            Reply(body=SLACK_TOKEN.encode()),
            Reply(400, b'{"ok": false, "error": "%s"}' % SLACK_TOKEN.encode()),
            Reply(drop=True),
            Reply(403, b"<html>%s</html>" % SLACK_TOKEN.encode()),
        )
        # Nobody listens, neither Slack nor the switch.
        nobody = Place(tmp_path, "nobody", gone, NEVER, f"http://127.0.0.1:9/{HOOK}")
        gone.close()
        nobody.scene.environment["OUR_SWITCH"] = f"http://127.0.0.1:9/{PING}"
        # Both hang.
        hangs = Place(tmp_path, "hangs", deaf, NEVER, f"{switch}/hang/{HOOK}")
        hangs.scene.environment["OUR_SWITCH"] = f"{switch}/hang/{PING}"
        deaf.script(*[Reply(hang=True)] * 12)
        places = [errs, nobody, hangs]
        try:
            first = errs.scene.sentinel()
            line = ["-c", str(nobody.scene.config), "--state", str(nobody.scene.state)]
            job = ["--", "sh", "-c", "sleep 1; exit 3"]
            crash = nobody.scene.start(
                "-c", CRASH, "run", *line, str(nobody.scene.logdir), *job, log="sentinel.log"
            )
            third = hangs.scene.sentinel()
            for place in places:
                until(place.ticking, "it watches")
                place.log(99.0, 4)
            assert crash.wait(40) == 1
            assert "a bug in the middle of a tick" in nobody.scene.said("sentinel.log")
            until(lambda: "ConnectionRefusedError" in nobody.reasons(), "nobody listened")
            # The way out is a proxy with a secret where the port belongs: the error would repeat it.
            nobody.scene.environment["http_proxy"] = f"http://127.0.0.1:{PROXY}"
            second = nobody.scene.sentinel()
            until(lambda: "InvalidURL" in nobody.reasons(), "the proxy's address is none")
            until(
                lambda: "buttons and mentions are not heard" in nobody.scene.said("sentinel.log"), "unheard"
            )
            until(lambda: deaf.calls and any("hang" in path for path in Echo.seen), "both hang")
            errs.scene.write_rules(mode="observe", more=f'\n[sentinel]\nping_url = ["{switch}/{PING}"]\n')
            first.send_signal(signal.SIGHUP)
            until(lambda: "is not Slack's" in errs.reasons(), "Slack has erred")
            until(lambda: "old rules stay" in errs.scene.said("sentinel.log"), "the broken file was read")
            assert any(PING in path for path in Echo.seen)
            assert any(HOOK in path for path in Echo.seen)
            assert any(APPRISE in path for path in Echo.seen)
            assert any(ALERTMANAGER in path for path in Echo.seen)
            for place in places:
                ask(place, monkeypatch, capfd)
            second.send_signal(signal.SIGABRT)  # the stacks of all threads
            third.send_signal(signal.SIGABRT)
            first.kill()
            for process in (first, second, third):
                process.wait(20)
            assert "Fatal Python error: Aborted" in hangs.scene.said("sentinel.log")
        finally:
            for place in places:
                place.scene.end()
    assert left_behind(tmp_path) == []


def ask(place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Everything that a person may ask; what is answered is put beside the rest, to be searched."""
    scene = place.scene
    for name, value in scene.environment.items():
        if name.isupper() and os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    state = ["-c", str(scene.config), "--state", str(scene.state), "--logdir", str(scene.logdir)]
    beside = ["-c", str(scene.config), "--state", str(scene.state), str(scene.logdir)]
    told = scene.folder / "told"
    told.mkdir(exist_ok=True)
    good = scene.folder / "good"
    good.mkdir(exist_ok=True)
    scene.config.rename(good / "kept.toml")
    scene.write_rules(mode="observe", more=NEVER)
    broken = (good / "kept.toml").rename(good / "sentinel.toml")
    for number, line in enumerate(
        [
            ["status", *state],
            ["status", "--json", *state],
            ["doctor", *beside],
            ["doctor", "--json", *beside],
            ["check", str(scene.config)],
            ["check", str(broken)],
            ["rules", "-c", str(scene.config)],
            ["schema"],
            ["notify", "--dry-run", "-c", str(scene.config)],
            ["notify", "--test", "console", "-c", str(scene.config)],
            ["replay", "-v", "-c", str(scene.config), str(scene.logdir)],
            ["replay", "--json", "-c", str(scene.config), str(scene.logdir)],
            ["explain", "-c", str(scene.config), "loss_high", str(place.run)],
            ["lint", "-c", str(scene.config), str(scene.logdir)],
            ["systemd", *beside],
        ]
    ):
        main(line)
        said = capfd.readouterr()
        assert said.out + said.err, line
        (told / f"{number}-{line[0]}").write_text(said.out + said.err, encoding="utf-8")


BROKEN = {
    "of another kind": '[sentinel]\nping_url = "ftp://x/{secret}"\n',
    "in a list": '[sentinel]\nping_url = ["https://x/{secret}"]\n',
    "in a table": '[sentinel]\nping_url = {{ url = "https://x/{secret}" }}\n',
    "under a wrong name": '[sentinel]\nping_uri = "https://x/{secret}"\n',
    "without its quotes": "[sentinel]\nping_url = https://x/{secret}\n",
    "with one quote": '[sentinel]\nping_url = "https://x/{secret}\n',
    "over a line's end": '[sentinel]\nping_url = "https://x/\n{secret}"\n',
    "twice": '[sentinel]\nping_url = "https://x/{secret}"\nping_url = "https://x/{secret}"\n',
    "the token itself": '[notify.slack]\nchannel = "#c"\ntoken = "{secret}"\n',
    "the app's token for its name": '[notify.slack]\nchannel = "#c"\napp_token_env = "{secret}"\n',
    "the app's token for a user": '[notify.slack]\nchannel = "#c"\napp_token = "{secret}"\n',
    "the token for its name": '[notify.slack]\nchannel = "#c"\ntoken_env = "{secret}"\n',
    "an Alertmanager's address": '[notify.alertmanager]\nurl = "x://{secret}"\n',
    "an Alertmanager's address twice": '[notify.alertmanager]\nurl = "https://{secret}"\nurl_env = "A"\n',
    "an Alertmanager's address for its name": '[notify.alertmanager]\nurl_env = "https://{secret}"\n',
    "a webhook's address": '[notify.webhook]\nurl = "https://x/{secret}"\n',
    "a webhook's address for its name": '[notify.webhook]\nurl_env = "https://x/{secret}"\n',
    "a key in a channel of no kind": '[notify.hook]\nurl = "https://x/{secret}"\n',
    "a key instead of a channel": '[notify]\nwebhook = "https://x/{secret}"\n',
    "the address for its name": '[sentinel]\nping_url_env = "https://x/{secret}"\n',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_secret_in_the_wrong_place_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Every way of writing it wrongly is told with its place, and without what was written there."""
    path = tmp_path / "sentinel.toml"
    path.write_text('version = 1\ninclude = ["pack:generic"]\n' + text.format(secret=SLACK_TOKEN))
    assert main(["check", str(path)]) == 2
    said = capsys.readouterr()
    assert "sentinel.toml:" in said.err
    assert SLACK_TOKEN not in said.out + said.err
    with pytest.raises(RuleErrors) as wrong:
        load(path)
    assert SLACK_TOKEN not in "".join(traceback.format_exception(wrong.value)) + repr(wrong.value)


def test_the_search_would_find_one(tmp_path: Path) -> None:
    """It is worth something only if it sees what it looks for, however it is written."""
    header = base64.b64encode(f"user:{PROXY}".encode()).decode()
    told = {"a": f"... {PING}", "b": f"Basic {header}", "c": quote(f"a/{SLACK_TOKEN}", safe=""), "d": ""}
    for name, text in {**told, "e": "", "f": ""}.items():
        (tmp_path / name).write_text(text)
    assert sorted(line[0] for line in left_behind(tmp_path)) == ["a", "b", "c"]
