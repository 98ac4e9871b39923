"""Everything that Apprise reaches: desktop, e-mail, Telegram, Teams, Discord and a hundred more.

Apprise says of a delivery only whether it worked, and why in a log line that may hold an address with its
key. So its logger is silenced here, and of each line nothing but the HTTP status is kept. Each address is
tried once a call, without Apprise's own pauses: when to try again is the outbox's business.
"""

# ruff: noqa: PLC0415  an extra that is imported where it is used: who does not want it needs not have it

from __future__ import annotations

import logging
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from notifier.base import DeliveryError, Permanent, Transient
from notifier.format import plain
from notifier.message import Message
from notifier.post import judge, variable
from notifier.tame import tame

if TYPE_CHECKING:
    from apprise import NotifyBase

MAX_BODY = 20_000
"""Characters that are handed to Apprise, which cuts them to what a service takes."""

_MEMORY = 1024
_TYPES = {"info": "info", "warning": "warning", "critical": "failure", "fatal": "failure"}
_STATUS = re.compile(r"\berror\s*[=:]\s*(\d{3})\b")
_BOUNDARY = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9]*://)")


@dataclass(frozen=True, slots=True)
class _Service:
    """One address. `name` is for reasons: `json (1 of 2)`."""

    name: str
    make: Callable[[], NotifyBase | None]


class AppriseNotifier:
    """Tells every address of one variable. Who has a message is not told it again when another had not."""

    def __init__(self, urls_env: str, *, environ: Mapping[str, str] = os.environ) -> None:
        """Read the addresses; nothing is sent.

        Args:
            urls_env: names the variable with Apprise's URLs, separated by commas or blanks.
            environ: the environment.

        Raises:
            Permanent: the library is missing, the variable is not set, or an address is none.
        """
        self.urls_env = urls_env
        found = variable("apprise", urls_env, environ)
        try:
            from apprise import Apprise
        except ImportError:
            missing = True
        else:
            missing = False
        if missing:
            text = "apprise: the library is not installed; say: pip install 'training-sentinel[apprise]'"
            raise Permanent(text, channel_dead=True)
        _silence()
        urls = [url for url in _BOUNDARY.split(found) if url]
        self._services = []
        for number, url in enumerate(urls, start=1):
            make = _maker(Apprise.instantiate, url)
            if make() is None:
                text = (
                    f"apprise: address {number} of {len(urls)} in {urls_env} is no address that Apprise takes"
                )
                raise Permanent(text, channel_dead=True)
            place = f" ({number} of {len(urls)})" if len(urls) > 1 else ""
            self._services.append(_Service(f"{url.partition('://')[0].lower()}{place}", make))
        self._told: OrderedDict[str, set[str]] = OrderedDict()

    def __repr__(self) -> str:
        return f"AppriseNotifier(urls_env={self.urls_env!r})"

    def send(self, message: Message, thread_ref: str | None) -> str:  # noqa: ARG002  most services know no threads
        """Tell every address that has not been told yet; see Notifier.send."""
        told = self._told.setdefault(message.key, set())
        while len(self._told) > _MEMORY:
            self._told.popitem(last=False)
        errors = []
        for service in self._services:
            if service.name in told:
                continue
            error = self._tell(service, message)
            if error is None:
                told.add(service.name)
            else:
                errors.append(error)
        passing = [error for error in errors if isinstance(error, Transient)]
        if passing:
            raise passing[0]
        del self._told[message.key]
        dead = [error for error in errors if isinstance(error, Permanent) and error.channel_dead]
        if len(dead) == len(self._services):
            raise dead[0]
        if errors:  # the others have it, so the channel lives
            raise Permanent(errors[0].reason)
        return message.key

    def edit(self, first_ref: str, message: Message) -> None:
        """Do nothing: what a service was told stands; the message that changed it was told too."""

    def _tell(self, service: _Service, message: Message) -> DeliveryError | None:
        """Make one attempt at one address. Errors are returned: raised here they would be chained."""
        plugin = service.make()
        if plugin is None:
            return Transient(f"apprise: {service.name} cannot be made")
        first, _, rest = tame(plain(message)[:MAX_BODY]).partition("\n")
        kind = "success" if message.kind == "closed" else _TYPES[message.severity]
        who = f"apprise: {service.name}"
        with _overheard() as lines:
            try:
                done = plugin.notify(body=rest or first, title=first, notify_type=kind, body_format="text")
            except Exception as error:  # noqa: BLE001  a hundred services' code; whatever it raises, this one failed
                return Transient(f"{who}: {type(error).__name__}")
        if done:
            return None
        statuses = [int(found[1]) for line in lines if (found := _STATUS.search(line))]
        if not statuses:
            return Transient(f"{who}: not delivered; try it with: apprise -vv URL")
        return judge(who, self.urls_env, statuses[-1], {}) or Transient(f"{who}: not delivered")


def _maker(instantiate: Callable[..., NotifyBase | None], url: str) -> Callable[[], NotifyBase | None]:
    """Return what makes a service anew for each call: one that is kept would sleep between two."""

    def make() -> NotifyBase | None:
        plugin = instantiate(url, suppress_exceptions=True)
        if plugin is not None:
            plugin.redirects = False  # it would carry the message to another server
            if "overflow=" not in url:
                plugin.overflow_mode = type(plugin.overflow_mode)("truncate")
        return plugin

    return make


def _silence() -> None:
    """Keep Apprise's log, in which addresses stand, from every handler but ours."""
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # below that it logs the path of each request


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collect what Apprise logs in this thread."""
    lines: list[str] = []
    thread = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                lines.append(record.getMessage())

    ear, logger = Ear(), logging.getLogger("apprise")
    logger.addHandler(ear)
    try:
        yield lines
    finally:
        logger.removeHandler(ear)
