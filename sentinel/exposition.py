"""`/metrics` for Prometheus: a small server in threads of its own.

A scraper that hangs holds a thread of the server and nothing else: what it asked for was read and rendered
before the first byte went out, and the main thread is never asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from sentinel.measures import Family
from sentinel.vitals import Ticks

TIMEOUT = 5.0
"""Seconds for which a scraper may keep a thread waiting, for each read and each write."""

AT_ONCE = 8
"""Scrapers that are served at the same time; one more is asked to come again."""


class Exposition:
    """Serves what `measure` returns, until `close`."""

    def __init__(
        self, host: str, port: int, measure: Callable[[], Iterable[Family]], ticks: Callable[[], Ticks]
    ) -> None:
        """Listen; port 0 takes any free one.

        Args:
            host, port: where. measure: called for each scrape, in the scrape's thread. ticks: as well.

        Raises:
            OSError: the address cannot be had.
        """
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(measure, ticks))

        class Handler(_Handler):
            measured = registry
            seats = threading.BoundedSemaphore(AT_ONCE)

        class Server(ThreadingHTTPServer):
            address_family = AF_INET6 if ":" in host else AF_INET
            daemon_threads = True
            request_queue_size = 64
            block_on_close = False  # a scraper that hangs must not keep the sentinel from ending

            def handle_error(self, request: object, client_address: object) -> None:
                """Say nothing: a scraper that went away is no news."""

        self._server = Server((host, port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Serve nobody any more."""
        self._server.shutdown()
        self._server.server_close()


class _Collected(Collector):
    def __init__(self, measure: Callable[[], Iterable[Family]], ticks: Callable[[], Ticks]) -> None:
        self._measure = measure
        self._ticks = ticks

    def collect(self) -> Iterator[Metric]:
        for family in self._measure():
            if family.samples:
                metric = Metric(family.name.removesuffix("_total"), family.says, family.kind)
                for labels, value in family.samples:
                    metric.add_sample(family.name, dict(labels), value)
                yield metric
        ticks = self._ticks()
        yield HistogramMetricFamily(
            "sentinel_tick_seconds",
            "how long a tick took",
            buckets=ticks.cumulative,
            sum_value=ticks.seconds,
        )


class _Handler(BaseHTTPRequestHandler):
    measured: CollectorRegistry
    seats: threading.BoundedSemaphore
    timeout = TIMEOUT
    server_version = "sentinel"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "there is /metrics, and nothing else")
            return
        if not self.seats.acquire(blocking=False):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "too many at once; come again")
            return
        try:
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            body = encode(self.measured)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        finally:
            self.seats.release()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Say nothing: a line for each scrape would be thousands a day."""
