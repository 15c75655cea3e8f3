#include "control/monitor/monitor.h"

#include <dirent.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "control/model/model.h"

#include "revision.h" /* generated: the commit that was built */

enum { MAX_BODY = 1 << 20, MAX_CONNECTIONS = 256, TIMEOUT_MS = 60000 };
static const double push_bounds[] = { .01, .1, .5, 1, 3, 5, 10, 20, 30 };
enum { MODEL_BOUNDS = 6 }; /* of those: a model takes less */

struct mz_monitor {
    struct mz_monitor_env e;
    struct mz_admin *pages;
    struct mz_web *web;
    struct mz_debug *debug;
    struct mz_admin_page ready, metrics, version;
    uint64_t started_us, pushes;
    struct mz_distribution push_time, debounce_time, model_time;
};

/* ---- pages ---- */

static void page_ready(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_monitor *m = arg;
    (void)rq;
    const struct mz_source *s = m->e.debug.source;
    if (s->ops->synced(s) && mz_discovery_model(m->e.debug.discovery))
        return;
    out->status = 503;
    mz_buf_append_str(&out->body, MZ_STR("documents are being read\n"));
}

static void page_version(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_str format;
    (void)arg;
    if (mz_admin_param(rq, "format", &format) && mz_str_eq(format, MZ_STR("json"))) {
        out->content_type = "application/json";
        mz_buf_append_str(&out->body, MZ_STR("{\"version\": \"" MZ_REVISION "\"}\n"));
    } else {
        mz_buf_append_str(&out->body, MZ_STR(MZ_REVISION));
    }
}

static void one(struct mz_buf *b, const char *name, enum mz_metric_kind kind, const char *help,
                double v)
{
    mz_metric_head(b, name, kind, help);
    mz_metric_value(b, name, NULL, MZ_STR(""), v);
}

static void per_type(struct mz_buf *b, const char *name, const char *help,
                     const uint64_t v[MZ_XDS_TYPE__COUNT])
{
    mz_metric_head(b, name, MZ_METRIC_COUNTER, help);
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++) {
        const char *word = mz_translate_short((enum mz_xds_type)t);
        if (word)
            mz_metric_value(b, name, "type", mz_str_c(word), (double)v[t]);
    }
}

/* Proxies by the version that they tell: few, but whoever connects names them. */
struct version {
    struct mz_str text;
    size_t n;
};
enum { MAX_VERSIONS = 64 };
struct versions {
    struct version v[MAX_VERSIONS];
    size_t n;
};

static void count_version(void *arg, const struct mz_discovery_client *c)
{
    struct versions *s = arg;
    const struct mz_str text = mz_peer_proxy(c->peer)->version;
    size_t i = 0;
    while (i < s->n && !mz_str_eq(s->v[i].text, text))
        i++;
    if (i == MAX_VERSIONS)
        i = MAX_VERSIONS - 1; /* further ones count as the last */
    if (i == s->n)
        s->v[s->n++].text = text;
    s->v[i].n++;
}

static void clients(struct mz_monitor *m, struct mz_buf *b)
{
    struct versions s = { .n = 0 };
    mz_discovery_each(m->e.debug.discovery, count_version, &s);
    mz_metric_head(b, "pilot_xds", MZ_METRIC_GAUGE,
                   "Number of endpoints connected to this pilot using XDS.");
    for (size_t i = 0; i < s.n; i++)
        mz_metric_value(b, "pilot_xds", "version", s.v[i].text, (double)s.v[i].n);
}

static size_t descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        (void)closedir(d);    /* only read */
    return n > 3 ? n - 3 : 0; /* ".", ".." and this one */
}

static void process(struct mz_monitor *m, struct mz_buf *b)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u); /* cannot fail */
    const double cpu = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    one(b, "process_cpu_seconds_total", MZ_METRIC_COUNTER,
        "Total user and system CPU time spent in seconds.", cpu);
    one(b, "process_resident_memory_bytes", MZ_METRIC_GAUGE, "Resident memory size in bytes.",
        (double)mz_mem_resident_bytes());
    one(b, "process_open_fds", MZ_METRIC_GAUGE, "Number of open file descriptors.",
        (double)descriptors());
    one(b, "process_start_time_seconds", MZ_METRIC_GAUGE,
        "Start time of the process since unix epoch in seconds.", (double)m->started_us / 1e6);
}

static void problem_count(void *arg, const struct mz_problem *p)
{
    size_t *n = arg;
    *n += p->level == MZ_LEVEL_ERROR;
}

/* ---- what clients refuse ---- */

struct refusals {
    struct mz_buf *out;
    enum mz_xds_type type;
    const char *name;
};

static void refusal(void *arg, const struct mz_discovery_client *c)
{
    static const char *const codes[] = {
        /* as istiod writes them */
        "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
        "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
        "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
        "DataLoss", "Unauthenticated"
    };
    const struct refusals *r = arg;
    struct mz_peer_state s;
    mz_peer_state(c->peer, r->type, &s);
    if (!s.nack[0])
        return;
    const struct mz_metric_label labels[] = {
        { "err", mz_str_c((size_t)s.nack_code < MZ_COUNT(codes) ? codes[s.nack_code] : "Unknown") },
        { "node", mz_peer_proxy(c->peer)->id }
    };
    mz_metric_labelled(r->out, r->name, labels, MZ_COUNT(labels), 1);
}

/* A sample for each client whose last answer to the type is a refusal. */
static void refusals(struct mz_monitor *m, struct mz_buf *b)
{
    static const struct {
        enum mz_xds_type type;
        const char *name, *help;
    } kinds[] = {
        { MZ_XDS_CLUSTER, "pilot_xds_cds_reject", "Clients that refuse their clusters." },
        { MZ_XDS_ENDPOINT, "pilot_xds_eds_reject", "Clients that refuse their endpoints." },
        { MZ_XDS_LISTENER, "pilot_xds_lds_reject", "Clients that refuse their listeners." },
        { MZ_XDS_ROUTE, "pilot_xds_rds_reject", "Clients that refuse their routes." },
    };
    for (size_t i = 0; i < MZ_COUNT(kinds); i++) {
        struct refusals r = { b, kinds[i].type, kinds[i].name };
        mz_metric_head(b, kinds[i].name, MZ_METRIC_GAUGE, kinds[i].help);
        mz_discovery_each(m->e.debug.discovery, refusal, &r);
    }
}

/* ---- /metrics ---- */

static void about_documents(struct mz_monitor *m, struct mz_buf *b)
{
    static const char *const triggers[MZ_PUSH__COUNT] = { [MZ_PUSH_CONFIG] = "config",
                                                          [MZ_PUSH_SERVICE] = "service",
                                                          [MZ_PUSH_ENDPOINT] = "endpoint",
                                                          [MZ_PUSH_PROXY] = "proxy",
                                                          [MZ_PUSH_SECRET] = "secret" };
    const struct mz_model *model = mz_discovery_model(m->e.debug.discovery);
    const uint64_t *n = mz_discovery_triggers(m->e.debug.discovery);
    const struct mz_source *s = m->e.debug.source;
    size_t broken = 0, virtuals = 0;
    s->ops->problems(s, problem_count, &broken);
    (void)mz_store_list(m->e.debug.store, MZ_KIND_VIRTUAL_SERVICE, &virtuals);
    one(b, "pilot_services", MZ_METRIC_GAUGE, "Total services known to pilot.",
        model ? (double)model->services_n : 0);
    one(b, "pilot_virt_services", MZ_METRIC_GAUGE, "VirtualServices that there are.",
        (double)virtuals);
    one(b, "pilot_total_rejected_configs", MZ_METRIC_GAUGE,
        "Number of documents that are not used because they are broken.", (double)broken);
    mz_metric_head(b, "pilot_inbound_updates", MZ_METRIC_COUNTER,
                   "Total number of updates received by pilot.");
    mz_metric_value(b, "pilot_inbound_updates", "type", MZ_STR("config"), (double)m->pushes);
    mz_metric_head(b, "pilot_push_triggers", MZ_METRIC_COUNTER,
                   "Changes that clients may have been told, by what changed.");
    for (size_t i = 0; i < MZ_PUSH__COUNT; i++)
        mz_metric_value(b, "pilot_push_triggers", "type", mz_str_c(triggers[i]), (double)n[i]);
    mz_metric_distribution(b, "pilot_debounce_time",
                           "Seconds from the first change of documents that was noticed until it "
                           "is being told, with the time for the model.",
                           &m->debounce_time);
    mz_metric_distribution(b, "pilot_pushcontext_init_seconds",
                           "Seconds to make a model of documents.", &m->model_time);
    mz_metric_distribution(b, "pilot_xds_push_time",
                           "Total time in seconds Pilot takes to push lds, rds, cds and eds.",
                           &m->push_time);
}

static void about_clients(struct mz_monitor *m, struct mz_buf *b)
{
    const struct mz_peer_counts *c = mz_discovery_counts(m->e.debug.discovery);
    const struct mz_cache_counts cache = mz_discovery_cache(m->e.debug.discovery);
    clients(m, b);
    per_type(b, "pilot_xds_pushes", "Pilot build and send errors for lds, rds, cds and eds.",
             c->sent);
    per_type(b, "pilot_total_xds_rejects",
             "Total number of XDS responses from pilot rejected by proxy.", c->refused);
    per_type(b, "pilot_xds_expired_nonce", "Requests that answer an older response.", c->expired);
    refusals(m, b);
    mz_metric_head(b, "pilot_xds_config_size_bytes", MZ_METRIC_HISTOGRAM,
                   "Sizes of responses that were sent, in bytes.");
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++)
        if (mz_translate_short((enum mz_xds_type)t))
            mz_metric_series(b, "pilot_xds_config_size_bytes", "type",
                             mz_str_c(mz_translate_short((enum mz_xds_type)t)), &c->sizes[t]);
    mz_metric_distribution(b, "pilot_proxy_convergence_time",
                           "Seconds from telling a client of a change until it has answered all "
                           "that followed from it.",
                           &c->convergence);
    mz_metric_head(b, "xds_cache_reads", MZ_METRIC_COUNTER,
                   "Resources that were wanted, by whether they had been made before.");
    mz_metric_value(b, "xds_cache_reads", "type", MZ_STR("hit"), (double)cache.hits);
    mz_metric_value(b, "xds_cache_reads", "type", MZ_STR("miss"), (double)cache.misses);
    one(b, "xds_cache_size", MZ_METRIC_GAUGE, "Resources that are kept.", (double)cache.entries);
    one(b, "pilot_sds_certificate_errors_total", MZ_METRIC_COUNTER,
        "Total number of failures to fetch SDS key and certificate.",
        (double)mz_discovery_secrets_refused(m->e.debug.discovery));
}

static void page_metrics(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    struct mz_monitor *m = arg;
    struct mz_buf *b = &out->body;
    (void)rq;
    out->content_type = "text/plain; version=0.0.4; charset=utf-8";
    mz_metric_head(b, "istio_build", MZ_METRIC_GAUGE, "Istio component build info");
    mz_buf_printf(b, "istio_build{component=\"pilot\",tag=\"%s\"} 1\n", MZ_REVISION);
    mz_metric_head(b, "pilot_info", MZ_METRIC_GAUGE, "What was built.");
    mz_metric_value(b, "pilot_info", "version", mz_str_c(MZ_REVISION), 1);
    one(b, "istiod_uptime_seconds", MZ_METRIC_GAUGE, "Seconds since the start.",
        (double)(mz_clock->wall_us() - m->started_us) / 1e6);
    about_documents(m, b);
    about_clients(m, b);
    process(m, b);
    if (m->e.more)
        m->e.more(m->e.arg, b);
}

/* ---- owner ---- */

void mz_monitor_pushed(struct mz_monitor *m, const struct mz_monitor_push *p)
{
    m->pushes++;
    mz_distribution_add(&m->debounce_time, (double)p->waited_us / 1e6);
    mz_distribution_add(&m->model_time, (double)p->model_us / 1e6);
    mz_distribution_add(&m->push_time, (double)p->told_us / 1e6);
}

struct mz_monitor *mz_monitor_create(const struct mz_monitor_env *e)
{
    const struct mz_web_opts o = { .name = "monitoring",
                                   .max_body = MAX_BODY,
                                   .max_connections = MAX_CONNECTIONS,
                                   .timeout_ms = TIMEOUT_MS,
                                   .local_only = "/debug" };
    struct mz_monitor *m = mz_new0(MZ_MEM_ADMIN, struct mz_monitor);
    m->e = *e;
    m->started_us = mz_clock->wall_us();
    m->push_time = m->debounce_time = m->model_time =
        (struct mz_distribution){ .bounds = push_bounds, .bounds_n = MZ_COUNT(push_bounds) };
    m->model_time.bounds_n = MODEL_BOUNDS;
    m->ready = (struct mz_admin_page){
        .path = "/ready", .help = "200 when documents are served", .handle = page_ready, .arg = m
    };
    m->metrics = (struct mz_admin_page){
        .path = "/metrics", .help = "for Prometheus", .handle = page_metrics, .arg = m
    };
    m->version = (struct mz_admin_page){
        .path = "/version", .help = "what was built", .handle = page_version, .arg = m
    };
    m->pages = mz_admin_create();
    mz_admin_add(m->pages, &m->ready);
    mz_admin_add(m->pages, &m->metrics);
    mz_admin_add(m->pages, &m->version);
    m->debug = mz_debug_create(&e->debug);
    mz_debug_add(m->debug, m->pages);
    m->web = mz_web_create(e->loop, m->pages, &o);
    return m;
}

bool mz_monitor_listen(struct mz_monitor *m, const struct mz_addr *a, struct mz_addr *out_addr,
                       struct mz_err *err)
{
    return mz_web_listen(m->web, a, NULL, out_addr, err);
}

void mz_monitor_destroy(struct mz_monitor *m)
{
    if (!m)
        return;
    mz_web_destroy(m->web);
    mz_admin_destroy(m->pages);
    mz_debug_destroy(m->debug);
    mz_free(MZ_MEM_ADMIN, m);
}
