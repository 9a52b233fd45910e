"""Ahead of who asks: the next few things are fetched, or worked on, in threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    chunks: Sequence[Sequence[Item]], read: Callable[[Item], Result], n_threads: int
) -> Generator[list[Result]]:
    """Yield what `read` returns for the items of each chunk, in order.

    While the caller works on one chunk, threads read the next.

    Args:
        chunks: of items.
        read: called once for each, in any order, in several threads; what it raises is raised when
            its chunk is due.
        n_threads: that read.
    """
    pool = ThreadPoolExecutor(n_threads, "read")
    try:
        waiting: list[Future[Result]] = []
        for n in range(len(chunks) + 1):
            following = chunks[n] if n < len(chunks) else ()
            due, waiting = waiting, [pool.submit(read, item) for item in following]
            if n:
                yield [future.result() for future in due]
    finally:
        # Who stops half-way does not wait for what nobody began to read.
        pool.shutdown(cancel_futures=True)


def work_ahead(
    items: Iterable[Item], work: Callable[[Item], Result], n_threads: int
) -> Generator[Result]:
    """Yield what `work` returns for each item, in order, with `n_threads` items in work at a time.

    Args:
        items: asked for in the caller's thread, one after the other.
        work: called in several threads; what it raises is raised when its item is due, and what
            `items` raises when everything before it was yielded.
        n_threads: that work.
    """
    pool = ThreadPoolExecutor(n_threads, "work")
    try:
        waiting: deque[Future[Result]] = deque()
        following = iter(items)
        end: Exception | None = None
        while end is None:
            try:
                waiting.append(pool.submit(work, next(following)))
            except Exception as exc:  # noqa: BLE001 - raised below, when it is due
                end = exc
            while waiting and (end is not None or len(waiting) == n_threads):
                yield waiting.popleft().result()
        if not isinstance(end, StopIteration):
            raise end
    finally:
        pool.shutdown(cancel_futures=True)
