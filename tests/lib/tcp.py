"""A tcp_proxy between a client and servers whose connections the test holds itself (scenario/tcp)."""
import socket

import config
from wire import HOST, Stream, free_port

FIELDS = {
    "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%", "rx": "%BYTES_RECEIVED%", "tx": "%BYTES_SENT%",
    "host": "%UPSTREAM_HOST%", "cluster": "%UPSTREAM_CLUSTER%", "term": "%CONNECTION_TERMINATION_DETAILS%",
    "fail": "%UPSTREAM_TRANSPORT_FAILURE_REASON%", "why": "%DOWNSTREAM_LOCAL_CLOSE_REASON%", "type": "%ACCESS_LOG_TYPE%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "code": "%RESPONSE_CODE%", "protocol": "%PROTOCOL%",
}


class Server:
    """A listening socket; accept() gives the next connection as a Stream."""

    def __init__(self, name="one", backlog=64, rcvbuf=0):
        self.name = name
        self.listener = socket.socket()
        if rcvbuf:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.listener.bind((HOST, 0))
        self.listener.listen(backlog)
        self.port = self.listener.getsockname()[1]
        self.held = []

    def accept(self, timeout=5.0):
        self.listener.settimeout(timeout)
        s = Stream(self.listener.accept()[0])
        self.held.append(s.sock)
        return s

    def close(self):
        for s in (self.listener, *self.held):
            s.close()


class Tcp:
    def __init__(self, mesh):
        self.mesh, self.servers = mesh, []

    def server(self, name="one", **kw):
        self.servers.append(Server(name, **kw))
        return self.servers[-1]

    def start(self, clusters=None, per_cluster=None, listener=None, logs=None, **fields):
        """A proxy with one listener; by default everything goes to the first server."""
        if "cluster" not in fields and "weighted_clusters" not in fields:
            fields["cluster"] = self.servers[0].name
        filters = [config.ext("envoy.filters.network.tcp_proxy", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                              stat_prefix="t", access_log=logs or [config.access_log(self.mesh.folder / "access.log", FIELDS)],
                              **fields)]
        if clusters is None:
            clusters = [config.cluster(s.name, [s.port], **(per_cluster or {})) for s in self.servers]
        boot = config.bootstrap([config.listener(free_port(), filters, **(listener or {}))], clusters, free_port())
        return self.mesh.proxy(boot=boot)

    def close(self):
        for s in self.servers:
            s.close()


def pair(tcp, dial, **kw):
    """A session that stands: proxy, client, the server's side."""
    server = tcp.server()
    px = tcp.start(**kw)
    c = dial(px)
    c.sock.sendall(b"hi")
    u = server.accept()
    assert u.exactly(2, 5) == b"hi"
    return px, c, u


def ended(stream, timeout=5):
    while stream.fill(timeout):
        pass
    return stream.ended
