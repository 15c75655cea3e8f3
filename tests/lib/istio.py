"""What Istio's control plane answered to proxies (tests/conformance/istio), and its message types for the xDS server."""
import gzip
import importlib
import json
import pathlib
import pkgutil
import subprocess

from google.protobuf import descriptor_pb2, descriptor_pool

import config
from wire import free_port

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


def secret(name, certificates):
    """What the agent has under that name; certificates: ca.pem, cert.pem and cert.key as texts."""
    if name == "ROOTCA" or name.endswith("-cacert") or name.startswith("file-root:"):
        return {"name": name, "validation_context": {"trusted_ca": {"inline_string": certificates["ca.pem"]}}}
    return {"name": name, "tls_certificate": {"certificate_chain": {"inline_string": certificates["cert.pem"]},
                                              "private_key": {"inline_string": certificates["cert.key"]}}}


def bootstrap(server, node, delta=True, admin=None):
    """A proxy that has everything from `server` (ads.Ads), secrets by the agent's cluster."""
    source = {"ads": {}, "resource_api_version": "V3"}
    ads_config = {"api_type": "DELTA_GRPC" if delta else "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": True,
                  "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]}
    clusters = [config.cluster(n, [server.port], http={"explicit_http_config": {"http2_protocol_options": {}}}) for n in ("xds-grpc", "sds-grpc")]
    internal = config.ext("envoy.bootstrap.internal_listener", "envoy.extensions.bootstrap.internal_listener.v3.InternalListener", buffer_size_kb=64)
    return config.bootstrap([], clusters, admin or free_port(), node=node, bootstrap_extensions=[internal],
                            dynamic_resources={"cds_config": source, "lds_config": source, "ads_config": ads_config})
