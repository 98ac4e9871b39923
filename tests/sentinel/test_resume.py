"""The resume command: split first, filled in afterwards, and never read by a shell."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.resume import ResumeTemplate, Setting, parse_style, resolve

TEXT = "python train.py --resume {checkpoint} {overrides}"


def made(text: str = TEXT, style: str = "--{name} {value}", **changed: object) -> list[str]:
    values: dict[str, object] = {
        "checkpoint": "/c/40",
        "step": 40,
        "run": "/r",
        "overrides": {},
        "command": ["a"],
    }
    template = ResumeTemplate.parse(text, style)
    return template.render(**{**values, **changed})  # type: ignore[arg-type]  # the names are those of render


def test_a_remedy_becomes_options() -> None:
    """In the order of their names, each in the declared style."""
    remedy = {"tau": 0.005, "lr": 1e-4, "amsgrad": True}
    assert made(overrides=remedy)[3:] == shlex.split("/c/40 --amsgrad true --lr 0.0001 --tau 0.005")
    assert made(style="{name}={value}", overrides=remedy)[4:] == ["amsgrad=true", "lr=0.0001", "tau=0.005"]
    assert made("{command} -c {checkpoint} --at {step:08d}", command=["x", "y z"]) == [
        "x",
        "y z",
        "-c",
        "/c/40",
        "--at",
        "00000040",
    ]


@given(st.text(max_size=40), st.text(max_size=20))
def test_whatever_is_filled_in_stays_one_word(path: str, value: str) -> None:
    """Blanks, quotes, braces, dollars and semicolons are only characters."""
    assert made(checkpoint=path, overrides={"lr": value}) == [
        "python",
        "train.py",
        "--resume",
        path,
        "--lr",
        value,
    ]


@given(st.text(max_size=60), st.text(max_size=30))
def test_any_text_is_a_template_or_a_mistake_in_words(text: str, style: str) -> None:
    """Never another error, and what parses can be filled in."""
    try:
        template = ResumeTemplate.parse(text, style)
    except ValueError:
        return
    template.render(checkpoint="/c", step=1, run="/r", overrides={"lr": 1.0}, command=["a"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("python train.py {chekpoint}", r"nothing is named \{chekpoint\}; did you mean 'checkpoint'\?"),
        ("python train.py", r"names no \{checkpoint\}"),
        ("python 'train.py {checkpoint}", "split into words"),
        ("a {checkpoint} --with={overrides}", "a word by itself"),
        ("a {checkpoint.parent}", "no plain name"),
        ("a {checkpoint:>10}", r"only \{step\}"),
        ("a {checkpoint} {step:.1f}", "formats no step"),
        ("", "empty"),
    ],
)
def test_a_mistake_is_found_when_it_is_read(text: str, says: str) -> None:
    """Not in the night in which the run dies."""
    with pytest.raises(ValueError, match=says):
        ResumeTemplate.parse(text)


def test_a_style_names_both() -> None:
    """Else values would go to nobody."""
    with pytest.raises(ValueError, match=r"no \{value\}"):
        parse_style("--{name}")
    with pytest.raises(ValueError, match="did you mean 'value'"):
        parse_style("--{name} {valu}")


@pytest.mark.parametrize(
    ("wanted", "is_"),
    [
        ({"lr": "x0.5", "tau": 0.005}, {"lr": 0.05, "tau": 0.005}),
        ({"mode": "slow"}, {"mode": "slow"}),
        ({"beta": "x0.5"}, "beta = 'x0.5' needs the present value of beta"),
        ({"lr": 2.0}, "lr = 2 lies outside of its bounds"),
        ({"--resume": 1}, "no name of a parameter"),
    ],
)
def test_a_remedy_becomes_absolute_or_a_reason(wanted: dict[str, Setting], is_: object) -> None:
    """A relative value needs a present one; bounds hold; a name can be taken for nothing else."""
    found = resolve(wanted, {"lr": 0.1}, {"lr": (0.001, 1.0)})
    assert found == is_ or (isinstance(found, str) and isinstance(is_, str) and is_ in found)
