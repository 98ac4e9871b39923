"""Whatever a run, a file, a tag, a trainer or a rule calls itself: it never makes a terminal do anything.

Every command is run at a real terminal (a pty), and the bytes that reach it are looked at: the only escape
sequences are our own colours. A name that cannot be shown is shown by what it is made of, never left out.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.scene import Scene
from tests.sentinel.event_files import scalar

EVIL = (
    "\x1b]0;owned\x07\x1b[2J\x1bc\x9b2J\u202egnp\u2066\r\nforged: all is well\x00\x7f"
    "<!channel> @here `x` [red]x[/red]"
)
"""Title, clear, reset, an 8-bit control, right to left, a forged line, a zero byte, mentions, markup."""

FILE = EVIL.replace("\x00", "").replace("/", "|")
"""The same, as a file may be called."""

FOLDERS = [
    b"esc-\x1b]0;owned\x07\x1b[2J",
    b"line-\nforged: all is well",
    "rtl-\u202egnp".encode(),
    b"byte-\xff\xfe",
    b"<!channel> @here",
    b"[red]markup[bold]",
    b"--json",
    b"n" * 255,
    "ü".encode() * 127,
]

RULES = r"""
version = 1
include = []
[run]
logdir = "runs"
[checkpoints]
patterns = ["rl_model_{word}_{step}.zip", "checkpoint-{step}"]
[notify.slack]
channel = "#training"
base_url = "SLACK"
group_wait = "0s"
at_least = "info"
[[rule]]
name = "high"
each = "**"
expr = "x > 50"
severity = "critical"
ladder = "save"
summary = "{tag} is {value}, says EVIL"
why = "because EVIL"
[ladders.save]
rungs = [{ do = ["notify", "checkpoint"] }]
"""
BROKEN = r"""
version = 1
"EVIL" = 1
[[rule]]
name = "EVIL"
expr = "x > \u001b]0;owned\u0007\u202e\r\n 5"
severity = "EVIL"
[[rule]]
name = "b"
expr = 'mean(m["EVIL")'
severity = "warning"
[trainer.signals]
terminate = "EVIL"
"""
CASES = r"""
[[test]]
name = "EVIL"
series = { "EVIL" = "1x5 99x5" }
[[test.expect]]
rule = "high[EVIL]"
fires_at = 1
"""

AT_A_TERMINAL = """
import json, sys
from sentinel.cli import main
for line in json.loads(sys.argv[1]):
    print("$", json.dumps(line), flush=True)
    try:
        print("=", main(line), flush=True)
    except SystemExit as end:
        print("=", end.code, flush=True)
"""

COLOURS = re.compile(rb"\x1b\[[0-9;]*m")
OURS = re.compile(COLOURS.pattern + rb"|\x1b\[\?25[lh]|\r?\x1b\[[12][AK]")
"""Colours, and what a progress bar does with its own line."""
FORBIDDEN = set("\x1b\x07\x9b\u202e\u2066\x00\x08\x0b\x0c\r")


def toml(text: str) -> str:
    """A text as it stands between the quotes of a TOML string."""
    return json.dumps(text)[1:-1].replace("\x7f", "\\u007f")


def terminal(command: list[str], folder: Path, environment: dict[str, str]) -> bytes:
    """Run a command at a terminal of its own and return every byte that it wrote there."""
    pid, master = pty.fork()
    if not pid:
        os.chdir(folder)
        os.execve(command[0], command, {**environment, "TERM": "xterm-256color", "COLUMNS": "100"})  # noqa: S606  no shell is meant
    seen, deadline = b"", time.monotonic() + 90
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:  # it has let the terminal go
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    os.waitpid(pid, 0)
    return seen


def acting(seen: bytes) -> list[str]:
    """What of these bytes acts on a terminal, our own left out, each with what stands around it."""
    text = OURS.sub(b"", seen).replace(b"\r\n", b"\n").decode("utf-8", "surrogateescape")
    return [
        f"{character!r} in {text[max(0, at - 60) : at + 30]!r}"
        for at, character in enumerate(text)
        if character in FORBIDDEN or "\udc80" <= character <= "\udcff"
    ]


@pytest.fixture
def hostile(scene: Scene) -> Scene:
    """Runs, files, trainers and rules of the worst names; a sentinel has watched them for a moment."""
    begin = time.time() - 100
    for number, folder in enumerate(FOLDERS):
        path = Path(os.fsdecode(os.fsencode(scene.logdir) + b"/" + folder))
        path.mkdir()
        name = FILE if number == 4 else os.fsdecode(b"\xff") if number == 5 else ""
        points = b"".join(scalar(EVIL, step, 99.0, begin + step) for step in range(8))
        (path / f"events.out.tfevents.1700000000.{name}").write_bytes(points + b"damage\x1b[2J" * 9)
        (path / "events.out.tfevents.1700000001.t").write_bytes(points)
        (path / f"rl_model_{FILE[:40]}_5.zip").write_bytes(b"no zip")
    known = scene.logdir / os.fsdecode(FOLDERS[4])
    (known / "control" / "receipts").mkdir(parents=True)
    trainer = {"pid": 99999999, "start_time": 1, "boot_id": EVIL, "host": EVIL, "uid": os.geteuid()}
    declared = {"attempt": 1, "verbs": [EVIL, "checkpoint"], "parameters": {EVIL: {"value": EVIL}}}
    (known / "control" / "trainer.json").write_text(json.dumps({**trainer, **declared, "version": 1}))
    written = RULES.replace("EVIL", toml(EVIL)).replace("SLACK", scene.slack.url)
    scene.config.write_text(written)
    (scene.folder / "broken.toml").write_text(BROKEN.replace("EVIL", toml(EVIL)))
    (scene.folder / "tests").mkdir()
    cases = written.partition("[[rule]]")[2] + CASES.replace("EVIL", toml(EVIL))
    (scene.folder / "tests" / "cases.toml").write_text("[[rule]]" + cases)
    return scene


def test_nothing_acts_on_a_terminal(hostile: Scene) -> None:
    """Each command, with and without colours; the daemon too, and what it tells Slack."""
    scene = hostile
    where = ["-c", str(scene.config), "--state", str(scene.state)]
    watch = [
        "run",
        *where,
        str(scene.logdir),
        "--",
        "sh",
        "-c",
        "sleep 2; echo done",
        EVIL.replace("\x00", ""),
    ]
    good, odd = scene.logdir / os.fsdecode(FOLDERS[4]), scene.logdir / os.fsdecode(FOLDERS[0])
    lines = [
        watch,
        ["status", *where, "--logdir", str(scene.logdir)],
        ["status", "--json", *where, "--logdir", str(scene.logdir)],
        ["doctor", *where, str(scene.logdir)],
        ["doctor", "--json", *where, str(scene.logdir)],
        ["replay", "-c", str(scene.config), str(good)],
        ["replay", "-v", "--jobs", "1", "-c", str(scene.config), str(scene.logdir)],
        ["replay", "--json", "-c", str(scene.config), str(good)],
        ["replay", "-c", str(scene.config), str(odd)],
        ["explain", "-c", str(scene.config), "high", str(good)],
        ["explain", "-c", str(scene.config), EVIL.replace("\x00", ""), str(good)],
        ["explain", "-c", str(scene.config), "high", str(odd)],
        ["lint", "-v", "-c", str(scene.config), str(scene.logdir)],
        ["rules", "-c", str(scene.config)],
        ["rules", "-c", str(scene.config), "high"],
        ["check", str(scene.config)],
        ["check", str(scene.folder / "broken.toml")],
        ["check", str(scene.folder / FILE)],
        [
            "test",
            "-v",
            "--junit",
            str(scene.folder / "junit.xml"),
            str(scene.folder / "tests" / "cases.toml"),
        ],
        ["init", str(odd)],
        ["command", *where, "--logdir", str(scene.logdir), "--wait", "0.1", FILE, "checkpoint"],
        ["gate", "-c", str(scene.config), "--all", str(odd)],
        ["systemd", str(odd)],
    ]
    command = [sys.executable, "-c", AT_A_TERMINAL, json.dumps(lines)]
    seen = terminal(command, scene.folder, scene.environment)
    text = seen.decode("utf-8", "replace")
    assert text.count("\n= ") + text.count("\r\n= ") >= len(lines), text[-3000:]
    assert "Traceback" not in text, text[-5000:]
    assert not acting(seen), "\n".join(acting(seen)[:20])
    assert COLOURS.search(seen), "it did take this for a terminal"
    told = answers(text)
    known = {run["run"] for run in json.loads(told["status --json"])["runs"]}
    assert known == {os.fsdecode(name) for name in FOLDERS[4:]}, "what can be told is watched"
    found = json.loads(told["doctor --json"])
    unwatched = " ".join(each["text"] for each in found["machine"])
    for shown in (r"esc-\x1b]0;owned\x07", r"line-\nforged", r"rtl-\u202egnp", r"byte-\udcff\udcfe"):
        assert shown in unwatched, "what cannot is named by what it is made of"
    lines_of_json = [line for line in told["replay --json"].splitlines() if line.startswith("{")]
    assert lines_of_json
    assert all(json.loads(line) for line in lines_of_json)
    forged = re.search(r"^ {0,4}forged", text, re.MULTILINE)
    assert forged is None, "no name makes a line of its own"
    read = ElementTree.parse(scene.folder / "junit.xml").getroot()  # noqa: S314  our own
    assert [case.get("name", "")[:14] for case in read.iter("testcase")] == [r"\x1b]0;owned\x"]
    junit = (scene.folder / "junit.xml").read_text(encoding="utf-8")
    assert not [sign for sign in FORBIDDEN if sign in junit]
    assert scene.slack.sent()
    assert scene.slack.alive == []
    bodies = json.dumps(list(scene.slack.messages.values()), ensure_ascii=False)
    assert not [sign for sign in FORBIDDEN if sign in bodies]


def answers(text: str) -> dict[str, str]:
    """What each command answered, by its first two words."""
    parts = re.split(r"^\$ (\[.*\])$", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    return {
        " ".join(json.loads(line)[:2]): re.sub(r"^= \d+\s*\Z", "", said, flags=re.MULTILINE)
        for line, said in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_the_capture_would_see_an_escape(tmp_path: Path) -> None:
    """It is worth something only if it notices what a plain print would do."""
    seen = terminal([sys.executable, "-c", "print('\\x1b]0;a\\x07 \\x1b[31mred\\x1b[0m')"], tmp_path, {})
    assert [line[:6] for line in acting(seen)] == [r"'\x1b'", r"'\x07'"]
