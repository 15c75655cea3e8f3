/* A response as text or bytes, as files and REST have it. */
#include "xds/xds_priv.h"

/* Only what the text is made of is checked here: constraints are the resource's own, checked when it is opened. */
static bool parse(struct mz_subscription *s, struct mz_str path, struct mz_str text,
                  struct mz_arena *a, const ProtobufCMessageDescriptor *d, ProtobufCMessage **out,
                  struct mz_err *err)
{
    struct mz_proto_ctx ctx = {
        .arena = a,
        .unknown = s->xds->env.reject_unknown ? MZ_UNKNOWN_REJECT : MZ_UNKNOWN_COUNT,
        .partial = true,
        .unchecked = true,
    };
    ProtobufCMessage *m;
    bool ok =
        mz_str_ends(path, MZ_STR(".pb"))
            ? mz_msg_unpack(&ctx, text, d, &m, err)
            : mz_msg_from_text(&ctx, text,
                               mz_str_ends(path, MZ_STR(".json")) ? MZ_TEXT_JSON : MZ_TEXT_YAML, d,
                               &m, err);
    s->xds->unknown_fields += ctx.unknown_n;
    if (ctx.unknown_n)
        MZ_LOG(WARN, config, MZ_STR_FMT " has unknown fields: %s", MZ_STR_ARG(path),
               ctx.unknown_path);
    if (ok)
        *out = m;
    return ok;
}

/* The resources that the subscription is about. */
static bool select_resources(struct mz_subscription *s, const pb_DiscoveryResponse *m,
                             struct mz_arena *a, struct mz_xds_update *out, struct mz_err *err)
{
    struct mz_resource *v = mz_arena_alloc0(a, mz_mul(m->n_resources + 1, sizeof(*v)));
    struct mz_str other = MZ_STR("");
    *out = (struct mz_xds_update){ .version = mz_str_c(m->version_info), .v = v, .whole = true };
    for (size_t i = 0; i < m->n_resources; i++) {
        struct wrapped w;
        if (!resource_unwrap(m->resources[i], s->type, out->version, a, &w, err))
            return mz_err_at(err, "resources[%zu]", i);
        if (w.heartbeat) /* of a file there is nothing to keep alive */
            continue;
        if (!s->name.n || mz_str_eq(s->name, w.r.name))
            v[out->n++] = w.r;
        else
            other = w.r.name;
    }
    if (out->n || !m->n_resources)
        return true;
    return mz_err_set(err, "Unexpected configuration (expecting " MZ_STR_FMT "): " MZ_STR_FMT,
                      MZ_STR_ARG(s->name), MZ_STR_ARG(other));
}

/* A collection: its entries stand inline. */
static bool select_entries(struct mz_subscription *s, const pb_Resource *r, struct mz_arena *a,
                           struct mz_xds_update *out, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *wanted = xds_types[s->type].collection;
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT, .unchecked = true };
    ProtobufCMessage *m;
    *out = (struct mz_xds_update){ .version = mz_str_c(r->version), .whole = true };
    if (!r->resource || !mz_str_eq(mz_any_type(r->resource), mz_str_c(wanted->name)))
        return mz_err_set(err, "expected a %s", wanted->name) || mz_err_at(err, "resource");
    struct mz_str bytes = { (const char *)r->resource->value.data, r->resource->value.len };
    if (!mz_msg_unpack(&ctx, bytes, wanted, &m, err))
        return mz_err_at(err, "resource");
    const pb_ListenerCollection *c = (const pb_ListenerCollection *)m; /* the one there is */
    struct mz_resource *v = mz_arena_alloc0(a, mz_mul(c->n_entries + 1, sizeof(*v)));
    out->v = v;
    for (size_t i = 0; i < c->n_entries; i++) {
        const pb_CollectionEntry_InlineEntry *e = c->entries[i]->inline_entry;
        if (!e || !e->resource)
            return mz_err_set(err, "inline_entry with a resource is required") ||
                   mz_err_at(err, "resource.entries[%zu]", i);
        if (!resource_of_any(e->resource, s->type, mz_str_c(e->version), &v[out->n], err))
            return mz_err_at(err, "resource.entries[%zu] '%s'", i, e->name);
        out->n++;
    }
    return true;
}

static bool read_text(struct mz_subscription *s, struct mz_str name, struct mz_str text,
                      struct mz_arena *a, ProtobufCMessage **out, struct mz_err *err)
{
    char why[1600];
    struct mz_err inner;
    if (parse(s, name, text, a,
              s->collection ? &pb_Resource__descriptor : &pb_DiscoveryResponse__descriptor, out,
              &inner))
        return true;
    return mz_err_set(err, MZ_STR_FMT ": %s", MZ_STR_ARG(name),
                      mz_err_text(&inner, why, sizeof(why)));
}

bool subscription_text(struct mz_subscription *s, struct mz_str name, struct mz_str text,
                       struct mz_arena *a, struct mz_str *out_version)
{
    ProtobufCMessage *m;
    struct mz_xds_update u;
    struct mz_err err;
    if (!read_text(s, name, text, a, &m, &err)) {
        subscription_failed(s, &err);
        return false;
    }
    bool ok = s->collection ? select_entries(s, (const pb_Resource *)m, a, &u, &err)
                            : select_resources(s, (const pb_DiscoveryResponse *)m, a, &u, &err);
    *out_version = u.version;
    if (ok)
        return subscription_take(s, &u, &err); /* nobody to tell but the log, which knows */
    subscription_refused(s, &err);
    return false;
}
