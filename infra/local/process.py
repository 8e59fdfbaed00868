"""A process that this checkout started: found again by its id *and* its command line, so that no other is ever ended."""

import os
import pathlib
import signal
import subprocess
import time


class StackError(Exception):
    """Something that the person at the terminal can act on; shown without a traceback."""


def command_lines():
    """(process id, arguments) of every process that can be seen."""
    if os.path.isdir("/proc/self"):
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                yield int(entry), command_line(int(entry))
    else:
        for line in subprocess.run(["ps", "-e", "-o", "pid=,args="], capture_output=True, text=True).stdout.splitlines():
            pid, _, arguments = line.strip().partition(" ")
            yield int(pid), arguments


def command_line(pid):
    """The arguments of a process, or an empty string when there is none."""
    if os.path.isdir("/proc/self"):
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout


class OwnedProcess:
    """One background process with its id in a file. `marks` are texts that its command line must contain."""

    def __init__(self, pid_file, log, *marks):
        self.pid_file = pid_file
        self.log = log
        self.marks = [str(mark) for mark in marks]
        self._child = None  # when this very process started it

    def pid(self):
        """Its id while it lives."""
        if self._child is not None:
            # poll() also collects an ended child, which would keep its id until then.
            return self._child.pid if self._child.poll() is None else None
        try:
            pid = int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        arguments = command_line(pid)
        return pid if all(mark in arguments for mark in self.marks) else None

    def start(self, command, folder, environment):
        """Starts it in a session of its own, with its output in the log."""
        with open(self.log, "wb") as log:
            self._child = subprocess.Popen(
                [str(part) for part in command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
        self.pid_file.write_text(str(self._child.pid))

    def wait_until(self, healthy, seconds, name):
        """Polls until it is healthy; says what its log ends with when it is not."""
        deadline = time.monotonic() + seconds
        while not healthy():
            if self.pid() is None:
                raise StackError(f"{name} ended while starting:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise StackError(f"{name} does not answer after {seconds} s; see {self.log}")
            time.sleep(0.05)

    def _tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def stop(self, seconds=15):
        """Asks it to end and waits. Returns False when it was not running."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + seconds
            while self.pid() is not None:
                if time.monotonic() > deadline:
                    os.killpg(pid, signal.SIGKILL)  # its own session: it and what it started
                    break
                time.sleep(0.05)
        self.pid_file.unlink(missing_ok=True)
        self._child = None
        return pid is not None
