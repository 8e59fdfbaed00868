"""Starts, watches and stops one MiniStack process: one folder, one port, nothing shared with another instance."""

import json
import os
import pathlib
import socket
import sys
import urllib.error
import urllib.request

from process import OwnedProcess, StackError

LAUNCHER = pathlib.Path(__file__).with_name("ministack_launcher.py")
REGION = "us-east-1"
HEALTHY_WITHIN_SECONDS = 30


def aws_environment(url):
    """What a client of the emulator needs. The credentials are placeholders; the emulator takes any."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def refuse_taken_port(port, variable):
    """Says so before a server fails in its log."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise StackError(f"port {port} is taken by something that was not started from here; set {variable} to another port")


class Emulator:
    """One MiniStack with its data, log and process id under `folder`."""

    def __init__(self, folder, port, smtp_port):
        self.folder = pathlib.Path(folder).absolute()
        self.port = int(port)
        # Where mail that SES takes is sent on to. Nobody needs to listen there: then it is lost, and the log says so.
        self.smtp_port = int(smtp_port)
        # 127.0.0.1 and not localhost: the latter may be tried as ::1 first, where nobody listens.
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.folder / "ministack.log"
        # The folder is an argument of the process, so that a process id used again is never taken for ours.
        self._process = OwnedProcess(self.folder / "ministack.pid", self.log, LAUNCHER.name, self.folder)

    def pid(self):
        """The process id while it runs."""
        return self._process.pid()

    def healthy(self):
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2) as answer:
                return bool(json.load(answer))
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def start(self):
        """Starts it and waits until it answers. Returns False when it was running already."""
        fresh = self.pid() is None
        if fresh:
            refuse_taken_port(self.port, "TIDEMARK_PORT")
            for name in ("state", "s3", "tmp"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            self._process.start([sys.executable, LAUNCHER, self.folder], self.folder, self._environment())
        self._process.wait_until(self.healthy, HEALTHY_WITHIN_SECONDS, "MiniStack")
        return fresh

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
            "SMTP_HOST": f"127.0.0.1:{self.smtp_port}",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            # A function may do what its role in template.yaml allows and nothing else, as on AWS.
            "AUTH": "true",
            "PYTHONNOUSERSITE": "1",
        }

    def stop(self):
        """Asks it to save its state and end. Returns False when it was not running."""
        return self._process.stop()
