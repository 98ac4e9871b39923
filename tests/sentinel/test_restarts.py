"""A job that dies is started again a bounded number of times, ever more slowly, and not for nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.restarts import Again, Budget, GiveUp, Life, RestartPolicy, after_failure

POLICY = RestartPolicy("failure", max=10, backoff=10, factor=2, limit=60, budget=Budget(100, 3600))


def lives(*furthest: int | None, every: float = 100.0) -> list[Life]:
    return [Life(i > 0, i * every, step) for i, step in enumerate(furthest)]


def delay(*furthest: int | None, policy: RestartPolicy = POLICY) -> float | None:
    found = after_failure(lives(*furthest), policy, 1e6)
    return found.delay if isinstance(found, Again) else None


def test_it_waits_longer_while_nothing_is_gained() -> None:
    """10, 20, 40, then the limit; a life that came further begins at 10 again."""
    assert [delay(*[7] * n) for n in (1, 2, 3, 4, 5)] == [10, 20, 40, 60, 60]
    assert delay(7, 7, 7, 90) == 10


def test_the_same_step_again_costs_double_and_ends() -> None:
    """With three restarts in all, a job that always dies at one step gets two; one that gets on, three."""
    three = RestartPolicy("failure", max=3, budget=Budget(100, 3600))
    assert isinstance(after_failure(lives(7, 7), three, 1e6), Again)
    ended = after_failure(lives(7, 7, 7), three, 1e6)
    assert isinstance(ended, GiveUp)
    assert "counts double" in ended.reason
    assert isinstance(after_failure(lives(7, 17, 27), three, 1e6), Again)
    assert isinstance(after_failure(lives(7, 17, 27, 37), three, 1e6), GiveUp)


def test_a_job_that_never_logs_gains_nothing() -> None:
    """Its first death may be chance; the next ones are not."""
    three = RestartPolicy("failure", max=3, budget=Budget(100, 3600))
    assert [isinstance(after_failure(lives(*[None] * n), three, 1e6), Again) for n in (1, 2, 3)] == [
        True,
        True,
        False,
    ]


def test_a_budget_is_of_a_time() -> None:
    """Three in an hour: the fourth within it ends the job, after the hour it would not."""
    policy = RestartPolicy("failure", max=100, budget=Budget(3, 3600))
    story = lives(1, 2, 3, 4)
    assert isinstance(after_failure(story, policy, 400.0), GiveUp)
    assert isinstance(after_failure(story, policy, 4000.0), Again)


@given(st.lists(st.one_of(st.none(), st.integers(0, 50)), min_size=1, max_size=60), st.integers(0, 12))
def test_it_always_ends(furthest: list[int | None], most: int) -> None:
    """Whatever a job does, it is started again at most `max` times."""
    policy = RestartPolicy("failure", max=most, budget=Budget(1000, 3600))
    story: list[Life] = []
    restarts = 0
    for index, step in enumerate(furthest):
        story.append(Life(index > 0, index * 10.0, step))
        found = after_failure(story, policy, index * 10.0 + 5)
        if isinstance(found, GiveUp):
            break
        assert 0 <= found.delay <= policy.limit
        restarts += 1
    assert restarts <= most


@pytest.mark.parametrize("text", ["5", "0 in 1h", "in 1h", "5 per 1h", 5, None])
def test_a_budget_is_written_one_way(text: object) -> None:
    """Anything else is a mistake, not a budget of some kind."""
    with pytest.raises(ValueError, match="5 in 1h"):
        Budget.split(text)
    assert Budget.split("5 in 1h") == (5, "1h")
