"""LocalStack's community edition as plain host processes: a second emulator, written by other people.

    up        install what is missing, start, wait until it answers
    down      stop; its state is in memory and gone, the installed packages stay
    status    exit code 0 when it answers, 3 when it does not run, 4 when it runs and does not answer
    env       KEY=VALUE lines for a client

It has Kinesis, DynamoDB, SNS and SQS, and counts capacity as AWS does. It runs no functions without Docker, so the tests run them
under `cargo lambda watch`. TIDEMARK_LOCALSTACK_PORT (default 4580) and TIDEMARK_LOCALSTACK_DIR (default .local/localstack).
"""

import json
import os
import pathlib
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request

from emulator import aws_environment, refuse_taken_port
from localstack_packages import KINESIS_VERSION, Packages, say
from process import OwnedProcess, StackError, command_lines

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEALTHY_WITHIN_SECONDS = 120

# LocalStack's own server ignores the host that it is told and listens on every interface; keep it on this machine.
RUNTIME = """\
from twisted.internet import endpoints

listen = endpoints.TCP4ServerEndpoint.__init__


def listen_here(self, reactor, port, backlog=50, interface="127.0.0.1"):
    listen(self, reactor, port, backlog, interface)


endpoints.TCP4ServerEndpoint.__init__ = listen_here

from localstack.runtime.main import main

main()
"""


class LocalStack:
    """One instance with everything it has under `folder`."""

    def __init__(self, folder, port):
        self.folder = pathlib.Path(folder).absolute()
        self.port = int(port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.packages = Packages(self.folder)
        self.runtime = self.folder / "runtime.py"
        self.process = OwnedProcess(self.folder / "pid", self.folder / "localstack.log", self.runtime)

    def healthy(self):
        try:
            with urllib.request.urlopen(f"{self.url}/_localstack/health", timeout=5) as answer:
                return "services" in json.load(answer)
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def up(self):
        started = time.monotonic()
        self.packages.install()
        if self.process.pid() is None:
            self._end_left_over()
            refuse_taken_port(self.port, "TIDEMARK_LOCALSTACK_PORT")
            self.runtime.write_text(RUNTIME)
            working = self.packages.filesystem / "tmp"  # DynamoDB Local drops a file into its working folder
            shutil.rmtree(working, ignore_errors=True)
            working.mkdir(parents=True)
            self.process.start([self.packages.python, "-W", "ignore", self.runtime], working, self._environment())
        self.process.wait_until(self.healthy, HEALTHY_WITHIN_SECONDS, "LocalStack")
        say(f"answers at {self.url} after {time.monotonic() - started:.0f} s")

    def _environment(self):
        return {
            "PATH": self.packages.path(),
            "HOME": str(self.folder),
            "FILESYSTEM_ROOT": str(self.packages.filesystem),
            "CONFIG_DIR": str(self.folder / "config"),
            "OVERRIDE_IN_DOCKER": "0",
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "LOCALSTACK_HOST": f"127.0.0.1:{self.port}",
            "SQS_ENDPOINT_STRATEGY": "path",
            "DNS_ADDRESS": "0",
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "EAGER_SERVICE_LOADING": "0",
            "KINESIS_MOCK_VERSION": KINESIS_VERSION,
            "KINESIS_PERSISTENCE": "0",
            "KINESIS_MOCK_LOG_LEVEL": "ERROR",
            "DYNAMODB_IN_MEMORY": "1",
            "DYNAMODB_HEAP_SIZE": "1g",
            "NODE_OPTIONS": "--max-semi-space-size=64",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def down(self):
        say("stopped" if self.process.stop() else "not running")
        self._end_left_over()

    def _end_left_over(self):
        """Java and node of a run that was killed. They are known by this folder's path in their command lines."""
        ours = f"{self.packages.libraries}{os.sep}"
        for pid, arguments in list(command_lines()):
            if ours in arguments and pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def status(self):
        pid = self.process.pid()
        if pid is None:
            say("not running")
            return 3
        if not self.healthy():
            say(f"process {pid} runs but does not answer at {self.url}; see {self.process.log}")
            return 4
        say(f"answers at {self.url}, process {pid}")
        return 0

    def env(self):
        for name, value in aws_environment(self.url).items():
            print(f"{name}={value}")


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in ("up", "down", "status", "env"):
        print(__doc__)
        return 2
    folder = os.environ.get("TIDEMARK_LOCALSTACK_DIR", ROOT / ".local" / "localstack")
    stack = LocalStack(folder, os.environ.get("TIDEMARK_LOCALSTACK_PORT", 4580))
    try:
        return getattr(stack, sys.argv[1])()
    except StackError as error:
        print(f"localstack: ERROR: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
