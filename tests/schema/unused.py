#!/usr/bin/python3
"""Every field of our schemas is read by somebody: a field that parses and is then ignored is a defect.

usage: unused.py SOURCE_ROOT

A field counts as read when a source file that knows its message (names its type, or that of a message around it) reads the
generated member, n_member or the case of the oneof, or appends to it (TR_ADD). What is unread on purpose stands in ON_PURPOSE with the reason; an entry
there or in NOT_YET that is read, or that the schema has not, is an error, too.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2])
sys.path.insert(0, str(ROOT / "tools"))
from gen_proto import short_names  # noqa: E402

# Full name of a field, or of a message or package with a dot behind it: all below -> why nobody reads it.
ON_PURPOSE = {
    "envoy.extensions.load_balancing_policies.subset.v3.Subset.": "its bytes are read as Cluster.LbSubsetConfig, which has the same fields (cluster_lb_typed.c)",
    "envoy.admin.v3.": "printed by admin pages, never configuration",
    "envoy.config.core.v3.Metadata.typed_filter_metadata": "for extensions of their own; shown by /config_dump",
    "envoy.config.core.v3.SocketOption.description": "for people",
    "envoy.extensions.transport_sockets.starttls.v3.StartTlsConfig.cleartext_socket_config": "of the plain transport, which has nothing to configure",
    "envoy.type.matcher.v3.RegexMatcher.google_re2": "the one engine there is",
    "envoy.extensions.filters.http.router.v3.Router.start_child_span": "of other proxies: EnvoyFilters say it",
    "google.api.expr.v1alpha1.SourceInfo.": "where nodes stand in a text that is not here",
    "google.api.expr.v1alpha1.Type.": "what the type checker found; evaluation finds it again",
    "google.api.expr.v1alpha1.Reference.": "of the type checker",
    "google.api.expr.v1alpha1.CheckedExpr.reference_map": "of the type checker",
    "google.api.expr.v1alpha1.CheckedExpr.type_map": "of the type checker",
    "google.api.expr.v1alpha1.CheckedExpr.source_info": "see SourceInfo",
    "google.api.expr.v1alpha1.CheckedExpr.expr_version": "of the type checker",
    "google.api.expr.v1alpha1.ParsedExpr.source_info": "see SourceInfo",
    "xds.type.matcher.v3.CelMatcher.description": "for people",
    "xds.type.matcher.v3.RegexMatcher.google_re2": "the one engine there is",
    "google.api.expr.v1alpha1.Expr.CreateStruct.Entry.field_key": "of messages, which are refused",
    "google.api.expr.v1alpha1.Expr.CreateStruct.Entry.id": "for SourceInfo and the type checker",
    "envoy.config.core.v3.JsonFormatOptions.": "members of JSON logs are always sorted; without it Envoy promises no order",
    "envoy.config.bootstrap.v3.Admin.profile_path": "of profilers that are not built in: /cpuprofiler says so",
    "envoy.config.listener.v3.Listener.bypass_overload_manager": "of overload actions, of which there are none",
    "opentelemetry.proto.common.v1.AnyValue.bool_value": "copied as bytes (filters/access_loggers/otel_record.c)",
    "opentelemetry.proto.common.v1.AnyValue.int_value": "copied as bytes (filters/access_loggers/otel_record.c)",
    "opentelemetry.proto.common.v1.AnyValue.double_value": "copied as bytes (filters/access_loggers/otel_record.c)",
    "opentelemetry.proto.common.v1.AnyValue.bytes_value": "copied as bytes (filters/access_loggers/otel_record.c)",
    "istio.workload.": "what ztunnels do with a workload; a proxy reads who it is (filters/istio/workloads.c)",
    "envoy.service.accesslog.v3.": "packed by hand, entry by entry (filters/access_loggers/grpc_log.c)",
    "stats.PluginConfig.rotation_interval": "deprecated; Istio's own filter does not read it any more",
    "stats.PluginConfig.graceful_deletion_interval": "the same",
    **{f"istio.mesh.v1alpha1.ProxyConfig.{f}": "for agents: defaultConfig goes into PROXY_CONFIG whole (inject/layers.c)" for f in (
        "drain_duration", "discovery_address", "interception_mode", "proxy_metadata", "runtime_values", "extra_stat_tags",
        "termination_drain_duration", "proxy_stats_matcher", "hold_application_until_proxy_starts", "ca_certificates_pem",
        "config_path", "binary_path", "tracing_service_name", "zipkin_address", "statsd_udp_address",
        "envoy_metrics_service_address", "proxy_admin_port", "control_plane_auth_policy", "custom_config_file", "stat_name_length",
        "proxy_bootstrap_template_path", "envoy_access_log_service", "envoy_metrics_service", "status_port", "private_key_provider",
        "file_flush_interval", "file_flush_min_size_kb", "stats_compression")},
    **{f"istio.mesh.v1alpha1.{m}": "for agents: of PROXY_CONFIG" for m in (
        "RemoteService.", "PrivateKeyProvider.", "Tracing.Lightstep.", "Tracing.Stackdriver.",
        "Tracing.lightstep", "Tracing.stackdriver", "Tracing.tls_settings",
        "ProxyConfig.ConnectionSettings.global_downstream_connection_limit")},
    "istio.mesh.v1alpha1.ProxyConfig.ProxyStatsMatcher.": "for agents, too",
    "istio.networking.v1alpha3.EnvoyFilter.Patch.filter_class": "Istio's own control plane does not read it either",
    **{f"istio.{f}": "Istio takes it, and its control plane does not read it" for f in (
        "networking.v1alpha3.L4MatchAttributes.source_subnet", "networking.v1alpha3.OutlierDetection.consecutive_errors",
        "networking.v1alpha3.LoadBalancerSettings.backend_utilization", "networking.v1alpha3.LoadBalancerSettings.BackendUtilizationLB.",
        "networking.v1alpha3.Server.default_endpoint", "security.v1beta1.JWTRule.presence",
        "networking.v1alpha3.EnvoyFilter.EnvoyConfigObjectMatch.waypoint")},
    "xds.type.v3.TypedStruct.": "opened by its descriptor (src/proto/any.c)",
}
# Defects that are known: the field, and where it ought to be read. Nothing may be added here; what is read leaves.
NOT_YET = {
}


def parse(text):
    """The messages of one file: {full name: [(field, type, oneof)]}."""
    package = re.search(r"^package ([\w.]+);", text, re.M)[1]
    out, scope = {}, []
    for line in text.splitlines():
        line = line.split("//")[0].strip()
        opened = re.match(r"(message|enum|oneof) (\w+) {(})?$", line)
        if opened:
            kind, name, closed = opened.groups()
            scope.append((kind, name))
            if kind == "message":
                out[".".join([package, *(n for k, n in scope if k == "message")])] = []
            if closed:
                scope.pop()
        elif line == "}":
            scope.pop()
        elif scope and scope[-1][0] != "enum":
            field = re.match(r"(?:repeated )?(map<.*>|[\w.]+) (\w+) = \d+", line)
            if field:
                full = ".".join([package, *(n for k, n in scope if k == "message")])
                out[full].append((field[2], re.sub(r"map<\w+, *([\w.]+)>", r"\1", field[1])))
    return package, out


def resolve(name, scope, messages):
    """The message that a field's type names, seen from inside @scope; None: a scalar, an enum or google's."""
    while scope:
        if f"{scope}.{name}" in messages:
            return f"{scope}.{name}"
        scope = scope.rpartition(".")[0]
    return name if name in messages else None


def c_name(full):
    return "__".join("".join(w[:1].upper() + w[1:] for w in part.split("_")) for part in full.split("."))


def load():
    """Messages, their packages, and those that the control plane alone has."""
    messages, packages, documents = {}, {}, set()
    own = (ROOT / "proto/meson.build").read_text().partition("control_proto_files")[2]
    for path in sorted((ROOT / "proto").rglob("*.proto")):
        package, found = parse(path.read_text())
        messages.update(found)
        packages.update((m, package) for m in found)
        if str(path.relative_to(ROOT / "proto")) in own:
            documents.update(found)
    return messages, packages, documents


def sources():
    for path in sorted((ROOT / "src").rglob("*.[ch]")):
        if not re.search(r"_(test|fuzz|bench|double|fixture)\.[ch]$", path.name) and path.parent.name != "proto":
            yield path.read_text()


def around(messages, levels=3):
    """{message: itself and the messages that contain it, some levels up}."""
    parents = {m: set() for m in messages}
    for m, fields in messages.items():
        for _, kind in fields:
            child = resolve(kind, m, messages)
            if child:
                parents[child].add(m)
    out = {}
    for m in messages:
        seen, edge = {m}, {m}
        for _ in range(levels):
            edge = {p for e in edge for p in parents[e]} - seen
            seen |= edge
        out[m] = seen
    return out


def unread():
    messages, packages, documents = load()
    short = short_names([(m, packages[m]) for m in messages if m not in documents])
    short |= short_names([(m, packages[m]) for m in documents], set(short.values()))
    files = [(set(re.findall(r"\b(?:pb_|ist_|k8s_|Envoy__|Istio__|K8s__|Xds__|Udpa__)\w+", t)),
              {re.sub("^n_|_$", "", w) for w in re.findall(r"(?:->|\.)\s*(\w+)", t) + re.findall(r"TR_ADD\([^,]+, [^,]+, (\w+)\)", t)})
             for t in sources()]
    words = set().union(*(w for w, _ in files))
    for m, near in around(messages).items():
        names = {short[n] for n in near} | {c_name(n) for n in near}
        # a file names a type, or something that begins with it (a descriptor, a oneof's case)
        knows = [members for w, members in files if any(x in names or any(x.startswith(n + "_") for n in names) for x in w)]
        for field, _ in messages[m]:
            case = re.compile(rf"{short[m]}_\w*{field.upper()}")
            names_in_c = {field.lower(), field.lower() + "_"}  # the second where it is a word of C's
            if not any(names_in_c & k for k in knows) and not any(case.fullmatch(w) for w in words):
                yield f"{m}.{field}"


def main():
    messages, *_ = load()
    fields = {f"{m}.{f}" for m in messages for f, _ in messages[m]}
    known = {**ON_PURPOSE, **NOT_YET}
    left, used = [], set()
    for name in unread():
        why = next((k for k in known if name == k or (k.endswith(".") and name.startswith(k))), None)
        used.add(why)
        left += [] if why else [name]
    for name in left:
        print(f"unused: nobody reads {name}: make it work, or take it out of proto/")
    stale = [k for k in known if k not in used]
    for k in stale:
        print(f"unused: {k} stands in {__file__}, but it is {'read now' if k in fields or k.endswith('.') else 'not in proto/'}")
    print(f"unused: {len(fields)} fields, {len(left) + len(stale)} wrong")
    return bool(left or stale)


if __name__ == "__main__":
    sys.exit(main())
