"""Starts, watches and stops one MiniStack process: one folder, one port, nothing shared with another instance."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

LAUNCHER = pathlib.Path(__file__).with_name("ministack_launcher.py")
REGION = "us-east-1"
HEALTHY_WITHIN_SECONDS = 30


class EmulatorError(Exception):
    """Something that the person at the terminal can act on."""


def aws_environment(url):
    """What a client of the emulator needs. The credentials are placeholders; the emulator takes any."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def command_line(pid):
    """The arguments of a process, or an empty string when there is none."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return ""
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout


class Emulator:
    """One MiniStack with its data, log and process id under `folder`."""

    def __init__(self, folder, port):
        self.folder = pathlib.Path(folder).absolute()
        self.port = int(port)
        # 127.0.0.1 and not localhost: the latter may be tried as ::1 first, where nobody listens.
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.folder / "ministack.log"
        self._pid_file = self.folder / "ministack.pid"
        self._process = None  # when it is our own child

    def pid(self):
        """The process id when it is alive and really is the one that this folder started."""
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        # The folder is an argument of the process, so that a reused process id is never taken for ours.
        arguments = command_line(pid)
        return pid if LAUNCHER.name in arguments and str(self.folder) in arguments else None

    def healthy(self):
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2) as answer:
                return bool(json.load(answer))
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def start(self):
        """Starts it and waits until it answers. Returns False when it was running already."""
        if self.pid():
            self._wait_until_healthy()
            return False
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                raise EmulatorError(
                    f"port {self.port} is taken by something that this checkout did not start; "
                    "set TIDEMARK_PORT to another port"
                )
        for name in ("state", "s3", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(LAUNCHER), str(self.folder)],
                cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
        self._pid_file.write_text(str(self._process.pid))
        self._wait_until_healthy()
        return True

    def _environment(self):
        # Everything here is inherited by the functions, so it is built from nothing: a developer's AWS_PROFILE must not reach
        # them, and without AWS_ENDPOINT_URL they would call the real AWS.
        return {
            **aws_environment(self.url),
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.folder / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.folder / "s3"),
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "PYTHONNOUSERSITE": "1",
        }

    def _wait_until_healthy(self):
        deadline = time.monotonic() + HEALTHY_WITHIN_SECONDS
        while not self.healthy():
            if self._process is not None and self._process.poll() is not None:
                raise EmulatorError(f"MiniStack ended while starting:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise EmulatorError(f"MiniStack does not answer at {self.url}; see {self.log}")
            time.sleep(0.05)

    def _tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def stop(self):
        """Asks it to save its state and end. Returns False when it was not running."""
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 15
            while self.pid():
                if self._process is not None and self._process.poll() is not None:
                    break  # an ended child keeps its process id until it is collected, which poll() does
                if time.monotonic() > deadline:
                    os.killpg(pid, signal.SIGKILL)  # its own session: it and the functions that it started
                    break
                time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)
        self._process = None
        return pid is not None
