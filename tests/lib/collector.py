"""Collectors of traces as peers: OTLP over gRPC or HTTP, and Zipkin (JSON or protobuf). Import it behind pytest.importorskip("grpc")."""
import http.server
import json
import threading

from grpc_peer import GrpcPeer
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def plain(value):
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


class Span:
    """An OTLP span with its tags and events as Python has them."""

    def __init__(self, span, resource):
        self.name, self.kind, self.state = span.name, span.kind, span.trace_state
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.tags = {a.key: plain(a.value) for a in span.attributes}
        self.events = [(e.name, e.time_unix_nano) for e in span.events]
        self.status, self.resource = span.status.code, resource

    def __repr__(self):
        return f"<{self.name} {self.kind} {self.trace}/{self.id} of {self.parent or '-'} {self.tags} {self.events} {self.status}>"


def spans_of(request):
    return [Span(s, {a.key: plain(a.value) for a in r.resource.attributes})
            for r in request.resource_spans for scope in r.instrumentation_library_spans for s in scope.spans]  # scope_spans, of before it was renamed


class OtlpGrpc:
    """A cluster for it speaks HTTP/2."""

    def __init__(self, name="collector"):
        self.name, self.spans, self.lots = name, [], []
        self.peer = GrpcPeer({EXPORT: ("unary", trace_service_pb2.ExportTraceServiceRequest, self._take)})
        self.port, self.metadata = self.peer.port, self.peer.metadata

    def _take(self, request, _):
        got = spans_of(request)
        self.lots.append(len(got))
        self.spans += got
        return trace_service_pb2.ExportTraceServiceResponse()

    def close(self):
        self.peer.close()


class OverHttp:
    """Takes what is posted: OTLP's protobuf as Span, Zipkin's JSON as dictionaries. `hold`: an Event to wait for before answering."""

    def __init__(self, name="collector", hold=None):
        self.name, self.spans, self.requests = name, [], []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self._chunked() if "content-length" not in self.headers else self.rfile.read(int(self.headers["content-length"]))
                outer.requests.append((self.path, dict(self.headers.items()), body))
                if hold:
                    hold.wait(20)
                if "json" in self.headers["content-type"]:
                    outer.spans += json.loads(body)
                else:
                    outer.spans += spans_of(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()

            def _chunked(self):
                body = b""
                while True:
                    n = int(self.rfile.readline(), 16)
                    body += self.rfile.read(n)
                    self.rfile.readline()
                    if n == 0:
                        return body

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
