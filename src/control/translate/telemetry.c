#include "control/translate/telemetry.h"

#include "control/model/attached.h"
#include "control/translate/own.h"
#include "control/translate/scope.h"

enum { MAX_SHARED = 4096 };

bool tr_mode_is_of(ist_telemetry_WorkloadMode mode, enum tr_class class)
{
    return mode == ist_telemetry_WorkloadMode_CLIENT_AND_SERVER ||
           mode == (class == TR_INBOUND ? ist_telemetry_WorkloadMode_SERVER
                                        : ist_telemetry_WorkloadMode_CLIENT);
}

/* ---- which documents ---- */

static bool is_for_all(const struct mz_attached *d)
{
    return !d->selector.n && !d->targets_n;
}

static void add_document(struct mz_view *v, const struct mz_attached *d, struct tr_said *out)
{
    const ist_Telemetry *m = (const ist_Telemetry *)d->m;
    const struct tr_log_level level = { m->access_logging, m->n_access_logging };
    for (size_t i = 0; i < m->n_metrics; i++)
        TR_ADD(v->arena, out, metrics) = m->metrics[i];
    for (size_t i = 0; i < m->n_tracing; i++)
        TR_ADD(v->arena, out, tracing) = m->tracing[i];
    if (level.n)
        TR_ADD(v->arena, out, levels) = level;
}

/* The oldest of a namespace without a selector; the others of that kind do not count. */
static void add_namespace(struct mz_view *v, struct mz_str ns, const struct mz_attach_to *to,
                          struct tr_said *out)
{
    struct mz_attached_refs all = { 0 };
    mz_model_attached(v->model, MZ_KIND_TELEMETRY, ns, to, &all);
    for (size_t i = 0; i < all.v.n; i++)
        if (is_for_all(all.v.v[i])) {
            add_document(v, all.v.v[i], out);
            break;
        }
    mz_vec_free(&all.v, MZ_MEM_CONFIG);
}

void tr_telemetry_said(struct mz_view *v, struct tr_said *out)
{
    const struct mz_attach_to to = { v->proxy->ns,
                                     v->workload ? v->workload->labels : v->proxy->labels };
    struct mz_attached_refs own = { 0 };
    *out = (struct tr_said){ 0 };
    add_namespace(v, v->model->mesh.root_ns, &to, out);
    if (!mz_str_eq(v->model->mesh.root_ns, to.ns))
        add_namespace(v, to.ns, &to, out);
    mz_model_attached(v->model, MZ_KIND_TELEMETRY, to.ns, &to, &own);
    for (size_t i = 0; i < own.v.n; i++)
        if (!is_for_all(own.v.v[i]))
            add_document(v, own.v.v[i], out);
    mz_vec_free(&own.v, MZ_MEM_CONFIG);
}

/* ---- all of it ---- */

static uint64_t hash_of(uint64_t h, const void *m)
{
    const uint64_t one = m ? mz_msg_hash(m) : 0;
    return mz_xxh64(&one, sizeof(one), h);
}

static uint64_t hash_all(const struct tr_telemetry *t)
{
    uint64_t h = hash_of(hash_of(0, t->tracing), t->request_id);
    for (size_t i = 0; i < t->n_http_stats; i++)
        h = hash_of(h, t->http_stats[i]);
    for (size_t i = 0; i < t->n_tcp_stats; i++)
        h = hash_of(h, t->tcp_stats[i]);
    for (size_t i = 0; i < t->n_http_logs; i++)
        h = hash_of(h, t->http_logs[i]);
    for (size_t i = 0; i < t->n_tcp_logs; i++)
        h = hash_of(h, t->tcp_logs[i]);
    return h; /* those of listeners are made of the same */
}

static const struct tr_telemetry *make(struct mz_view *v, enum tr_class class)
{
    struct tr_telemetry *t = mz_arena_new0(v->arena, struct tr_telemetry);
    struct tr_said said;
    tr_telemetry_said(v, &said);
    tr_metrics_add(v, class, &said, t);
    tr_logs_add(v, class, &said, t);
    tr_tracing_add(v, class, &said, t);
    t->hash = hash_all(t);
    return t;
}

/* Replicas have the same: it is made once for them, as long as the model's scopes. */
static const struct tr_telemetry *shared(struct mz_view *v, enum tr_class class)
{
    struct mz_translator *t = v->t;
    struct mz_arena *own = v->arena;
    const uint64_t key[] = { tr_kin(v), class };
    const struct mz_str k = { (const char *)key, sizeof(key) };
    const struct tr_telemetry *had = mz_map_get(&t->telemetry, k);
    if (had || t->telemetry.n >= MAX_SHARED)
        return had ? had : make(v, class);
    v->arena = t->arena;
    had = make(v, class);
    v->arena = own;
    (void)mz_map_put(&t->telemetry, mz_arena_dup(t->arena, k), (void *)(uintptr_t)had);
    return had;
}

const struct tr_telemetry *tr_telemetry(struct mz_view *v, enum tr_class class)
{
    if (!v->telemetry[class]) /* which providers' services there are is not in the key */
        v->telemetry[class] = tr_asks_services(v->model) ? make(v, class) : shared(v, class);
    return v->telemetry[class];
}
