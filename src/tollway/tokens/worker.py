"""The one thread that has counts made: jobs wait in a bounded queue, and one nobody wants is dropped. It only waits for
the process that counts.

The thread begins with the first job. It knows no family and makes no estimate; what fails is logged and answered with
None.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from queue import SimpleQueue

from tollway.tokens.contents import Contents, GivenUp, tokens_in
from tollway.tokens.tokenizer import Tokenizer, TokenizerGone
from tollway.tokens.vocabulary import FOLDER, TokenizerPanic, VocabularyError

_log = logging.getLogger(__name__)


class Job:
    """One count. ``outcome`` becomes tokens and whether they are certain, or None where counting failed."""

    def __init__(self, vocabulary: str, contents: Contents) -> None:
        self.vocabulary = vocabulary
        self.contents: Contents | None = contents
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[tuple[int, bool] | None] = self._loop.create_future()

    def abandon(self) -> None:
        """Nobody waits any more. The texts are let go at once, the job when its turn comes."""
        self.contents = None

    def settle(self, outcome: tuple[int, bool] | None) -> None:
        """From the thread."""
        try:
            self._loop.call_soon_threadsafe(self._settle, outcome)
        except RuntimeError:  # the loop has been closed meanwhile, and whoever waited went with it
            pass

    def _settle(self, outcome: tuple[int, bool] | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Worker:
    """A thread and its queue. ``limit`` jobs may wait."""

    def __init__(self, limit: int, folder: Path = FOLDER) -> None:
        self._limit = limit
        self.tokenizer = Tokenizer(folder)
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closing = False
        self._broken: set[str] = set()

    def submit(self, job: Job) -> bool:
        """Whether there was room in the queue."""
        if self._closing or self._jobs.qsize() >= self._limit:
            return False
        with self._starting:
            # A fork leaves the thread behind; the child gets one of its own.
            if self._thread is None or not self._thread.is_alive():
                # A daemon, so that a server that dies without closing does not hang on it; Counter closes it before
                # the interpreter goes, so that it is not inside the tokenizer then.
                self._thread = threading.Thread(target=self._run, name="tollway-tokens", daemon=True)
                self._thread.start()
        self._jobs.put(job)
        return True

    def close(self) -> None:
        """Stop between two pieces, or after the vocabulary that is being loaded, and wait for that. What still waits
        is answered with None."""
        self._closing = True
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()
        self.tokenizer.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = None
            try:
                outcome = self._do(job)
            except GivenUp:
                pass
            except (TokenizerPanic, TokenizerGone) as error:
                _log.warning("tokens are estimated from size: %s", error)
            except Exception:  # noqa: BLE001 - the boundary: one bad request must not end the thread for all
                _log.exception("tokens are estimated from size: counting failed")
            job.settle(outcome)

    def _do(self, job: Job) -> tuple[int, bool] | None:
        vocabulary = job.vocabulary
        if vocabulary in self._broken or self._closing:
            return None
        try:
            # Loaded even for a job that was abandoned in the queue: the next one will want it.
            self.tokenizer.count(vocabulary, "")
            contents = job.contents
            if contents is None:
                return None
            return tokens_in(
                contents,
                lambda piece: self.tokenizer.count(vocabulary, piece),
                lambda: job.contents is not None and not self._closing,
            )
        except VocabularyError as error:
            # Said once; every count of these models is an estimate until the next start.
            _log.error("tokens are estimated from size: %s", error)
            self._broken.add(vocabulary)
            return None
