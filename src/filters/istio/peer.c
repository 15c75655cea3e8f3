#include "filters/istio/peer.h"

#include <stdlib.h>

#include "base/base64.h"
#include "listener/factory.h"
#include "observe/to_proto.h"
#include "proto/mapper.h"

/* ---- the node's metadata ---- */

static const struct {
    struct mz_str key; /* in the node's metadata */
    enum peer_text text;
} node_fields[] = {
    { MZ_STR_INIT("AVAILABILITY_ZONE"), PEER_ZONE }, { MZ_STR_INIT("CLUSTER_ID"), PEER_CLUSTER },
    { MZ_STR_INIT("IDENTITY"), PEER_IDENTITY },      { MZ_STR_INIT("NAME"), PEER_NAME },
    { MZ_STR_INIT("NAMESPACE"), PEER_NAMESPACE },    { MZ_STR_INIT("REGION"), PEER_REGION },
    { MZ_STR_INIT("WORKLOAD_NAME"), PEER_WORKLOAD },
};
/* Of labels with the same text the earlier wins. */
static const struct {
    struct mz_str key;
    enum peer_text text;
    bool written; /* by ourselves */
} label_fields[] = {
    { MZ_STR_INIT("service.istio.io/canonical-name"), PEER_SERVICE, true },
    { MZ_STR_INIT("service.istio.io/canonical-revision"), PEER_REVISION, true },
    { MZ_STR_INIT("app.kubernetes.io/name"), PEER_APP, false },
    { MZ_STR_INIT("app"), PEER_APP, true },
    { MZ_STR_INIT("app.kubernetes.io/version"), PEER_VERSION, false },
    { MZ_STR_INIT("version"), PEER_VERSION, true },
};
static const struct mz_str type_names[] = { [PEER_UNKNOWN] = MZ_STR_INIT(""),
                                            [PEER_POD] = MZ_STR_INIT("pod"),
                                            [PEER_DEPLOYMENT] = MZ_STR_INIT("deployment"),
                                            [PEER_JOB] = MZ_STR_INIT("job"),
                                            [PEER_CRONJOB] = MZ_STR_INIT("cronjob") };

static enum peer_type type_of(struct mz_str name)
{
    for (unsigned i = PEER_POD; i < MZ_COUNT(type_names); i++)
        if (mz_str_eq(type_names[i], name))
            return (enum peer_type)i;
    return PEER_UNKNOWN;
}

static const struct mz_value *field_of(const struct mz_value *v, struct mz_str key)
{
    for (size_t i = 0; v && v->kind == MZ_VALUE_STRUCT && i < v->fields.n; i++)
        if (mz_str_eq(v->fields.v[i].key, key))
            return v->fields.v[i].value;
    return NULL;
}

static struct mz_str text_of(const struct mz_value *v)
{
    return v && v->kind == MZ_VALUE_STRING ? v->str : (struct mz_str){ "", 0 };
}

/* ".../namespaces/demo/deployments/web", of the workload "web". */
static enum peer_type type_of_owner(struct mz_str owner, struct mz_str workload)
{
    if (owner.n <= workload.n + 2)
        return PEER_UNKNOWN;
    owner.n -= workload.n + 2;
    ptrdiff_t slash = mz_str_rchr(owner, '/');
    return slash < 0 ? PEER_UNKNOWN : type_of(mz_str_skip(owner, (size_t)slash + 1));
}

static bool is_read(struct mz_str key)
{
    for (size_t i = 0; i < MZ_COUNT(label_fields); i++)
        if (mz_str_eq(label_fields[i].key, key))
            return true;
    return false;
}

static void labels_read(const struct mz_value *labels, const struct peer_labels *more,
                        struct mz_arena *a, struct peer *out)
{
    for (size_t i = 0; i < MZ_COUNT(label_fields); i++) {
        struct mz_str v = text_of(field_of(labels, label_fields[i].key));
        if (!out->text[label_fields[i].text].n)
            out->text[label_fields[i].text] = v;
    }
    if (!more || !more->n)
        return;
    struct mz_field *kept = mz_arena_alloc0(a, mz_mul(more->n, sizeof(*kept)));
    for (size_t i = 0; i < more->n; i++) {
        const struct mz_value *v = field_of(labels, more->v[i]);
        if (v && v->kind == MZ_VALUE_STRING && !is_read(more->v[i]))
            kept[out->n_labels++] = (struct mz_field){ more->v[i], v };
    }
    out->labels = kept;
}

void peer_from_metadata(const struct mz_value *metadata, const struct peer_labels *more,
                        struct mz_arena *a, struct peer *out)
{
    *out = (struct peer){ .type = PEER_UNKNOWN };
    for (size_t i = 0; i < MZ_COUNT(node_fields); i++)
        out->text[node_fields[i].text] = text_of(field_of(metadata, node_fields[i].key));
    labels_read(field_of(metadata, MZ_STR("LABELS")), more, a, out);
    out->type =
        type_of_owner(text_of(field_of(metadata, MZ_STR("OWNER"))), out->text[PEER_WORKLOAD]);
}

struct mz_str peer_metadata_text(const struct mz_value *metadata, struct mz_str key)
{
    return text_of(field_of(metadata, key));
}

void peer_of_node(const struct mz_factory *f, const struct peer_labels *more, struct mz_arena *a,
                  struct peer *out)
{
    peer_from_metadata(f->node_metadata, more, a, out);
    if (!out->text[PEER_REGION].n)
        out->text[PEER_REGION] = f->node_region;
    if (!out->text[PEER_ZONE].n)
        out->text[PEER_ZONE] = f->node_zone;
}

struct peer_labels peer_labels_of(char *const *v, size_t n, struct mz_arena *a)
{
    struct mz_str *names = mz_arena_alloc0(a, mz_mul(n, sizeof(*names)) + 1);
    for (size_t i = 0; i < n; i++)
        names[i] = mz_arena_dup(a, mz_str_c(v[i]));
    return (struct peer_labels){ names, n };
}

bool peer_from_struct(struct mz_str bytes, const struct peer_labels *more, struct mz_arena *a,
                      struct peer *out)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    struct mz_err err = { 0 };
    ProtobufCMessage *msg;
    if (bytes.n > PEER_BYTES_MAX || !mz_msg_unpack(&ctx, bytes, &pb_Struct__descriptor, &msg, &err))
        return false;
    peer_from_metadata(mz_value_build((const pb_Struct *)msg, a), more, a, out);
    return true;
}

bool peer_from_header(struct mz_str value, const struct peer_labels *more, struct mz_arena *a,
                      struct peer *out)
{
    struct mz_str bytes;
    return value.n <= PEER_BYTES_MAX / 3 * 4 && mz_base64_decode(value, a, &bytes) &&
           peer_from_struct(bytes, more, a, out);
}

/* ---- baggage (W3C), endpoints ---- */

static const struct {
    struct mz_str key;
    enum peer_text text, also; /* also: where that has nothing yet; itself: none */
    enum peer_type type;
} baggage_fields[] = {
    { MZ_STR_INIT("k8s.namespace.name"), PEER_NAMESPACE, PEER_NAMESPACE, PEER_UNKNOWN },
    { MZ_STR_INIT("k8s.cluster.name"), PEER_CLUSTER, PEER_CLUSTER, PEER_UNKNOWN },
    { MZ_STR_INIT("service.name"), PEER_SERVICE, PEER_APP, PEER_UNKNOWN },
    { MZ_STR_INIT("service.version"), PEER_REVISION, PEER_VERSION, PEER_UNKNOWN },
    { MZ_STR_INIT("app.name"), PEER_APP, PEER_SERVICE, PEER_UNKNOWN },
    { MZ_STR_INIT("app.version"), PEER_VERSION, PEER_REVISION, PEER_UNKNOWN },
    { MZ_STR_INIT("k8s.deployment.name"), PEER_WORKLOAD, PEER_WORKLOAD, PEER_DEPLOYMENT },
    { MZ_STR_INIT("k8s.pod.name"), PEER_WORKLOAD, PEER_WORKLOAD, PEER_POD },
    { MZ_STR_INIT("k8s.cronjob.name"), PEER_WORKLOAD, PEER_WORKLOAD, PEER_CRONJOB },
    { MZ_STR_INIT("k8s.job.name"), PEER_WORKLOAD, PEER_WORKLOAD, PEER_JOB },
    { MZ_STR_INIT("k8s.instance.name"), PEER_NAME, PEER_NAME, PEER_UNKNOWN },
    { MZ_STR_INIT("cloud.region"), PEER_REGION, PEER_REGION, PEER_UNKNOWN },
    { MZ_STR_INIT("cloud.availability_zone"), PEER_ZONE, PEER_ZONE, PEER_UNKNOWN },
};

static void baggage_set(struct mz_str key, struct mz_str value, struct peer *out)
{
    for (size_t i = 0; i < MZ_COUNT(baggage_fields); i++) {
        if (!mz_str_eq(baggage_fields[i].key, key))
            continue;
        out->text[baggage_fields[i].text] = value;
        if (!out->text[baggage_fields[i].also].n)
            out->text[baggage_fields[i].also] = value;
        if (baggage_fields[i].type)
            out->type = baggage_fields[i].type;
        return;
    }
}

void peer_from_baggage(struct mz_str value, struct peer *out)
{
    struct mz_str rest = value, member, key, of;
    *out = (struct peer){ .type = PEER_UNKNOWN };
    while (mz_str_split(&rest, ',', &member)) {
        of = member;
        if (mz_str_split(&of, '=', &key))
            baggage_set(key, mz_str_split(&of, '=', &member) ? member : MZ_STR(""), out);
    }
}

bool peer_from_endpoint(struct mz_str value, struct peer *out)
{
    static const enum peer_text order[] = { PEER_WORKLOAD, PEER_NAMESPACE, PEER_SERVICE,
                                            PEER_REVISION, PEER_CLUSTER };
    *out = (struct peer){ .type = PEER_UNKNOWN };
    for (size_t i = 0; i < MZ_COUNT(order); i++) {
        ptrdiff_t at = mz_str_chr(value, ';');
        if (at < 0 && i + 1 < MZ_COUNT(order))
            return false;
        out->text[order[i]] = (struct mz_str){ value.p, at < 0 ? value.n : (size_t)at };
        value = at < 0 ? MZ_STR("") : mz_str_skip(value, (size_t)at + 1);
    }
    return true;
}

/* ---- writing ---- */

static int field_cmp(const void *a, const void *b)
{
    return mz_str_cmp(((const struct mz_field *)a)->key, ((const struct mz_field *)b)->key);
}

static struct mz_value *struct_new(struct mz_arena *a, size_t cap)
{
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    v->kind = MZ_VALUE_STRUCT;
    v->fields.v = mz_arena_alloc0(a, mz_mul(cap, sizeof(*v->fields.v)));
    v->fields.cap = cap;
    return v;
}

static void put(struct mz_value *to, struct mz_str key, const struct mz_value *v)
{
    to->fields.v[to->fields.n++] = (struct mz_field){ key, v };
}

static void put_text(struct mz_value *to, struct mz_str key, struct mz_str text, struct mz_arena *a)
{
    if (!text.n)
        return;
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    v->kind = MZ_VALUE_STRING;
    v->str = text;
    put(to, key, v);
}

static void sort(struct mz_value *v)
{
    qsort(v->fields.v, v->fields.n, sizeof(*v->fields.v), field_cmp);
}

static const struct mz_value *labels_write(const struct peer *p, struct mz_arena *a)
{
    struct mz_value *labels = struct_new(a, MZ_COUNT(label_fields) + p->n_labels);
    for (size_t i = 0; i < MZ_COUNT(label_fields); i++)
        if (label_fields[i].written)
            put_text(labels, label_fields[i].key, p->text[label_fields[i].text], a);
    for (size_t i = 0; i < p->n_labels; i++)
        put(labels, p->labels[i].key, p->labels[i].value);
    sort(labels);
    return labels;
}

struct mz_str peer_pack(const struct mz_value *v, struct mz_arena *a)
{
    return mz_msg_pack_alloc(&mz_proto_struct(v, a)->base, a);
}

const struct mz_value *peer_metadata(const struct peer *p, struct mz_arena *a)
{
    struct mz_value *v = struct_new(a, MZ_COUNT(node_fields) + 2);
    for (size_t i = 0; i < MZ_COUNT(node_fields); i++)
        put_text(v, node_fields[i].key, p->text[node_fields[i].text], a);
    put(v, MZ_STR("LABELS"), labels_write(p, a));
    if (p->type)
        put_text(v, MZ_STR("OWNER"),
                 mz_arena_printf(
                     a, "kubernetes://apis/apps/v1/namespaces/" MZ_STR_FMT "/%ss/" MZ_STR_FMT,
                     MZ_STR_ARG(p->text[PEER_NAMESPACE]), type_names[p->type].p,
                     MZ_STR_ARG(p->text[PEER_WORKLOAD])),
                 a);
    sort(v);
    return v;
}

const struct peer *peer_copy(const struct peer *p, struct mz_arena *a)
{
    struct peer *to = mz_arena_alloc(a, sizeof(*to));
    struct mz_value *values = mz_arena_alloc0(a, mz_mul(p->n_labels, sizeof(*values)));
    struct mz_field *labels = mz_arena_alloc0(a, mz_mul(p->n_labels, sizeof(*labels)));
    *to = *p;
    for (unsigned i = 0; i < PEER__TEXTS; i++)
        to->text[i] = mz_arena_dup(a, p->text[i]);
    for (size_t i = 0; i < p->n_labels; i++) {
        values[i] = (struct mz_value){ .kind = MZ_VALUE_STRING,
                                       .str = mz_arena_dup(a, p->labels[i].value->str) };
        labels[i] = (struct mz_field){ mz_arena_dup(a, p->labels[i].key), &values[i] };
    }
    to->labels = labels;
    return to;
}

struct mz_str peer_header(const struct peer *p, struct mz_arena *a)
{
    return mz_base64_encode(peer_pack(peer_metadata(p, a), a), a);
}

static void member(struct mz_buf *b, struct mz_str key, struct mz_str value)
{
    if (!value.n)
        return;
    if (mz_buf_len(b))
        mz_buf_append(b, ",", 1);
    mz_buf_append_str(b, key);
    mz_buf_append(b, "=", 1);
    mz_buf_append_str(b, value);
}

struct mz_str peer_baggage(const struct peer *p, struct mz_arena *a)
{
    static const struct {
        struct mz_str key;
        enum peer_text text;
    } rest[] = { { MZ_STR_INIT("k8s.namespace.name"), PEER_NAMESPACE },
                 { MZ_STR_INIT("k8s.cluster.name"), PEER_CLUSTER },
                 { MZ_STR_INIT("k8s.instance.name"), PEER_NAME },
                 { MZ_STR_INIT("cloud.region"), PEER_REGION },
                 { MZ_STR_INIT("cloud.availability_zone"), PEER_ZONE } };
    struct mz_buf b;
    mz_buf_init(&b);
    struct mz_str kind = type_names[p->type ? p->type : PEER_POD];
    member(&b, mz_arena_printf(a, "k8s." MZ_STR_FMT ".name", MZ_STR_ARG(kind)),
           p->text[PEER_WORKLOAD]);
    member(&b, MZ_STR("service.name"), p->text[PEER_SERVICE]);
    if (!mz_str_eq(p->text[PEER_APP], p->text[PEER_SERVICE]))
        member(&b, MZ_STR("app.name"), p->text[PEER_APP]);
    member(&b, MZ_STR("service.version"), p->text[PEER_REVISION]);
    if (!mz_str_eq(p->text[PEER_VERSION], p->text[PEER_REVISION]))
        member(&b, MZ_STR("app.version"), p->text[PEER_VERSION]);
    for (size_t i = 0; i < MZ_COUNT(rest); i++)
        member(&b, rest[i].key, p->text[rest[i].text]);
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return s;
}

/* ---- in filter state ---- */

static const struct mz_str state_names[PEER__TEXTS] = {
    [PEER_NAME] = MZ_STR_INIT("name"),
    [PEER_CLUSTER] = MZ_STR_INIT("cluster"),
    [PEER_NAMESPACE] = MZ_STR_INIT("namespace"),
    [PEER_WORKLOAD] = MZ_STR_INIT("workload"),
    [PEER_SERVICE] = MZ_STR_INIT("service"),
    [PEER_REVISION] = MZ_STR_INIT("revision"),
    [PEER_APP] = MZ_STR_INIT("app"),
    [PEER_VERSION] = MZ_STR_INIT("version"),
    [PEER_IDENTITY] = MZ_STR_INIT("identity"),
    [PEER_REGION] = MZ_STR_INIT("region"),
    [PEER_ZONE] = MZ_STR_INIT("availability_zone"),
};

static const struct peer *peer_of(const struct mz_filter_object *o)
{
    return ((const struct peer_object *)(const void *)o)->peer;
}

static const struct mz_value *object_tree(const struct mz_filter_object *o, struct mz_arena *a)
{
    const struct peer *p = peer_of(o);
    struct mz_value *v = struct_new(a, PEER__TEXTS + 2);
    for (unsigned i = 0; i < PEER__TEXTS; i++)
        put_text(v, state_names[i], p->text[i], a);
    put_text(v, MZ_STR("type"), type_names[p->type], a);
    if (p->n_labels) {
        struct mz_value *labels = struct_new(a, p->n_labels);
        for (size_t i = 0; i < p->n_labels; i++)
            put(labels, p->labels[i].key, p->labels[i].value);
        sort(labels);
        put(v, MZ_STR("labels"), labels);
    }
    sort(v);
    return v;
}

static struct mz_filter_object *object_share(const struct mz_filter_object *o, struct mz_arena *a)
{
    struct peer_object *to = mz_arena_alloc(a, sizeof(*to));
    *to = *(const struct peer_object *)(const void *)o;
    to->peer = peer_copy(to->peer, a);
    return &to->base;
}

static struct mz_str object_text(const struct mz_filter_object *o, struct mz_arena *a)
{
    return peer_pack(object_tree(o, a), a);
}

void peer_object_init(struct peer_object *o, const struct peer *p)
{
    *o = (struct peer_object){
        .base = { .text = object_text, .tree = object_tree, .copy = object_share, .is_map = true },
        .peer = p
    };
}

static bool object_field(const struct mz_filter_object *o, struct mz_str name,
                         struct mz_str *out_value)
{
    const struct peer *p = peer_of(o);
    if (mz_str_eq(name, MZ_STR("type"))) {
        *out_value = p->type ? type_names[p->type] : MZ_STR("unknown");
        return true;
    }
    for (unsigned i = 0; i < PEER__TEXTS; i++)
        if (i != PEER_IDENTITY && mz_str_eq(state_names[i], name)) {
            *out_value = p->text[i];
            return true;
        }
    return false;
}

/* The texts as "name=value" in the order of their meaning, most local first. */
static struct mz_str fields_text(const struct mz_filter_object *o, struct mz_arena *a)
{
    static const enum peer_text order[] = { PEER_WORKLOAD,  PEER_NAME,    PEER_CLUSTER,
                                            PEER_NAMESPACE, PEER_SERVICE, PEER_REVISION,
                                            PEER_APP,       PEER_VERSION, PEER_REGION,
                                            PEER_ZONE };
    const struct peer *p = peer_of(o);
    struct mz_buf b;
    mz_buf_init(&b);
    member(&b, MZ_STR("type"), type_names[p->type]);
    for (size_t i = 0; i < MZ_COUNT(order); i++)
        member(&b, state_names[order[i]], p->text[order[i]]);
    for (size_t i = 0; i < p->n_labels; i++)
        member(&b, mz_arena_printf(a, "labels[]" MZ_STR_FMT, MZ_STR_ARG(p->labels[i].key)),
               p->labels[i].value->str);
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return s;
}

/* Connections that take different peers along are none for each other. */
static uint64_t fields_hash(const struct mz_filter_object *o)
{
    const struct peer *p = peer_of(o);
    uint64_t hash = 0;
    for (unsigned i = 0; i < PEER__TEXTS; i++)
        hash = mz_xxh64(p->text[i].p, p->text[i].n, hash);
    return hash;
}

void peer_fields_init(struct peer_object *o, const struct peer *p)
{
    *o = (struct peer_object){ .base = { .text = fields_text,
                                         .field = object_field,
                                         .hash = fields_hash,
                                         .copy = object_share },
                               .peer = p };
}

const struct peer *peer_of_state(const struct mz_map *state, struct mz_str key)
{
    const struct mz_filter_object *o = state ? mz_map_get(state, key) : NULL;
    return o && o->text == object_text ? peer_of(o) : NULL;
}

static struct mz_str true_text(const struct mz_filter_object *o, struct mz_arena *a)
{
    (void)o;
    (void)a;
    return MZ_STR("true");
}

struct mz_filter_object peer_not_found = { .text = true_text };
