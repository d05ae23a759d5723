"""Concurrent requests; when one fails, no other is lost."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Asked = TypeVar("Asked")
Found = TypeVar("Found")


def side_by_side(work: Callable[[Asked], Found], asked: list[Asked], concurrency: int) -> Iterator[tuple[int, Found]]:
    """Yield the index and the result of each request as they complete, with `concurrency` in flight.

    After a failure or an interruption no new request starts; those in flight, which cost money, are still yielded.

    Raises:
        Whatever `work` raises first, once no request is in flight.
    """
    failure: BaseException | None = None
    pool = ThreadPoolExecutor(concurrency)
    try:
        places = {pool.submit(work, one): place for place, one in enumerate(asked)}
        waiting = set(places)
        while waiting:
            try:
                for future in as_completed(waiting):
                    waiting.discard(future)
                    yield places[future], future.result()
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(failure, KeyboardInterrupt):
                    raise  # pressed twice
                failure = failure or error
                waiting = {future for future in waiting if not future.cancel()}
    finally:
        pool.shutdown(cancel_futures=True)
    if failure:
        raise failure
