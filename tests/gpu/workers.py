# SPDX-License-Identifier: Apache-2.0
"""Work that may crash or hang its process: handed out line by line to worker processes that are
begun anew, with a limit for each piece and for all together.

A worker prints "ready", and for each line that it reads as many lines as it likes that say what it
is at, then one line of JSON."""
import json
import os
import selectors
import subprocess
import threading
import time

START_SECONDS = 120


class Worker:
    def __init__(self, command, log):
        self.command = command
        self.log = log
        self.child = None

    def line(self, seconds):
        """The next line; None at the end of the process or of the time."""
        end = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            if not self.select.select(max(0.0, end - time.monotonic())):
                return None
            data = os.read(self.child.stdout.fileno(), 65536)
            if not data:
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode(errors="replace")

    def start(self):
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.command, stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, stderr=log)
        self.buffer = b""
        self.select = selectors.DefaultSelector()
        self.select.register(self.child.stdout, selectors.EVENT_READ)
        line = self.line(START_SECONDS)
        while line is not None and line != "ready":
            line = self.line(START_SECONDS)
        return line == "ready"

    def kill(self):
        if self.child is not None:
            self.child.kill()
            self.child.wait()

    def stop(self):
        self.kill()
        if self.child is not None:
            self.child.stdin.close()
            self.child.stdout.close()
        self.child = None

    def ask(self, request, seconds):
        """(answer, None, None), or (None, what it was at, "crashed" or "hung"); (None, None, None)
        where no worker starts."""
        if self.child is None and not self.start():
            self.stop()
            return None, None, None
        self.child.stdin.write((request + "\n").encode())
        self.child.stdin.flush()
        at = "the start"
        end = time.monotonic() + seconds
        while True:
            line = self.line(end - time.monotonic())
            if line is None:
                try:
                    self.child.wait(2)
                    word = "crashed"
                except subprocess.TimeoutExpired:
                    word = "hung"
                self.stop()
                return None, at, word
            if line.startswith("{"):
                return json.loads(line), None, None
            at = line


def run_all(tasks, command, act, count, seconds, out, name):
    """`act(worker, task)` for every task, in `count` workers, within `seconds`: the answers, of
    which each goes to OUT/NAME.jsonl at once, and how many tasks were not reached. None for an
    answer: no worker starts."""
    answers = []
    workers = []
    lock = threading.Lock()
    end = time.monotonic() + seconds
    left = list(reversed(tasks))
    file = open(os.path.join(out, f"{name}.jsonl"), "w", encoding="utf-8")

    def serve(number):
        worker = Worker(command, os.path.join(out, f"{name}.{number}.log"))
        workers.append(worker)
        failures = 0
        while failures < 2 and time.monotonic() < end - 5:
            with lock:
                if not left:
                    break
                task = left.pop()
            answer = act(worker, task)
            failures = failures + 1 if answer is None else 0
            with lock:
                if answer is None:
                    left.append(task)
                    continue
                answers.append(answer)
                file.write(json.dumps(answer) + "\n")
                file.flush()
        worker.stop()

    threads = [threading.Thread(target=serve, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.1, end - time.monotonic()))
    with lock:
        for worker in workers:
            worker.kill()
        return list(answers), len(tasks) - len(answers)


def write_rows(path, found):
    """A JSON object whose lists have a row on a line each."""
    parts = []
    for key, value in found.items():
        rows = (["[", ",\n".join("  " + json.dumps(row) for row in value), " ]"]
                if isinstance(value, list) and value else [json.dumps(value)])
        parts.append(f" {json.dumps(key)}: " + "\n".join(rows))
    with open(path, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(parts) + "\n}\n")
