"""The control socket of a mesh (src/mesh/README.md) over pods of podagent.py: what mizzenctl asks a running mesh, without `up`."""
import json
import os
import pathlib
import shutil
import socket
import threading

from netns import CLONE_NEWNET, _sys
from wire import patient


class MeshSocket:
    """`with MeshSocket(mesh) as m: ctl.run("explain", "--mesh", m.name, ...)`"""

    def __init__(self, mesh, gateways=()):
        self.mesh, self.name, self.gateways = mesh, f"test-{os.getpid()}", gateways
        root = pathlib.Path("/run/mizzen") if os.geteuid() == 0 else pathlib.Path(os.environ.get("XDG_RUNTIME_DIR", f"/tmp/mizzen-{os.geteuid()}")) / "mizzen"
        root.mkdir(mode=0o700, exist_ok=True)
        self.folder = root / self.name
        self.folder.mkdir(mode=0o700)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(self.folder / "control.sock"))
        self.listening.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        shutil.rmtree(self.folder)

    def accept(self):
        while True:
            try:
                c = self.listening.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        with c, c.makefile("r") as lines:
            for line in lines:
                request, fds = json.loads(line), []
                try:
                    answer = self.list() if request["op"] == "list" else {"ok": True}
                    if request["op"] == "dial":
                        fds = [self.dial(request["pod"], request["port"])]
                except (OSError, KeyError) as e:
                    answer = {"error": f"{request.get('pod')}: {e}"}
                socket.send_fds(c, [json.dumps(answer).encode() + b"\n"], fds) if fds else c.sendall(json.dumps(answer).encode() + b"\n")
                for fd in fds:
                    os.close(fd)

    def list(self):
        def pod(a):
            return {"name": f"{a.name}-1", "namespace": "demo", "ip": a.pod.ip, "labels": {"app": a.name}, "account": a.name, "node": "node", "workload": f"demo/Deployment/{a.name}",
                    "ready": a.process is not None, "restarts": 0, "phase": "Running", "kind": "gateway" if a.name in self.gateways else "app", "proxy": "mizzen",
                    "containers": [{"name": "istio-proxy", "pid": a.process.pid if a.process else 0, "rss_kb": 9000, "pss_kb": 5000, "state": "running"}]}
        return {"name": self.name, "dir": str(self.mesh.docs), "pods": [pod(a) for a in self.mesh.agents.values()], "services_published": [],
                "mizzend": {"pid": self.mesh.mizzend.pid, "rss_kb": 9000, "pss_kb": 6000}}

    def dial(self, pod, port):
        """A connection inside of the pod: by a thread that goes there."""
        found = []
        agent = None if pod == "mizzend" else self.mesh.agents[pod.split("/")[-1].rsplit("-", 1)[0]]

        def connect():
            if agent:
                _sys(agent.pod.node.libc.setns(agent.pod.ns, CLONE_NEWNET))
            try:
                found.append(socket.create_connection(("127.0.0.1", port), timeout=patient(10)))
            except OSError as e:
                found.append(e)
        t = threading.Thread(target=connect)
        t.start()
        t.join()
        if isinstance(found[0], OSError):
            raise found[0]
        return found[0].detach()



