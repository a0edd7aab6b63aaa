"""The requests per minute of paid packages, also counted in Redis, to refuse floods early.

The store remains the source of truth: it counts every request that passes here. Hosts that share a
Redis keep a flooding client away from the row locks of their shared database. Redis never counts
more than the store, so that it refuses no request that the store would admit. If it does not
answer, only the store decides.
"""

from __future__ import annotations

import logging
import time
from math import ceil

from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from plateblur.accounts.types import PAID_REQUESTS_PER_WINDOW, PAID_WINDOW, PaidQuotaError

ANSWER_S = 0.25  # Source: ours; a Redis slower than the database is no help.
LEFT_ALONE_S = 5.0  # Source: ours; limits the time spent on an unreachable Redis to 5 %.

_LIMIT = RateLimitItemPerSecond(PAID_REQUESTS_PER_WINDOW, int(PAID_WINDOW.total_seconds()))

_log = logging.getLogger(__name__)


class MinuteWindow:
    """The last 60 s of each account in one Redis; thread-safe, one per process."""

    def __init__(
        self, url: str, *, answer_s: float = ANSWER_S, left_alone_s: float = LEFT_ALONE_S
    ) -> None:
        """Make the client; nothing is connected yet.

        Args:
            url: `redis://[:password@]host:port/number`, `rediss://...` or `redis+unix:///socket`.
            answer_s: the longest wait for an answer.
            left_alone_s: for so long a Redis that failed is not asked.

        Raises:
            ValueError: another kind of URL.
        """
        if not url.startswith(("redis://", "rediss://", "redis+unix://")):
            raise ValueError(
                "the minute's url must be of Redis: redis://, rediss://, redis+unix://"
            )
        try:
            self._redis = Redis.from_url(
                url.replace("redis+unix://", "unix://", 1),
                socket_timeout=answer_s,
                socket_connect_timeout=answer_s,
                retry=Retry(NoBackoff(), retries=0),  # it would wait seconds by default
            )
        except ValueError as error:
            raise ValueError("the minute's url could not be read") from error
        self._storage = RedisStorage(
            url,
            connection_pool=self._redis.connection_pool,
            wrap_exceptions=True,
            key_prefix="plateblur",
        )
        self._window = MovingWindowRateLimiter(self._storage)
        self._left_alone_s = left_alone_s
        self._ask_again_at = 0.0

    def enter(self, account_id: int) -> bool:
        """Count one request of the account; return whether Redis did, so that it can be uncounted.

        Raises:
            PaidQuotaError: the minute is used up; nothing was counted.
        """
        if time.monotonic() < self._ask_again_at:
            return False
        try:
            if self._window.hit(_LIMIT, str(account_id)):
                return True
            resets_at = self._window.get_window_stats(_LIMIT, str(account_id)).reset_time
        except StorageError:
            self._leave_alone()
            return False
        raise PaidQuotaError(
            f"The package allows {PAID_REQUESTS_PER_WINDOW} requests in 60 seconds.",
            retry_after_s=max(1, ceil(resets_at - time.time())),
        )

    def leave(self, account_id: int) -> None:
        """Uncount the account's newest request; the count is the same whichever it is."""
        key = self._storage.prefixed_key(_LIMIT.key_for(str(account_id)))
        try:
            self._redis.lpop(key)
        except RedisError:
            self._leave_alone()  # it stays counted for a minute

    def close(self) -> None:
        """Close every connection."""
        self._redis.connection_pool.disconnect()

    def _leave_alone(self) -> None:
        self._ask_again_at = time.monotonic() + self._left_alone_s
        _log.warning("redis does not answer; the store counts the minute alone")
