"""Many requests at once, none lost when one fails."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Asked = TypeVar("Asked")
Found = TypeVar("Found")


def side_by_side(work: Callable[[Asked], Found], asked: list[Asked], concurrency: int) -> Iterator[tuple[int, Found]]:
    """Yield the place and the result of each, as they come, with so many under way at once.

    After a failure or an interruption nothing new is begun; what is under way, which costs money, still counts.

    Raises:
        Whatever `work` raises first, once nothing is under way any more.
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
