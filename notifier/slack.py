"""Slack through its Web API: a story is one message that is edited, with its details in the thread below.

One call is one attempt. slack_sdk would sleep in our thread to try again and print failures to standard
error, so its retries and its logger are switched off and a 429 becomes Transient(retry_after). The token is
named, never told: it is read from the environment, and no repr, reason, log line or exception from here
holds it.
"""

from __future__ import annotations

import http.client
import json
import logging
import math
import os
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError, SlackRequestError
from slack_sdk.web import SlackResponse

from notifier import picture, post
from notifier.base import DeliveryError, Permanent, Transient
from notifier.buttons import with_buttons
from notifier.format import blocks, fallback, neutral
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

_MOST_TITLE = 200  # characters; of alt_txt Slack takes 1000

DEFAULT_RETRY_AFTER = 30.0
"""Seconds to stay away after a 429 that does not say how long; Slack's own advice is at least one."""


SPACING = 1.2
"""Seconds between two calls in the long run: Slack takes a message a second in a channel, and 50 edits a
minute (docs.slack.dev/apis/web-api/rate-limits); one pace keeps both.
"""

BURST = 6
"""Calls that may come at once before that; Slack allows short bursts, and a story's change is three."""

NO_PICTURES = frozenset(
    {
        "file_type_not_allowed",
        "file_uploads_disabled",
        "file_uploads_except_images_disabled",
        "missing_scope",
        "not_allowed_token_type",
        "storage_limit_reached",
    }
)
"""Error codes after which no plot can be uploaded until a person changes something; texts can be sent."""


class _Client(WebClient):
    """slack_sdk's client, but no redirect is followed: urllib would take the token along to whatever host.

    Overrides slack_sdk's one place where a request is made; tests/notifier/test_slack.py would see it moved.
    """

    def _perform_urllib_http_request_internal(self, url: str, req: urllib.request.Request) -> dict[str, Any]:
        if not url.lower().startswith(("http://", "https://")):
            raise SlackRequestError("slack: base_url is no http:// or https:// address")
        handlers: list[urllib.request.BaseHandler] = [
            urllib.request.HTTPSHandler(context=self.ssl),
            post.Stay(),
        ]
        if self.proxy is not None:
            handlers.append(urllib.request.ProxyHandler({"http": self.proxy, "https": self.proxy}))
        with urllib.request.build_opener(*handlers).open(req, timeout=self.timeout) as answer:
            charset = answer.headers.get_content_charset() or "utf-8"
            return {"status": answer.status, "headers": answer.headers, "body": answer.read().decode(charset)}


class SlackNotifier:
    """Tells one Slack channel. Needs a bot token with the scope chat:write; files:write for plots.

    Attributes:
        spacing, burst: the pace that its calls keep; see notifier.base.Paced.
    """

    spacing = SPACING
    burst = BURST

    def __init__(
        self,
        channel: str,
        token_env: str = "SLACK_BOT_TOKEN",  # noqa: S107  the name of a variable, not a secret
        *,
        environ: Mapping[str, str] = os.environ,
        base_url: str = WebClient.BASE_URL,
        timeout: int = 10,
        buttons: bool = False,
    ) -> None:
        """Read the token; nothing is sent.

        Args:
            channel: id (`C0123456789`) or name (`#training`) of the channel.
            token_env: name of the environment variable that holds the bot token.
            environ: the environment.
            base_url: where the Web API is; a test puts its own server here.
            timeout: seconds, for connecting and for each wait for an answer.
            buttons: a question has buttons, since somebody hears them (notifier.slack_socket).

        Raises:
            Permanent: the variable is not set, or what it holds cannot be a token.
        """
        self.channel = channel
        self.token_env = token_env
        silent = logging.Logger("notifier.slack", level=logging.CRITICAL + 1)
        token = _token(token_env, environ)
        self._client = _Client(token, base_url, timeout, logger=silent, retry_handlers=[])
        # Hides the token in whatever came from outside; a closure, so that no attribute of ours holds it.
        self._hide: Callable[[str], str] = lambda text: text.replace(token, f"[{token_env}]")

        self._buttons = buttons
        self._no_pictures = False  # told once; till the next start none is tried again
        self._timeout = timeout

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
            reply = {**call, "thread_ts": thread, "reply_broadcast": _is_for_all(message)}
            answer, error = self._attempt("chat.postMessage", reply, message)
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

    def attach(self, story_ref: str, message: Message) -> None:
        """Upload a message's plot into its story's thread; see Illustrating.attach.

        Where that can never work (no scope files:write, no matplotlib), it is raised once, and after that
        nothing is done.
        """
        if self._no_pictures or message.plot is None:
            return
        channel, thread = _parts(story_ref)
        try:
            png = picture.render(message.plot)
        except ImportError:
            self._no_pictures = True
            raise Permanent(picture.LACKING) from None
        except ValueError as nothing:
            raise Permanent(str(nothing)) from None
        error = self._upload(png, channel, thread, message)
        if isinstance(error, Permanent):
            self._no_pictures = isinstance(error, _Refused) and error.code in NO_PICTURES
            raise Permanent(error.reason)
        if error is not None:
            raise error

    def _upload(self, png: bytes, channel: str, thread: str, message: Message) -> DeliveryError | None:
        """Take Slack's three steps: ask for an address, send the bytes there, say where the file belongs."""
        title = neutral(f"{message.run} · {message.title}")[:_MOST_TITLE]
        asked = {"filename": "plot.png", "length": len(png), "alt_txt": title}
        where, error = self._call("files.getUploadURLExternal", asked, form=True)
        if error is not None or where is None:
            return error
        try:
            address = post.Endpoint(
                "slack", "Slack's answer", str(where["upload_url"]), timeout=self._timeout
            )
        except Permanent as wrong:
            return wrong
        answer = address.post(png, {"Content-Type": "application/octet-stream"})
        error = answer if isinstance(answer, Transient) else address.judge(answer)
        if error is not None:
            return error
        files = json.dumps([{"id": str(where["file_id"]), "title": title}])
        done = {"files": files, "channel_id": channel, "thread_ts": thread}
        return self._call("files.completeUploadExternal", done, form=True)[1]

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

    def call(self, method: str, body: Mapping[str, Any], *, form: bool = False) -> Mapping[str, Any]:
        """Make one call of the Web API that is no message of the outbox: an answer to somebody who asked.

        Raises:
            Transient: it may work later.
            Permanent: it will not.
        """
        answer, error = self._call(method, body, form=form)
        if error is not None:
            raise error
        assert answer is not None, "a call ends in an answer or an error"
        return answer

    def _attempt(
        self, method: str, call: Mapping[str, Any], message: Message
    ) -> tuple[Mapping[str, Any] | None, DeliveryError | None]:
        """Send a message with its blocks, or as plain text if Slack takes no blocks."""
        # parse none: chat.update's own default would link names that chat.postMessage leaves alone.
        body = {**call, "text": fallback(message), "parse": "none", "link_names": False}
        shown = with_buttons(blocks(message), message) if self._buttons else blocks(message)
        answer, error = self._call(method, {**body, "blocks": shown})
        if isinstance(error, _Refused) and error.code in BAD_BLOCKS:
            return self._call(method, {**body, "blocks": []})
        return answer, error

    def _call(
        self, method: str, body: Mapping[str, Any], *, form: bool = False
    ) -> tuple[Mapping[str, Any] | None, DeliveryError | None]:
        """Make one call. Errors are returned: raised here, they would be chained to one with the token."""
        try:
            if form:
                answer = self._client.api_call(method, params=dict(body)).data
            else:
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
        if not isinstance(answer, dict) or (
            method.startswith("chat.") and not (answer.get("ts") or answer.get("message_ts"))
        ):
            return None, Transient(f"slack: {method}: the answer names no message")
        if method.endswith("getUploadURLExternal") and not (
            answer.get("upload_url") and answer.get("file_id")
        ):
            return None, Transient(f"slack: {method}: the answer names no file")
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
            return _Refused(f"{where}: {said}; {self._hint(code, body)}", code, channel_dead=True)
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


def _is_for_all(message: Message) -> bool:
    """Whether a reply is to be seen outside of its thread: a repetition, or a question."""
    return message.again or (message.ask is not None and message.ask.first)


class _Refused(Permanent):
    """Slack will not take this; `code` says why."""

    def __init__(self, reason: str, code: str, *, channel_dead: bool = False) -> None:
        super().__init__(reason, channel_dead=channel_dead)
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
