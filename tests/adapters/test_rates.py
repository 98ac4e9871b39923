"""A learning rate that was scaled stays scaled, whatever schedule it is under."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.optim import lr_scheduler as lr  # noqa: E402 - after the skip

from sentinel.adapters import rates  # noqa: E402

SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "none": lambda _: None,
    "lambda": lambda o: lr.LambdaLR(o, lambda step: 1 - step / 100),
    "step": lambda o: lr.StepLR(o, 7),
    "exponential": lambda o: lr.ExponentialLR(o, 0.9),
    "cosine": lambda o: lr.CosineAnnealingLR(o, 30),
    "restarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 8),
    "one cycle": lambda o: lr.OneCycleLR(o, 0.3, total_steps=60),
    "cyclic": lambda o: lr.CyclicLR(o, 0.01, 0.1, step_size_up=5),
    "sequence": lambda o: lr.SequentialLR(
        o, [lr.LinearLR(o, 0.1, total_iters=5), lr.CosineAnnealingLR(o, 30)], milestones=[15]
    ),
    "chain": lambda o: lr.ChainedScheduler([lr.ConstantLR(o, 0.5, 15), lr.ExponentialLR(o, 0.9)]),
}


def run(schedule: str, factor: float) -> list[float]:
    """Rates of 30 steps; scaled after the tenth."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    scheduler = SCHEDULES[schedule](optimizer)
    seen = []
    for step in range(30):
        if step == 10:
            rates.scale([optimizer], [] if scheduler is None else [scheduler], factor)
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return seen


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # SequentialLR's own
def test_every_later_rate_is_scaled(schedule: str) -> None:
    """Before the tenth step nothing has changed; from there each is a quarter of what it would be."""
    plain, scaled = run(schedule, 1.0), run(schedule, 0.25)
    assert scaled[:10] == plain[:10]
    assert scaled[10:] == pytest.approx([rate * 0.25 for rate in plain[10:]])
