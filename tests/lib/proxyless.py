"""gRPC that asks a control plane itself (xds:///): clients and servers, each a process of its own, because the library reads its bootstrap once.

    proxyless.py client TARGET plain|xds    a line of JSON on stdin per batch of calls, one with what they gave on stdout
    proxyless.py server ADDRESS NAME        answers its name; certificates and rules as the control plane says
"""
import json
import os
import pathlib
import subprocess
import sys

import grpc

SERVER_TEMPLATE = "xds.istio.io/grpc/lds/inbound/%s"
SAY = "/demo.Echo/Say"


def bootstrap(path, port, node, certificates=None):
    """`certificates`: a folder and a name: NAME.pem and NAME.key, ca.pem."""
    boot = {"xds_servers": [{"server_uri": f"127.0.0.1:{port}", "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
            "node": node, "server_listener_resource_name_template": SERVER_TEMPLATE}
    if certificates:
        folder, name = certificates
        boot["certificate_providers"] = {"default": {"plugin_name": "file_watcher", "config": {
            "certificate_file": f"{folder}/{name}.pem", "private_key_file": f"{folder}/{name}.key",
            "ca_certificate_file": f"{folder}/ca.pem", "refresh_interval": "900s"}}}
    path.write_text(json.dumps(boot))
    return path


def node(name, ip, generator="grpc"):
    return {"id": f"sidecar~{ip}~{name}.demo~demo.svc.cluster.local", "cluster": "demo", "metadata": {
        "GENERATOR": generator, "NAMESPACE": "demo", "INSTANCE_IPS": ip, "CLUSTER_ID": "Kubernetes"}}


class Process:
    def __init__(self, boot, *args):
        env = {**os.environ, "GRPC_XDS_BOOTSTRAP": str(boot), "GRPC_VERBOSITY": "ERROR"}
        self.process = subprocess.Popen([sys.executable, __file__, *args], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=open(f"{boot}.log", "wb"), text=True)
        self.log = pathlib.Path(f"{boot}.log")

    def line(self):
        text = self.process.stdout.readline()
        assert text, f"it ended: {self.log.read_text()[-2000:]}"
        return json.loads(text)

    def close(self):
        self.process.kill()
        self.process.wait()


class Client(Process):
    def __init__(self, boot, target, credentials="plain"):
        super().__init__(boot, "client", target, credentials)

    def call(self, n=1, method=SAY, metadata=(), timeout=30):
        """What @n calls gave: texts, or names of status codes."""
        self.process.stdin.write(json.dumps([n, method, list(metadata), timeout]) + "\n")
        self.process.stdin.flush()
        return self.line()


class Server(Process):
    def __init__(self, boot, address, name):
        super().__init__(boot, "server", address, name)
        assert self.line() == "listens"


def run_client(target, credentials):
    channel = grpc.insecure_channel(target) if credentials == "plain" else \
        grpc.secure_channel(target, grpc.xds_channel_credentials(grpc.local_channel_credentials()))
    for text in sys.stdin:
        n, method, metadata, timeout = json.loads(text)
        say, out = channel.unary_unary(method), []
        for i in range(n):
            try:
                out.append(say(str(i).encode(), timeout=timeout, metadata=[tuple(m) for m in metadata], wait_for_ready=True).decode())
            except grpc.RpcError as e:
                out.append(f"{e.code().name}: {e.details()}")
        print(json.dumps(out), flush=True)


class Names(grpc.GenericRpcHandler):
    """Answers every method with @answer(request, context)."""

    def __init__(self, answer):
        self.answer = answer

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.answer)


def serve(address, name):
    from concurrent import futures
    s = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Names(lambda request, context: name.encode())], xds=True)
    s.add_secure_port(address, grpc.xds_server_credentials(grpc.insecure_server_credentials()))
    s.start()
    print('"listens"', flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    (run_client if sys.argv[1] == "client" else serve)(*sys.argv[2:])
