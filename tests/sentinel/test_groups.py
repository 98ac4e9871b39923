"""What is told when: groups, silences, budgets and repeats, with a real journal and a clock of our own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from notifier.message import Fact, Message
from sentinel.grouping import Policy
from sentinel.journal import Journal
from sentinel.mail import Mail
from sentinel.requests import Ack, Expire, Silence
from sentinel.story import notice
from tests.sentinel.event_files import T0
from tests.sentinel.scene import Post

PEOPLE = Policy(wait=30.0, interval=300.0, repeat=14_400.0, budget={"warning": (20, 3600.0)})


def opened(run: str, rule: str, severity: str = "warning", number: int = 1, at: float = T0) -> Message:
    return Message(
        key=f"{run}/{rule}#{number}/firing",
        thread=f"{run}/{rule}#{number}",
        kind="opened",
        severity=severity,
        run=run,
        rule=rule,
        title=rule,
        happened=f"{rule} is too high",
        wall_time=at,
        state="firing",
        facts=(Fact("value", "7 (limit 5)"),),
    )


def closed(story: Message) -> Message:
    end = {"kind": "closed", "state": "resolved", "happened": "clear"}
    return replace(story, key=f"{story.thread}/closed", **end)  # type: ignore[arg-type]  # all of them are text


def update(story: Message, name: str, *facts: Fact) -> Message:
    return replace(story, key=f"{story.thread}/{name}", kind="update", state=name, happened=name, facts=facts)


class Desk:
    """Mail with a journal, whose messages arrive when they are handed over."""

    def __init__(self, path: Path, policy: Policy = PEOPLE) -> None:
        self.path, self.policy = path, policy
        self.post = Post()
        self.now = T0
        self.going: set[str] = set()
        self.start()

    def start(self) -> None:
        """Take up what the journal knows, as after a SIGKILL."""
        self.journal = Journal(self.path)
        self.rise()

    def rise(self) -> None:
        """Have nothing but what the journal holds."""
        outbox: Any = self.post
        self.mail = Mail(self.journal, outbox, lambda _m: ("slack",), policies={"slack": self.policy})

    def tick(self, *messages: Message, after: float = 0.0, minute: bool = False) -> list[Message]:
        """Let time pass and tell; returns what went out."""
        self.now += after
        before = len(self.post.rows)
        with self.journal.transaction():
            for message in messages:
                if message.kind == "opened":
                    self.going.add(message.thread)
                if message.kind == "closed":
                    self.going.discard(message.thread)
                self.mail.post(message, self.now)
            self.mail.look(self.now, lambda: self.going, minute=minute)
        self.mail.submit()
        with self.journal.transaction():
            self.mail.record(self.now)
        return [row.message for row in self.post.rows[before:]]

    def alert(self, story: Message) -> None:
        """Let the journal know the alert of a story, as a tick does."""
        number = int(story.thread.rpartition("#")[2])
        body = f'{{"state":"firing","number":{number}}}'
        self.journal.put("alerts", run=story.run, key=story.rule, body=body)

    def whys(self) -> list[tuple[str, str]]:
        return [
            (r["state"], r["why"]) for r in self.journal.rows("SELECT state, why FROM messages ORDER BY id")
        ]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "journal")
    yield made
    made.journal.close()


def test_five_alerts_of_one_run_within_the_group_wait_are_one_message(desk: Desk) -> None:
    """It names all five, the gravest first; and the first critical did not wait for it."""
    assert desk.tick(*(opened("a", f"r{n}") for n in range(3))) == []
    (sent,) = desk.tick(opened("a", "boom", "critical"), opened("a", "r4"), after=10.0)
    assert (sent.severity, sent.run, sent.title) == ("critical", "a", "5 alerts at once")
    assert sent.happened.splitlines()[0] == "CRITICAL boom: boom is too high"
    assert all(name in sent.happened for name in ("boom", "r0", "r1", "r2", "r4"))
    assert ("queued", "FirstNotification") not in desk.whys()
    assert desk.whys()[-1] == ("sent", "FirstNotification")
    assert [state for state, _ in desk.whys()[:-1]] == ["grouped"] * 5


def test_what_becomes_of_one_of_five_is_said_in_their_thread(desk: Desk) -> None:
    """The message that names them all says how many still fire, and ends with the last of them."""
    stories = [opened("a", f"r{n}") for n in range(2)]
    (first,) = (desk.tick(*stories), desk.tick(after=30.0))[1]
    (one,) = desk.tick(closed(stories[0]), after=5.0)
    assert (one.thread, one.kind, one.state) == (first.thread, "update", "1 of 2 firing")
    assert one.facts == (Fact("r0", "resolved, value 7 (limit 5)"),)
    (other,) = desk.tick(closed(stories[1]), after=5.0)
    assert (other.thread, other.kind, other.state) == (first.thread, "closed", "all 2 over")
    assert [why for _, why in desk.whys()[-2:]] == ["NewResolvedAlerts", "AllAlertsResolved"]


def test_twenty_runs_that_die_of_one_cause_are_two_messages(desk: Desk) -> None:
    """The first at once; the other nineteen together, half a minute later."""
    (first,) = desk.tick(opened("run00", "died", "critical"))
    assert first.run == "run00"
    for n in range(1, 20):
        assert desk.tick(opened(f"run{n:02}", "died", "critical"), after=0.5) == []
    (rest,) = desk.tick(after=30.0)
    assert rest.title == "died in 19 runs"
    assert rest.happened.splitlines()[0] == "CRITICAL run01: died is too high"
    assert rest.happened.endswith("and 9 more")
    (end,) = desk.tick(closed(opened("run03", "died", "critical")), after=1.0)
    assert (end.thread, end.state, end.happened) == (rest.thread, "18 of 19 firing", "run03: clear")


def test_in_one_tick_they_are_one_message_at_once(desk: Desk) -> None:
    """Nobody waits where all is known."""
    (sent,) = desk.tick(*(opened(f"run{n}", "died", "critical") for n in range(20)))
    assert sent.title == "died in 20 runs"


def test_a_story_alone_is_told_as_itself_and_its_updates_follow(desk: Desk) -> None:
    """Nothing of a group shows where there is none."""
    story = opened("a", "r")
    assert desk.tick(story) == []
    assert desk.tick(update(story, "asked for a checkpoint"), after=10.0) == []
    assert desk.tick(after=20.0) == [story, update(story, "asked for a checkpoint")]
    assert desk.tick(closed(story)) == [closed(story)]


def test_what_fires_and_resolves_between_is_never_told(desk: Desk) -> None:
    """As in Alertmanager; the rows say so."""
    story = opened("a", "r")
    desk.tick(story)
    assert desk.tick(closed(story), after=10.0) == []
    assert desk.tick(after=1000.0) == []
    assert desk.whys() == [("untold", "DoNotNotify")] * 2


def test_what_is_asked_of_a_trainer_is_told_at_once(desk: Desk) -> None:
    """However mild the rule: nobody is to learn of a rollback half a minute later, or never."""
    story = opened("a", "r")
    desk.tick(story)
    assert len(desk.tick(update(story, "asked", Fact("asked", "checkpoint")), after=1.0)) == 2


def test_a_second_warning_of_a_run_waits_for_the_group_interval(desk: Desk) -> None:
    """NewAlertsInGroup, five minutes after the first; a critical does not wait for that."""
    desk.tick(opened("a", "r1"))
    desk.tick(after=30.0)
    assert desk.tick(opened("a", "r2"), after=60.0) == []
    assert len(desk.tick(opened("a", "boom", "critical"), after=1.0)) == 1
    desk.tick(opened("a", "r3"), after=1.0)
    assert desk.tick(after=290.0) == []
    (sent,) = desk.tick(after=10.0)
    assert sent.rule == "r3"
    assert desk.whys()[-1] == ("sent", "NewAlertsInGroup")


def test_what_waits_for_its_group_survives_a_kill(desk: Desk) -> None:
    """It is a row; the next start tells it when it is due."""
    desk.tick(opened("a", "r1"), opened("a", "r2"))
    desk.journal.close()
    desk.start()
    assert desk.tick(after=10.0) == []
    (sent,) = desk.tick(after=20.0)
    assert sent.title == "2 alerts at once"
    desk.journal.close()
    desk.start()
    assert desk.tick(after=100.0) == []


def test_at_the_end_what_waits_is_told_at_once(desk: Desk) -> None:
    """Nobody would be there to tell it later."""
    desk.tick(opened("a", "r1"))
    with desk.journal.transaction():
        desk.mail.groups.flush_all(desk.now)
    desk.mail.submit()
    assert [m.rule for m in desk.post.messages] == ["r1"]


def test_what_goes_on_is_told_again_each_repeat_interval(desk: Desk) -> None:
    """Where all can see it; and an end to it is no repeat."""
    story = opened("a", "r", "critical")
    desk.tick(story)
    assert desk.tick(after=14_399.0, minute=True) == []
    (again,) = desk.tick(after=61.0, minute=True)
    assert (again.thread, again.again, again.kind) == (story.thread, True, "update")
    assert again.happened.startswith("still firing after 4 h")
    assert desk.whys()[-1] == ("sent", "RepeatIntervalElapsed")
    assert desk.tick(after=14_000.0, minute=True) == []
    desk.tick(closed(story))
    assert desk.tick(after=99_999.0, minute=True) == []


def test_nothing_is_repeated_of_a_run_that_is_over(desk: Desk) -> None:
    """Nobody trains it: it fires no more."""
    desk.tick(opened("a", "r", "critical"))
    desk.going.clear()
    assert desk.tick(after=99_999.0, minute=True) == []


def test_what_somebody_has_in_hand_is_not_repeated(desk: Desk) -> None:
    """The thread says who; the next episode is another one."""
    story = opened("a", "r", "critical")
    desk.tick(story)
    desk.alert(story)
    with desk.journal.transaction():
        assert desk.mail.ack(Ack("a", "r", "ann", "on it"), ["a"], desk.now).state == "done"
    (said,) = desk.tick()
    assert (said.thread, said.state) == (story.thread, "firing, ann has it")
    assert said.happened == "ann has it in hand: on it"
    assert desk.tick(after=99_999.0, minute=True) == []
    desk.tick(closed(story))
    desk.tick(opened("a", "r", "critical", number=2), after=400.0)
    assert len(desk.tick(after=14_460.0, minute=True)) == 1


def silence(desk: Desk, run: str = "*", rule: str = "*", seconds: float = 3600.0) -> None:
    with desk.journal.transaction():
        asked = Silence(run, desk.now + seconds, "ann", "moving disks", rule)
        assert desk.mail.silences.begin(asked, ["a", "b"], desk.now).state == "done"


def test_a_silence_keeps_quiet_and_what_it_kept_has_its_reason(desk: Desk) -> None:
    """Over a restart too; what it does not cover is told."""
    silence(desk, "a", "r*")
    desk.journal.close()
    desk.start()
    sent = desk.tick(
        opened("a", "r1", "critical"), opened("b", "r1", "critical"), opened("a", "x", "critical")
    )
    assert [(m.run, m.title) for m in sent] == [("", "2 alerts at once")] or len(sent) == 2
    (row,) = desk.journal.rows("SELECT * FROM messages WHERE state = 'silenced'")
    assert row["reason"].endswith("ann: moving disks")


def test_a_silence_that_ends_while_the_alert_fires_tells_it_then(desk: Desk) -> None:
    """And what had ended by then is not told."""
    silence(desk)
    gone, story = opened("a", "gone", "critical"), opened("a", "r", "critical")
    assert desk.tick(gone, story) == []
    assert desk.tick(closed(gone), after=10.0) == []
    assert desk.tick(after=3580.0) == []
    (sent,) = desk.tick(after=11.0)
    assert sent == story
    assert desk.tick(closed(story), after=1.0) == [closed(story)]


def test_a_silence_can_be_ended_before_its_time(desk: Desk) -> None:
    """By its number."""
    silence(desk)
    story = opened("a", "r", "critical")
    assert desk.tick(story) == []
    with desk.journal.transaction():
        assert desk.mail.silences.expire(Expire(1, "bob"), desk.now).state == "done"
    assert desk.tick(after=1.0) == [story]


def test_a_silence_reaches_what_waits_already_and_spares_the_end_of_what_was_told(desk: Desk) -> None:
    """Who reads the channel must not see a story fire for ever."""
    told = opened("a", "told", "critical")
    desk.tick(told)
    desk.tick(opened("b", "waits"))
    silence(desk)
    assert desk.tick(after=60.0) == []
    assert desk.tick(update(told, "news"), after=1.0) == []
    assert desk.tick(after=999.0, minute=True) == []
    assert desk.tick(closed(told)) == [closed(told)]


def test_a_silence_that_fits_nothing_names_what_is_near(desk: Desk) -> None:
    """It is taken all the same: the run may be to come."""
    with desk.journal.transaction():
        desk.alert(opened("prod/one", "td3/loss"))
        found = desk.mail.silences.begin(Silence("prod/onne", T0 + 60, "ann", "w"), ["prod/one"], T0)
        rule = desk.mail.silences.begin(Silence("prod/*", T0 + 60, "ann", "w", "td3/los"), ["prod/one"], T0)
        to_come = Silence("prod/*", T0 + 60, "ann", "w", "td3/later")
        later = desk.mail.silences.begin(to_come, ["prod/one"], T0, ["td3/later"])
    assert "No rule" not in later.text
    assert "did you mean 'prod/one'?" in found.text
    assert "did you mean 'td3/loss'?" in rule.text


def test_a_warning_that_flaps_a_thousand_times_delays_no_critical_and_is_counted() -> None:
    """Twenty an hour, then a digest: none is lost without a word."""
    desk = Desk(Path(":memory:"))
    for n in range(1000):
        desk.tick(opened("a", f"flap{n % 50}", number=n // 50 + 1), after=31.0, minute=n % 2 == 0)
        if n % 100 == 50:
            (grave,) = desk.tick(opened(f"c{n}", f"boom{n}", "critical"))
            assert grave.severity == "critical"
    hours = 1000 * 31 / 3600
    mild = [m for m in desk.post.messages if m.severity == "warning"]
    assert len(mild) <= 21 * (hours + 1) + 1
    counted = desk.journal.rows(
        "SELECT state, count(*) AS n FROM messages WHERE key LIKE '%firing' GROUP BY state"
    )
    assert sum(row["n"] for row in counted) == 1010


def test_what_a_budget_holds_back_is_told_in_one_message_with_counts(tmp_path: Path) -> None:
    """Five minutes after the first, then once an hour; what still fires has its thread from then on."""
    desk = Desk(tmp_path / "j", replace(PEOPLE, wait=0.0, budget={"warning": (3, 3600.0)}))
    stories = [opened("a", "flap", number=n) for n in range(1, 21)]
    for story in stories[:19]:
        desk.tick(story, closed(story), after=1.0)
    desk.tick(stories[19], after=1.0)
    assert len([m for m in desk.post.messages if m.kind == "opened"]) == 3
    assert desk.tick(after=200.0, minute=True) == []
    (digest,) = desk.tick(after=100.0, minute=True)
    assert digest.title == "17 more were held back"
    assert "17 × warning flap in a" in digest.happened
    assert digest.facts == (Fact("flap", "firing"),)
    (end,) = desk.tick(closed(stories[19]), after=1.0)
    assert (end.thread, end.kind) == (digest.thread, "closed")
    desk.tick(opened("a", "flap", number=21), after=1.0)
    assert desk.tick(after=400.0, minute=True) == []
    assert len(desk.tick(after=3600.0, minute=True)) == 1
    desk.journal.close()


def crash(run: str, at: float, name: str = "job", code: str = "by SIGKILL") -> Message:
    return replace(
        notice(run, name, "critical", f"the job ended {code}", "python train.py ended", at), family="process"
    )


def died(run: str, number: int = 1) -> Message:
    return replace(opened(run, "generic/process_died", "fatal", number), labels={"area": "process"})


def test_a_crash_its_exit_code_and_its_restart_are_one_story(desk: Desk) -> None:
    """Whichever comes first; the alert's end is said in the same thread."""
    (first,) = desk.tick(crash("a", T0))
    (alert,) = desk.tick(died("a"), after=11.0)
    assert (alert.thread, alert.kind, alert.severity) == (first.thread, "update", "fatal")
    assert alert.happened.startswith("generic/process_died: ")
    restart = replace(
        notice("a", "started", "warning", "the job was started again", "pid 7", T0), family="process"
    )
    (again,) = desk.tick(restart, after=20.0)
    assert again.thread == first.thread
    (end,) = desk.tick(closed(died("a")), after=5.0)
    assert (end.thread, end.kind) == (first.thread, "closed")
    assert desk.tick(after=400.0) == []


def test_a_second_crash_is_another_story(desk: Desk) -> None:
    """Nobody is to find it at the end of a thread; nor is what happens to another run."""
    (first,) = desk.tick(crash("a", T0))
    (other,) = desk.tick(crash("b", T0, code="with exit code 1"))
    (second,) = desk.tick(crash("a", T0 + 100.0, code="with exit code 1"), after=100.0)
    assert len({first.thread, other.thread, second.thread}) == 3
    (alert,) = desk.tick(died("a"), after=11.0)
    assert alert.thread == second.thread
