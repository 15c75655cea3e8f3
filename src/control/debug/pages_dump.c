/* What one proxy was sent, in the form of its own /config_dump. */
#include <stdio.h>

#include "control/debug/pages_priv.h"

/* Where resources of a type stand in a dump. */
static const struct part {
    enum mz_xds_type type;
    const char *message, *list, *state, *field;
    bool named; /* an entry tells the resource's name */
} parts[] = {
    { MZ_XDS_CLUSTER, "Clusters", "dynamic_active_clusters", NULL, "cluster", false },
    { MZ_XDS_ENDPOINT, "Endpoints", "dynamic_endpoint_configs", NULL, "endpoint_config", false },
    { MZ_XDS_LISTENER, "Listeners", "dynamic_listeners", "active_state", "listener", true },
    { MZ_XDS_ROUTE, "Routes", "dynamic_route_configs", NULL, "route_config", false },
    { MZ_XDS_SECRET, "Secrets", "dynamic_active_secrets", NULL, "secret", true },
    { MZ_XDS_EXTENSION, "Ecds", "ecds_filters", NULL, "ecds_filter", false },
};

struct search {
    struct mz_str id;
    const struct mz_peer *found;
    uint64_t stream;
    bool exactly;
};

/* Whose name it is, else whose name holds it ("reviews-v1"); the newest of several. */
static void consider(void *arg, const struct mz_discovery_client *c)
{
    struct search *s = arg;
    const struct mz_str id = mz_peer_proxy(c->peer)->id;
    const bool exactly = mz_str_eq(id, s->id);
    if (!exactly && (s->exactly || mz_str_find(id, s->id) < 0))
        return;
    s->found = c->peer;
    s->stream = c->id;
    s->exactly = exactly;
}

static const struct mz_peer *find(struct mz_debug *d, const struct mz_admin_request *rq,
                                  struct mz_admin_reply *out, uint64_t *out_stream)
{
    struct search s = { .id = proxy_wanted(rq) };
    if (!s.id.n) {
        out->status = 400;
        mz_buf_append_str(&out->body, MZ_STR("You must provide a proxyID in the query string\n"));
        return NULL;
    }
    mz_discovery_each(d->e.discovery, consider, &s);
    if (!s.found) {
        out->status = 404;
        mz_buf_append_str(&out->body, MZ_STR("Proxy not connected to this Pilot instance. It may "
                                             "be connected to another instance.\n"));
    }
    if (out_stream)
        *out_stream = s.stream;
    return s.found;
}

/* Private keys are in no dump (H07). */
static void redact(enum mz_xds_type t, ProtobufCMessage *m)
{
    if (t != MZ_XDS_SECRET)
        return;
    pb_Secret *s = (pb_Secret *)m;
    if (s->type_case == pb_Secret_TYPE_TLS_CERTIFICATE && s->tls_certificate)
        s->tls_certificate->private_key = NULL;
}

static void put_resource(struct json_out *j, enum mz_xds_type t, const struct mz_out *o)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_ADMIN);
    struct mz_proto_ctx ctx = {
        .arena = a, .unknown = MZ_UNKNOWN_COUNT, .partial = true, .unchecked = true, .control = true
    };
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    struct mz_buf text;
    mz_buf_init(&text);
    if (mz_msg_unpack(&ctx, mz_out_bytes(o, a), mz_translate_descriptor(t), &m,
                      &err)) { /* we packed it */
        redact(t, m);
        mz_msg_to_json(&mz_any_pack(m, a)->base, &text, MZ_JSON_PRETTY);
    }
    json_raw(j, mz_buf_linearize(&text, mz_buf_len(&text)));
    mz_buf_fini(&text);
    mz_arena_destroy(a);
}

static void put_entry(struct json_out *j, const struct part *part, const struct mz_out *o)
{
    char version[17];
    (void)snprintf(version, sizeof(version), "%016llx", (unsigned long long)o->version);
    json_open(j, '{');
    if (part->named)
        json_member(j, "name", o->name);
    if (part->state) {
        json_key(j, part->state);
        json_open(j, '{');
    }
    json_member(j, "version_info", mz_str_c(version));
    json_key(j, part->field);
    put_resource(j, part->type, o);
    if (part->state)
        json_close(j, '}');
    json_close(j, '}');
}

static void put_part(struct json_out *j, const struct part *part, const struct mz_peer *p)
{
    struct mz_set_at at = { 0 };
    char type[96];
    (void)snprintf(type, sizeof(type), "type.googleapis.com/envoy.admin.v3.%sConfigDump",
                   part->message);
    json_open(j, '{');
    json_member(j, "@type", mz_str_c(type));
    json_key(j, part->list);
    json_open(j, '[');
    for (const struct mz_out *o; (o = mz_set_next(mz_peer_have(p, part->type), &at));)
        if (o->size)
            put_entry(j, part, o);
    json_close(j, ']');
    json_close(j, '}');
}

static void put_empty(struct json_out *j, const char *type)
{
    json_open(j, '{');
    json_member(j, "@type", mz_str_c(type));
    json_close(j, '}');
}

PAGE(page_config_dump)
{
    const struct mz_peer *p = find(arg, rq, out, NULL);
    struct mz_str value;
    const bool eds = mz_admin_param(rq, "include_eds", &value);
    if (!p)
        return;
    struct json_out j = json_begin(out);
    json_open(&j, '{');
    json_key(&j, "configs");
    json_open(&j, '[');
    put_empty(&j, "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump");
    for (size_t i = 0; i < MZ_COUNT(parts); i++) {
        if (parts[i].type != MZ_XDS_ENDPOINT || eds)
            put_part(&j, &parts[i], p);
        if (parts[i].type == MZ_XDS_LISTENER)
            put_empty(&j, "type.googleapis.com/envoy.admin.v3.ScopedRoutesConfigDump");
    }
    json_close(&j, ']');
    json_close(&j, '}');
}

static void all_of(struct mz_debug *d, const struct mz_admin_request *rq,
                   struct mz_admin_reply *out, enum mz_xds_type type)
{
    const struct mz_peer *p = find(d, rq, out, NULL);
    struct mz_set_at at = { 0 };
    if (!p)
        return;
    struct json_out j = json_begin(out);
    json_open(&j, '{');
    json_key(&j, "configs");
    json_open(&j, '[');
    for (const struct mz_out *o; (o = mz_set_next(mz_peer_have(p, type), &at));)
        if (o->size)
            put_resource(&j, type, o);
    json_close(&j, ']');
    json_close(&j, '}');
}

PAGE(page_cdsz)
{
    all_of(arg, rq, out, MZ_XDS_CLUSTER);
}

PAGE(page_ecdsz)
{
    all_of(arg, rq, out, MZ_XDS_EXTENSION);
}

PAGE(page_edsz)
{
    all_of(arg, rq, out, MZ_XDS_ENDPOINT);
}

PAGE(page_ndsz)
{
    all_of(arg, rq, out, MZ_XDS_NAME_TABLE);
}

PAGE(page_force_disconnect)
{
    struct mz_debug *d = arg;
    uint64_t stream;
    if (!find(d, rq, out, &stream))
        return;
    mz_discovery_end(d->e.discovery, stream);
    mz_buf_append_str(&out->body, MZ_STR("OK"));
}
