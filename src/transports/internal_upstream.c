/* envoy.transport_sockets.internal_upstream (U8): what a listener at an internal address gets along with the connection. */
#include "net/wire.h"
#include "observe/metadata.h"
#include "observe/shared_state.h"
#include "proto/mapper.h"
#include "transports/transports.h"
#include "transports/wrap.h"

enum { STAT_NO_METADATA };
static const struct mz_stat_def stat_defs[] = { { "no_metadata", MZ_COUNTER, MZ_UNIT_NONE, 0 } };
static const struct mz_stat_kind stats = { "internal_upstream", stat_defs, MZ_COUNT(stat_defs) };

struct source { /* a namespace of metadata */
    struct mz_str name;
    pb_MetadataKind_KindCase of;
};
struct internal_factory {
    struct mz_transport_factory base;
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct source *v;
    size_t n;
};
struct internal_transport {
    struct wrap w;
    struct mz_passed *passed; /* NULL: handed over */
};

static struct internal_transport *of(const struct mz_transport *t)
{
    return (struct internal_transport *)(void *)wrap_of(t);
}

static struct mz_passed *pass(struct mz_transport *t)
{
    struct mz_passed *p = of(t)->passed;
    of(t)->passed = NULL;
    return p;
}

static void transport_destroy(struct mz_transport *t)
{
    struct internal_transport *i = of(t);
    if (i->passed)
        mz_arena_destroy(i->passed->arena);
    wrap_fini(&i->w);
    mz_free(MZ_MEM_CONN, i);
}

static const struct mz_transport_ops ops = {
    .name = "internal_upstream",
    .read = wrap_read,
    .write = wrap_write,
    .connected = wrap_connected,
    .ready = wrap_ready,
    .failure = wrap_failure,
    .protocol = wrap_protocol,
    .tls = wrap_tls,
    .pending = wrap_pending,
    .raw = wrap_raw,
    .pass = pass,
    .close = wrap_close,
    .destroy = transport_destroy,
};

/* ---- what goes along ---- */

static void space_add(struct mz_passed *p, struct mz_str name, const struct mz_value *space)
{
    if (!p->metadata)
        p->metadata = mz_meta_create(p->arena);
    for (size_t i = 0; i < space->fields.n; i++) {
        const struct mz_field *f = &space->fields.v[i];
        mz_meta_set(p->metadata, mz_arena_dup(p->arena, name), mz_arena_dup(p->arena, f->key),
                    mz_value_copy(f->value, p->arena));
    }
}

static void state_unref(void *state)
{
    mz_shared_state_unref(state);
}

static struct mz_passed *passed_create(const struct internal_factory *f,
                                       const struct mz_transport_opts *o)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONN);
    struct mz_passed *p = mz_arena_new0(a, struct mz_passed);
    p->arena = a;
    for (size_t i = 0; i < f->n; i++) {
        const struct mz_meta *from =
            f->v[i].of == pb_MetadataKind_KIND_HOST ? o->host_metadata : o->cluster_metadata;
        const struct mz_value *space = from ? mz_meta_get(from, f->v[i].name, NULL, 0) : NULL;
        if (space)
            space_add(p, f->v[i].name, space);
        else
            mz_count(f->scope, STAT_NO_METADATA, 1);
    }
    if (o->state) {
        p->state = mz_shared_state_ref(o->state);
        mz_arena_cleanup(a, state_unref, p->state);
    }
    return p;
}

static struct mz_transport *transport_create(const struct mz_transport_factory *base,
                                             const struct mz_transport_opts *o)
{
    const struct internal_factory *f = (const struct internal_factory *)(const void *)base;
    struct internal_transport *t = mz_new0(MZ_MEM_CONN, struct internal_transport);
    wrap_init(&t->w, &ops, base->inner->create(base->inner, o));
    if (o)
        t->passed = passed_create(f, o);
    return &t->w.base;
}

/* ---- configuration ---- */

static void factory_destroy(struct mz_transport_factory *base)
{
    struct internal_factory *f = (struct internal_factory *)(void *)base;
    mz_transport_factory_unref(base->inner);
    mz_scope_unref(f->scope);
    mz_arena_destroy(f->arena);
    mz_free(MZ_MEM_CONFIG, f);
}

/* Neither request nor route is known where a connection is made. */
static bool kinds_check(const pb_InternalUpstreamTransport *m, struct mz_err *err)
{
    for (size_t i = 0; i < m->n_passthrough_metadata; i++) {
        pb_MetadataKind_KindCase of = m->passthrough_metadata[i]->kind->kind_case;
        if (of == pb_MetadataKind_KIND_HOST || of == pb_MetadataKind_KIND_CLUSTER)
            continue;
        mz_err_set(err, "must be cluster or host");
        return mz_err_at(err, "passthrough_metadata[%zu].kind", i);
    }
    return true;
}

struct mz_transport_factory *
mz_transport_internal_create(const pb_InternalUpstreamTransport *m,
                             const struct mz_transport_factory *take_inner, struct mz_stats *st,
                             struct mz_str prefix, struct mz_err *err)
{
    if (!kinds_check(m, err)) {
        mz_transport_factory_unref(take_inner);
        return NULL;
    }
    struct internal_factory *f = mz_new0(MZ_MEM_CONFIG, struct internal_factory);
    wrap_factory_init(&f->base, "internal_upstream", take_inner);
    f->base.uses |= MZ_TRANSPORT_USES_STATE;
    f->base.create = transport_create;
    f->base.destroy = factory_destroy;
    f->arena = mz_arena_create(MZ_MEM_CONFIG);
    f->scope = mz_scope_create(
        st, &stats,
        mz_arena_cat(f->arena, 2, (struct mz_str[]){ prefix, MZ_STR("internal_upstream.") }));
    f->n = m->n_passthrough_metadata;
    f->v = mz_arena_alloc(f->arena, mz_mul(f->n, sizeof(*f->v)));
    for (size_t i = 0; i < f->n; i++) {
        const pb_InternalUpstreamTransport_MetadataValueSource *s = m->passthrough_metadata[i];
        f->v[i] = (struct source){ mz_arena_dup(f->arena, mz_str_c(s->name)), s->kind->kind_case };
    }
    return &f->base;
}
