#include "hcm/vhds.h"

#include "base/log.h"
#include "proto/wire.h"
#include "xds/mux.h"

enum { STAT_RELOAD, STAT_EMPTY, STAT__COUNT };
static const struct mz_stat_def stat_defs[] = {
    { "config_reload", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "update_empty", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "vhds", stat_defs, STAT__COUNT };

struct vhost { /* as it came; name and bytes behind the struct */
    struct mz_str name, bytes;
};
struct question { /* an on-demand name that the server was asked for */
    struct vhds *vhds;
    struct mz_xds_watch *watch;
    struct mz_timer timer;
    bool known;       /* it has a virtual host: the server goes on to tell of it */
    struct mz_str id; /* "routes/host", behind the struct */
};
struct vhds {
    struct mz_xds *xds;
    struct mz_subscription *sub;
    struct mz_scope *scope;
    struct vhds_owner owner;
    char *name;              /* of the route configuration */
    struct mz_map hosts;     /* resource name to struct vhost */
    struct mz_map *next;     /* while an update is tried: what they would be */
    struct mz_map questions; /* struct question */
    size_t unanswered;
};

void vhds_append(const struct vhds *v, struct mz_buf *out)
{
    mz_map_foreach (it, v->next ? v->next : &v->hosts)
        mz_wire_put_bytes(out, 2, ((const struct vhost *)it->value)->bytes);
}

/* ---- questions ---- */

static struct mz_str host_of(const struct question *q)
{
    return mz_str_skip(q->id, strlen(q->vhds->name) + 1);
}

static void question_end(struct question *q)
{
    struct vhds *v = q->vhds;
    (void)mz_map_del(&v->questions, q->id);
    v->unanswered -= !q->known;
    mz_timer_stop(&q->timer);
    mz_xds_watch_end(q->watch);
    mz_free(MZ_MEM_XDS, q);
}

static void question_unknown(struct question *q)
{
    q->vhds->owner.answered(q->vhds->owner.arg, host_of(q), false);
    question_end(q);
}

static void on_unanswered(struct mz_timer *t)
{
    question_unknown(MZ_CONTAINER(t, struct question, timer));
}

void vhds_ask(struct vhds *v, struct mz_str host)
{
    struct mz_str parts[] = { mz_str_c(v->name), MZ_STR("/"), host };
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str id = mz_arena_cat(a, MZ_COUNT(parts), parts);
    struct question *q = mz_map_get(&v->questions, id);
    if (q && q->known) { /* and yet not served any more: it was removed */
        question_end(q);
        q = NULL;
    }
    if (!q && v->unanswered >= VHDS_QUESTIONS) {
        v->owner.answered(v->owner.arg, host, false);
    } else if (!q) {
        q = mz_alloc0(MZ_MEM_XDS, sizeof(*q) + id.n);
        memcpy(q + 1, id.p, id.n);
        q->id = (struct mz_str){ (char *)(q + 1), id.n };
        q->vhds = v;
        (void)mz_map_put(&v->questions, q->id, q);
        v->unanswered++;
        mz_timer_init(mz_xds_env(v->xds)->main, &q->timer, on_unanswered);
        mz_timer_start_ms(&q->timer, VHDS_ANSWER_MS);
        q->watch = mz_subscription_ask(v->sub, q->id);
    }
    mz_arena_destroy(a);
}

/* @exists: of the name, by the server's word. */
static void answer(struct vhds *v, struct mz_str id, bool exists)
{
    struct question *q = mz_map_get(&v->questions, id);
    if (!q || q->known)
        return;
    if (!exists) {
        question_unknown(q);
        return;
    }
    q->known = true;
    v->unanswered--;
    mz_timer_stop(&q->timer);
    v->owner.answered(v->owner.arg, host_of(q), true);
}

/* ---- updates ---- */

static struct vhost *vhost_make(const struct mz_resource *r)
{
    struct vhost *h = mz_alloc0(MZ_MEM_XDS, sizeof(*h) + r->name.n + r->bytes.n);
    char *at = (char *)(h + 1);
    memcpy(at, r->name.p, r->name.n);
    h->name = (struct mz_str){ at, r->name.n };
    if (r->bytes.n)
        memcpy(at + r->name.n, r->bytes.p, r->bytes.n);
    h->bytes = (struct mz_str){ at + r->name.n, r->bytes.n };
    return h;
}

/* Those of @of that @other does not have. */
static void free_others(const struct mz_map *of, const struct mz_map *other)
{
    mz_map_foreach (it, of)
        if (mz_map_get(other, it->key) != it->value)
            mz_free(MZ_MEM_XDS, it->value);
}

/* What the hosts would be after @u; true: others than they are. */
static bool next_make(const struct vhds *v, const struct mz_xds_update *u, struct mz_map *next)
{
    bool changed = false;
    mz_map_foreach (it, &v->hosts)
        (void)mz_map_put(next, it->key, it->value);
    for (size_t i = 0; i < u->n_removed; i++)
        changed |= mz_map_del(next, u->removed[i]) != NULL;
    for (size_t i = 0; i < u->n; i++) {
        const struct vhost *old = mz_map_get(next, u->v[i].name);
        if (old && mz_str_eq(old->bytes, u->v[i].bytes))
            continue;
        struct vhost *h = vhost_make(&u->v[i]);
        struct vhost *twice = mz_map_del(next, h->name); /* the key goes with its host */
        if (twice && mz_map_get(&v->hosts, h->name) != twice)
            mz_free(MZ_MEM_XDS, twice);
        (void)mz_map_put(next, h->name, h);
        changed = true;
    }
    return changed;
}

static bool opens(const struct vhds *v, const struct mz_xds_update *u, struct mz_err *err)
{
    for (size_t i = 0; i < u->n; i++) {
        struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
        ProtobufCMessage *m;
        bool ok = mz_resource_open(v->xds, &u->v[i], MZ_XDS_VIRTUAL_HOST, &ctx, &m, err);
        mz_arena_destroy(ctx.arena);
        if (!ok)
            return mz_err_at(err, MZ_STR_FMT, MZ_STR_ARG(u->v[i].name));
    }
    return true;
}

static bool take(struct vhds *v, const struct mz_xds_update *u, struct mz_err *err)
{
    struct mz_map next, old;
    if (!opens(v, u, err))
        return false;
    mz_map_init(&next, MZ_MEM_XDS);
    v->next = &next;
    bool changed = next_make(v, u, &next);
    bool ok = !changed || v->owner.changed(v->owner.arg, err);
    v->next = NULL;
    if (!ok) {
        free_others(&next, &v->hosts);
        mz_map_fini(&next);
        return false;
    }
    old = v->hosts;
    v->hosts = next;
    free_others(&old, &next);
    mz_map_fini(&old);
    if (changed)
        mz_count(v->scope, STAT_RELOAD, 1);
    return true;
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct vhds *v = arg;
    if (!u->n && !u->n_removed)
        mz_count(v->scope, STAT_EMPTY, 1);
    bool ok = take(v, u, err);
    for (size_t i = 0; i < u->n_answered; i++)
        answer(v, u->answered[i].name, ok && u->answered[i].exists);
    for (size_t i = 0; i < u->n_removed; i++)
        answer(v, u->removed[i], false);
    return ok;
}

static void first(void *arg)
{
    struct vhds *v = arg;
    v->owner.first(v->owner.arg);
}

struct vhds *vhds_create(struct mz_xds *x, const pb_Vhds *m, struct mz_str name,
                         struct mz_str prefix, const struct vhds_owner *owner, struct mz_err *err)
{
    if (!mz_xds_is_delta(x, m->config_source)) {
        bool ads = m->config_source->config_source_specifier_case ==
                   pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_ADS;
        mz_err_set(err,
                   ads ? "vhds: ADS must use DELTA_GRPC api_type when used as VHDS config source."
                       : "vhds: only 'DELTA_GRPC' or 'ADS' (which uses Delta xDS) is supported "
                         "as a config source.");
        mz_err_at(err, "config_source");
        return NULL;
    }
    struct vhds *v = mz_new0(MZ_MEM_XDS, struct vhds);
    const struct mz_subscriber who = { update, first, v, NULL, NULL };
    v->xds = x;
    v->owner = *owner;
    v->name = mz_strndup(MZ_MEM_XDS, name.p, name.n);
    mz_map_init(&v->hosts, MZ_MEM_XDS);
    mz_map_init(&v->questions, MZ_MEM_XDS);
    v->sub = mz_subscribe(x, m->config_source, MZ_XDS_VIRTUAL_HOST, name, prefix, &who, err);
    if (!v->sub) {
        mz_err_at(err, "config_source");
        vhds_destroy(v);
        return NULL;
    }
    v->scope = mz_scope_create(mz_xds_env(x)->stats, &stat_kind, prefix);
    return v;
}

void vhds_start(struct vhds *v)
{
    mz_subscription_start(v->sub);
}

void vhds_destroy(struct vhds *v)
{
    if (!v)
        return;
    for (struct mz_map_entry *e; (e = mz_map_next(&v->questions, NULL)) != NULL;) {
        struct question *q = e->value;
        if (q->known)
            question_end(q);
        else
            question_unknown(q);
    }
    mz_map_fini(&v->questions);
    mz_subscription_end(v->sub);
    mz_map_foreach (it, &v->hosts)
        mz_free(MZ_MEM_XDS, it->value);
    mz_map_fini(&v->hosts);
    if (v->scope)
        mz_scope_unref(v->scope);
    mz_free(MZ_MEM_XDS, v->name);
    mz_free(MZ_MEM_XDS, v);
}
