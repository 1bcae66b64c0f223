#!/usr/bin/env python3
"""Every command under strace: no socket (`serve`: one, on the loopback), and no file but those that
it was given, the libraries and what the system is asked about.

    tests/guest/traced.py KILN MODELS DEPS

SPDX-License-Identifier: Apache-2.0
"""
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import urllib.request
import zipfile

KILN, MODELS, DEPS = (os.path.realpath(path) for path in sys.argv[1:4])
# ONNX Runtime is silent where it believes that it is tested.
QUIET = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL",
         "CODEBUILD_BUILD_ID", "BUILDKITE", "TEAMCITY_VERSION", "APPVEYOR",
         "BITBUCKET_BUILD_NUMBER", "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI", "ORT_RUNNING_UNIT_TESTS",
         "ORT_DISABLE_TELEMETRY")
CALLS = "open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,link," \
        "linkat,symlink,symlinkat,mknod,mknodat,truncate,chmod,fchmodat,chown,utimensat," \
        "socket,socketpair,connect,bind,sendto,sendmsg"
# Reading these changes nothing: libraries, the loader's cache, what the kernel tells, devices
# without a memory, the C library's locale.
READ = re.compile(
    r"^/(usr|lib|lib64|proc|sys)(/|$)|^/etc/(ld\.so\.|localtime$|locale|nsswitch)|^/$"
    r"|^/dev/(null|zero|random|urandom|tty|shm|nvidia.*)$|^/opt(/|$)")
LINE = re.compile(r"^\d+ +(\w+)\((.*)\) = (-?\d+|\?)")
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
# What a server does to its socket, and writing an answer to one that it accepted.
SERVES = re.compile(r'socket\(AF_INET, SOCK_STREAM\|SOCK_CLOEXEC\|SOCK_NONBLOCK, (0|IPPROTO_IP)\)'
                    r'|bind\(\d+, {sa_family=AF_INET, sin_port=htons\(0\), '
                    r'sin_addr=inet_addr\("127\.0\.0\.1"\)}|sendmsg\(\d+, {msg_name=NULL'
                    r'|sendto\(\d+, ".*", \d+, [A-Z_|]+, NULL, 0\)')
BASE = re.compile(r"\d+<([^>]*)>, \"")  # of what is named relative to an open folder
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND")


def commands():
    """Every command of `kiln help`, with arguments that make it do its work."""
    yield ["help"]
    yield ["--version"]
    yield ["doctor"]
    yield ["doctor", "--json"]
    for backend in ("onnxruntime", "reference"):
        chosen = ["--backend", backend]
        yield ["check", "add.onnx"] + chosen
        yield ["inspect", "add.onnx"] + chosen
        yield ["run", "add.onnx", "-i", "1", "-o", "out"] + chosen
        yield ["bench", "add.onnx", "--duration", "1"] + chosen
        yield ["build", "add.onnx", "-o", "out/add.saved"] + chosen
        yield ["run", "out/add.saved", "-i", "1"]
        yield ["run", "add.onnx", "-i", "1", "-c", "out", "-n", "3"] + chosen
        yield ["bench", "add.onnx", "--layers", "--json", "--duration", "0", "-n", "3"] + chosen
    yield ["bench", "add.onnx", "--contexts", "1,2", "--duration", "0.1", "--plot", "out/load.html"]
    yield ["compare", "add.onnx", "-i", "1"]
    yield ["compare", "divide.onnx", "-i", "a=1", "-i", "b=3", "-f"]
    yield ["calibrate", "divide.onnx", "-d", "batches", "-o", "out/ranges.json"]
    yield ["quantize", "add.onnx", "-p", "fp16", "-o", "out/half.onnx"]
    yield ["quantize", "divide.onnx", "-p", "fp16", "-o", "out/page.onnx", "--check", "batches",
           "--report", "out/page.html"]
    yield ["refit", "gather.onnx", "gather.onnx", "-o", "out/refitted.onnx", "-b", "reference"]
    yield ["serve", "add.onnx", "--port", "0"]
    yield ["cache", "list"]
    yield ["cache", "verify", "--cache", "out"]
    yield ["cache", "clear", "--cache", "out"]


def known_commands():
    said = subprocess.run([KILN, "help"], capture_output=True, text=True, check=False)
    return set(re.findall(r"^  ([a-z]+) +\S", said.stdout, re.MULTILINE))


def is_given(path, folder, home):
    """Whether the test or its caller named the place: the working folder and the libraries."""
    real = os.path.realpath(path)
    places = [folder, DEPS, os.path.dirname(os.path.dirname(KILN))]
    return any(real == place or real.startswith(place + "/") for place in places) and \
        not real.startswith(home + "/")


def check(trace, folder, home, command):
    """What of the trace is not allowed."""
    bad = []
    for line in trace:
        match = LINE.match(line)
        if not match:
            continue
        call, arguments, result = match.groups()
        if call in ("socket", "socketpair", "connect", "bind", "sendto", "sendmsg"):
            if command[0] != "serve" or not SERVES.search(re.sub(r"(\d)<[^>]*>", r"\1", line)):
                bad.append(line)
            continue
        base = BASE.match(arguments)
        paths = [os.path.join(base.group(1) if base else folder, path)
                 for path in STRING.findall(arguments)]
        changes = not call.startswith("open") or WRITES.search(arguments)
        for path in paths:
            if changes:
                allowed = path.startswith(folder + "/out") or \
                    path in ("/dev/null", "/dev/tty", "/dev/shm")
            else:
                allowed = READ.match(path) or is_given(path, folder, home) or result.startswith("-")
            if not allowed:
                bad.append(line)
    model = os.path.join(folder, next((word for word in command if word.endswith(".onnx")), "-"))
    opened = sum(line.count(" open") and os.path.join(folder, path) == model
                 for line in trace for path in STRING.findall(line) if not line.endswith("ENOENT"))
    # What measures layers, or tries what each node costs, builds more than once.
    if opened > command.count(os.path.basename(model)) and "--layers" not in command and \
            "--report" not in command:
        bad.append(f"the model is opened {opened} times")
    return [f"kiln {' '.join(command)}: {line}" for line in bad]


def write_batches(folder):
    """What `kiln calibrate` reads: an array for each input, in .npz files."""
    os.mkdir(folder)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"
    header = header + " " * (-(len(header) + 11) % 64) + "\n"
    for number in range(2):
        with zipfile.ZipFile(os.path.join(folder, f"{number}.npz"), "w") as archive:
            for name in ("a", "b"):
                numbers = struct.pack("<4f", 1, 2, 3, 4 + number)
                archive.writestr(name + ".npy", b"\x93NUMPY\x01\0" +
                                 struct.pack("<H", len(header)) + header.encode() + numbers)


def trace_serve(traced, folder, environment):
    """A server that answers once and is told to stop: whether it was built in, and how it ended."""
    with subprocess.Popen(traced, cwd=folder, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as process:
        said = [process.stdout.readline(), "", ""]
        if "libmicrohttpd" in said[0]:
            process.wait()
            return "", said[0]
        said[1:] = [process.stdout.readline(), process.stdout.readline()]
        address = said[0].split()[-1]
        answer = urllib.request.urlopen(address + "/v2/models/add", timeout=60).read().decode()
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            os.kill(int(file.read().split()[0]), signal.SIGTERM)
        code = process.wait(60)
        wrong = code != 0 or '"sum"' not in answer
        return f"kiln serve ended with {code}: {said} {answer}" if wrong else "", ""


def main():
    if shutil.which("strace") is None or \
            subprocess.run(["strace", "-f", "true"], capture_output=True, check=False).returncode:
        print("skipped: strace is not here, or may trace nothing")
        return 77
    problems = []
    run = set()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = os.path.realpath(scratch)
        home, folder = os.path.join(scratch, "home"), os.path.join(scratch, "work")
        os.mkdir(home)
        shutil.copytree(MODELS, folder)
        os.mkdir(os.path.join(folder, "out"))
        write_batches(os.path.join(folder, "batches"))
        environment = {name: value for name, value in os.environ.items() if name not in QUIET}
        environment.update(HOME=home, TERM="dumb", LC_ALL="C", TMPDIR=os.path.join(folder, "out"))
        for command in commands():
            run.add(command[0])
            trace = os.path.join(scratch, "trace")
            traced = ["strace", "-f", "-y", "-s", "4096", "-o", trace, "-e", "trace=" + CALLS,
                      KILN] + command
            if command[0] == "serve":
                wrong, absent = trace_serve(traced, folder, environment)
                problems += [wrong] if wrong else []
                if absent:
                    print("not traced:", absent.strip())
                with open(trace, encoding="utf-8", errors="replace") as lines:
                    problems += check(lines.read().split("\n"), folder, home, command)
                continue
            done = subprocess.run(traced, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, check=False)
            if done.returncode != 0:
                problems.append(f"kiln {' '.join(command)} ended with {done.returncode}: "
                                f"{done.stderr}")
            with open(trace, encoding="utf-8", errors="replace") as lines:
                problems += check(lines.read().split("\n"), folder, home, command)
        left = [os.path.join(place, name) for place, names, files in os.walk(home)
                for name in names + files]
        problems += [f"left in HOME: {path}" for path in left]
    missing = known_commands() - run
    problems += [f"the command {name} is not traced" for name in sorted(missing)]
    print("\n".join(problems) if problems else f"{len(run)} commands, no socket, no other file")
    return 1 if problems else 0


sys.exit(main())
