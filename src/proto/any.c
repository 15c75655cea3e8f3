/* Any: types by name, text form, TypedStruct. */
#include "proto/proto_priv.h"
#include <stdio.h>

/* messages.c, written by tools/gen_proto.py; sorted by name. */
extern const ProtobufCMessageDescriptor *const mz_proto_types[];
extern const size_t mz_proto_types_n;

#define URL_PREFIX "type.googleapis.com/"

static const ProtobufCMessageDescriptor *const *more_types;
static size_t more_types_n;

void mz_type_add_table(const ProtobufCMessageDescriptor *const *v, size_t n)
{
    more_types = v;
    more_types_n = n;
}

static const ProtobufCMessageDescriptor *find_in(const ProtobufCMessageDescriptor *const *v,
                                                 size_t n, struct mz_str full_name)
{
    for (size_t lo = 0, hi = n; lo < hi;) {
        size_t mid = (lo + hi) / 2;
        int c = mz_str_cmp(full_name, mz_str_c(v[mid]->name));
        if (c == 0)
            return v[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

const ProtobufCMessageDescriptor *mz_type_find(struct mz_str full_name)
{
    const ProtobufCMessageDescriptor *d = find_in(mz_proto_types, mz_proto_types_n, full_name);
    return d || !more_types_n ? d : find_in(more_types, more_types_n, full_name);
}

const char *mz_type_nearest(struct mz_str full_name)
{
    const char *best = NULL;
    unsigned least = full_name.n > 200 ? 0 : (unsigned)full_name.n / 5;
    for (size_t i = 0; i < mz_proto_types_n; i++) {
        unsigned d = mz_str_distance(mz_str_c(mz_proto_types[i]->name), full_name, least);
        if (d <= least && (!best || d < least)) {
            best = mz_proto_types[i]->name;
            least = d;
        }
    }
    return best;
}

struct mz_str type_name_of_url(struct mz_str url)
{
    ptrdiff_t slash = mz_str_rchr(url, '/');
    return slash < 0 ? url : mz_str_skip(url, (size_t)slash + 1);
}

static bool unknown_type(struct walk *w, const struct mz_node *n, struct mz_str name)
{
    const char *near = mz_type_nearest(name);
    struct mz_str shown = { name.p, name.n > 200 ? 200 : name.n };
    if (near)
        return walk_fail(w, n, "unknown type \"%.*s\"; did you mean \"%s\"?", MZ_STR_ARG(shown),
                         near);
    return walk_fail(w, n, "unknown type \"%.*s\"", MZ_STR_ARG(shown));
}

static const struct mz_pair *find_pair(const struct mz_node *n, struct mz_str key)
{
    for (uint32_t i = 0; i < n->n; i++)
        if (mz_str_eq(n->pairs[i].key, key))
            return &n->pairs[i];
    return NULL;
}

/* What is left of an Any's object without "@type": the inner message, or of a well-known type the "value". */
static const struct mz_node *inner_node(struct walk *w, const struct mz_node *n,
                                        const ProtobufCMessageDescriptor *d)
{
    struct mz_node *rest = mz_arena_new0(w->scratch, struct mz_node);
    const struct mz_pair *value = find_pair(n, MZ_STR("value"));
    if (well_known_find(d)) {
        rest->kind = MZ_NODE_NULL;
        return n->n == 2 && value ? value->value : rest;
    }
    *rest = *n;
    rest->n = 0;
    rest->pairs = mz_arena_alloc(w->scratch, sizeof(*n->pairs) * n->n);
    for (uint32_t i = 0; i < n->n; i++)
        if (!mz_str_eq(n->pairs[i].key, MZ_STR("@type")))
            rest->pairs[rest->n++] = n->pairs[i];
    return rest;
}

static void any_set_packed(pb_Any *any, const ProtobufCMessageDescriptor *d, struct mz_str bytes,
                           struct mz_arena *a)
{
    const struct mz_str url[] = { MZ_STR(URL_PREFIX), mz_str_c(d->name) };
    any->type_url = (char *)(uintptr_t)mz_arena_cat(a, MZ_COUNT(url), url).p;
    any->value.data = (uint8_t *)(uintptr_t)bytes.p;
    any->value.len = bytes.n;
}

static void any_set(pb_Any *any, const ProtobufCMessage *m, struct mz_arena *a)
{
    any_set_packed(any, m->descriptor, mz_msg_pack_alloc(m, a), a);
}

pb_Any *mz_any_of_packed(struct mz_str packed, const ProtobufCMessageDescriptor *d,
                         struct mz_arena *a)
{
    pb_Any *any = (pb_Any *)message_new(a, &pb_Any__descriptor);
    any_set_packed(any, d, packed, a);
    return any;
}

pb_Any *mz_any_pack(const ProtobufCMessage *msg, struct mz_arena *a)
{
    pb_Any *any = (pb_Any *)message_new(a, &pb_Any__descriptor);
    any_set(any, msg, a);
    return any;
}

bool any_read(struct walk *w, const struct mz_node *n, ProtobufCMessage *out)
{
    char shown[64];
    if (n->kind != MZ_NODE_MAP)
        return walk_fail(w, n, "expected an object with \"@type\", got %s", mz_node_what(n, shown));
    const struct mz_pair *type = find_pair(n, MZ_STR("@type"));
    if (!type && n->n == 0)
        return true; /* an empty Any */
    if (!type || type->value->kind != MZ_NODE_STR)
        return walk_fail(w, n, "\"@type\" is missing: which message is this?");
    struct mz_str name = type_name_of_url(type->value->text);
    const ProtobufCMessageDescriptor *d = mz_type_find(name);
    if (!d)
        return unknown_type(w, type->value, name);
    struct mz_arena *outer = w->arena;
    w->arena = w->scratch;
    ProtobufCMessage *m = message_new(w->arena, d);
    bool ok = message_read(w, inner_node(w, n, d), m) &&
              (w->ctx->unchecked || validate_at(w->top, m, w->err));
    w->arena = outer;
    if (ok)
        any_set((pb_Any *)out, m, outer);
    return ok;
}

/* The two TypedStructs have the same fields. */
static bool is_typed_struct(struct mz_str name)
{
    return mz_str_eq(name, MZ_STR("xds.type.v3.TypedStruct")) ||
           mz_str_eq(name, MZ_STR("udpa.type.v1.TypedStruct"));
}

bool type_is_typed_struct(const ProtobufCMessageDescriptor *d)
{
    return is_typed_struct(mz_str_c(d->name));
}

struct mz_str typed_struct_type_url(const ProtobufCMessage *m)
{
    return mz_str_c(m->descriptor == &pb_xds_type_TypedStruct__descriptor
                        ? ((const pb_xds_type_TypedStruct *)m)->type_url
                        : ((const pb_udpa_type_TypedStruct *)m)->type_url);
}

static bool open_typed_struct(struct mz_proto_ctx *ctx, const ProtobufCMessage *m,
                              const ProtobufCMessageDescriptor **out_type, ProtobufCMessage **out,
                              struct mz_err *err)
{
    bool xds = m->descriptor == &pb_xds_type_TypedStruct__descriptor;
    const pb_xds_type_TypedStruct *x = (const pb_xds_type_TypedStruct *)m;
    const pb_udpa_type_TypedStruct *u = (const pb_udpa_type_TypedStruct *)m;
    struct mz_str name = type_name_of_url(typed_struct_type_url(m));
    const ProtobufCMessageDescriptor *d = mz_type_find(name);
    struct walk w = { .ctx = ctx, .arena = ctx->arena, .err = err };
    if (!d)
        return unknown_type(&w, NULL, name);
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    bool ok = mz_msg_from_tree(ctx, mz_struct_to_tree(a, xds ? x->value : u->value), d, out, err);
    mz_arena_destroy(a);
    if (ok)
        *out_type = d;
    return ok;
}

bool mz_any_unpack(struct mz_proto_ctx *ctx, const pb_Any *any,
                   const ProtobufCMessageDescriptor **out_type, ProtobufCMessage **out_msg,
                   struct mz_err *err)
{
    struct mz_str name = type_name_of_url(mz_str_c(any->type_url));
    const ProtobufCMessageDescriptor *d = mz_type_find(name);
    struct walk w = { .ctx = ctx, .arena = ctx->arena, .err = err };
    ProtobufCMessage *m;
    if (!name.n)
        return mz_err_set(err, "\"@type\" is missing: which message is this?");
    if (!d)
        return unknown_type(&w, NULL, name);
    if (!mz_msg_unpack(ctx, (struct mz_str){ (const char *)any->value.data, any->value.len }, d, &m,
                       err))
        return false;
    if (is_typed_struct(name))
        return open_typed_struct(ctx, m, out_type, out_msg, err);
    *out_type = d;
    *out_msg = m;
    return true;
}

bool mz_any_unpack_as(struct mz_proto_ctx *ctx, const pb_Any *any,
                      const ProtobufCMessageDescriptor *d, ProtobufCMessage **out_msg,
                      struct mz_err *err)
{
    const ProtobufCMessageDescriptor *type = NULL;
    ProtobufCMessage *m = NULL;
    if (!mz_any_unpack(ctx, any, &type, &m, err))
        return false;
    if (type != d)
        return mz_err_set(err, "expected a %s, got a %s", d->name, type->name);
    *out_msg = m;
    return true;
}

/* The first field of a TypedStruct is its type_url; found without unpacking. */
static struct mz_str typed_struct_url(const pb_Any *any)
{
    if (any->value.len < 2 || any->value.data[0] != (1 << 3 | 2)) /* data may be NULL */
        return (struct mz_str){ 0 };
    const uint8_t *p = any->value.data + 1, *end = any->value.data + any->value.len;
    size_t n = 0;
    unsigned shift = 0;
    for (; p < end && shift < 28; shift += 7) {
        n |= (size_t)(*p & 0x7f) << shift;
        if (!(*p++ & 0x80))
            break;
    }
    return n <= (size_t)(end - p) ? (struct mz_str){ (const char *)p, n } : (struct mz_str){ 0 };
}

struct mz_str mz_any_type(const pb_Any *any)
{
    struct mz_str name = type_name_of_url(mz_str_c(any->type_url));
    return is_typed_struct(name) ? type_name_of_url(typed_struct_url(any)) : name;
}
