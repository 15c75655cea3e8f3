/* The steps of a proxy's record in the words of somebody who explains them, each with the object that decided. */
#include <stdio.h>

#include "cli/explain.h"

/* ---- the connection ---- */

static void accepted(struct telling *t, const struct mz_node *s)
{
    t->listener = step_a(s);
    (void)SAY(t, "listener", "%.*s accepted a connection from %.*s", MZ_STR_ARG(step_a(s)),
              MZ_STR_ARG(step_b(s)));
}

static void asked(struct telling *t, const struct mz_node *s)
{
    const struct mz_node *l = view_listener(t->view, step_a(s));
    const unsigned port = (unsigned)mz_node_number(l, "address.socket_address.port_value");
    t->listener = step_a(s);
    if (mz_str_starts(t->listener, MZ_STR("virtual")) && port)
        (void)SAY(t, "captured",
                  "the pod's packet rules bring the connection to port %u of its proxy (listener "
                  "%.*s)",
                  port, MZ_STR_ARG(t->listener));
    else
        (void)SAY(t, "listener", "%.*s, port %u", MZ_STR_ARG(t->listener), port);
}

static void handed_over(struct telling *t, const struct mz_node *s)
{
    t->listener = step_a(s);
    (void)SAY(t, "listener", "%.*s serves %.*s, where the connection wanted to go",
              MZ_STR_ARG(step_a(s)), MZ_STR_ARG(step_b(s)));
}

static void not_handed_over(struct telling *t, const struct mz_node *s)
{
    (void)SAY(t, "listener", "%.*s keeps it: no listener serves %.*s, which no document knows",
              MZ_STR_ARG(step_a(s)), MZ_STR_ARG(step_b(s)));
}

static bool has(const struct mz_node *list, const char *part)
{
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (list->list[i]->kind == MZ_NODE_STR &&
            mz_str_find(list->list[i]->text, mz_str_c(part)) >= 0)
            return true;
    return false;
}

/* What a chain is for: "HTTP in plain text", "TLS of the mesh's own to port 80"; "" whatever no other chain is for. */
static struct mz_str chain_words(const struct mz_node *m, struct mz_arena *a)
{
    const struct mz_node *alpn = mz_node_get(m, "application_protocols"),
                         *names = mz_node_get(m, "server_names");
    const struct mz_str transport = mz_node_text(m, "transport_protocol");
    const uint64_t port = mz_node_number(m, "destination_port");
    const bool tls = mz_str_eq(transport, MZ_STR("tls")), http = has(alpn, "http/1.1");
    struct mz_str out = mz_arena_printf(
        a, "%s%s%s",
        http          ? "HTTP"
        : transport.n ? "connections"
                      : "",
        transport.n ? " " : "",
        tls           ? has(alpn, "istio") ? "over TLS between proxies of the mesh" : "over TLS"
        : transport.n ? "in plain text"
                      : "");
    if (mz_node_count(names) && names->list[0]->kind == MZ_NODE_STR)
        out = mz_arena_printf(a, "%.*s%sthe name %.*s%s", MZ_STR_ARG(out), out.n ? " for " : "",
                              MZ_STR_ARG(names->list[0]->text),
                              mz_node_count(names) > 1 ? " and others" : "");
    if (port)
        out = mz_arena_printf(a, "%.*s%sport %u", MZ_STR_ARG(out), out.n ? " to " : "",
                              (unsigned)port);
    return out;
}

static void chain(struct telling *t, const struct mz_node *s)
{
    t->chain = step_a(s);
    t->chain_node = view_chain(t->view, t->listener, t->chain);
    const struct mz_str what =
        chain_words(mz_node_get(t->chain_node, "filter_chain_match"), t->x->arena);
    const bool http = view_filter(t->chain_node, ".HttpConnectionManager") != NULL;
    (void)SAY(t, "filter chain", "%.*s%sthe one for %.*s%s%s", MZ_STR_ARG(t->chain),
              t->chain.n ? ": " : "",
              MZ_STR_ARG(what.n ? what : MZ_STR("all that no other is for")),
              mz_node_get(t->chain_node, "transport_socket") ? "; it ends TLS" : "",
              !t->chain_node ? ""
              : http         ? "; it reads HTTP"
                             : "; it hands bytes on");
}

static void no_chain(struct telling *t, const struct mz_node *s)
{
    (void)s;
    struct said *d = SAY(t, "filter chain",
                         "none of the listener's chains is for such a connection: it is closed");
    d->bad = t->ended = true;
}

/* ---- routes ---- */

static void vhost(struct telling *t, const struct mz_node *s)
{
    t->vhost = step_a(s);
    t->vhost_node = view_vhost(t->view, t, t->vhost);
    (void)SAY(t, "virtual host", "%.*s serves the host %.*s", MZ_STR_ARG(step_a(s)),
              MZ_STR_ARG(step_b(s)));
}

static void no_vhost(struct telling *t, const struct mz_node *s)
{
    struct said *d =
        SAY(t, "virtual host", "none serves the host %.*s: 404", MZ_STR_ARG(step_b(s)));
    d->bad = t->ended = true;
}

static const struct mz_node *route_at(const struct telling *t, size_t i)
{
    const struct mz_node *list = mz_node_get(t->vhost_node, "routes");
    return i < mz_node_count(list) ? list->list[i] : NULL;
}

static bool same_rule(const struct mz_node *a, const struct mz_node *b)
{
    const struct mz_node *x = mz_node_at(a, "metadata.filter_metadata"),
                         *y = mz_node_at(b, "metadata.filter_metadata");
    return mz_str_eq(mz_node_text(mz_node_get(x, "istio"), "config"),
                     mz_node_text(mz_node_get(y, "istio"), "config"));
}

/*
 * Which http[i].match[k] of the VirtualService route number @at was made of: routes are in the document's order. Where the numbers
 * do not fit (rules that are not for this proxy) nothing is said.
 */
static const char *rule_path(const struct telling *t, size_t at, char path[80])
{
    const struct mz_node *route = route_at(t, at), *all = mz_node_get(t->vhost_node, "routes");
    const struct object_ref r = view_rule(t->x, route, NULL);
    size_t first = at, after = at + 1, sum = 0, want;
    if (!r.name.n)
        return NULL;
    while (first > 0 && same_rule(route_at(t, first - 1), route))
        first--;
    while (after < mz_node_count(all) && same_rule(route_at(t, after), route))
        after++;
    want = at - first;
    const struct mz_node *doc = object_document(&t->x->objects, &r, t->x->arena),
                         *http = mz_node_at(doc, "spec.http");
    path[0] = 0;
    for (size_t i = 0; i < mz_node_count(http); i++) {
        const size_t n = mz_node_count(mz_node_get(http->list[i], "match")), own = n ? n : 1;
        if (want >= sum && want < sum + own && n)
            (void)snprintf(path, 80, "spec.http[%zu].match[%zu]", i, want - sum);
        else if (want >= sum && want < sum + own)
            (void)snprintf(path, 80, "spec.http[%zu]", i);
        sum += own;
    }
    return sum == after - first && path[0] ? path : NULL;
}

static struct object_ref route_by(const struct telling *t, size_t i)
{
    char path[80];
    return view_rule(t->x, route_at(t, i), rule_path(t, i, path));
}

static void not_route(struct telling *t, const struct mz_node *s)
{
    const size_t i = (size_t)mz_node_number(s, "n");
    struct said *d = SAY(t, "not this", "route %zu%s%.*s: %.*s", i + 1, step_a(s).n ? " " : "",
                         MZ_STR_ARG(step_a(s)), MZ_STR_ARG(step_b(s)));
    said_by(d, route_by(t, i));
}

static void no_route(struct telling *t, const struct mz_node *s)
{
    struct said *d = SAY(t, "route", "none of %.*s matches: 404", MZ_STR_ARG(step_a(s)));
    d->bad = t->ended = true;
}

static struct mz_str duration(struct mz_str d)
{
    return !d.n || mz_str_eq(d, MZ_STR("0s")) ? MZ_STR("none") : d;
}

static void retries(struct telling *t, const struct mz_node *action)
{
    const struct mz_node *r = mz_node_get(action, "retry_policy");
    if (!r)
        r = mz_node_get(t->vhost_node, "retry_policy");
    const uint64_t n = mz_node_get(r, "num_retries") ? mz_node_number(r, "num_retries") : 1;
    const struct mz_str each = mz_node_text(r, "per_try_timeout");
    if (!r || !n)
        (void)SAY(t, "retries", "none");
    else
        (void)SAY(t, "retries", "at most %u, on %.*s%s%.*s", (unsigned)n,
                  MZ_STR_ARG(mz_node_text(r, "retry_on")), each.n ? "; each try may take " : "",
                  MZ_STR_ARG(each));
}

static double percent(const struct mz_node *fraction)
{
    const struct mz_str of = mz_node_text(fraction, "denominator");
    const double n = (double)mz_node_number(fraction, "numerator");
    return mz_str_eq(of, MZ_STR("MILLION"))        ? n / 10000
           : mz_str_eq(of, MZ_STR("TEN_THOUSAND")) ? n / 100
                                                   : n;
}

static void mirrors(struct telling *t, const struct mz_node *action)
{
    const struct mz_node *list = mz_node_get(action, "request_mirror_policies");
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_node *f = mz_node_at(list->list[i], "runtime_fraction.default_value");
        struct said *d =
            SAY(t, "mirror", "a copy of %g%% of the requests goes to %.*s; its answer is dropped",
                f ? percent(f) : 100.0, MZ_STR_ARG(mz_node_text(list->list[i], "cluster")));
        said_by(d, t->rule);
    }
}

static void rewrites(struct telling *t, const struct mz_node *action)
{
    static const struct {
        const char *field, *what;
    } kinds[] = { { "prefix_rewrite", "the path's matched part becomes" },
                  { "regex_rewrite.substitution", "the path's matched part becomes" },
                  { "path_rewrite", "the path becomes" },
                  { "host_rewrite_literal", "the host becomes" } };
    for (size_t i = 0; i < MZ_COUNT(kinds); i++) {
        const struct mz_str v = mz_node_text(action, kinds[i].field);
        if (v.n)
            (void)SAY(t, "rewrite", "%s %.*s", kinds[i].what, MZ_STR_ARG(v));
    }
}

static void route(struct telling *t, const struct mz_node *s)
{
    const size_t i = (size_t)mz_node_number(s, "n");
    const size_t all = mz_node_count(mz_node_get(t->vhost_node, "routes"));
    t->route_node = route_at(t, i);
    t->rule = route_by(t, i);
    struct said *d =
        all ? SAY(t, "route", "number %zu of %zu%s%.*s: %.*s", i + 1, all, step_a(s).n ? ", " : "",
                  MZ_STR_ARG(step_a(s)), MZ_STR_ARG(step_b(s)))
            : SAY(t, "route", "%.*s: %.*s",
                  MZ_STR_ARG(step_a(s).n ? step_a(s) : MZ_STR("(unnamed)")), MZ_STR_ARG(step_b(s)));
    said_by(d, t->rule);
    if (t->view->pod->gateway && t->rule.name.n) {
        struct object_ref v[2];
        const size_t n = view_gateways(t->x, &t->rule, v, MZ_COUNT(v));
        for (size_t k = 0; k < n; k++)
            said_by(d, v[k]);
    }
    const struct mz_node *action = mz_node_get(t->route_node, "route");
    if (!action || t->inbound)
        return;
    if (!t->past)
        (void)SAY(
            t, "timeout", "%.*s for the whole request",
            MZ_STR_ARG(duration(mz_node_get(action, "timeout") ? mz_node_text(action, "timeout")
                                                               : MZ_STR("15s"))));
    retries(t, action);
    rewrites(t, action);
    mirrors(t, action);
}

/* Of a request that was: the time that counted. */
static void timeout(struct telling *t, const struct mz_node *s)
{
    const uint64_t ms = mz_node_number(s, "n");
    if (ms)
        (void)SAY(t, "timeout", "%llu ms for the whole request", (unsigned long long)ms);
}

static void redirect(struct telling *t, const struct mz_node *s)
{
    struct said *d = SAY(t, "answer", "the route redirects with %u to %.*s",
                         (unsigned)mz_node_number(s, "n"), MZ_STR_ARG(step_b(s)));
    said_by(d, t->rule);
    t->ended = true;
}

static void direct(struct telling *t, const struct mz_node *s)
{
    struct said *d =
        SAY(t, "answer", "the route answers itself with %u", (unsigned)mz_node_number(s, "n"));
    said_by(d, t->rule);
    t->ended = true;
}

/* ---- filters ---- */

static void no_rule(struct telling *t, const struct mz_node *s)
{
    (void)s;
    (void)SAY(t, "authorization", "no policy that denies fits the request");
}

static void filter(struct telling *t, const struct mz_node *s)
{
    struct said *d =
        SAY(t, is_authorization(step_a(s)) ? "authorization" : "filter", "%s (%.*s: %.*s)",
            is_authorization(step_a(s)) ? "refused, 403" : "ends the request",
            MZ_STR_ARG(step_a(s)), MZ_STR_ARG(step_b(s)));
    d->bad = t->ended = true;
}

static void would(struct telling *t, const struct mz_node *s)
{
    const bool fault = mz_str_find(step_a(s), MZ_STR("fault")) >= 0;
    struct said *d =
        SAY(t, fault ? "fault" : "filter", "the proxy would %.*s", MZ_STR_ARG(step_b(s)));
    if (fault)
        said_by(d, t->rule);
}

/* ---- the end ---- */

static void local_reply(struct telling *t, const struct mz_node *s)
{
    struct said *d = SAY(t, "answer", "the proxy answers itself with %u (%.*s)",
                         (unsigned)mz_node_number(s, "n"), MZ_STR_ARG(step_b(s)));
    d->bad = t->ended = true;
}

/* Every other step: as the proxy words it. */
void tell_step(struct telling *t, const struct mz_node *step)
{
    static const struct {
        const char *step;
        void (*tell)(struct telling *t, const struct mz_node *s);
    } words[] = {
        { "ACCEPTED", accepted },
        { "AMONG", tell_among },
        { "ASKED", asked },
        { "CHAIN", chain },
        { "CLUSTER", tell_cluster },
        { "DIRECT", direct },
        { "FILTER", filter },
        { "HANDED_OVER", handed_over },
        { "HOST", tell_host },
        { "LOCAL_REPLY", local_reply },
        { "NOT_HANDED_OVER", not_handed_over },
        { "NOT_ROUTE", not_route },
        { "NOT_RULE", tell_not_rule },
        { "NO_CHAIN", no_chain },
        { "NO_CLUSTER", tell_no_cluster },
        { "NO_HOST", tell_no_host },
        { "NO_ROUTE", no_route },
        { "NO_RULE", no_rule },
        { "NO_VHOST", no_vhost },
        { "REDIRECT", redirect },
        { "ROUTE", route },
        { "RULE", tell_rule },
        { "SUCH_HOST", tell_host },
        { "TIMEOUT", timeout },
        { "VHOST", vhost },
        { "WOULD", would },
    };
    const struct mz_str name = mz_node_text(step, "step");
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if (mz_str_eq(name, mz_str_c(words[i].step))) {
            words[i].tell(t, step);
            return;
        }
    if (!mz_str_eq(name, MZ_STR("NOT_VHOST"))) /* most are not it */
        (void)SAY(t, "", "%.*s", MZ_STR_ARG(mz_node_text(step, "text")));
}
