"""The gateway's end of the process that counts (``__main__``): started with the first piece, and anew after it died."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tollway.tokens.vocabulary import TokenizerPanic, VocabularyError


class TokenizerGone(Exception):
    """The process ended in the middle of a count."""


class Tokenizer:
    """For one thread at a time; every call waits, without Python's lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def count(self, vocabulary: str, piece: str) -> int:
        """Raises VocabularyError, TokenizerPanic, TokenizerGone."""
        process = self._process
        if process is None or process.poll() is not None:
            self.close()
            process = self._process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        sent = vocabulary.encode() + b"\0" + piece.encode("utf-8", "surrogatepass")
        try:
            process.stdin.write(len(sent).to_bytes(4) + sent)
            process.stdin.flush()
            size = process.stdout.read(4)
            said = process.stdout.read(int.from_bytes(size))
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile
            raise TokenizerGone(f"the process that counts has ended: {error}") from error
        if len(size) < 4 or not said:
            raise TokenizerGone("the process that counts has ended")
        if said[:1] == b"?":
            raise VocabularyError(said[1:].decode())
        if said[:1] == b"!":
            raise TokenizerPanic(said[1:].decode())
        return int(said)

    def close(self) -> None:
        """End the process, if there is one: it ends when its input does, after the piece it is at."""
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was not written yet is for nobody
                    pass
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - nothing in it is a client's
            [sys.executable, "-m", "tollway.tokens", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
