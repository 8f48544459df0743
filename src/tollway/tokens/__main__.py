"""The process that counts: a vocabulary's name and a text in, a number out, until its input ends.

A process of its own because loading a vocabulary holds Python's lock for some 150 ms, and because what a vocabulary
takes (60 MB) is then not the gateway's.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import BinaryIO

from tiktoken import Encoding

from tollway.tokens.vocabulary import TokenizerPanic, VocabularyError, count_piece, load


def serve(source: BinaryIO, sink: BinaryIO, folder: Path) -> None:
    encodings: dict[str, Encoding] = {}
    while len(size := source.read(4)) == 4:
        name, _, text = source.read(int.from_bytes(size)).partition(b"\0")
        try:
            encoding = encodings.get(name.decode())
            if encoding is None:
                encoding = encodings[name.decode()] = load(name.decode(), folder)
            said = b"%d" % count_piece(encoding, text.decode("utf-8", "surrogatepass"))
        except VocabularyError as error:
            said = b"?" + str(error).encode()
        except TokenizerPanic as error:
            said = b"!" + str(error).encode()
        sink.write(len(said).to_bytes(4) + said)
        sink.flush()


if __name__ == "__main__":
    # A Ctrl-C is for the gateway, whose end is this one's too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer, Path(sys.argv[1]))
