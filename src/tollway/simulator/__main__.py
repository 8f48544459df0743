"""``python -m tollway.simulator --port N``: the simulator alone, quick to start, for benchmarks and
end-to-end tests.

It prints one line when it listens and stops on SIGTERM, SIGINT or after ``--stop-after`` seconds.
"""

from __future__ import annotations

import argparse
import sys

from tollway.simulator.knobs import GRAMMAR, NEUTRAL, UnknownKnob, duration, set_knobs
from tollway.simulator.running import run
from tollway.simulator.server import AWS_KEYS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tollway.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--require-key", metavar="KEY")
    parser.add_argument(
        "--aws-keys", metavar="ID:SECRET", help="the pair that signs requests to Bedrock's paths"
    )
    parser.add_argument("--bill-entries", type=int, default=200_000, help="lines kept; 0 keeps totals only")
    parser.add_argument("--record", type=int, default=64, help="requests kept for GET /requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--stop-after", metavar="SECONDS", help="a duration such as 30s; a bare number is seconds"
    )
    for name, grammar in GRAMMAR.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", dest=f"knob_{name}", nargs="?", const="", help=grammar.help
        )
    given = parser.parse_args(arguments)
    wanted = [(name, getattr(given, f"knob_{name}")) for name in GRAMMAR]
    try:
        knobs = set_knobs(NEUTRAL, [(name, value or None) for name, value in wanted if value is not None])
        aws_keys = AWS_KEYS if given.aws_keys is None else key_pair(given.aws_keys)
        stop_after = None if given.stop_after is None else seconds(given.stop_after)
    except (UnknownKnob, ValueError) as error:
        parser.error(str(error))
    try:
        run(
            knobs,
            host=given.host,
            port=given.port,
            require_key=given.require_key,
            bill_entries=given.bill_entries,
            record=given.record,
            seed=given.seed,
            aws_keys=aws_keys,
            stop_after=stop_after,
            ready=lambda simulator: print(f"listening on {simulator.url}", flush=True),
        )
    except OSError as error:
        print(f"cannot listen on {given.host}:{given.port}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def key_pair(text: str) -> tuple[str, str]:
    """``ID:SECRET`` taken apart. Raises ValueError."""
    key, colon, secret = text.partition(":")
    if not key or not colon or not secret:
        raise ValueError("AWS keys are written ID:SECRET")
    return key, secret


def seconds(text: str) -> float:
    """A duration whose bare numbers are seconds."""
    return float(text) if text.replace(".", "", 1).isdigit() else duration(text)


if __name__ == "__main__":
    sys.exit(main())
