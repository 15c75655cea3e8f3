"""What Istio's control plane answered to proxies (tests/conformance/istio), and its message types for the xDS server."""
import gzip
import importlib
import json
import pathlib
import pkgutil
import subprocess

from google.protobuf import descriptor_pb2, descriptor_pool

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "conformance" / "istio"
SCHEMAS = [f"envoy/extensions/filters/{n}.proto" for n in (
    "http/alpn/v3/alpn", "http/istio_stats/v3/istio_stats", "http/peer_metadata/v3/peer_metadata", "network/metadata_exchange/v3/metadata_exchange")]
KINDS = {"cds": "cluster", "eds": "endpoint", "lds": "listener", "rds": "route", "ecds": "extension", "sds": "secret"}


def load(case):
    return json.loads(gzip.decompress((FOLDER / f"{case}.json.gz").read_bytes()))


def cases():
    """All (case, proxy)."""
    return [(c, p) for c in sorted(f.name.removesuffix(".json.gz") for f in FOLDER.glob("*.json.gz") if f.name != "bootstrap.json.gz")
            for p in load(c)]


def types(value, out=None):
    """Every type in a document: of Any, and within TypedStruct."""
    out = set() if out is None else out
    if isinstance(value, dict):
        url = value.get("@type", "")
        out.add(url.rpartition("/")[2])
        if url.endswith(".TypedStruct"):
            out.add(value.get("type_url", "").rpartition("/")[2])
        for v in value.values():
            types(v, out)
    elif isinstance(value, list):
        for v in value:
            types(v, out)
    return out - {""}


def register(document):
    """Makes the types of a document known to this process: upstream's from its package, Istio's from our own schemas."""
    pool = descriptor_pool.Default()
    for name in sorted(types(document)):
        try:
            pool.FindMessageTypeByName(name)
            continue
        except KeyError:
            pass
        try:
            package = importlib.import_module(name.rpartition(".")[0])
        except ImportError:
            continue
        for m in pkgutil.iter_modules(package.__path__):
            if m.name.endswith("_pb2"):
                importlib.import_module(f"{package.__name__}.{m.name}")
    _register_istio(pool)


def _register_istio(pool):
    out = subprocess.run(["protoc", f"-I{ROOT}/proto", "-I/usr/include", "--descriptor_set_out=/dev/stdout", *SCHEMAS],
                         check=True, capture_output=True).stdout
    for f in descriptor_pb2.FileDescriptorSet.FromString(out).file:
        try:
            pool.FindFileByName(f.name)
        except KeyError:
            pool.AddSerializedFile(f.SerializeToString())
