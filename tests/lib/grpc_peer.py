"""gRPC services as peers: the messages are upstream's, the servers grpcio's. Import it behind pytest.importorskip("grpc")."""
import threading
from concurrent import futures

import grpc


class GrpcPeer:
    """A server for methods given as {"/package.Service/Method": (kind, request class, function)}; kind is "unary" or "stream"."""

    def __init__(self, methods, name="authz", at="127.0.0.1:0"):
        self.name, self.methods = name, methods
        self.requests, self.metadata, self.cancelled = [], [], threading.Event()
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), handlers=[self])
        self.port = self.server.add_insecure_port(at)
        self.server.start()

    def service(self, details):
        if details.method not in self.methods:
            return None
        kind, request, function = self.methods[details.method]

        def note(context):
            self.metadata.append(dict(context.invocation_metadata()))
            context.add_callback(self.cancelled.set)

        def unary(message, context):
            note(context)
            self.requests.append(message)
            return function(message, context)

        def stream(messages, context):
            note(context)
            return function(self._recorded(messages), context)
        make = grpc.unary_unary_rpc_method_handler if kind == "unary" else grpc.stream_unary_rpc_method_handler
        return make(unary if kind == "unary" else stream, request_deserializer=request.FromString,
                    response_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString())

    def _recorded(self, messages):
        for m in messages:
            self.requests.append(m)
            yield m

    def close(self):
        self.server.stop(None).wait()
