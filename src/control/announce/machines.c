#include "control/announce/machines.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/monitor/metrics.h"

enum { COMMIT_MS = 20, MAX_MACHINES = 20000, MAX_LABEL = 317, MAX_VALUE = 63, MAX_NAME = 253 };

struct machine {
    struct mz_machines *all;
    struct mz_doc *doc;    /* its entry */
    struct mz_str account; /* that the entry asks for; "" any */
    size_t streams;
    bool checked, healthy; /* it counts while it is healthy */
    struct mz_timer grace;
};
struct session { /* one stream */
    uint64_t id;
    struct machine *of;
};
struct mz_machines {
    struct mz_loop *loop;
    struct mz_store *store;
    struct mz_machines_opts o;
    struct mz_map by_key;    /* of documents, to struct machine */
    struct mz_map by_stream; /* to struct session */
    struct mz_timer commit;  /* many that connect at once are one change */
    struct {
        uint64_t success, updates, unregister, deletes, errors;
    } counts;
};

/* ---- what is in the store ---- */

static void on_commit(struct mz_timer *t)
{
    struct mz_machines *m = MZ_CONTAINER(t, struct mz_machines, commit);
    mz_store_commit(m->store);
}

static void changed(struct mz_machines *m)
{
    if (!mz_timer_armed(&m->commit))
        mz_timer_start_ms(&m->commit, COMMIT_MS);
}

/* A document of another source may have taken the key meanwhile: that is left alone. */
static bool is_stored(const struct machine *w)
{
    return mz_store_get(w->all->store, w->doc->key) == w->doc;
}

static void show(struct machine *w)
{
    const bool wanted = !w->checked || w->healthy;
    if (wanted && !mz_store_get(w->all->store, w->doc->key)) {
        mz_store_put(w->all->store, mz_doc_ref(w->doc));
        changed(w->all);
    } else if (!wanted && is_stored(w)) {
        mz_store_remove(w->all->store, w->doc->key);
        changed(w->all);
    }
}

static void machine_free(struct machine *w)
{
    mz_timer_stop(&w->grace);
    (void)mz_map_del(&w->all->by_key, w->doc->key);
    mz_doc_unref(w->doc);
    mz_free(MZ_MEM_CONFIG, (char *)(uintptr_t)w->account.p);
    mz_free(MZ_MEM_CONFIG, w);
}

static void on_grace(struct mz_timer *t)
{
    struct machine *w = MZ_CONTAINER(t, struct machine, grace);
    struct mz_machines *m = w->all;
    MZ_LOG(INFO, config, "%.*s is gone: its proxy did not come back", MZ_STR_ARG(w->doc->key));
    if (is_stored(w)) {
        mz_store_remove(m->store, w->doc->key);
        changed(m);
    }
    m->counts.deletes++;
    machine_free(w);
}

/* ---- the entry of a proxy ---- */

/* "web-group-10.0.0.1", with the network behind it; the end of it where it is too long. */
static bool name_of(const struct mz_proxy *p, struct mz_str group, struct mz_arena *a,
                    struct mz_str *out, struct mz_err *err)
{
    const struct mz_str network = mz_label_get(p->metadata, "NETWORK");
    struct mz_str s =
        mz_arena_printf(a, "%.*s-%.*s%s%.*s", MZ_STR_ARG(group), MZ_STR_ARG(p->ips[0]),
                        network.n ? "-" : "", MZ_STR_ARG(network));
    char *at = (char *)(uintptr_t)s.p; /* ours */
    for (size_t i = 0; i < s.n; i++) {
        at[i] = at[i] == ':' ? '-' : mz_lower(at[i]);
        if (!((at[i] >= 'a' && at[i] <= 'z') || (at[i] >= '0' && at[i] <= '9') || at[i] == '-' ||
              at[i] == '.'))
            return mz_err_set(err, "the network \"%.60s\" is not a name", network.p);
    }
    *out = s.n > MAX_NAME ? mz_str_skip(s, s.n - MAX_NAME) : s;
    return true;
}

static char *text(struct mz_arena *a, struct mz_str s)
{
    return (char *)(uintptr_t)mz_arena_dup(a, s).p;
}

static struct mz_str locality_of(const struct mz_proxy *p, struct mz_arena *a)
{
    const struct mz_locality *l = &p->locality;
    if (!l->region.n)
        return MZ_STR("");
    return mz_arena_printf(a, "%.*s%s%.*s%s%.*s", MZ_STR_ARG(l->region), l->zone.n ? "/" : "",
                           MZ_STR_ARG(l->zone), l->subzone.n ? "/" : "", MZ_STR_ARG(l->subzone));
}

struct pairs { /* of a map<string, string>; of one key the last counts */
    struct mz_arena *a;
    MZ_VEC(struct mz_label) v;
};

static void set_pair(struct pairs *p, struct mz_str key, struct mz_str value)
{
    mz_vec_foreach (it, &p->v)
        if (mz_str_eq(it->key, key)) {
            it->value = value;
            return;
        }
    *mz_vec_push(&p->v, MZ_MEM_CONFIG) = (struct mz_label){ key, value };
}

#define SET_PAIRS(to, m, field)                                                                    \
    for (size_t i_ = 0; i_ < (m)->n_##field; i_++)                                                 \
    set_pair((to), mz_str_c((m)->field[i_]->key), mz_str_c((m)->field[i_]->value))

/* Of the template, then of the group, then what the proxy says of itself. */
static bool labels_of(struct pairs *to, const ist_WorkloadGroup *g, const struct mz_proxy *p,
                      struct mz_err *err)
{
    SET_PAIRS(to, g->template_, labels);
    if (g->metadata)
        SET_PAIRS(to, g->metadata, labels);
    for (size_t i = 0; i < p->labels.n; i++) {
        const struct mz_label *l = &p->labels.v[i];
        if (l->key.n > MAX_LABEL || l->value.n > MAX_VALUE)
            return mz_err_set(err, "the label \"%.60s\" is too long", l->key.p);
        if (!mz_str_eq(l->key, MZ_STR("istio-locality")))
            set_pair(to, l->key, l->value);
    }
    if (mz_str_ieq(mz_label_get(p->metadata, "ENABLE_HBONE"), MZ_STR("true")))
        set_pair(to, MZ_STR("networking.istio.io/tunnel"), MZ_STR("http"));
    return true;
}

static struct mz_str now(struct mz_arena *a)
{
    const time_t t = (time_t)(mz_clock->wall_us() / 1000000);
    struct tm tm;
    char out[32];
    (void)gmtime_r(&t, &tm);
    const size_t n = strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", &tm);
    return mz_arena_dup(a, (struct mz_str){ out, n });
}

static void set_entry_labels(ist_WorkloadEntry *e, const struct pairs *p)
{
    e->n_labels = p->v.n;
    e->labels = mz_arena_alloc(p->a, p->v.n * sizeof(*e->labels));
    for (size_t i = 0; i < p->v.n; i++) {
        e->labels[i] = mz_arena_new0(p->a, ist_WorkloadEntry_LabelsEntry);
        *e->labels[i] = (ist_WorkloadEntry_LabelsEntry)ist_WorkloadEntry_LabelsEntry__INIT;
        e->labels[i]->key = text(p->a, p->v.v[i].key);
        e->labels[i]->value = text(p->a, p->v.v[i].value);
    }
}

static void set_meta_labels(k8s_ObjectMeta *m, const struct pairs *p)
{
    m->n_labels = p->v.n;
    m->labels = mz_arena_alloc(p->a, p->v.n * sizeof(*m->labels));
    for (size_t i = 0; i < p->v.n; i++) {
        m->labels[i] = mz_arena_new0(p->a, k8s_ObjectMeta_LabelsEntry);
        *m->labels[i] = (k8s_ObjectMeta_LabelsEntry)k8s_ObjectMeta_LabelsEntry__INIT;
        m->labels[i]->key = text(p->a, p->v.v[i].key);
        m->labels[i]->value = text(p->a, p->v.v[i].value);
    }
}

static void set_annotations(k8s_ObjectMeta *m, const ist_WorkloadGroup *g, struct mz_str group,
                            bool checked, struct mz_arena *a)
{
    struct pairs p = { .a = a };
    set_pair(&p, MZ_STR("istio.io/autoRegistrationGroup"), group);
    set_pair(&p, MZ_STR("istio.io/connectedAt"), now(a));
    if (g->metadata)
        SET_PAIRS(&p, g->metadata, annotations);
    if (checked)
        set_pair(&p, MZ_STR("proxy.istio.io/health-checks-enabled"), MZ_STR("true"));
    m->n_annotations = p.v.n;
    m->annotations = mz_arena_alloc(a, p.v.n * sizeof(*m->annotations));
    for (size_t i = 0; i < p.v.n; i++) {
        m->annotations[i] = mz_arena_new0(a, k8s_ObjectMeta_AnnotationsEntry);
        *m->annotations[i] = (k8s_ObjectMeta_AnnotationsEntry)k8s_ObjectMeta_AnnotationsEntry__INIT;
        m->annotations[i]->key = text(a, p.v.v[i].key);
        m->annotations[i]->value = text(a, p.v.v[i].value);
    }
    mz_vec_free(&p.v, MZ_MEM_CONFIG);
}

struct entry {
    struct mz_str name;
    ist_WorkloadEntry m;
    k8s_ObjectMeta meta;
    bool checked;
};

static bool entry_make(const struct mz_proxy *p, const struct mz_doc *group, struct mz_str name,
                       struct mz_arena *a, struct entry *out, struct mz_err *err)
{
    const ist_WorkloadGroup *g = (const ist_WorkloadGroup *)mz_doc_body(group, a);
    const struct mz_str network = mz_label_get(p->metadata, "NETWORK"), where = locality_of(p, a);
    const ist_mesh_ProxyConfig *own = p->config; /* of its node */
    struct pairs labels = { .a = a };
    if (!labels_of(&labels, g, p, err)) {
        mz_vec_free(&labels.v, MZ_MEM_CONFIG);
        return false;
    }
    *out = (struct entry){ .name = name,
                           .m = *g->template_,
                           .meta = k8s_ObjectMeta__INIT,
                           .checked = own && own->readiness_probe };
    out->m.address = text(a, p->ips[0]);
    out->m.network = network.n ? text(a, network) : out->m.network;
    out->m.locality = where.n ? text(a, where) : out->m.locality;
    set_entry_labels(&out->m, &labels);
    set_meta_labels(&out->meta, &labels);
    mz_vec_free(&labels.v, MZ_MEM_CONFIG);
    out->meta.name = text(a, name);
    out->meta.namespace_ = text(a, p->ns);
    out->meta.creationtimestamp = text(a, now(a));
    set_annotations(&out->meta, g, group->name, out->checked, a);
    return true;
}

/* ---- who may ---- */

static bool may(const struct mz_machines *m, const struct mz_discovery_caller *who,
                struct mz_str ns, struct mz_str account, struct mz_err *err)
{
    if (m->o.unverified)
        return true;
    if (!who->ns.n)
        return mz_err_set(err, "registration of WorkloadEntry requires a verified identity");
    if (!mz_str_eq(who->ns, ns))
        return mz_err_set(
            err, "registration of WorkloadEntry namespace mismatch: \"%.60s\" vs \"%.60s\"",
            who->ns.p, ns.p);
    return !account.n || mz_str_eq(account, who->account) ||
           mz_err_set(
               err,
               "registration of WorkloadEntry service account mismatch: \"%.60s\" vs \"%.60s\"",
               who->account.p, account.p);
}

static bool may_by_document(const struct mz_machines *m, const struct mz_discovery_caller *who,
                            const struct mz_doc *d, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    const ist_WorkloadEntry *e = (const ist_WorkloadEntry *)mz_doc_body(d, a);
    const bool ok = may(m, who, d->ns, mz_str_c(e->service_account), err);
    mz_arena_destroy(a);
    return ok;
}

/* ---- streams ---- */

static struct machine *machine_new(struct mz_machines *m, const struct entry *e)
{
    struct machine *w = mz_new0(MZ_MEM_CONFIG, struct machine);
    const struct mz_str account = mz_str_c(e->m.service_account);
    char *own = mz_alloc0(MZ_MEM_CONFIG, account.n + 1);
    memcpy(own, account.p, account.n);
    w->all = m;
    w->account = (struct mz_str){ own, account.n };
    w->checked = e->checked;
    w->doc = mz_doc_create(MZ_KIND_WORKLOAD_ENTRY, &e->meta, &e->m.base, MZ_STR(""), 0);
    mz_timer_init(m->loop, &w->grace, on_grace);
    (void)mz_map_put(&m->by_key, w->doc->key, w);
    return w;
}

static bool create(struct mz_machines *m, const struct mz_proxy *p, struct mz_str group,
                   struct mz_str name, const struct mz_discovery_caller *who, struct mz_arena *a,
                   struct machine **out, struct mz_err *err)
{
    const struct mz_doc *g =
        mz_store_get(m->store, mz_arena_printf(a, "WorkloadGroup/%.*s/%.*s", MZ_STR_ARG(p->ns),
                                               MZ_STR_ARG(group)));
    struct entry e;
    if (!g)
        return mz_err_set(err, "cannot find WorkloadGroup %.60s/%.100s", p->ns.p, group.p);
    if (m->by_key.n >= MAX_MACHINES)
        return mz_err_set(err, "%d machines are registered, which is the most", MAX_MACHINES);
    if (!entry_make(p, g, name, a, &e, err) ||
        !may(m, who, p->ns, mz_str_c(e.m.service_account), err))
        return false;
    *out = machine_new(m, &e);
    m->counts.success++;
    MZ_LOG(INFO, config, "%.*s is made of group %.*s for %.*s%s", MZ_STR_ARG((*out)->doc->key),
           MZ_STR_ARG(group), MZ_STR_ARG(p->id),
           e.checked ? ", and counts once it is healthy" : "");
    return true;
}

static struct mz_str id_key(const uint64_t *id)
{
    return (struct mz_str){ (const char *)id, sizeof(*id) };
}

/* Finds or makes the machine; NULL and true: there is nothing to do for it. */
static bool find_machine(struct mz_machines *m, const struct mz_proxy *p, struct mz_str group,
                         const struct mz_discovery_caller *who, struct mz_arena *a,
                         struct machine **out, struct mz_err *err)
{
    struct mz_str name;
    *out = NULL;
    if (!name_of(p, group, a, &name, err))
        return false;
    const struct mz_str key =
        mz_arena_printf(a, "WorkloadEntry/%.*s/%.*s", MZ_STR_ARG(p->ns), MZ_STR_ARG(name));
    struct machine *w = mz_map_get(&m->by_key, key);
    const struct mz_doc *other = w ? NULL : mz_store_get(m->store, key);
    if (other) /* somebody has written it: there is nothing to add */
        return may_by_document(m, who, other, err);
    if (!w)
        return create(m, p, group, name, who, a, out, err);
    if (!may(m, who, p->ns, w->account, err))
        return false;
    m->counts.updates++;
    *out = w;
    return true;
}

static bool on_connected(void *arg, uint64_t stream, const struct mz_proxy *p,
                         const struct mz_discovery_caller *who, struct mz_err *err)
{
    struct mz_machines *m = arg;
    const struct mz_str group = mz_label_get(p->metadata, "AUTO_REGISTER_GROUP");
    if (m->o.off || !group.n)
        return true;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct machine *w;
    struct mz_err why = { .path = "", .msg = "" };
    const bool ok = find_machine(m, p, group, who, a, &w, &why);
    mz_arena_destroy(a);
    if (!ok) {
        m->counts.errors++;
        return mz_err_set(err, "auto-registration WorkloadEntry of %.100s failed: %s", p->id.p,
                          why.msg);
    }
    if (!w)
        return true;
    struct session *s = mz_new0(MZ_MEM_CONFIG, struct session);
    *s = (struct session){ stream, w };
    (void)mz_map_put(&m->by_stream, id_key(&s->id), s);
    w->streams++;
    mz_timer_stop(&w->grace);
    show(w);
    return true;
}

static void on_health(void *arg, uint64_t stream, bool healthy, struct mz_str why)
{
    struct mz_machines *m = arg;
    const struct session *s = mz_map_get(&m->by_stream, id_key(&stream));
    if (!s || s->of->healthy == healthy)
        return;
    s->of->healthy = healthy;
    MZ_LOG(INFO, config, "%.*s is %s%s%.*s", MZ_STR_ARG(s->of->doc->key),
           healthy ? "healthy" : "unhealthy", why.n ? ": " : "", (int)(why.n > 200 ? 200 : why.n),
           why.n ? why.p : "");
    show(s->of);
}

static void on_left(void *arg, uint64_t stream)
{
    struct mz_machines *m = arg;
    struct session *s = mz_map_get(&m->by_stream, id_key(&stream));
    if (!s)
        return;
    (void)mz_map_del(&m->by_stream, id_key(&stream));
    if (--s->of->streams == 0) {
        m->counts.unregister++;
        mz_timer_start_ms(&s->of->grace, m->o.grace_ms);
    }
    mz_free(MZ_MEM_CONFIG, s);
}

struct mz_discovery_watch mz_machines_watch(struct mz_machines *m)
{
    return (struct mz_discovery_watch){ on_connected, on_health, on_left, m };
}

/* ---- all of them ---- */

static bool says_false(const char *name)
{
    const char *v = getenv(name); /* before threads start */
    return v && mz_str_ieq(mz_str_c(v), MZ_STR("false"));
}

struct mz_machines_opts mz_machines_opts_from_env(void)
{
    const char *grace = getenv("PILOT_WORKLOAD_ENTRY_GRACE_PERIOD"); /* before threads start */
    struct mz_machines_opts o = { .off = says_false("PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION"),
                                  .unverified =
                                      says_false("ISTIO_WORKLOAD_ENTRY_VALIDATE_IDENTITY"),
                                  .grace_ms = 10000 };
    struct mz_str s = mz_str_c(grace ? grace : "");
    uint64_t n, unit = 1000;
    if (mz_str_ends(s, MZ_STR("ms")))
        unit = 1;
    s.n -= s.n >= 2 && unit == 1 ? 2 : s.n > 0;
    if (grace && (unit == 1 || grace[s.n] == 's') && mz_str_u64(s, &n) && n <= UINT32_MAX)
        o.grace_ms = n * unit;
    return o;
}

struct mz_machines *mz_machines_create(struct mz_loop *l, struct mz_store *s,
                                       const struct mz_machines_opts *o)
{
    struct mz_machines *m = mz_new0(MZ_MEM_CONFIG, struct mz_machines);
    m->loop = l;
    m->store = s;
    m->o = *o;
    mz_map_init(&m->by_key, MZ_MEM_CONFIG);
    mz_map_init(&m->by_stream, MZ_MEM_CONFIG);
    mz_timer_init(l, &m->commit, on_commit);
    return m;
}

void mz_machines_destroy(struct mz_machines *m)
{
    if (!m)
        return;
    mz_timer_stop(&m->commit);
    mz_map_foreach (it, &m->by_stream)
        mz_free(MZ_MEM_CONFIG, it->value);
    mz_map_foreach (it, &m->by_key) {
        struct machine *w = it->value;
        mz_timer_stop(&w->grace);
        mz_doc_unref(w->doc);
        mz_free(MZ_MEM_CONFIG, (char *)(uintptr_t)w->account.p);
        mz_free(MZ_MEM_CONFIG, w);
    }
    mz_map_fini(&m->by_key);
    mz_map_fini(&m->by_stream);
    mz_free(MZ_MEM_CONFIG, m);
}

void mz_machines_metrics(const struct mz_machines *m, struct mz_buf *out)
{
    const struct {
        const char *name, *help;
        uint64_t value;
    } counters[] = {
        { "auto_registration_success_total", "Total number of successful auto registrations.",
          m->counts.success },
        { "auto_registration_updates_total", "Total number of auto registration updates.",
          m->counts.updates },
        { "auto_registration_unregister_total", "Total number of unregistrations.",
          m->counts.unregister },
        { "auto_registration_deletes_total",
          "Total number of auto registration cleaned up by periodic timer.", m->counts.deletes },
        { "auto_registration_errors_total", "Total number of auto registration errors.",
          m->counts.errors },
    };
    for (size_t i = 0; i < MZ_COUNT(counters); i++) {
        mz_metric_head(out, counters[i].name, MZ_METRIC_COUNTER, counters[i].help);
        mz_metric_value(out, counters[i].name, NULL, MZ_STR(""), (double)counters[i].value);
    }
}
