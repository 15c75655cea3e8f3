"""A gRPC server in a process of its own: threads of grpcio stay for good in the network namespace that they began in, so a test that enters a pod
must not start one. As a program: grpc_apart.py ADDRESS ANSWERS, the requests as hexadecimal lines on its output."""
import json
import pathlib
import subprocess
import sys

from wire import patient


class GrpcApart:
    """`answers`: {"/package.Service/Method": {request or None: reply or [status name, message]}}, unary, bytes; None is any request.
    Made in a pod (`with pod:`) it listens there."""

    def __init__(self, answers, at):
        text = json.dumps({m: {"*" if q is None else q.hex(): r.hex() if isinstance(r, bytes) else r for q, r in a.items()} for m, a in answers.items()})
        self.process = subprocess.Popen([sys.executable, __file__, at, text], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def close(self):
        """The requests."""
        self.process.terminate()
        lines = self.process.communicate(timeout=patient(20))[0]
        return [bytes.fromhex(line) for line in lines.splitlines()]


def serve(at, answers):
    import signal

    import grpc
    from grpc_peer import GrpcPeer

    class Text:
        FromString = staticmethod(bytes)

    def answer(table):
        def reply(message, context):
            print(message.hex(), flush=True)
            found = table.get(message.hex(), table.get("*"))
            if isinstance(found, list):
                context.abort(getattr(grpc.StatusCode, found[0]), found[1])
            return bytes.fromhex(found)
        return reply
    peer = GrpcPeer({m: ("unary", Text, answer(table)) for m, table in answers.items()}, at=at)
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
    peer.close()


if __name__ == "__main__":
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    serve(sys.argv[1], json.loads(sys.argv[2]))
