#!/usr/bin/env python3
"""An outside worker in Python's standard library: several tasks at once, each handled by a function.

    scripts/outside_worker.py NAME --types TYPE[,TYPE...] [--slots N] [--socket PATH] [--handler MODULE:FUNCTION]

The handler is called with the task as a dictionary (`id`, `type`, `entity`, `args`, `payload`, `inputs` with the
`path` of each staged object, `workdir`). What it returns is the exit code; None is 0, an exception is 1. Without
--handler the payload is run by the shell. Files that it leaves in `workdir`/out are published if the type
declares them as outputs.

It shows the whole protocol: attach, a life line that gives everything back when this process dies, `next` as one
round trip for what is done and what comes, `stop` for tasks that were cancelled, and what to do after a refusal.
"""

import argparse
import concurrent.futures
import http.client
import importlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout=None):
        super().__init__("forestage", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Refused(Exception):
    """The daemon said no: `status` and its error body."""

    def __init__(self, status, body):
        super().__init__(body.get("message", body))
        self.status, self.body = status, body


class Worker:
    """One session of one worker."""

    def __init__(self, path, name, types, slots, handler):
        self.path, self.name, self.types, self.slots = path, name, types, slots
        self.handler = handler
        self.connection = Connection(path)
        self.done = queue.SimpleQueue()
        self.running = {}
        self.stopping = threading.Event()

    def ask(self, method, target, body=None):
        data = None if body is None else json.dumps(body)
        self.connection.request(method, "/v1/workers" + target, data, {"content-type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        value = json.loads(text) if text else {}
        if answer.status >= 300:
            raise Refused(answer.status, value)
        return value

    def attach(self):
        order = {"name": self.name, "slots": self.slots, "types": self.types}
        self.session = self.ask("POST", "", order)["session"]
        # Held open in the background: when this process dies, its tasks go back at once.
        self.line = Connection(self.path)
        self.line.request("GET", f"/v1/workers/{self.name}/lifeline?session={self.session}")
        threading.Thread(target=self.hold, args=(self.line.getresponse(),), daemon=True).start()

    def hold(self, answer):
        while answer.read1(64):
            pass

    def run(self):
        self.attach()
        with concurrent.futures.ThreadPoolExecutor(self.slots) as pool:
            while self.running or not self.stopping.is_set():
                free = 0 if self.stopping.is_set() else self.slots - len(self.running)
                # With everything busy, wait for an end here; with room, let the daemon wait for work.
                back = self.collect(wait=0.05 if self.running else 0)
                wait = 0 if self.running else 1
                try:
                    answer = self.next(back, free + len(back) if not self.stopping.is_set() else 0, wait)
                except Refused as e:
                    if e.status != 409:
                        raise
                    # A lost lease: somebody else has those tasks now. If the session itself is over, begin anew.
                    print(f"refused: {e}", file=sys.stderr)
                    try:
                        self.ask("POST", f"/{self.name}/heartbeat", {"session": self.session})
                    except Refused:
                        self.running.clear()
                        self.attach()
                    continue
                for task in answer["tasks"]:
                    self.running[task["id"]] = task
                    pool.submit(self.work, task)
        self.ask("DELETE", f"/{self.name}?session={self.session}")

    def next(self, back, take, wait):
        order = {"session": self.session, "done": back, "take": take, "wait_s": wait}
        return self.ask("POST", f"/{self.name}/next", order)

    def collect(self, wait):
        """Completions that are there, at most `wait` seconds for the first."""
        back = []
        try:
            back.append(self.done.get(timeout=wait) if wait else self.done.get_nowait())
            while True:
                back.append(self.done.get_nowait())
        except queue.Empty:
            pass
        for completion in back:
            self.running.pop(completion["id"], None)
        return back

    def work(self, task):
        began = time.monotonic()
        try:
            code = self.handler(task)
        except Exception as e:  # whatever a handler raises is its task's failure
            print(f"task {task['id']}: {e}", file=sys.stderr)
            code = 1
        wall_ms = (time.monotonic() - began) * 1e3
        completion = {"id": task["id"], "token": task["token"], "exit_code": int(code or 0), "wall_ms": wall_ms}
        self.done.put(completion)


def shell(task):
    """Runs the payload, in the task's work folder, with its inputs as $1, $2, ..."""
    paths = [i["path"] for i in task.get("inputs", [])]
    command = ["sh", "-c", task.get("payload") or ":", "sh", *paths]
    env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "FORESTAGE_TASK": str(task["id"])}
    return min(abs(subprocess.run(command, cwd=task.get("workdir"), env=env).returncode), 255)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("name")
    p.add_argument("--types", required=True, type=lambda t: t.split(","))
    p.add_argument("--slots", type=int, default=1)
    p.add_argument("--socket", default=os.environ.get("FORESTAGE_SOCKET", "/run/forestage/forestage.sock"))
    p.add_argument("--handler", default=None, metavar="MODULE:FUNCTION")
    args = p.parse_args()
    handler = shell
    if args.handler:
        module, _, function = args.handler.partition(":")
        handler = getattr(importlib.import_module(module), function)
    worker = Worker(args.socket, args.name, args.types, args.slots, handler)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: worker.stopping.set())
    worker.run()


if __name__ == "__main__":
    main()
