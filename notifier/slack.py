"""Slack through its Web API: a story is one message that is edited, with its details in the thread below.

One call is one attempt. slack_sdk would sleep in our thread to try again and print failures to standard
error, so its retries and its logger are switched off and a 429 becomes Transient(retry_after). The token is
named, never told: it is read from the environment, and no repr, reason, log line or exception from here
holds it.
"""

from __future__ import annotations

import http.client
import logging
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import SlackResponse

from notifier import post
from notifier.base import DeliveryError, Permanent, Transient
from notifier.format import blocks, fallback
from notifier.message import Message

DEAD = frozenset(
    {
        "access_denied",
        "account_inactive",
        "as_user_not_supported",
        "channel_is_archived",
        "channel_not_found",
        "channel_type_not_supported",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "feature_not_enabled",
        "invalid_auth",
        "invalid_channel",
        "is_archived",
        "is_inactive",
        "method_deprecated",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "not_in_channel",
        "org_login_required",
        "restricted_action",
        "restricted_action_non_threadable_channel",
        "restricted_action_read_only_channel",
        "restricted_action_thread_only_channel",
        "team_access_not_granted",
        "team_not_found",
        "token_expired",
        "token_revoked",
        "two_factor_setup_required",
        "user_is_restricted",
    }
)
"""Error codes after which nothing can pass until a person changes the token, the app or the channel."""

PASSING = frozenset(
    {
        "external_channel_migrating",
        "fatal_error",
        "internal_error",
        "message_limit_exceeded",
        "rate_limited",
        "ratelimited",
        "request_timeout",
        "rollup_error",
        "service_unavailable",
        "team_added_to_org",
    }
)
"""Error codes after which the same call may work later. Any other code is Slack's last word on a message."""

BAD_BLOCKS = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})
"""Error codes after which the message is sent as plain text: told plainly is better than not told."""

NO_THREAD = frozenset({"thread_not_found", "cannot_reply_to_message", "message_not_found", "thread_locked"})
"""Error codes of a reply whose story is gone or closed to replies: the message is sent on its own."""

DEFAULT_RETRY_AFTER = 30.0
"""Seconds to stay away after a 429 that does not say how long; Slack's own advice is at least one."""


class SlackNotifier:
    """Tells one Slack channel. Needs a bot token with the scope chat:write."""

    def __init__(
        self,
        channel: str,
        token_env: str = "SLACK_BOT_TOKEN",  # noqa: S107  the name of a variable, not a secret
        *,
        environ: Mapping[str, str] = os.environ,
        base_url: str = WebClient.BASE_URL,
        timeout: int = 10,
    ) -> None:
        """Read the token; nothing is sent.

        Args:
            channel: id (`C0123456789`) or name (`#training`) of the channel.
            token_env: name of the environment variable that holds the bot token.
            environ: the environment.
            base_url: where the Web API is; a test puts its own server here.
            timeout: seconds, for connecting and for each wait for an answer.

        Raises:
            Permanent: the variable is not set, or what it holds cannot be a token.
        """
        self.channel = channel
        self.token_env = token_env
        silent = logging.Logger("notifier.slack", level=logging.CRITICAL + 1)
        token = _token(token_env, environ)
        self._client = WebClient(token, base_url, timeout, logger=silent, retry_handlers=[])
        # Hides the token in whatever came from outside; a closure, so that no attribute of ours holds it.
        self._hide: Callable[[str], str] = lambda text: text.replace(token, f"[{token_env}]")

    def __repr__(self) -> str:
        return f"SlackNotifier(channel={self.channel!r}, token_env={self.token_env!r})"

    def send(self, message: Message, thread_ref: str | None) -> str:
        """Post a message, into its story's thread if there is one; see Notifier.send.

        Returns:
            "CHANNEL_ID:TS", which is what an edit and a reply need.
        """
        channel, thread = (self.channel, None) if thread_ref is None else _parts(thread_ref)
        call = {"channel": channel, "unfurl_links": False, "unfurl_media": False, "mrkdwn": False}
        if thread is not None:
            answer, error = self._attempt("chat.postMessage", {**call, "thread_ts": thread}, message)
            if isinstance(error, _Refused) and error.code in NO_THREAD:
                answer, error = self._attempt("chat.postMessage", call, message)
        else:
            answer, error = self._attempt("chat.postMessage", call, message)
        if error is not None:
            raise error
        assert answer is not None, "an attempt ends in an answer or an error"
        return f"{answer.get('channel') or channel}:{answer.get('ts')}"

    def edit(self, first_ref: str, message: Message) -> None:
        """Rewrite a story's first message; see Notifier.edit."""
        channel, ts = _parts(first_ref)
        _, error = self._attempt("chat.update", {"channel": channel, "ts": ts}, message)
        if error is not None:
            raise error

    def check(self) -> str:
        """Ask Slack who the token is, sending nothing: `bot in workspace`.

        Raises:
            Transient: Slack cannot be reached.
            Permanent: the token is refused.
        """
        answer, error = self._call("auth.test", {})
        if error is not None:
            raise error
        assert answer is not None, "a call ends in an answer or an error"
        return f"{answer.get('user', '?')} in {answer.get('team', '?')}"

    def _attempt(
        self, method: str, call: Mapping[str, Any], message: Message
    ) -> tuple[Mapping[str, Any] | None, DeliveryError | None]:
        """Send a message with its blocks, or as plain text if Slack takes no blocks."""
        # parse none: chat.update's own default would link names that chat.postMessage leaves alone.
        body = {**call, "text": fallback(message), "parse": "none", "link_names": False}
        answer, error = self._call(method, {**body, "blocks": blocks(message)})
        if isinstance(error, _Refused) and error.code in BAD_BLOCKS:
            return self._call(method, {**body, "blocks": []})
        return answer, error

    def _call(
        self, method: str, body: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any] | None, DeliveryError | None]:
        """Make one call. Errors are returned: raised here, they would be chained to one with the token."""
        try:
            answer = self._client.api_call(method, json=dict(body)).data
        except SlackApiError as error:
            return None, self._judge(method, error.response)
        except SlackClientError as error:
            return None, Permanent(f"slack: {method}: {type(error).__name__}", channel_dead=True)
        except (OSError, http.client.HTTPException) as error:
            return None, Transient(self._hide(f"slack: {method}: no answer ({_words(error)})"))
        except (ValueError, AttributeError, TypeError) as error:
            # What slack_sdk raises on a body that is no JSON object: a proxy's page, or half an answer.
            return None, Transient(f"slack: {method}: the answer cannot be read ({type(error).__name__})")
        if not isinstance(answer, dict) or (method.startswith("chat.") and not answer.get("ts")):
            return None, Transient(f"slack: {method}: the answer names no message")
        return answer, None

    def _judge(self, method: str, response: SlackResponse) -> DeliveryError:
        """Turn an answer that is not ok into Transient or Permanent."""
        status = response.status_code
        body = response.data if isinstance(response.data, dict) else {}
        code = str(body.get("error") or "")
        if status == http.client.TOO_MANY_REQUESTS or code in {"ratelimited", "rate_limited"}:
            wait = _retry_after(response.headers)
            return Transient(f"slack: {method}: rate limit", DEFAULT_RETRY_AFTER if wait is None else wait)
        where = f"slack: {method}" if status == http.client.OK else f"slack: {method}: HTTP {status}"
        said = self._hide(code)[:80] if code.replace("_", "").isalnum() else "an answer that is not Slack's"
        if code in DEAD:
            return Permanent(f"{where}: {said}; {self._hint(code, body)}", channel_dead=True)
        if code in PASSING or status >= http.client.INTERNAL_SERVER_ERROR or status in post.PASSING:
            return Transient(f"{where}: {said}", _retry_after(response.headers))
        if status == http.client.OK and not code.replace("_", "").isalnum():
            return Transient(f"{where}: {said}")
        if (status in post.DEAD or 300 <= status < 400) and code not in NO_THREAD:
            return Permanent(
                f"{where}: {said}; look at the network's proxy and at [notify.slack]", channel_dead=True
            )
        return _Refused(f"{where}: {said}", code)

    def _hint(self, code: str, body: Mapping[str, Any]) -> str:
        if code == "missing_scope":
            scope = self._hide(str(body.get("needed", "chat:write")))[:80]
            return f"give the app the scope {scope} and install it again"
        if code in {"not_in_channel", "channel_not_found"}:
            return f"is channel {self.channel!r} right? Invite the app there"
        if "archived" in code or "restricted" in code:
            return f"nobody can post to channel {self.channel!r}; name another in [notify.slack]"
        return f"put a valid bot token into {self.token_env}"


class _Refused(Permanent):
    """Slack will not take this message in this form; `code` says why."""

    def __init__(self, reason: str, code: str) -> None:
        super().__init__(reason)
        self.code = code


def _token(name: str, environ: Mapping[str, str]) -> str:
    token = environ.get(name, "").strip()
    if not token:
        raise Permanent(f"slack: {name} is not set; put a bot token (xoxb-…) into it", channel_dead=True)
    # Checked here, because http.client puts a header that it refuses, token and all, into its exception.
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise Permanent(f"slack: what {name} holds is not a token (xoxb-…)", channel_dead=True)
    return token


def _parts(ref: str) -> tuple[str, str]:
    channel, separator, ts = ref.rpartition(":")
    if not separator:
        raise Permanent(f"slack: {ref!r} is not a reference to a message here")
    return channel, ts


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, http.client.HTTPException):  # its text may hold part of a proxy's address
        return type(reason).__name__
    return f"{type(reason).__name__}: {reason}" if str(reason) else type(reason).__name__


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    """Read the header in seconds; None if it is missing or makes no sense. Its case is the server's."""
    for name, value in headers.items():
        if str(name).lower() == "retry-after":
            try:
                seconds = float(value)
            except (TypeError, ValueError):
                return None
            return seconds if math.isfinite(seconds) and seconds >= 0 else None
    return None
