"""From [notify.NAME] to notifiers: opens every channel that is configured.

The one fact to hold: a channel that cannot be opened (a variable that is not set, a library that is missing)
is left out and told; it keeps neither the sentinel nor another channel from starting.
"""

# ruff: noqa: PLC0415  imported where it is used: who tells nobody by Slack does not pay for its library

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from notifier import installed
from notifier.base import Notifier, Permanent
from notifier.console import ConsoleNotifier
from notifier.format import neutral
from sentinel.channel_tables import (
    AlertmanagerTable,
    AppriseTable,
    Channel,
    ConsoleTable,
    InstalledTable,
    NotifyTable,
    SlackTable,
    WebhookTable,
)


def open_channels(
    notify: NotifyTable, say: Callable[[str], object] = lambda text: print(text, file=sys.stderr)
) -> Mapping[str, Notifier]:
    """Open the configured channels.

    Args:
        notify: which there are. say: told of each one that cannot be opened, in one line.

    Returns:
        Notifiers by the names of their channels.
    """
    channels: dict[str, Notifier] = {}
    for name, table in notify.channels.items():
        try:
            channels[name] = open_channel(table)
        except Permanent as error:
            say(neutral(f"sentinel: {error.reason}; {name} is not told, the other channels are"))
    return channels


def open_channel(table: Channel) -> Notifier:
    """Make the notifier of one channel; nothing is sent.

    Raises:
        Permanent: it cannot be made; the reason is for people, and holds no secret.
    """
    match table:
        case ConsoleTable():
            return ConsoleNotifier(sys.stderr)
        case SlackTable():
            from notifier.slack import SlackNotifier

            buttons = table.listens and bool(table.approvers)
            if table.base_url is None:
                return SlackNotifier(table.channel, table.token_env, buttons=buttons)
            return SlackNotifier(table.channel, table.token_env, base_url=table.base_url, buttons=buttons)
        case WebhookTable():
            from notifier.webhook import WebhookNotifier

            return WebhookNotifier(table.url_env, table.secret_env, table.token_env)
        case AppriseTable():
            from notifier.apprise_ import AppriseNotifier

            return AppriseNotifier(table.urls_env)
        case AlertmanagerTable():
            return _alertmanager(table)
        case InstalledTable():
            return installed.make(table.kind, table.options)


def _alertmanager(table: AlertmanagerTable) -> Notifier:
    from notifier.alertmanager import AlertmanagerNotifier
    from notifier.post import variable

    if table.url is not None:
        url, named = table.url.get_secret_value(), "url"
    else:
        assert table.url_env is not None, "the table has one of the two"
        url, named = variable("alertmanager", table.url_env, os.environ), table.url_env
    return AlertmanagerNotifier(url, named=named, token_env=table.token_env, labels=table.labels)
