"""What a process tree has cost so far: CPU seconds and memory, from the kernel's own books in /proc.

Linux only. A child that exits is still counted: its parent's books take its time over when it is reaped.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from msgspec import Struct

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


class Account(Struct, frozen=True, kw_only=True):
    """``cpu`` in seconds since each process began (10 ms steps), memory in bytes. ``pss`` shares common pages
    out among the processes that map them, so it can be added up; ``rss`` counts them once for each."""

    cpu: float
    rss: int
    pss: int
    processes: int
    open_files: int


def tree(root: int) -> list[int]:
    """The process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, ()))
    return found


def read(root: int) -> Account:
    """The tree's books now. A process that vanishes while they are read counts through its parent."""
    cpu, rss, pss, living, files = 0.0, 0, 0, 0, 0
    for pid in tree(root):
        fields = _stat(pid)
        if fields is None:
            continue
        living += 1
        cpu += sum(int(value) for value in fields[11:15]) / _TICKS  # utime stime cutime cstime
        rss += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        pss += _pss(pid)
        files += _open_files(pid)
    return Account(cpu=cpu, rss=rss, pss=pss, processes=living, open_files=files)


def wait_until_quiet(root: int, *, quiet: float = 0.5, limit: float = 15.0) -> Account:
    """Waits until the tree has used at most one tick within ``quiet`` seconds, or ``limit`` is over: work
    that a subject does after the answer (ledger, logs) belongs to the request."""
    end = time.monotonic() + limit
    before = read(root)
    while time.monotonic() < end:
        time.sleep(quiet)
        now = read(root)
        if now.cpu - before.cpu <= 1.5 / _TICKS:
            return now
        before = now
    return before


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on (index 0), past the name, which may hold spaces."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _pss(pid: int) -> int:
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return 0


def _open_files(pid: int) -> int:
    try:
        return len(os.listdir(_PROC / str(pid) / "fd"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
