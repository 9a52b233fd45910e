"""Reading ahead: the next few things are fetched while somebody works on these."""

from collections.abc import Callable, Generator, Sequence
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
