#include "control/translate/build.h"

#include "proto/pack.h"
#include "proto/wire.h"

#include <stdlib.h>

ProtobufCMessage *tr_new(struct mz_arena *a, const ProtobufCMessageDescriptor *d)
{
    ProtobufCMessage *m = mz_arena_alloc0(a, d->sizeof_message);
    protobuf_c_message_init(d, m);
    return m;
}

/* Room doubles whenever @n is a power of two: nothing else need be kept. */
void *tr_grow(struct mz_arena *a, void *v, size_t n, size_t size)
{
    if (n & (n - 1))
        return v;
    void *own = mz_arena_alloc(a, size * (n ? 2 * n : 1));
    if (n)
        memcpy(own, v, size * n);
    return own;
}

static int compare_keyed(const void *a, const void *b)
{
    const struct tr_keyed *x = a, *y = b;
    const int c = strcmp(x->key, y->key);
    return c ? c : (x->at > y->at) - (x->at < y->at);
}

void tr_sort(struct tr_keyed *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v[i].at = i;
    if (n > 1)
        qsort(v, n, sizeof(*v), compare_keyed);
}

char *tr_text(struct mz_arena *a, struct mz_str s)
{
    return (char *)(uintptr_t)mz_arena_dup(a, s).p;
}

pb_UInt32Value *tr_u32(struct mz_arena *a, uint32_t v)
{
    pb_UInt32Value *m = TR_NEW(a, UInt32Value);
    m->value = v;
    return m;
}

pb_BoolValue *tr_bool(struct mz_arena *a, bool v)
{
    pb_BoolValue *m = TR_NEW(a, BoolValue);
    m->value = v;
    return m;
}

pb_Duration *tr_duration_us(struct mz_arena *a, uint64_t us)
{
    pb_Duration *m = TR_NEW(a, Duration);
    m->seconds = (int64_t)(us / 1000000);
    m->nanos = (int32_t)(us % 1000000 * 1000);
    return m;
}

void *tr_packed(struct mz_arena *a, const void *m)
{
    struct mz_packed *p = mz_arena_alloc0(a, sizeof(*p));
    p->base.descriptor = &mz_packed__descriptor;
    p->bytes = mz_msg_pack_alloc(m, a);
    return p;
}

pb_Any *tr_any(struct mz_arena *a, const void *m)
{
    return mz_any_pack(m, a);
}

pb_SocketAddress *tr_socket_address(struct mz_arena *a, struct mz_str ip, uint32_t port)
{
    pb_SocketAddress *m = TR_NEW(a, SocketAddress);
    m->address = tr_text(a, ip);
    m->port_specifier_case = pb_SocketAddress_PORT_SPECIFIER_PORT_VALUE;
    m->port_value = port;
    return m;
}

pb_Address *tr_address(struct mz_arena *a, struct mz_str ip, uint32_t port)
{
    pb_Address *m = TR_NEW(a, Address);
    m->address_case = pb_Address_ADDRESS_SOCKET_ADDRESS;
    m->socket_address = tr_socket_address(a, ip, port);
    return m;
}

pb_Address *tr_address_or_pipe(struct mz_arena *a, struct mz_str where, uint32_t port)
{
    if (port)
        return tr_address(a, where, port);
    pb_Address *m = TR_NEW(a, Address);
    m->address_case = pb_Address_ADDRESS_PIPE;
    m->pipe = TR_NEW(a, Pipe);
    m->pipe->path = tr_text(a, where);
    return m;
}

pb_CidrRange *tr_range(struct mz_arena *a, struct mz_str range)
{
    pb_CidrRange *m = TR_NEW(a, CidrRange);
    const ptrdiff_t slash = mz_str_chr(range, '/');
    uint64_t bits = mz_str_chr(range, ':') < 0 ? 32 : 128;
    if (slash >= 0)
        (void)mz_str_u64(mz_str_skip(range, (size_t)slash + 1),
                         &bits); /* checked with its document */
    m->address_prefix = tr_text(a, (struct mz_str){ range.p, slash < 0 ? range.n : (size_t)slash });
    m->prefix_len = tr_u32(a, (uint32_t)bits);
    return m;
}

pb_ConfigSource *tr_ads(struct mz_arena *a)
{
    pb_ConfigSource *m = TR_NEW(a, ConfigSource);
    m->config_source_specifier_case = pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_ADS;
    m->ads = TR_NEW(a, AggregatedConfigSource);
    m->initial_fetch_timeout = TR_NEW(a, Duration);
    m->resource_api_version = pb_ApiVersion_V3;
    return m;
}

pb_TransportSocket *tr_transport_socket(struct mz_arena *a, const char *name, const void *config)
{
    pb_TransportSocket *m = TR_NEW(a, TransportSocket);
    m->name = TR_CONST(name);
    m->config_type_case = pb_TransportSocket_CONFIG_TYPE_TYPED_CONFIG;
    m->typed_config = tr_any(a, config);
    return m;
}

pb_TransportSocket *tr_transport_socket_packed(struct mz_arena *a, const char *name,
                                               const ProtobufCMessageDescriptor *d,
                                               struct mz_str packed)
{
    pb_TransportSocket *m = TR_NEW(a, TransportSocket);
    m->name = TR_CONST(name);
    m->config_type_case = pb_TransportSocket_CONFIG_TYPE_TYPED_CONFIG;
    m->typed_config = mz_any_of_packed(packed, d, a);
    return m;
}

/* ---- Struct ---- */

pb_Value *tr_struct_at(struct mz_arena *a, pb_Struct *s, const char *key)
{
    for (size_t i = 0; i < s->n_fields; i++)
        if (strcmp(s->fields[i]->key, key) == 0)
            return s->fields[i]->value;
    pb_Struct_FieldsEntry *e = TR_NEW(a, Struct_FieldsEntry);
    e->key = tr_text(a, mz_str_c(key));
    e->value = TR_NEW(a, Value);
    TR_ADD(a, s, fields) = e;
    return e->value;
}

static void set_text(struct mz_arena *a, pb_Value *v, struct mz_str text)
{
    v->kind_case = pb_Value_KIND_STRING_VALUE;
    v->string_value = tr_text(a, text);
}

void tr_struct_text(struct mz_arena *a, pb_Struct *s, const char *key, struct mz_str text)
{
    set_text(a, tr_struct_at(a, s, key), text);
}

void tr_struct_bool(struct mz_arena *a, pb_Struct *s, const char *key, bool b)
{
    pb_Value *v = tr_struct_at(a, s, key);
    v->kind_case = pb_Value_KIND_BOOL_VALUE;
    v->bool_value = b;
}

pb_ListValue *tr_struct_list(struct mz_arena *a, pb_Struct *s, const char *key)
{
    pb_Value *v = tr_struct_at(a, s, key);
    if (v->kind_case != pb_Value_KIND_LIST_VALUE) {
        v->kind_case = pb_Value_KIND_LIST_VALUE;
        v->list_value = TR_NEW(a, ListValue);
    }
    return v->list_value;
}

pb_Struct *tr_list_add_struct(struct mz_arena *a, pb_ListValue *l)
{
    pb_Value *v = TR_NEW(a, Value);
    v->kind_case = pb_Value_KIND_STRUCT_VALUE;
    v->struct_value = TR_NEW(a, Struct);
    TR_ADD(a, l, values) = v;
    return v->struct_value;
}

pb_Struct *tr_metadata(struct mz_arena *a, pb_Metadata **m, const char *filter)
{
    if (!*m)
        *m = TR_NEW(a, Metadata);
    for (size_t i = 0; i < (*m)->n_filter_metadata; i++)
        if (strcmp((*m)->filter_metadata[i]->key, filter) == 0)
            return (*m)->filter_metadata[i]->value;
    pb_Metadata_FilterMetadataEntry *e = TR_NEW(a, Metadata_FilterMetadataEntry);
    e->key = TR_CONST(filter);
    e->value = TR_NEW(a, Struct);
    TR_ADD(a, *m, filter_metadata) = e;
    return e->value;
}

/* ---- a Struct, packed from its end to its begin: every cluster has one, of a dozen messages ---- */

static char *front(char *at, const void *bytes, size_t n)
{
    return n ? memcpy(at - n, bytes, n) : at;
}

/* What stands between @at and @end becomes a field. */
static char *enclose(char *at, const char *end, unsigned field)
{
    char head[1 + MZ_WIRE_VARINT_MAX] = { (char)(field << 3 | 2) };
    return front(at, head, 1 + mz_wire_varint((uint64_t)(end - at), head + 1));
}

static char *front_text(char *at, unsigned field, struct mz_str s)
{
    return enclose(front(at, s.p, s.n), at, field);
}

enum {
    KEY = 1,
    VALUE = 2 /* of an entry of a map */,
    STRING = 3,
    STRUCT = 5,
    LIST = 6 /* of Value */
};

/* An entry whose Value stands between @at and @end. */
static char *front_entry(char *at, const char *end, struct mz_str key)
{
    return enclose(front_text(enclose(at, end, VALUE), KEY, key), end, 1);
}

static char *front_named(char *at, struct mz_str key, struct mz_str text)
{
    return front_entry(front_text(at, STRING, text), at, key);
}

pb_Metadata *tr_service_metadata(struct mz_arena *a, struct mz_str host, struct mz_str name,
                                 struct mz_str ns)
{
    enum {
        AROUND = 160 /* heads and names, and more */
    };
    const size_t room = AROUND + host.n + name.n + ns.n;
    char *const end = (char *)mz_arena_alloc(a, room) + room;
    struct mz_packed *m = mz_arena_alloc0(a, sizeof(*m));
    char *at = front_named(end, MZ_STR("namespace"), ns);
    at = front_named(at, MZ_STR("name"), name);
    at = front_named(at, MZ_STR("host"), host);
    at = enclose(enclose(at, end, STRUCT), end, 1); /* the one of a list */
    at = front_entry(enclose(at, end, LIST), end, MZ_STR("services"));
    at = front_entry(at, end, MZ_STR("istio"));
    m->base.descriptor = &mz_packed__descriptor;
    m->bytes = (struct mz_str){ at, (size_t)(end - at) };
    return (pb_Metadata *)(void *)m;
}

void tr_name_document(struct mz_arena *a, pb_Metadata **m, const char *kind, struct mz_str ns,
                      struct mz_str name)
{
    tr_struct_text(a, tr_metadata(a, m, "istio"), "config",
                   mz_arena_printf(a, "/apis/networking.istio.io/v1/namespaces/%.*s/%s/%.*s",
                                   MZ_STR_ARG(ns), kind, MZ_STR_ARG(name)));
}
