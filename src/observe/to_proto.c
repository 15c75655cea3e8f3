#include "observe/to_proto.h"

#include <string.h>

#include "proto/tree.h"

/* Bytes of the UTF-8 character at @p, 0: there is none. */
static size_t character(const char *p, size_t left)
{
    for (size_t n = 1; n <= 4 && n <= left; n++)
        if (mz_utf8_valid((struct mz_str){ p, n }))
            return n;
    return 0;
}

char *mz_proto_text(struct mz_str s, struct mz_arena *a)
{
    char *out = mz_arena_alloc(a, s.n + 1);
    if (s.n)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    bool plain = mz_utf8_valid(s) && (!s.n || !memchr(s.p, '\0', s.n));
    for (size_t i = 0; !plain && i < s.n;) {
        size_t n = out[i] ? character(out + i, s.n - i) : 0;
        if (!n)
            out[i] = '!';
        i += n ? n : 1;
    }
    return out;
}

static pb_Address *internal_address(const struct mz_addr *addr, pb_Address *m, struct mz_arena *a)
{
    struct mz_str listener, endpoint;
    mz_addr_internal_parts(addr, &listener, &endpoint);
    m->address_case = pb_Address_ADDRESS_ENVOY_INTERNAL_ADDRESS;
    m->envoy_internal_address = mz_proto_new(a, pb_EnvoyInternalAddress);
    m->envoy_internal_address->address_name_specifier_case =
        pb_EnvoyInternalAddress_ADDRESS_NAME_SPECIFIER_SERVER_LISTENER_NAME;
    m->envoy_internal_address->server_listener_name = mz_proto_text(listener, a);
    m->envoy_internal_address->endpoint_id = mz_proto_text(endpoint, a);
    return m;
}

pb_Address *mz_proto_address(const struct mz_addr *addr, struct mz_arena *a)
{
    char text[MZ_ADDR_TEXT];
    if (!addr->len)
        return NULL;
    pb_Address *m = mz_proto_new(a, pb_Address);
    if (mz_addr_is_internal(addr))
        return internal_address(addr, m, a);
    if (!mz_addr_is_ip(addr)) {
        m->address_case = pb_Address_ADDRESS_PIPE;
        m->pipe = mz_proto_new(a, pb_Pipe);
        m->pipe->path = mz_proto_text((struct mz_str){ text, mz_addr_text(addr, text) }, a);
        return m;
    }
    m->address_case = pb_Address_ADDRESS_SOCKET_ADDRESS;
    m->socket_address = mz_proto_new(a, pb_SocketAddress);
    m->socket_address->address =
        mz_proto_text((struct mz_str){ text, mz_addr_ip_text(addr, text) }, a);
    m->socket_address->port_specifier_case = pb_SocketAddress_PORT_SPECIFIER_PORT_VALUE;
    m->socket_address->port_value = mz_addr_port(addr);
    return m;
}

/* ---- metadata ---- */

pb_Struct *mz_proto_struct(const struct mz_value *v, struct mz_arena *a)
{
    pb_Struct *m = mz_proto_new(a, pb_Struct);
    m->fields = mz_arena_alloc0(a, mz_mul(v->fields.n, sizeof(*m->fields)));
    for (size_t i = 0; i < v->fields.n; i++) {
        pb_Struct_FieldsEntry *e = mz_proto_new(a, pb_Struct_FieldsEntry);
        e->key = mz_proto_text(v->fields.v[i].key, a);
        e->value = mz_proto_value(v->fields.v[i].value, a);
        m->fields[m->n_fields++] = e;
    }
    return m;
}

static pb_ListValue *list(const struct mz_value *v, struct mz_arena *a)
{
    pb_ListValue *m = mz_proto_new(a, pb_ListValue);
    m->values = mz_arena_alloc0(a, mz_mul(v->list.n, sizeof(*m->values)));
    for (size_t i = 0; i < v->list.n; i++)
        m->values[m->n_values++] = mz_proto_value(&v->list.v[i], a);
    return m;
}

pb_Value *mz_proto_value(const struct mz_value *v, struct mz_arena *a)
{
    pb_Value *m = mz_proto_new(a, pb_Value);
    switch (v->kind) {
    case MZ_VALUE_BOOL:
        m->kind_case = pb_Value_KIND_BOOL_VALUE;
        m->bool_value = v->b;
        break;
    case MZ_VALUE_NUMBER:
        m->kind_case = pb_Value_KIND_NUMBER_VALUE;
        m->number_value = v->number;
        break;
    case MZ_VALUE_STRING:
        m->kind_case = pb_Value_KIND_STRING_VALUE;
        m->string_value = mz_proto_text(v->str, a);
        break;
    case MZ_VALUE_LIST:
        m->kind_case = pb_Value_KIND_LIST_VALUE;
        m->list_value = list(v, a);
        break;
    case MZ_VALUE_STRUCT:
        m->kind_case = pb_Value_KIND_STRUCT_VALUE;
        m->struct_value = mz_proto_struct(v, a);
        break;
    default:
        m->kind_case = pb_Value_KIND_NULL_VALUE;
    }
    return m;
}

static void add(pb_Metadata *to, struct mz_str ns, const struct mz_value *v, struct mz_arena *a)
{
    pb_Metadata_FilterMetadataEntry *e = mz_proto_new(a, pb_Metadata_FilterMetadataEntry);
    e->key = mz_proto_text(ns, a);
    e->value = mz_proto_struct(v, a);
    to->filter_metadata[to->n_filter_metadata++] = e;
}

pb_Metadata *mz_proto_metadata(const struct mz_meta *m, struct mz_arena *a)
{
    pb_Metadata *out = mz_proto_new(a, pb_Metadata);
    size_t n = m ? m->n : 0;
    out->filter_metadata = mz_arena_alloc0(a, mz_mul(n, sizeof(*out->filter_metadata)));
    for (size_t i = 0; i < n; i++)
        if (m->v[i].value->kind == MZ_VALUE_STRUCT)
            add(out, m->v[i].key, m->v[i].value, a);
    return out;
}

pb_Metadata *mz_proto_metadata_of(const struct mz_str *ns, size_t n,
                                  const struct mz_meta *const *from, size_t n_from,
                                  struct mz_arena *a)
{
    pb_Metadata *out = mz_proto_new(a, pb_Metadata);
    out->filter_metadata = mz_arena_alloc0(a, mz_mul(n, sizeof(*out->filter_metadata)));
    for (size_t i = 0; i < n; i++) {
        const struct mz_value *v = NULL;
        for (size_t k = 0; k < n_from && !v; k++)
            v = from[k] ? mz_meta_get(from[k], ns[i], NULL, 0) : NULL;
        if (v && v->kind == MZ_VALUE_STRUCT)
            add(out, ns[i], v, a);
    }
    return out;
}

/* ---- times ---- */

pb_Timestamp *mz_proto_timestamp(uint64_t wall_us, struct mz_arena *a)
{
    pb_Timestamp *m = mz_proto_new(a, pb_Timestamp);
    m->seconds = (int64_t)(wall_us / 1000000);
    m->nanos = (int32_t)(wall_us % 1000000 * 1000);
    return m;
}

pb_Duration *mz_proto_duration(uint64_t us, struct mz_arena *a)
{
    pb_Duration *m = mz_proto_new(a, pb_Duration);
    m->seconds = (int64_t)(us / 1000000);
    m->nanos = (int32_t)(us % 1000000 * 1000);
    return m;
}
