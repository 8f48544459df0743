"""A PostgreSQL server of the tests' own: a private cluster on a free port, fast because it may lose everything, gone
when the tests are."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from running import free_port

INSTALL = "PostgreSQL is needed for these tests: apt-get install postgresql (Debian, Ubuntu), or pip install pgserver"


def programs() -> Path:
    """The folder of initdb and postgres: the newest the system has, else the wheel's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    try:
        import pgserver
    except ImportError:
        raise AssertionError(INSTALL) from None
    return Path(pgserver.__file__).parent / "pginstall" / "bin"


class PostgresServer:
    """``url`` is that of the administrator. Started by ``with``; ``stop`` and ``start`` in between are an outage."""

    user = "postgres"

    def __init__(self, *settings: str, follows: PostgresServer | None = None) -> None:
        """``follows``: begin as a standby of that server."""
        self._follows = follows
        self.port = free_port()
        self._bin = programs()
        self._settings = settings
        self._base = Path(tempfile.mkdtemp(prefix="tollway-pg-", dir="/tmp"))
        self.data = self._base / "data"

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        return f"postgresql://{self.user}@127.0.0.1:{port or self.port}/{database}"

    def __enter__(self) -> PostgresServer:
        if os.getuid() == 0:
            shutil.chown(self._base, "postgres")
        # Ends the server when this process does, however that ends: the pipe is then closed.
        end = f"read line; '{self._bin}/pg_ctl' -D '{self.data}' -m immediate stop; rm -rf '{self._base}'"
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", end],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=self._environ,
            user="postgres" if os.getuid() == 0 else None,
            extra_groups=[] if os.getuid() == 0 else None,
        )
        if self._follows is not None:
            source = self._follows.url()
            self._run("pg_basebackup", "-D", str(self.data), "-R", "-c", "fast", "--no-sync", "-d", source)
            self.start()
            return self
        self._run(
            "initdb",
            "-D",
            str(self.data),
            "-A",
            "trust",
            "-U",
            self.user,
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        )
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        self._watcher.wait()
        shutil.rmtree(self._base, ignore_errors=True)

    def start(self) -> None:
        settings = (
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self._base}",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=64MB",
            "max_connections=200",
            "max_wal_size=512MB",
            "autovacuum_naptime=10min",
            *self._settings,
        )
        options = " ".join(f"-c {setting}" for setting in settings)
        self._run(
            "pg_ctl",
            "-D",
            str(self.data),
            "-w",
            "-t",
            "60",
            "-l",
            str(self._base / "log"),
            "-o",
            options,
            "start",
        )

    def stop(self, mode: str = "immediate") -> None:
        """``immediate`` is a crash, ``fast`` ends the sessions first."""
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def promote(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def restart(self, mode: str = "immediate", away: float = 0.0) -> None:
        self.stop(mode)
        time.sleep(away)
        self.start()

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql prints: rows by lines, columns by ``|``."""
        done = subprocess.run(
            [self._bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.url(database)],
            input=statement,
            capture_output=True,
            text=True,
            timeout=60,
            env=self._environ,
        )
        assert done.returncode == 0, f"{statement}: {done.stderr}"
        return done.stdout.strip()

    def copy(self, database: str, name: str) -> None:
        """Make a database like another, which nobody is connected to."""
        # Where it can be chosen, copying files is the quicker way.
        chosen = int(self.sql("SHOW server_version_num")) >= 150000
        self.sql(f"CREATE DATABASE {name} TEMPLATE {database}{' STRATEGY FILE_COPY' if chosen else ''}")

    @property
    def _environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self._base), "PGTZ": "UTC"}

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            cwd="/",
            env=self._environ,
            user="postgres" if os.getuid() == 0 else None,
            extra_groups=[] if os.getuid() == 0 else None,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}\n{self.log}"

    @property
    def log(self) -> str:
        path = self._base / "log"
        return path.read_text()[-3000:] if path.exists() else ""

    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url())
        return str(parts.hostname), int(parts.port or 0)
