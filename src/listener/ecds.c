#include "listener/ecds.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/vec.h"
#include "listener/listener_filter.h"
#include "listener/network_filter.h"
#include "stats/stats.h"
#include "xds/thread_slot.h"

enum { STAT_CONFLICT, STAT_FAIL, STAT_RELOAD, STAT__COUNT };
static const struct mz_stat_def stat_defs[] = {
    [STAT_CONFLICT] = { "config_conflict", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [STAT_FAIL] = { "config_fail", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [STAT_RELOAD] = { "config_reload", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "ecds", stat_defs, STAT__COUNT };

struct mz_ecds {
    struct mz_xds *xds;
    struct mz_map by_key; /* kind, source and name to struct subject; borrowed */
};
struct subject { /* one configuration, for all places that name it */
    struct mz_ecds *all;
    struct mz_arena *arena;
    const struct mz_extension_kind *kind;
    struct mz_str key, name, init_name;
    struct mz_subscription *sub;
    struct mz_scope *scope;
    struct mz_init_shared init;
    struct mz_list places;
    char *bytes; /* of the last good one; NULL: none */
    size_t bytes_n;
    char *version;
    uint64_t updated_wall_us;
};
struct mz_ecds_place {
    struct mz_list link;
    struct subject *subject;
    struct mz_arena *arena;
    struct mz_factory factory; /* its services */
    struct mz_str *types;      /* full names */
    size_t n_types;
    bool last;
    const struct mz_extension *otherwise; /* NULL: no default */
    struct mz_thread_slot *slot;          /* holds struct mz_extension, none has no type */
    struct mz_init_wait wait;
    struct mz_init_target begin; /* nobody waits: it only starts the subscription */
};

struct mz_ecds *mz_ecds_create(struct mz_xds *x)
{
    struct mz_ecds *e = mz_new0(MZ_MEM_XDS, struct mz_ecds);
    e->xds = x;
    mz_map_init(&e->by_key, MZ_MEM_XDS);
    return e;
}

void mz_ecds_destroy(struct mz_ecds *e)
{
    if (!e)
        return;
    MZ_ASSERT(e->by_key.n == 0);
    mz_map_fini(&e->by_key);
    mz_free(MZ_MEM_XDS, e);
}

/* ---- one configuration as an object ---- */

static struct mz_extension *extension_create(const struct mz_extension_type *t, void *cfg)
{
    struct mz_extension *x = mz_new0(MZ_MEM_XDS, struct mz_extension);
    *x = (struct mz_extension){ .refs = 1, .type = *t, .cfg = cfg };
    return x;
}

const struct mz_extension *mz_extension_ref(const struct mz_extension *x)
{
    __atomic_add_fetch(&((struct mz_extension *)(uintptr_t)x)->refs, 1, __ATOMIC_RELAXED);
    return x;
}

void mz_extension_unref(const struct mz_extension *borrowed)
{
    struct mz_extension *x = (struct mz_extension *)(uintptr_t)borrowed;
    if (!x || __atomic_sub_fetch(&x->refs, 1, __ATOMIC_ACQ_REL))
        return;
    if (x->cfg && x->type.config_destroy)
        x->type.config_destroy(x->cfg);
    mz_free(MZ_MEM_XDS, x);
}

static void slot_ref(const void *x)
{
    (void)mz_extension_ref(x);
}

static void slot_unref(const void *x)
{
    mz_extension_unref(x);
}

static const struct mz_shared_ops slot_ops = { slot_ref, slot_unref };

/* ---- what a place takes ---- */

static bool type_wanted(const struct mz_ecds_place *p, struct mz_str name, struct mz_err *err)
{
    for (size_t i = 0; i < p->n_types; i++)
        if (mz_str_eq(p->types[i], name))
            return true;
    struct mz_buf all;
    mz_buf_init(&all);
    for (size_t i = 0; i < p->n_types; i++)
        mz_buf_printf(&all, "%s" MZ_STR_FMT, i ? ", " : "", MZ_STR_ARG(p->types[i]));
    mz_err_set(err, "Error: filter config has type URL " MZ_STR_FMT " but expect " MZ_STR_FMT ".",
               MZ_STR_ARG(name), MZ_STR_ARG(mz_buf_linearize(&all, mz_buf_len(&all))));
    mz_buf_fini(&all);
    return false;
}

/* @out: its type, where the place can have it. */
static bool place_fits(const struct mz_ecds_place *p, struct mz_str type,
                       struct mz_extension_type *out, struct mz_err *err)
{
    const struct mz_extension_kind *k = p->subject->kind;
    if (!type_wanted(p, type, err))
        return false;
    if (!k->find(&p->factory, type, out))
        return mz_err_set(err, "no filter has a configuration of type \"" MZ_STR_FMT "\"",
                          MZ_STR_ARG(type));
    if (!k->chain || out->terminal == p->last)
        return true;
    return mz_err_set(err,
                      out->terminal ? "Error: terminal filter named " MZ_STR_FMT
                                      " of type %s must be the last filter in a %s filter chain."
                                    : "Error: non-terminal filter named " MZ_STR_FMT
                                      " of type %s is the last filter in a %s filter chain.",
                      MZ_STR_ARG(p->subject->name), out->name, k->chain);
}

static struct mz_extension *place_build(const struct mz_ecds_place *p, const pb_Any *any,
                                        struct mz_proto_ctx *ctx, struct mz_err *err)
{
    struct mz_factory f = p->factory;
    const ProtobufCMessageDescriptor *d;
    struct mz_extension_type t;
    ProtobufCMessage *msg;
    f.proto = ctx;
    if (!mz_any_unpack(ctx, any, &d, &msg, err) || !place_fits(p, mz_str_c(d->name), &t, err))
        return NULL;
    void *cfg = t.config_build ? t.config_build(msg, &f, err) : NULL;
    return t.config_build && !cfg ? NULL : extension_create(&t, cfg);
}

/* An object of no type tells that there is none. */
static void place_set(struct mz_ecds_place *p, const struct mz_extension *take)
{
    static const struct mz_extension_type none = { .type = NULL };
    mz_thread_slot_set(p->slot, take ? take : extension_create(&none, NULL));
}

static void place_default(struct mz_ecds_place *p)
{
    place_set(p, p->otherwise ? mz_extension_ref(p->otherwise) : NULL);
}

/* ---- updates ---- */

static void keep(struct subject *s, const struct mz_resource *r) /* NULL: nothing */
{
    mz_free(MZ_MEM_XDS, s->bytes);
    mz_free(MZ_MEM_XDS, s->version);
    s->bytes = s->version = NULL;
    s->updated_wall_us = mz_clock->wall_us();
    if (!r)
        return;
    s->bytes = mz_strndup(MZ_MEM_XDS, r->bytes.n ? r->bytes.p : "", r->bytes.n);
    s->bytes_n = r->bytes.n;
    s->version = mz_strndup(MZ_MEM_XDS, r->version.n ? r->version.p : "", r->version.n);
}

/* All of them, or none. */
static bool places_set(struct subject *s, const pb_Any *any, struct mz_proto_ctx *ctx,
                       struct mz_err *err)
{
    MZ_VEC(struct mz_extension *) built = { 0 };
    bool ok = true;
    mz_list_foreach (it, &s->places) {
        struct mz_extension *x =
            place_build(MZ_CONTAINER(it, struct mz_ecds_place, link), any, ctx, err);
        ok = x != NULL;
        if (!ok)
            break;
        *mz_vec_push(&built, MZ_MEM_XDS) = x;
    }
    size_t i = 0;
    if (ok)
        mz_list_foreach (it, &s->places)
            place_set(MZ_CONTAINER(it, struct mz_ecds_place, link), built.v[i++]);
    for (; i < built.n; i++)
        mz_extension_unref(built.v[i]);
    mz_vec_free(&built, MZ_MEM_XDS);
    return ok || mz_err_at(err, "typed_config");
}

static void removed(struct subject *s)
{
    MZ_LOG(DEBUG, filter, "Removing filter config " MZ_STR_FMT, MZ_STR_ARG(s->name));
    keep(s, NULL);
    mz_list_foreach (it, &s->places)
        place_default(MZ_CONTAINER(it, struct mz_ecds_place, link));
    mz_count(s->scope, STAT_RELOAD, 1);
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct subject *s = arg;
    if (u->n_removed) {
        removed(s);
        return true;
    }
    if (u->n != 1)
        return mz_err_set(err, "Unexpected number of resources in ExtensionConfigDS response: %zu",
                          u->n);
    const struct mz_resource *r = &u->v[0];
    if (!mz_str_eq(r->name, s->name))
        return mz_err_set(err,
                          "Unexpected resource name in ExtensionConfigDS response: " MZ_STR_FMT,
                          MZ_STR_ARG(r->name));
    if (s->bytes && mz_str_eq(r->bytes, (struct mz_str){ s->bytes, s->bytes_n }))
        return true;
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    ProtobufCMessage *msg;
    bool ok = mz_resource_open(s->all->xds, r, MZ_XDS_EXTENSION, &ctx, &msg, err) &&
              places_set(s, ((const pb_TypedExtensionConfig *)msg)->typed_config, &ctx, err);
    mz_arena_destroy(ctx.arena);
    if (!ok)
        return false;
    keep(s, r);
    mz_count(s->scope, STAT_RELOAD, 1);
    mz_init_shared_ready(&s->init);
    return true;
}

static void failed(void *arg)
{
    mz_count(((struct subject *)arg)->scope, STAT_FAIL, 1);
}

static void first(void *arg)
{
    mz_init_shared_ready(&((struct subject *)arg)->init);
}

static bool current(void *arg, struct mz_resource *out)
{
    const struct subject *s = arg;
    *out = (struct mz_resource){ s->name, mz_str_c(s->version), { s->bytes, s->bytes_n } };
    return s->bytes != NULL;
}

static void start(void *arg)
{
    mz_subscription_start(((struct subject *)arg)->sub);
}

/* ---- subjects ---- */

static struct subject *subject_create(struct mz_ecds *e, const pb_ConfigSource *source,
                                      struct mz_str key, struct mz_str name,
                                      const struct mz_extension_kind *kind, struct mz_stats *stats,
                                      struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct subject *s = mz_arena_new0(a, struct subject);
    *s = (struct subject){ .all = e, .arena = a, .kind = kind };
    s->key = mz_arena_dup(a, key);
    s->name = mz_arena_dup(a, name);
    s->init_name = mz_arena_cat(
        s->arena, 2,
        (struct mz_str[]){ MZ_STR("shared target FilterConfigSubscription init "), s->name });
    mz_list_init(&s->places);
    mz_init_shared_init(&s->init, start, s);
    struct mz_str prefix = mz_arena_printf(a, "extension_config_discovery.%s." MZ_STR_FMT ".",
                                           kind->stat, MZ_STR_ARG(name));
    const struct mz_subscriber who = { update, first, s, current, failed };
    s->sub = mz_subscribe(e->xds, source, MZ_XDS_EXTENSION, s->name, prefix, &who, err);
    if (!s->sub) {
        mz_arena_destroy(a);
        return NULL;
    }
    s->scope = mz_scope_create(stats, &stat_kind, prefix);
    (void)mz_map_put(&e->by_key, s->key, s);
    return s;
}

static struct subject *subject_get(struct mz_ecds *e, const pb_ConfigSource *source,
                                   struct mz_str name, const struct mz_extension_kind *kind,
                                   struct mz_stats *stats, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str parts[] = { mz_str_c(kind->stat), MZ_STR("\n"), name, MZ_STR("\n"),
                              mz_msg_pack_alloc(&source->base, a) };
    struct mz_str key = mz_arena_cat(a, MZ_COUNT(parts), parts);
    struct subject *s = mz_map_get(&e->by_key, key);
    if (!s)
        s = subject_create(e, source, key, name, kind, stats, err);
    mz_arena_destroy(a);
    return s;
}

static void subject_drop(struct subject *s)
{
    if (!mz_list_empty(&s->places))
        return;
    (void)mz_map_del(&s->all->by_key, s->key);
    mz_subscription_end(s->sub);
    mz_scope_unref(s->scope);
    keep(s, NULL);
    mz_arena_destroy(s->arena);
}

/* ---- places ---- */

static bool types_build(const pb_ExtensionConfigSource *m, struct mz_ecds_place *p,
                        struct mz_err *err)
{
    p->types = mz_arena_alloc0(p->arena, m->n_type_urls * sizeof(*p->types));
    for (size_t i = 0; i < m->n_type_urls; i++) {
        struct mz_str url = mz_str_c(m->type_urls[i]);
        ptrdiff_t slash = mz_str_rchr(url, '/');
        struct mz_str name = slash < 0 ? url : mz_str_skip(url, (size_t)slash + 1);
        struct mz_extension_type t;
        if (!p->subject->kind->find(&p->factory, name, &t))
            return mz_err_set(err,
                              "Error: no factory found for a required type URL " MZ_STR_FMT ".",
                              MZ_STR_ARG(name)) ||
                   mz_err_at(err, "type_urls[%zu]", i);
        p->types[p->n_types++] = mz_arena_dup(p->arena, name);
    }
    return true;
}

/* What came for other places already, where it fits. */
static bool place_first(struct mz_ecds_place *p, struct mz_err *err)
{
    struct subject *s = p->subject;
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    struct mz_extension *x = NULL;
    ProtobufCMessage *msg;
    struct mz_err why;
    const struct mz_resource r = { s->name, MZ_STR(""), { s->bytes, s->bytes_n } };
    bool ok = true;
    if (s->bytes && mz_resource_open(s->all->xds, &r, MZ_XDS_EXTENSION, &ctx, &msg, &why)) {
        const pb_Any *any = ((const pb_TypedExtensionConfig *)msg)->typed_config;
        const ProtobufCMessageDescriptor *d;
        struct mz_extension_type t;
        if (mz_any_unpack(&ctx, any, &d, &msg, &why) &&
            place_fits(p, mz_str_c(d->name), &t, &why)) {
            x = place_build(p, any, &ctx, err);
            ok = x != NULL;
        } else {
            mz_count(s->scope, STAT_CONFLICT, 1);
        }
    }
    mz_arena_destroy(ctx.arena);
    if (x)
        place_set(p, x);
    else if (p->otherwise)
        place_default(p);
    return ok;
}

/* The subscription begins with its listener, which does not wait for it. */
static void begin(void *arg)
{
    struct mz_ecds_place *p = arg;
    mz_init_shared_start(&p->subject->init);
    mz_init_ready(&p->begin);
}

static bool place_fill(const pb_ExtensionConfigSource *m, struct mz_ecds_place *p,
                       const struct mz_factory *f, struct mz_err *err)
{
    struct mz_init *init = f->init;
    if (!types_build(m, p, err))
        return false;
    if (m->default_config) {
        p->otherwise = place_build(p, m->default_config, f->proto, err);
        if (!p->otherwise)
            return mz_err_at(err, "default_config");
    } else if (m->apply_default_config_without_warming) {
        return mz_err_set(err,
                          "Error: filter config " MZ_STR_FMT
                          " applied without warming but has no default config.",
                          MZ_STR_ARG(p->subject->name));
    }
    if (!place_first(p, err))
        return false;
    p->begin = (struct mz_init_target){ .name = MZ_STR("target DynamicFilterConfigProviderImpl"),
                                        .start = begin,
                                        .arg = p };
    if (!m->apply_default_config_without_warming)
        mz_init_wait(&p->wait, &p->subject->init, p->subject->init_name, init);
    else if (init)
        mz_init_add(init, &p->begin);
    else
        begin(p);
    return true;
}

static void factory_keep(struct mz_ecds_place *p, const struct mz_factory *f)
{
    p->factory = *f;
    p->factory.listener_name = mz_arena_dup(p->arena, f->listener_name);
    p->factory.http_stat_prefix = mz_arena_dup(p->arena, f->http_stat_prefix);
    p->factory.init = NULL; /* what a later configuration waits for keeps no listener waiting */
    if (f->listener_scope)
        p->factory.listener_scope = mz_scope_ref(f->listener_scope);
}

static void place_free(struct mz_loop *l, void *arg)
{
    (void)l;
    struct mz_ecds_place *p = arg;
    mz_init_wait_end(&p->wait);
    mz_init_remove(&p->begin);
    mz_list_del(&p->link);
    subject_drop(p->subject);
    mz_thread_slot_unref(p->slot);
    mz_extension_unref(p->otherwise);
    if (p->factory.listener_scope)
        mz_scope_unref(p->factory.listener_scope);
    mz_arena_destroy(p->arena);
}

struct mz_ecds_place *mz_ecds_place_create(const pb_ExtensionConfigSource *m, struct mz_str name,
                                           const struct mz_extension_kind *kind, bool last,
                                           const struct mz_factory *f, struct mz_err *err)
{
    struct subject *s = subject_get(f->ecds, m->config_source, name, kind, f->stats, err);
    if (!s) {
        mz_err_at(err, "config_source");
        return NULL;
    }
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_ecds_place *p = mz_arena_new0(a, struct mz_ecds_place);
    p->arena = a;
    p->subject = s;
    p->last = last;
    mz_list_add_tail(&s->places, &p->link);
    p->slot = mz_thread_slot_create(s->all->xds, &slot_ops);
    factory_keep(p, f);
    if (place_fill(m, p, f, err))
        return p;
    place_free(f->main, p);
    return NULL;
}

void mz_ecds_place_destroy(struct mz_ecds_place *p)
{
    if (!p)
        return;
    struct mz_loop *main = mz_xds_env(p->subject->all->xds)->main;
    if (mz_loop_here(main))
        place_free(main, p);
    else
        mz_loop_post(main, place_free,
                     p); /* a worker ended the last connection of an old listener */
}

const struct mz_extension *mz_ecds_place_get(const struct mz_ecds_place *p)
{
    const struct mz_extension *x = mz_thread_slot_get(p->slot);
    return x && x->type.type ? x : NULL;
}

void mz_ecds_each(struct mz_ecds *e, const char *stat,
                  void (*fn)(void *arg, const struct mz_ecds_shown *s), void *arg)
{
    mz_map_foreach (it, &e->by_key) {
        const struct subject *s = it->value;
        const struct mz_ecds_shown shown = { .name = s->name,
                                             .version = mz_str_c(s->version),
                                             .bytes = { s->bytes, s->bytes_n },
                                             .updated_wall_us = s->updated_wall_us };
        if (strcmp(s->kind->stat, stat) == 0)
            fn(arg, &shown);
    }
}

/* ---- the kinds of this folder ---- */

static bool network_find(const struct mz_factory *f, struct mz_str type,
                         struct mz_extension_type *out)
{
    const struct mz_net_filter_type *t = f->net_filter(type);
    if (t)
        *out = (struct mz_extension_type){ t, t->name, t->terminal, t->config_build,
                                           t->config_destroy };
    return t != NULL;
}

static bool listener_find(const struct mz_factory *f, struct mz_str type,
                          struct mz_extension_type *out)
{
    const struct mz_lfilter_type *t = f->listener_filter ? f->listener_filter(type) : NULL;
    if (t)
        *out = (struct mz_extension_type){ t, t->name, false, t->config_build, t->config_destroy };
    return t != NULL;
}

const struct mz_extension_kind mz_extension_network = { "network_filter", "network", network_find };
const struct mz_extension_kind mz_extension_listener = { "tcp_listener_filter", NULL,
                                                         listener_find };
