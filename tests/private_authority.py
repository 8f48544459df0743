"""A certificate authority of the tests' own, made with the openssl program: nobody trusts it unless told to."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """``file`` is its certificate. ``server`` makes a server's context with a certificate it has signed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = str(directory / "ca.pem")
        self._openssl("req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
                      "-subj", "/CN=a private authority", "-addext", "basicConstraints=critical,CA:TRUE",
                      "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
        self._issue("here", "DNS:localhost,IP:127.0.0.1,IP:::1")
        self._issue("elsewhere", "DNS:elsewhere.test")

    def server(self, name: str = "here") -> ssl.SSLContext:
        """``here`` is good for localhost, 127.0.0.1 and ::1, ``elsewhere`` for elsewhere.test."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        return context

    def _issue(self, name: str, names: str) -> None:
        self._openssl("req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                      "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)
