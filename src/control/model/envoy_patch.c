#include "control/model/envoy_patch.h"

#include "base/buf.h"

#define TYPED_STRUCT "type.googleapis.com/udpa.type.v1.TypedStruct"

const ProtobufCMessageDescriptor *mz_envoy_patch_type(ist_EnvoyFilter_ApplyTo to)
{
    switch (to) {
    case ist_EnvoyFilter_ApplyTo_LISTENER:
        return &pb_Listener__descriptor;
    case ist_EnvoyFilter_ApplyTo_FILTER_CHAIN:
        return &pb_FilterChain__descriptor;
    case ist_EnvoyFilter_ApplyTo_NETWORK_FILTER:
        return &pb_Filter__descriptor;
    case ist_EnvoyFilter_ApplyTo_HTTP_FILTER:
        return &pb_HttpFilter__descriptor;
    case ist_EnvoyFilter_ApplyTo_ROUTE_CONFIGURATION:
        return &pb_RouteConfiguration__descriptor;
    case ist_EnvoyFilter_ApplyTo_VIRTUAL_HOST:
        return &pb_VirtualHost__descriptor;
    case ist_EnvoyFilter_ApplyTo_HTTP_ROUTE:
        return &pb_Route__descriptor;
    case ist_EnvoyFilter_ApplyTo_CLUSTER:
        return &pb_Cluster__descriptor;
    case ist_EnvoyFilter_ApplyTo_EXTENSION_CONFIG:
        return &pb_TypedExtensionConfig__descriptor;
    case ist_EnvoyFilter_ApplyTo_LISTENER_FILTER:
        return &pb_ListenerFilter__descriptor;
    default:
        return NULL;
    }
}

/* ---- types that are not ours ---- */

struct fitting {
    struct mz_arena *a;
    struct mz_err *err;
};

static const struct mz_pair *type_pair(const struct mz_node *n)
{
    for (uint32_t i = 0; n->kind == MZ_NODE_MAP && i < n->n; i++)
        if (mz_str_eq(n->pairs[i].key, MZ_STR("@type")) && n->pairs[i].value->kind == MZ_NODE_STR)
            return &n->pairs[i];
    return NULL;
}

static struct mz_str name_of_url(struct mz_str url)
{
    return mz_str_skip(url, (size_t)(mz_str_rchr(url, '/') + 1));
}

static bool is_typed_struct(struct mz_str name)
{
    return mz_str_eq(name, MZ_STR("udpa.type.v1.TypedStruct")) ||
           mz_str_eq(name, MZ_STR("xds.type.v3.TypedStruct"));
}

static const struct mz_node *text_node(struct mz_arena *a, struct mz_str text)
{
    struct mz_node *n = mz_arena_new0(a, struct mz_node);
    n->kind = MZ_NODE_STR;
    n->text = text;
    return n;
}

/* {"@type": T, x: ...} to {"@type": TypedStruct, type_url: T, value: {x: ...}}. */
static const struct mz_node *wrapped(struct mz_arena *a, const struct mz_node *n,
                                     const struct mz_pair *type)
{
    struct mz_node *rest = mz_arena_new0(a, struct mz_node);
    struct mz_node *out = mz_arena_new0(a, struct mz_node);
    rest->kind = out->kind = MZ_NODE_MAP;
    rest->pairs = mz_arena_alloc0(a, n->n * sizeof(*rest->pairs));
    for (uint32_t i = 0; i < n->n; i++)
        if (&n->pairs[i] != type)
            rest->pairs[rest->n++] = n->pairs[i];
    out->n = 3;
    out->pairs = mz_arena_alloc0(a, 3 * sizeof(*out->pairs));
    out->pairs[0] = (struct mz_pair){ MZ_STR("@type"), text_node(a, MZ_STR(TYPED_STRUCT)), 0, 0 };
    out->pairs[1] = (struct mz_pair){ MZ_STR("type_url"), type->value, 0, 0 };
    out->pairs[2] = (struct mz_pair){ MZ_STR("value"), rest, 0, 0 };
    return out;
}

/* Ours, wholly? NULL: neither ours nor another's: a value is wrong. */
static const struct mz_node *fit_any(struct fitting *f, const struct mz_node *n,
                                     const struct mz_pair *type)
{
    struct mz_proto_ctx ctx = { .arena = f->a,
                                .unknown = MZ_UNKNOWN_COUNT,
                                .partial = true,
                                .unchecked = true,
                                .control = true };
    const struct mz_str name = name_of_url(type->value->text);
    ProtobufCMessage *m = NULL;
    if (is_typed_struct(name))
        return n;
    if (!mz_type_find(name))
        return wrapped(f->a, n, type);
    if (!mz_msg_from_tree(&ctx, n, &pb_Any__descriptor, &m, f->err))
        return NULL;
    return ctx.unknown_n ? wrapped(f->a, n, type) : n;
}

/* From the inside out; recursion is bounded by the reader of documents. */
static const struct mz_node *fit(struct fitting *f, const struct mz_node *n)
{
    struct mz_node *own = mz_arena_new0(f->a, struct mz_node);
    *own = *n;
    if (n->kind == MZ_NODE_LIST) {
        own->list = mz_arena_alloc(f->a, n->n * sizeof(*own->list));
        for (uint32_t i = 0; i < n->n; i++)
            if (!(own->list[i] = fit(f, n->list[i])))
                return NULL;
        return own;
    }
    if (n->kind != MZ_NODE_MAP)
        return n;
    own->pairs = mz_arena_alloc(f->a, n->n * sizeof(*own->pairs));
    for (uint32_t i = 0; i < n->n; i++) {
        own->pairs[i] = n->pairs[i];
        if (!(own->pairs[i].value = fit(f, n->pairs[i].value))) {
            (void)mz_err_at(f->err, "%.*s", (int)(n->pairs[i].key.n > 60 ? 60 : n->pairs[i].key.n),
                            n->pairs[i].key.p);
            return NULL;
        }
    }
    const struct mz_pair *type = type_pair(own);
    return type ? fit_any(f, own, type) : own;
}

bool mz_envoy_patch_value(const ist_EnvoyFilter_EnvoyConfigObjectPatch *p, struct mz_arena *a,
                          ProtobufCMessage **out_msg, struct mz_err *err)
{
    const ist_EnvoyFilter_Patch *patch = p->patch;
    const ProtobufCMessageDescriptor *d = mz_envoy_patch_type(p->apply_to);
    const bool merge = patch->operation == ist_EnvoyFilter_Patch_Operation_MERGE ||
                       patch->operation == ist_EnvoyFilter_Patch_Operation_MERGE_AND_REPLACE_LIST;
    struct mz_proto_ctx ctx = { .arena = a,
                                .unknown = MZ_UNKNOWN_REJECT,
                                .partial = merge, /* the whole is checked when it is merged */
                                .unchecked = merge,
                                .control = true };
    struct fitting f = { a, err };
    *out_msg = NULL;
    if (!patch->value)
        return true;
    if (!d)
        return mz_err_set(err, "there is nothing that it could be a piece of");
    const struct mz_node *n = fit(&f, mz_struct_to_tree(a, patch->value));
    return n && mz_msg_from_tree(&ctx, n, d, out_msg, err);
}

/* ---- merging ---- */

void mz_envoy_merge(ProtobufCMessage *into, const ProtobufCMessage *from, bool lists,
                    struct mz_arena *a)
{
    mz_msg_merge_as(into, from, lists ? MZ_MERGE_DURATIONS | MZ_MERGE_LISTS : MZ_MERGE_DURATIONS,
                    a);
}

static ProtobufCMessage *open_any(const pb_Any *any, struct mz_arena *a, struct mz_err *err)
{
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true, .unchecked = true, .control = true
    };
    const struct mz_str name = name_of_url(mz_str_c(any->type_url));
    const ProtobufCMessageDescriptor *d = mz_type_find(name);
    ProtobufCMessage *m = NULL;
    if (!d) {
        (void)mz_err_set(err, "\"%.200s\" is of no type that is known here", any->type_url);
        return NULL;
    }
    return mz_msg_unpack(&ctx, (struct mz_str){ (const char *)any->value.data, any->value.len }, d,
                         &m, err)
               ? m
               : NULL;
}

static pb_Struct *as_struct(const ProtobufCMessage *m, struct mz_arena *a)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    struct mz_buf b;
    struct mz_err err;
    ProtobufCMessage *s = NULL;
    mz_buf_init(&b);
    mz_msg_to_json(m, &b, 0);
    struct mz_str text = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return mz_msg_from_text(&ctx, text, MZ_TEXT_JSON, &pb_Struct__descriptor, &s, &err)
               ? (pb_Struct *)s
               : NULL;
}

static void merge_values(pb_Value *into, const pb_Value *from, struct mz_arena *a);

static void merge_structs(pb_Struct *into, const pb_Struct *from, struct mz_arena *a)
{
    pb_Struct_FieldsEntry **v = mz_arena_alloc(a, (into->n_fields + from->n_fields) * sizeof(*v));
    struct mz_map places;
    mz_map_init(&places, MZ_MEM_CONFIG);
    for (size_t i = 0; i < into->n_fields; i++) {
        v[i] = into->fields[i];
        if (!mz_map_get(&places, mz_str_c(v[i]->key)))
            (void)mz_map_put(&places, mz_str_c(v[i]->key), v[i]);
    }
    into->fields = v;
    for (size_t i = 0; i < from->n_fields; i++) {
        pb_Struct_FieldsEntry *one = from->fields[i],
                              *had = mz_map_get(&places, mz_str_c(one->key));
        if (had) {
            merge_values(had->value, one->value, a);
        } else {
            (void)mz_map_put(&places, mz_str_c(one->key), one);
            v[into->n_fields++] = one;
        }
    }
    mz_map_fini(&places);
}

static void merge_values(pb_Value *into, const pb_Value *from, struct mz_arena *a)
{
    if (into->kind_case == pb_Value_KIND_STRUCT_VALUE && from->kind_case == into->kind_case) {
        merge_structs(into->struct_value, from->struct_value, a);
    } else if (into->kind_case == pb_Value_KIND_LIST_VALUE && from->kind_case == into->kind_case) {
        mz_msg_merge(&into->list_value->base, &from->list_value->base, a);
    } else {
        *into = *from;
    }
}

/* Fields that our schema lacks: the whole is said as a TypedStruct. */
static bool merge_as_struct(pb_Any *into, const ProtobufCMessage *m,
                            const pb_udpa_type_TypedStruct *from, struct mz_arena *a)
{
    pb_udpa_type_TypedStruct t = pb_udpa_type_TypedStruct__INIT;
    t.type_url = from->type_url;
    t.value = as_struct(m, a);
    if (!t.value)
        return false;
    if (from->value)
        merge_structs(t.value, from->value, a);
    *into = *mz_any_pack(&t.base, a);
    return true;
}

bool mz_envoy_merge_any(pb_Any *into, const pb_Any *from, struct mz_arena *a, struct mz_err *err)
{
    const struct mz_str x = name_of_url(mz_str_c(into->type_url)),
                        y = name_of_url(mz_str_c(from->type_url));
    ProtobufCMessage *m = open_any(into, a, err), *more = m ? open_any(from, a, err) : NULL;
    if (!m || !more)
        return false;
    if (mz_str_eq(x, y)) {
        mz_envoy_merge(m, more, false, a);
        *into = *mz_any_pack(m, a);
        return true;
    }
    if (more->descriptor == &pb_udpa_type_TypedStruct__descriptor &&
        mz_str_eq(name_of_url(mz_str_c(((pb_udpa_type_TypedStruct *)more)->type_url)), x) &&
        merge_as_struct(into, m, (pb_udpa_type_TypedStruct *)more, a))
        return true;
    return mz_err_set(err, "it is of type %.*s and cannot be merged into one of type %.*s",
                      (int)(y.n > 100 ? 100 : y.n), y.p, (int)(x.n > 100 ? 100 : x.n), x.p);
}
