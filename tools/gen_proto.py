#!/usr/bin/python3
"""Schemas to C: runs protoc-c and writes names.h (short names), messages.c (tables of fields and types), gen/TABLE_structs.h.

usage: gen_proto.py PROTOC_C SCHEMA_DIR WELL_KNOWN_DIR OUT_DIR TABLE FILE.proto...

TABLE names the array of types that messages.c holds (mz_<TABLE>_types). Well-known types are in the set called proto; the others
build on it. A field whose line ends with the comment "// control plane only" also goes to mz_proto_control_fields: it is
written by the control plane for other proxies, and for our own it is an unknown field (mapper.h).

Of what protoc-c writes nothing remains that nobody calls (packing by type, closures): half of every compilation was reading it.
The structs are in one header, apart from names.h, because it is included as a system header: it is not ours to warn about.

Short names. A message or enum is called pb_ and its path below the package, nested names joined by one underscore:
envoy.config.cluster.v3.Cluster.LbPolicy is pb_Cluster_LbPolicy. Descriptors get __descriptor and __init behind it, enum
values _NAME, the cases of a oneof pb_Route_ACTION_REDIRECT and pb_Route_ACTION__NOT_SET, initialisers pb_Route__INIT.
Where two packages use one path, the plain name belongs to the first of envoy.config.listener, envoy.config, google.protobuf, envoy.type, others;
every other takes in front as many of the last components of its package (the version not counted) as make it unique:
envoy.extensions.upstreams.http.v3.HttpProtocolOptions is pb_http_HttpProtocolOptions. Documents of Istio begin with ist_,
those of Kubernetes with k8s_; among themselves the same rule holds. A set that builds on another never takes a plain name that a
schema outside of it has.
"""
import pathlib
import re
import subprocess
import sys

WELL_KNOWN = ["any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers"]
RANKS = ["envoy.config.listener.", "envoy.config.", "google.protobuf.", "envoy.type."]
# Documents; extensions of proxies (istio.envoy.) are configuration like any other.
PREFIXES = {"istio.envoy.": "pb_", "istio.workload": "pb_", "istio.": "ist_", "k8s.": "k8s_"}
CONTROL_ONLY = "// control plane only"


def rank(full):
    return next((i for i, p in enumerate(RANKS) if full.startswith(p)), len(RANKS))


def package_tail(package, count):
    parts = [p for p in package.split(".") if not re.fullmatch(r"v\d+\w*", p)]
    return "_".join(parts[-count:])


def prefix(package):
    return next((p for start, p in PREFIXES.items() if package.startswith(start)), "pb_")


def elsewhere(schemas, files):
    """Plain names of what stands at the top of schemas that are not among files."""
    out = set()
    for path in schemas.rglob("*.proto"):
        if str(path.relative_to(schemas)) not in files:
            text = path.read_text()
            package = re.search(r"^package ([\w.]+);", text, re.M)[1]
            out |= {prefix(package) + n for n in re.findall(r"^(?:message|enum) (\w+)", text, re.M)}
    return out


def short_names(types, taken=()):
    """types: (full name, package) -> dict of full name to short name."""
    by_path = {}
    for full, package in types:
        by_path.setdefault((prefix(package), full[len(package) + 1:].replace(".", "_")), []).append((full, package))
    out = {}
    for (first, path), group in by_path.items():
        group.sort(key=lambda g: (rank(g[0]), g[0]))
        if first + path not in taken and (len(group) == 1 or rank(group[0][0]) < rank(group[1][0])):
            out[group.pop(0)[0]] = first + path
        for full, package in group:
            count = 1
            while [package_tail(p, count) for _, p in group].count(package_tail(package, count)) > 1:
                count += 1
            out[full] = f"{first}{package_tail(package, count)}_{path}"
    assert len(set(out.values())) == len(out), "short names collide"
    return out


def control_fields(path):
    """(full name of the message, number) of the marked fields of one schema."""
    text = path.read_text()
    if CONTROL_ONLY not in text:
        return
    package, scope = re.search(r"^package ([\w.]+);", text, re.M)[1], []
    for line in text.splitlines():
        code = line.split("//")[0].strip()
        opened = re.match(r"(message|enum|oneof) (\w+) {$", code)
        if opened:
            scope.append(opened.groups())
        elif code == "}":
            scope.pop()
        elif line.rstrip().endswith(CONTROL_ONLY):
            yield ".".join([package, *(n for k, n in scope if k == "message")]), int(re.search(r"= (\d+)", code)[1])


def structs(texts):
    """The generated headers as one: what a struct needs of another file stands before all structs."""
    parts = ["", "", "", ""] # type names, enums, descriptors, structs with their initialisers
    for text in texts:
        _, enums, messages, descriptors = re.split(r"/\* --- (?:enums|messages|descriptors) --- \*/", text[:text.rindex("PROTOBUF_C__END_DECLS")])
        types = "\n" + "\n".join(re.findall(r"^typedef struct \w+ \w+;$", text, re.M))
        messages = re.split(r"/\* (?:\w+ methods|--- per-message closures ---) \*/", messages)[0]
        parts = [p + re.sub(r"\s*/\*.*?\*/|\n(?=\n)", "", t, flags=re.S) for p, t in zip(parts, (types, enums, descriptors, messages))]
    return "".join(parts) + "\n"


def tables(text):
    """The tables of fields, the descriptors and the functions that initialise messages, of one generated file."""
    text = text[text.index(".pb-c.h\"\n") + len(".pb-c.h\"\n"):]
    text = re.sub(r"^size_t \w+__get_packed_size\n.*?^void   \w+__free_unpacked\n.*?^}\n", "", text, flags=re.S | re.M)
    return re.sub(r"^void   (?=\w+__init\n)", "static void ", text, flags=re.M)


def main():
    protoc, schemas, known, out_dir = sys.argv[1], *map(pathlib.Path, sys.argv[2:5])
    table_name, first_set = sys.argv[5], sys.argv[5] == "proto"
    files = [str(pathlib.Path(f).resolve().relative_to(schemas.resolve())) for f in sys.argv[6:]]
    gen = out_dir / "gen"
    gen.mkdir(parents=True, exist_ok=True)
    well_known = [f"google/protobuf/{n}.proto" for n in WELL_KNOWN] if first_set else []
    subprocess.run([protoc, f"-I{schemas}", f"-I{known}", f"--c_out={gen}", *well_known, *files], check=True)
    stems = [f[:-len(".proto")] for f in well_known + files]
    code = "".join(tables((gen / f"{s}.pb-c.c").read_text()) for s in stems)
    heads = structs((gen / f"{s}.pb-c.h").read_text() for s in stems)

    magic = r'Descriptor (\w+)__descriptor =\n{\n  PROTOBUF_C__%s_DESCRIPTOR_MAGIC,\n  "([\w.]+)",\n  "(\w+)",\n  "(\w+)",\n  "([\w.]+)",'
    messages = re.findall(magic % "MESSAGE", code)
    enums = re.findall(magic % "ENUM", code)
    short = short_names([(m[1], m[4]) for m in messages + enums], () if first_set else elsewhere(schemas, set(files)))
    bodies = dict(re.findall(r"typedef enum _(\w+) {\n(.*?)PROTOBUF_C__FORCE_ENUM", heads, re.S))
    cases = {c: b for b, c in re.findall(r"typedef enum {\n([^}]*?)PROTOBUF_C__FORCE_ENUM[^}]*} (\w+Case);", heads)}
    uppers = {lower: upper for upper, lower in re.findall(r"#define (\w+)__INIT \\\n { PROTOBUF_C_MESSAGE_INIT \(&(\w+)__descriptor\)", heads)}
    values_of = dict(re.findall(r" (\w+)__enum_values_by_number\[\d+\] =\n{\n(.*?)\n};", code, re.S))

    names = ["/* Written by tools/gen_proto.py; the rule of the names stands there. */", "#pragma once"]
    names.append(f'#include "{table_name}_structs.h"')
    base = "<protobuf-c/protobuf-c.h>" if first_set else '"proto_structs.h"'
    (gen / f"{table_name}_structs.h").write_text(f"#pragma once\n#include {base}\n{heads}")
    for lower, full, _, cname, _ in sorted(messages, key=lambda m: m[1]):
        s = short[full]
        upper = uppers[lower]
        names += [f"#define {s} {cname}", f"#define {s}__descriptor {lower}__descriptor", f"#define {s}__INIT {upper}__INIT"]
        for case in (c for c in cases if c.rpartition("__")[0] == cname):
            names.append(f"#define {s}_{case[len(cname) + 2:]} {case}")
            for value in re.findall(r"^\s*(\w+) =", cases[case], re.M):
                names.append(f"#define {s}_{value[len(upper) + 2:]} {value}")
    for lower, full, _, cname, _ in sorted(enums, key=lambda m: m[1]):
        s = short[full]
        names += [f"#define {s} {cname}", f"#define {s}__descriptor {lower}__descriptor"]
        values = re.findall(r"^\s*(\w+) =", bodies[cname], re.M)
        plain = dict((c, n) for n, c in re.findall(r'{ "(\w+)", "(\w+)",', values_of[lower]))
        for value in values:
            name = plain.get(value)
            if name is None:  # an alias: not in the table by number
                first = next(iter(plain))
                name = value[len(first) - len(plain[first]):]
            names.append(f"#define {s}_{name} {value}")
    dup = [n for n in (l.split()[1] for l in names if l.startswith("#define"))]
    assert len(dup) == len(set(dup)), sorted({d for d in dup if dup.count(d) > 1})
    (out_dir / "names.h").write_text("\n".join(names) + "\n")

    table = sorted((m[1], m[0]) for m in messages if not m[1].endswith("Entry"))
    unit = [f'#include "{table_name}_structs.h"', code, f"extern const ProtobufCMessageDescriptor *const mz_{table_name}_types[];",
             f"extern const size_t mz_{table_name}_types_n;",
             f"const ProtobufCMessageDescriptor *const mz_{table_name}_types[] = {{"]
    unit += [f"    &{lower}__descriptor, /* {full} */" for full, lower in table]
    unit += ["};", f"const size_t mz_{table_name}_types_n = {len(table)};"]
    if first_set:
        lowers = {full: lower for full, lower in table}
        marked = [m for f in files for m in control_fields(schemas / f)]
        unit += ['#include "proto/control_field.h"', "const struct mz_control_field mz_proto_control_fields[] = {"]
        unit += [f"    {{ &{lowers[full]}__descriptor, {number} }}, /* {full} */" for full, number in marked]
        unit += ["    { NULL, 0 },", "};"]
    (out_dir / "messages.c").write_text("\n".join(unit) + "\n")


if __name__ == "__main__":
    main()
