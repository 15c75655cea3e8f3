"""Many simulated proxies in one small program (bench/ads_load.c)."""
import json
import pathlib
import subprocess
import tempfile
import time

from google.protobuf import json_format
from envoy.config.core.v3 import base_pb2

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "bench" / "ads_load.c"


def program(folder):
    path = pathlib.Path(folder) / "ads_load"
    if not path.exists():
        subprocess.run(["cc", "-O2", "-o", str(path), str(SOURCE)], check=True)
    return path


class Load:
    """@n clients, which begin at once. `how`: flags. `nodes`: Nodes as JSON documents."""

    def __init__(self, binary, port, n, nodes, *how):
        self.folder = tempfile.TemporaryDirectory()
        files = []
        for i, node in enumerate(nodes):
            files.append(pathlib.Path(self.folder.name) / f"{i}.bin")
            files[-1].write_bytes(json_format.ParseDict(node, base_pb2.Node()).SerializeToString())
        self.process = subprocess.Popen([binary, str(port), str(n), *how, *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self):
        text = self.process.stdout.readline()
        assert text, f"ads_load ended with {self.process.wait()}"
        return json.loads(text)

    def ask(self, command):
        self.say(command)
        return self.answer()

    def reached(self, text, change):
        """Milliseconds from change() until every client had a response with @text."""
        self.say(f"mark {time.clock_gettime_ns(time.CLOCK_MONOTONIC)} {text}")
        change()
        return self.answer()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.folder.cleanup()
