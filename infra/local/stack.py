"""The local stack: MiniStack with the real template deployed to it.

    up        start, build, deploy, write .local/env; safe to run again, then it deploys what has changed
    down      stop; the data stays in the folder and is there again after the next up
    status    what runs, where, and whether it is deployed
    clean     stop and delete the folder

TIDEMARK_PORT (default 4566), TIDEMARK_SMTP_PORT (default 4525: where mail is sent on to) and TIDEMARK_LOCAL_DIR (default .local) make
instances that do not know of each other, for tests.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib

from emulator import REGION, Emulator, aws_environment
from process import StackError

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools" / "bin"
STACK = "tidemark"
API_ID = "a0000001"  # the tag ms-custom-id in template.yaml


def say(text):
    print(f"stack: {text}", flush=True)


def client_environment(url):
    """This process's environment for cargo and SAM, with nothing left in it that leads to the real AWS or to the user's files."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return {
        **kept,
        **aws_environment(url),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
        "SAM_CLI_TELEMETRY": "0",
        # SAM keeps its settings and the time of its last look for updates here instead of in the home folder.
        "__SAM_CLI_APP_DIR": str(ROOT / ".tools" / "sam"),
        # Plain cargo, for this machine: no zig, and the same compiled dependencies as the tests.
        "CARGO_LAMBDA_COMPILER": "cargo",
    }


def run(command, environment, quiet_log=None):
    """Runs a command at the repository's top. With `quiet_log` its output is shown only when it fails."""
    if quiet_log is None:
        ended = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
    else:
        with open(quiet_log, "wb") as log:
            ended = subprocess.run(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
    if ended.returncode != 0:
        shown = "" if quiet_log is None else "\n" + quiet_log.read_text(errors="replace")
        raise StackError(f"failed: {shlex.join(map(str, command))}{shown}")


def host_target():
    verbose = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    return re.search(r"^host: (\S+)$", verbose, re.MULTILINE).group(1)


def parameters(target):
    """The overrides of samconfig.toml's `local`, for this machine's architecture."""
    with open(ROOT / "samconfig.toml", "rb") as file:
        overrides = tomllib.load(file)["local"]["global"]["parameters"]["parameter_overrides"]
    architecture = "arm64" if target.startswith("aarch64") else "x86_64"
    return [f"Architecture={architecture}", *(each for each in overrides if not each.startswith("Architecture="))]


def deployed_outputs(emulator):
    """The stack's outputs, or None when it is not deployed."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "cloudformation", endpoint_url=emulator.url, region_name=REGION, aws_access_key_id="test",
        aws_secret_access_key="test", config=Config(connect_timeout=2, read_timeout=10, retries={"max_attempts": 1}),
    )
    try:
        stack = client.describe_stacks(StackName=STACK)["Stacks"][0]
    except (BotoCoreError, ClientError):
        return None
    if not re.fullmatch(r"(CREATE|UPDATE)_COMPLETE", stack["StackStatus"]):
        return None
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def api_url(emulator):
    return f"{emulator.url}/_aws/execute-api/{API_ID}"


def write_env(emulator, outputs):
    """KEY=VALUE lines. An output's name becomes the name of the variable that the functions have: StreamName, STREAM_NAME."""
    lines = {"TIDEMARK_URL": api_url(emulator), "TIDEMARK_SMTP_PORT": str(emulator.smtp_port), **aws_environment(emulator.url)}
    for name, value in sorted(outputs.items()):
        lines[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()] = value
    path = emulator.folder / "env"
    path.write_text("".join(f"{key}={shlex.quote(value)}\n" for key, value in lines.items()))
    return path


def up(emulator):
    started = time.monotonic()
    emulator.folder.mkdir(parents=True, exist_ok=True)
    target = host_target()
    fresh = emulator.start()
    say(f"MiniStack {'started' if fresh else 'is running'} at {emulator.url}, process {emulator.pid()}")

    environment = client_environment(emulator.url)
    say("building the functions (the first time compiles the AWS SDK: some minutes)")
    # One cargo run for everything, in parallel and seen; `sam build` then finds each binary fresh and copies it.
    run(["cargo", "build", "--locked", "--release", "--workspace", "--bins", "--target", target], environment)
    overrides = parameters(target)
    build = emulator.folder / "sam" / "build"
    sam = [str(TOOLS / "sam")]
    common = ["--config-file", str(ROOT / "samconfig.toml"), "--config-env", "local", "--parameter-overrides", *overrides]
    run([*sam, "build", "--build-in-source", *common, "--build-dir", str(build)], environment, emulator.folder / "sam-build.log")
    say("deploying template.yaml")
    template = ["--template-file", str(build / "template.yaml")]
    run([*sam, "deploy", *common, *template], environment, emulator.folder / "sam-deploy.log")

    outputs = deployed_outputs(emulator)
    if outputs is None:
        raise StackError(f"the stack is not there after its deployment; see {emulator.folder / 'sam-deploy.log'}")
    path = write_env(emulator, outputs)
    say(f"up after {time.monotonic() - started:.0f} s")
    say(f"API at {api_url(emulator)}")
    say(f"everything a client needs: set -a; source {os.path.relpath(path)}; set +a")


def down(emulator):
    if emulator.stop():
        say(f"stopped; its data stays in {os.path.relpath(emulator.folder)} and is there again after the next up")
    else:
        say("not running")


def status(emulator):
    pid = emulator.pid()
    if not pid:
        say(f"not running ({os.path.relpath(emulator.folder)}, port {emulator.port})")
        return 3
    if not emulator.healthy():
        say(f"process {pid} runs but does not answer at {emulator.url}; see {emulator.log}")
        return 4
    say(f"MiniStack runs at {emulator.url}, process {pid}, log {os.path.relpath(emulator.log)}")
    outputs = deployed_outputs(emulator)
    if outputs is None:
        say("nothing is deployed to it")
        return 5
    say(f"stack {STACK} is deployed, API at {api_url(emulator)}")
    for name, value in sorted(outputs.items()):
        print(f"  {name:28} {value}")
    return 0


def clean(emulator):
    emulator.stop()
    shutil.rmtree(emulator.folder, ignore_errors=True)
    say(f"removed {os.path.relpath(emulator.folder)}")


def main():
    commands = {"up": up, "down": down, "status": status, "clean": clean}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print(__doc__)
        return 2
    folder = pathlib.Path(os.environ.get("TIDEMARK_LOCAL_DIR", ROOT / ".local"))
    try:
        ports = os.environ.get("TIDEMARK_PORT", 4566), os.environ.get("TIDEMARK_SMTP_PORT", 4525)
        return commands[sys.argv[1]](Emulator(folder, *ports))
    except StackError as error:
        print(f"stack: ERROR: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
