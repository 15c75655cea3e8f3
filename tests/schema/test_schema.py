"""Our schemas and constraints against upstream's descriptors (P1). The peer is PyPI's xds-protos."""
import importlib
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SCHEMAS = ROOT / "proto"
INF = float("inf")


def ours():
    """File descriptors of proto/, compiled by protoc."""
    from google.protobuf import descriptor_pb2
    files = sorted(str(p.relative_to(SCHEMAS)) for p in SCHEMAS.rglob("*.proto"))
    out = subprocess.run(["protoc", f"-I{SCHEMAS}", "-I/usr/include", "--descriptor_set_out=/dev/stdout", *files],
                         check=True, capture_output=True).stdout
    return descriptor_pb2.FileDescriptorSet.FromString(out).file


# Upstream's contrib extensions are in no package of descriptors: written by hand from its documentation.
# Neither are the documents of Istio and Kubernetes.
CONTRIB = ("envoy/extensions/filters/network/kafka_broker/", "envoy/extensions/filters/network/mysql_proxy/", "envoy/extensions/filters/network/postgres_proxy/",
           "envoy/extensions/filters/network/metadata_exchange/", "envoy/extensions/filters/common/workload_discovery/",
           "envoy/extensions/filters/http/alpn/", "envoy/extensions/filters/http/istio_stats/", "envoy/extensions/filters/http/peer_metadata/",
           "istio/", "k8s/", "stats/")


def upstream(name):
    """The same file as upstream has it."""
    from google.protobuf import descriptor_pb2
    module = importlib.import_module(name[:-len(".proto")].replace("/", ".").replace("-", "_") + "_pb2")
    proto = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(proto)
    return proto


@pytest.fixture(scope="module", autouse=True)
def peer():
    pytest.importorskip("google.protobuf", reason="xds-protos not installed")
    try:
        importlib.import_module("envoy.config.core.v3.base_pb2")
    except ImportError:
        pytest.skip("xds-protos not installed")


def flat(message, scope):
    """All messages and enums at and below: yields (full name, descriptor)."""
    full = f"{scope}.{message.name}"
    yield full, message
    for e in message.enum_type:
        yield f"{full}.{e.name}", e
    for n in message.nested_type:
        yield from flat(n, full)


def everything(file):
    out = {f"{file.package}.{e.name}": e for e in file.enum_type}
    for m in file.message_type:
        out.update(flat(m, file.package))
    return out


def oneof_of(message, field):
    return message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None


def is_ours(full):
    """What Mizzen shows beyond Envoy on its admin pages says so in its name; configuration has nothing of the kind."""
    return full.startswith("envoy.admin.v3.") and full.rpartition(".")[2].lower().startswith("mizzen")


# Values that Envoy 1.40 has (its binary reads and prints them) and the peer, which is older, has not.
NEWER = {"envoy.config.cluster.v3.UpstreamConnectionOptions.FirstAddressFamilyVersion": [("PIPE", 3), ("INTERNAL", 4)]}


# ... and fields: number and type.
NEWER_FIELDS = {"envoy.config.route.v3.RouteMatch.cookies": (17, ".envoy.config.route.v3.CookieMatcher"),
                "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget.budget_interval": (3, ".google.protobuf.Duration"),
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing.no_context_propagation": (13, "")}


# ... and messages: fields by number.
NEWER_MESSAGES = {"envoy.config.route.v3.CookieMatcher": {"name": 1, "string_match": 2, "invert_match": 3}}
NEWER_RULES = {"envoy.config.route.v3.CookieMatcher": {("envoy.config.route.v3.CookieMatcher", "name", "LENGTH", 1.0, INF),
                                                       ("envoy.config.route.v3.CookieMatcher", "string_match", "REQUIRED", None, None)}}


def differences(ours_file, their_file):
    mine, theirs = everything(ours_file), everything(their_file)
    if ours_file.package != their_file.package:
        yield f"package {ours_file.package}, upstream {their_file.package}"
    for full, m in mine.items():
        u = theirs.get(full)
        if u is None and (is_ours(full) or (full in NEWER_MESSAGES and NEWER_MESSAGES[full] == {f.name: f.number for f in m.field})):
            continue
        if u is None or type(u) is not type(m):
            yield f"{full}: upstream has no such {type(m).__name__}"
        elif hasattr(m, "value"):
            if [(v.name, v.number) for v in m.value] != [(v.name, v.number) for v in u.value] + NEWER.get(full, []):
                yield f"{full}: other values than upstream's"
        else:
            if m.options.map_entry != u.options.map_entry:
                yield f"{full}: a map here or there only"
            yield from field_differences(full, m, u)


def field_differences(full, m, u):
    by_name = {f.name: f for f in u.field}
    for f in m.field:
        g = by_name.get(f.name)
        if g is None and is_ours(f"{full}.{f.name}") and f.number > 50000:
            continue
        if g is None and NEWER_FIELDS.get(f"{full}.{f.name}") == (f.number, f.type_name):
            continue
        if g is None:
            yield f"{full}.{f.name}: upstream has no such field"
            continue
        for what in ("number", "type", "type_name", "label"):
            if getattr(f, what) != getattr(g, what):
                yield f"{full}.{f.name}: {what} {getattr(f, what)}, upstream {getattr(g, what)}"
        synthetic = g.proto3_optional and oneof_of(m, f) == f"_{f.name}"
        if oneof_of(m, f) != oneof_of(u, g) and not synthetic:
            yield f"{full}.{f.name}: oneof {oneof_of(m, f)}, upstream {oneof_of(u, g)}"


def test_schemas_agree_with_upstream():
    bad = [f"{f.name}: {d}" for f in ours() if not f.name.startswith(CONTRIB) for d in differences(f, upstream(f.name))]
    assert not bad, "\n".join(bad)


def test_every_schema_is_compiled_in():
    listed = set(re.findall(r"'(.+?\.proto)'", (SCHEMAS / "meson.build").read_text()))
    assert listed == {str(p.relative_to(SCHEMAS)) for p in SCHEMAS.rglob("*.proto")}


def test_a_wrong_number_would_be_seen():
    """The comparison itself: each kind of change is reported."""
    name = "envoy/config/cluster/v3/cluster.proto"
    for change, told in ((lambda m: setattr(m.field[0], "number", 1999), "number"),
                         (lambda m: setattr(m.field[0], "type", 13), "type"),
                         (lambda m: setattr(m.field[0], "label", 3), "label"),
                         (lambda m: setattr(m.field[0], "name", "nome"), "no such field"),
                         (lambda m: setattr(m.enum_type[0].value[0], "number", 99), "values"),
                         (lambda m: setattr(m, "name", "Klaster"), "no such")):
        mine = next(f for f in ours() if f.name == name)
        change(next(m for m in mine.message_type if m.name == "Cluster"))
        assert any(told in d for d in differences(mine, upstream(name))), told


# Constraints: upstream's protoc-gen-validate annotations as rows of src/proto/constraints.c.

def table():
    rows, message = set(), None
    text = (ROOT / "src/proto/constraints.c").read_text().replace('"\n          "', "")
    for line in text.splitlines():
        if m := re.match(r'MESSAGE\("(.+)"\)$', line):
            assert message is None or message < m[1], f"{m[1]} is out of order"
            message = m[1]
        elif m := re.match(r"    PLAIN\((\w+), (\w+)\)$", line):
            rows.add((message, m[1], m[2], None, None))
        elif m := re.match(r"    LIMIT\((\w+), (\w+), (\S+), (\S+)\)$", line):
            rows.add((message, m[1], m[2], float(m[3].replace("INFINITY", "inf")), float(m[4].replace("INFINITY", "inf"))))
        elif m := re.match(r'    WORDS\((\w+), (\w+), "(.+)"\)$', line):
            rows.add((message, m[1], m[2], m[3], None))
    return rows


def nanos(d):
    return float(d.seconds * 10**9 + d.nanos)


def bounds(rule, value=float, step=1):
    low, high = -INF, INF
    if rule.HasField("gt"):
        low = value(rule.gt) + step
    if rule.HasField("gte"):
        low = value(rule.gte)
    if rule.HasField("lt"):
        high = value(rule.lt) - step
    if rule.HasField("lte"):
        high = value(rule.lte)
    return low, high


def text_rules(rule):
    if rule.min_len:
        yield "LENGTH", float(rule.min_len), float(rule.max_len) if rule.HasField("max_len") else INF
    if rule.HasField("max_bytes"):
        yield "LENGTH", 0.0, float(rule.max_bytes)
    if rule.well_known_regex:
        lenient = rule.HasField("strict") and not rule.strict
        yield "NO_CR_LF" if lenient else {1: "HEADER_NAME", 2: "HEADER_VALUE"}[rule.well_known_regex], None, None
    if getattr(rule, "in"):
        yield "WORD", " ".join(getattr(rule, "in")), None
    if rule.pattern:
        yield {"^[^?#]+[^?#/]$": "PATH_PREFIX", "^[0-9a-zA-Z_\\-\\.~:]+$": "ENTRY_NAME"}[rule.pattern], None, None


def item_rules(items):
    kind = items.WhichOneof("type")
    rule = getattr(items, kind)
    if kind == "string":
        yield from text_rules(rule)
    elif kind == "enum":
        yield "DEFINED", None, None
    elif kind == "double":
        yield "ABOVE", rule.gt, rule.gt
    else:
        yield ("RANGE", *bounds(rule))


def rules_of(r):
    if r.message.required:
        yield "REQUIRED", None, None
    kind = r.WhichOneof("type")
    if kind is None:
        return
    rule = getattr(r, kind)
    if kind == "string":
        yield from text_rules(rule)
    elif kind == "double" and rule.HasField("gt"):
        yield "ABOVE", rule.gt, rule.gt
    elif kind == "bytes":
        yield "LENGTH", 0.0, float(rule.max_len)
    elif kind == "enum":
        yield "DEFINED", None, None
        yield from (("NOT", float(v), float(v)) for v in rule.not_in)
    elif kind == "any":
        yield "REQUIRED", None, None
    elif kind == "bool":
        yield "TRUE", None, None
    elif kind == "duration":
        if rule.required:
            yield "REQUIRED", None, None
        yield ("DURATION", *bounds(rule, nanos))
    elif kind == "repeated":
        if rule.HasField("min_items") or rule.HasField("max_items"):
            yield "ITEMS", float(rule.min_items), float(rule.max_items) if rule.HasField("max_items") else INF
        if rule.unique:
            yield "UNIQUE", None, None
        if rule.HasField("items"):
            yield from item_rules(rule.items)
    elif kind == "map":
        yield "KEY_LENGTH", float(rule.keys.string.min_len), INF
    else:
        yield ("RANGE", *bounds(rule))


def message_rules(full, m, u, validate):
    by_name = {f.name: f for f in u.field}
    for f in m.field:
        if f.name not in by_name:
            continue
        options = by_name[f.name].options
        if options.HasExtension(validate.rules):
            yield from ((full, f.name, *r) for r in rules_of(options.Extensions[validate.rules]))
    by_oneof = {o.name: o for o in u.oneof_decl}
    for i, o in enumerate(m.oneof_decl):
        if o.name in by_oneof and by_oneof[o.name].options.Extensions[validate.required]:
            first = next(f.name for f in m.field if f.HasField("oneof_index") and f.oneof_index == i)
            yield full, first, "ONE_OF", o.name, None


def test_constraints_agree_with_upstream():
    validate = importlib.import_module("validate.validate_pb2")
    want = set()
    for f in ours():
        if f.name.startswith(CONTRIB):
            continue
        theirs = everything(upstream(f.name))
        for full, m in everything(f).items():
            if hasattr(m, "field") and not f.package.startswith("envoy.admin"):  # we write those, nobody sends them
                want.update(NEWER_RULES.get(full) or message_rules(full, m, theirs[full], validate))
    have = {h for h in table() if not h[0].replace(".", "/").startswith(CONTRIB)}
    assert len(have) > 250
    assert have == want, f"missing {sorted(map(str, want - have))}\nnot upstream's {sorted(map(str, have - want))}"


def test_sensitive_fields_are_upstreams():
    """What pages must not show (src/proto/sensitive.c): every field of ours that upstream marks so."""
    from udpa.annotations import sensitive_pb2
    ours_have = {(full, f.name) for file in ours() for full, m in everything(file).items() if hasattr(m, "field") for f in m.field}
    marked = set()
    for file in ours():
        if file.name.startswith(CONTRIB):
            continue
        for full, m in everything(upstream(file.name)).items():
            marked |= {(full, f.name) for f in getattr(m, "field", ()) if f.options.Extensions[sensitive_pb2.sensitive]}
    listed = set(re.findall(r'\{ "([\w.]+)", "(\w+)" \}', (ROOT / "src/proto/sensitive.c").read_text()))
    assert listed == marked & ours_have
