"""Which channel hears what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from notifier.contract import sample
from notifier.route import Route, channels_for, why_not

MESSAGE = replace(sample(), severity="warning", rule="generic/nonfinite[train/loss]", run="team/a/seed1")


@pytest.mark.parametrize(
    ("route", "told"),
    [
        (Route("c"), True),
        (Route("c", at_least="warning"), True),
        (Route("c", at_least="critical"), False),
        (Route("c", rules=("generic/*",)), True),
        (Route("c", rules=("generic/nonfinite",)), True),
        (Route("c", rules=("td3/*",)), False),
        (Route("c", rules=("td3/*", "*/nonfinite*")), True),
        (Route("c", rules=()), False),
        (Route("c", runs=("team/*",)), True),
        (Route("c", runs=("team/*/seed2",)), False),
        (Route("c", at_least="critical", runs=("*",)), False),
    ],
)
def test_a_route_asks_for_severity_rule_and_run_together(route: Route, told: bool) -> None:
    """All conditions must hold, and `*` crosses folders."""
    assert bool(channels_for(MESSAGE, [route])) is told


def test_a_message_about_the_sentinel_itself_passes_every_glob() -> None:
    """It has neither rule nor run, and must not be lost because of it."""
    own = replace(sample("notice"), rule="", run="")
    assert channels_for(own, [Route("c", rules=("td3/*",), runs=("a",))]) == ("c",)


def test_a_channel_is_told_once_in_the_order_of_the_routes() -> None:
    """Two routes to one channel are two reasons, not two messages."""
    assert channels_for(MESSAGE, [Route("b"), Route("a"), Route("b", at_least="warning")]) == ("b", "a")


def test_a_misspelt_severity_is_refused() -> None:
    """A route that matches nothing would be found out in the night."""
    with pytest.raises(ValueError, match="at_least is 'crit', not one of info"):
        Route("c", at_least="crit")


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        ({}, ""),
        ({"team": "a"}, ""),
        ({"team": "[ab]", "tier": "*"}, ""),
        ({"team": "b"}, "its label team is a, not b"),
        ({"team": "a", "cluster": "*"}, "it has no label cluster"),
    ],
)
def test_a_route_may_ask_for_labels(match: dict[str, str], reason: str) -> None:
    """All of them have to fit, and who is not told learns why."""
    message = replace(MESSAGE, labels={"team": "a", "tier": "1"})
    assert why_not(Route("c", match=match), message) == reason
    own = replace(message, rule="", run="", labels={})
    assert why_not(Route("c", match=match), own) == "", "about the sentinel itself"
