#include "control/ca/ca.h"

#include "base/clock.h"
#include "control/monitor/metrics.h"

enum { REFRESH_MS = 5000, NAMES = 8 };

struct mz_ca {
    struct mz_arena *arena;
    struct mz_authority *authority;
    struct mz_tokens *tokens;
    struct mz_callers callers;
    struct mz_ca_service *service;
    struct mz_serving *grpc, *web;
    struct mz_timer timer;
    uint32_t refresh_ms;
    bool timed;
    void (*changed)(void *arg);
    void *changed_arg;
};

static void on_timer(struct mz_timer *t)
{
    struct mz_ca *c = MZ_CONTAINER(t, struct mz_ca, timer);
    const bool changed = mz_authority_refresh(c->authority);
    mz_serving_refresh(c->grpc, changed);
    mz_serving_refresh(c->web, changed);
    if (changed && c->changed)
        c->changed(c->changed_arg);
    mz_timer_start_ms(&c->timer, c->refresh_ms);
}

/* As whom clients look for the control plane. */
static const char *const *dns_names(struct mz_arena *a, const struct mz_ca_opts *o)
{
    static const char *const services[] = { "istiod", "istio-pilot", "mizzend" };
    const char **v = mz_arena_alloc0(a, (NAMES + 1) * sizeof(*v));
    size_t n = 0;
    for (size_t i = 0; i < MZ_COUNT(services); i++) {
        v[n++] = mz_arena_printf(a, "%s.%s.svc", services[i], o->root_ns).p;
        v[n++] = mz_arena_printf(a, "%s.%s.svc.%s", services[i], o->root_ns, o->domain).p;
    }
    v[n++] = "localhost";
    return v;
}

struct mz_ca *mz_ca_create(struct mz_loop *l, const struct mz_ca_opts *o, struct mz_err *err)
{
    struct mz_ca *c = mz_new0(MZ_MEM_TLS, struct mz_ca);
    c->arena = mz_arena_create(MZ_MEM_TLS);
    const char *const *dns = dns_names(c->arena, o);
    const struct mz_serving_opts grpc = { dns, true }, web = { dns, false };
    c->authority = mz_authority_create(&o->authority, err);
    c->tokens = c->authority ? mz_tokens_create(&o->tokens, err) : NULL;
    c->grpc = c->tokens ? mz_serving_create(c->authority, &grpc, err) : NULL;
    c->web = c->grpc ? mz_serving_create(c->authority, &web, err) : NULL;
    if (!c->web) {
        mz_ca_destroy(c);
        return NULL;
    }
    c->callers = (struct mz_callers){ { mz_tokens_reviewer(c->tokens) },
                                      1,
                                      mz_authority_trust_domain(c->authority) };
    for (size_t i = 0; i < MZ_REVIEWERS_MAX - 1 && o->reviewers[i]; i++)
        c->callers.reviewers[c->callers.reviewers_n++] = o->reviewers[i];
    c->service = mz_ca_service_create(c->authority, &c->callers);
    c->refresh_ms = o->refresh_ms ? o->refresh_ms : REFRESH_MS;
    c->changed = o->changed;
    c->changed_arg = o->arg;
    mz_timer_init(l, &c->timer, on_timer);
    mz_timer_start_ms(&c->timer, c->refresh_ms);
    c->timed = true;
    return c;
}

void mz_ca_stop(struct mz_ca *c)
{
    if (!c || !c->timed)
        return;
    mz_timer_stop(&c->timer);
    c->timed = false;
}

void mz_ca_destroy(struct mz_ca *c)
{
    if (!c)
        return;
    mz_ca_stop(c);
    mz_ca_service_destroy(c->service);
    mz_serving_destroy(c->grpc);
    mz_serving_destroy(c->web);
    mz_tokens_destroy(c->tokens);
    mz_authority_destroy(c->authority);
    mz_arena_destroy(c->arena);
    mz_free(MZ_MEM_TLS, c);
}

struct mz_ca_service *mz_ca_get_service(struct mz_ca *c)
{
    return c->service;
}

const struct mz_transport_factory *mz_ca_grpc_factory(struct mz_ca *c)
{
    return mz_serving_factory(c->grpc);
}

const struct mz_transport_factory *mz_ca_web_factory(struct mz_ca *c)
{
    return mz_serving_factory(c->web);
}

struct mz_str mz_ca_roots(const struct mz_ca *c)
{
    return mz_authority_roots(c->authority);
}

struct mz_str mz_ca_crl(const struct mz_ca *c)
{
    return mz_authority_crl(c->authority);
}

/* ---- the gate of xDS ---- */

struct gate_ask { /* in the call's arena */
    struct mz_caller_ask ask;
    struct mz_discovery_question *q;
};

static bool take(struct gate_ask *g, bool known)
{
    const struct mz_account *who = &g->ask.who.account;
    g->q->who = known ? (struct mz_discovery_caller){ who->ns, who->name }
                      : (struct mz_discovery_caller){ MZ_STR(""), MZ_STR("") };
    g->q->err = g->ask.err;
    return known;
}

static void on_answer(struct mz_caller_ask *ask, bool known)
{
    struct gate_ask *g = MZ_CONTAINER(ask, struct gate_ask, ask);
    g->q->done(g->q, take(g, known));
}

static enum mz_discovery_known who(void *arg, const struct mz_grpc_serving *call,
                                   const struct mz_headers *h, struct mz_arena *a,
                                   struct mz_discovery_question *q)
{
    const struct mz_ca *c = arg;
    struct gate_ask *g = mz_arena_new0(a, struct gate_ask);
    g->q = q;
    g->ask.done = on_answer;
    q->state = g;
    const enum mz_caller_found f = mz_caller_find(&c->callers, call, h, a, &g->ask);
    if (f == MZ_CALLER_WAITING)
        return MZ_DISCOVERY_LATER;
    return take(g, f == MZ_CALLER_KNOWN) ? MZ_DISCOVERY_KNOWN : MZ_DISCOVERY_UNKNOWN;
}

static void forget(void *arg, struct mz_discovery_question *q)
{
    (void)arg;
    mz_caller_cancel(&((struct gate_ask *)q->state)->ask);
}

struct mz_discovery_gate mz_ca_gate(struct mz_ca *c)
{
    return (struct mz_discovery_gate){ who, forget, c };
}

void mz_ca_metrics(const struct mz_ca *c, struct mz_buf *out)
{
    const struct mz_ca_counts *n = mz_ca_service_counts(c->service);
    const struct {
        const char *name, *help;
        uint64_t value;
    } counters[] = {
        { "citadel_server_csr_count", "The number of CSRs received by Citadel server.",
          n->requests },
        { "citadel_server_authentication_failure_count", "The number of authentication failures.",
          n->unauthenticated },
        { "citadel_server_csr_parsing_err_count",
          "The number of errors occurred when parsing the CSR.", n->refused },
        { "citadel_server_csr_sign_err_count",
          "The number of errors occurred when signing the CSR.", n->failed },
        { "citadel_server_csr_limited_count", "The number of CSRs above the limits of rate.",
          n->limited },
        { "citadel_server_success_cert_issuance_count",
          "The number of certificates issuances that have succeeded.", n->issued },
    };
    for (size_t i = 0; i < MZ_COUNT(counters); i++) {
        mz_metric_head(out, counters[i].name, MZ_METRIC_COUNTER, counters[i].help);
        mz_metric_value(out, counters[i].name, NULL, MZ_STR(""), (double)counters[i].value);
    }
    const double until = (double)mz_authority_root_until(c->authority);
    mz_metric_head(out, "citadel_server_root_cert_expiry_timestamp", MZ_METRIC_GAUGE,
                   "The unix timestamp, in seconds, when Citadel root cert will expire.");
    mz_metric_value(out, "citadel_server_root_cert_expiry_timestamp", NULL, MZ_STR(""), until);
    mz_metric_head(out, "citadel_server_root_cert_expiry_seconds", MZ_METRIC_GAUGE,
                   "The time remaining, in seconds, before Citadel root cert will expire.");
    mz_metric_value(out, "citadel_server_root_cert_expiry_seconds", NULL, MZ_STR(""),
                    until - (double)mz_clock->wall_us() / 1e6);
}
