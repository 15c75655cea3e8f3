/* Ports that a Sidecar document opens for its workloads, instead of those that services have. */
#include "control/translate/ingress.h"

#include <stdlib.h>

/* The service that has the port; its name is for telemetry. NULL: none, nothing is known of who calls there. */
static const struct mz_service *service_at(const struct mz_targets *t, uint32_t port)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->v[i].number == port)
            return t->v[i].service;
    return NULL;
}

static struct mz_str own_address(const struct mz_proxy *p, bool v6)
{
    for (size_t i = 0; i < p->ips_n; i++)
        if ((mz_str_chr(p->ips[i], ':') >= 0) == v6)
            return p->ips[i];
    return v6 ? MZ_STR("::1") : MZ_STR("127.0.0.1");
}

/* "127.0.0.1:80", "0.0.0.0:80" is the workload's address, ":80" and "" where the client wanted, "unix:///path". */
static void take_endpoint(struct mz_view *v, struct tr_ingress *i)
{
    const struct mz_str text = mz_str_c(i->listener->default_endpoint);
    const struct mz_str path = MZ_STR("unix://");
    const ptrdiff_t colon = mz_str_rchr(text, ':');
    uint64_t port = 0;
    if (mz_str_starts(text, path)) {
        i->address = mz_str_skip(text, path.n);
        return;
    }
    if (colon < 1 || !mz_str_u64(mz_str_skip(text, (size_t)colon + 1), &port))
        return;
    const struct mz_str host = { text.p, (size_t)colon };
    const bool v6 = mz_str_eq(host, MZ_STR("[::]")) || mz_str_eq(host, MZ_STR("[::1]"));
    i->port = (uint16_t)port;
    if (mz_str_eq(host, MZ_STR("0.0.0.0")) || mz_str_eq(host, MZ_STR("[::]")))
        i->address = own_address(v->proxy, v6);
    else if (v6)
        i->address = v->proxy->ipv6 ? MZ_STR("::1") : MZ_STR("127.0.0.1");
    else
        i->address = v->proxy->ipv4 ? MZ_STR("127.0.0.1") : MZ_STR("::1");
    i->loopback = !mz_str_eq(host, MZ_STR("0.0.0.0")) && !mz_str_eq(host, MZ_STR("[::]"));
}

static enum mz_protocol inside_tls(enum mz_protocol p)
{
    return p == MZ_PROTOCOL_HTTPS ? MZ_PROTOCOL_HTTP : p == MZ_PROTOCOL_TLS ? MZ_PROTOCOL_TCP : p;
}

static void fill(struct mz_view *v, struct tr_ingress *i, const ist_IstioIngressListener *l,
                 const struct mz_service *named, struct mz_target *out)
{
    struct mz_port *p = mz_arena_new0(v->arena, struct mz_port);
    *p = (struct mz_port){ .name = mz_str_c(l->port->name),
                           .port = (uint16_t)l->port->number,
                           .target = (uint16_t)l->port->number,
                           .protocol = mz_protocol_parse(mz_str_c(l->port->protocol)) };
    *i = (struct tr_ingress){ .listener = l, .service = service_at(&v->targets, l->port->number) };
    i->bind = l->bind[0] ? mz_str_c(l->bind) : v->proxy->ips[0];
    i->own_socket = l->capture_mode == ist_CaptureMode_NONE ||
                    (v->proxy->uncaught && l->capture_mode == ist_CaptureMode_DEFAULT);
    i->terminates = l->tls && v->t->features.ingress_tls;
    if (i->terminates)
        p->protocol = inside_tls(p->protocol);
    take_endpoint(v, i);
    *out = (struct mz_target){ .service = named, .port = p, .number = p->port };
}

static int compare(const void *a, const void *b)
{
    const ist_IstioIngressListener *const *x = a, *const *y = b;
    return ((*x)->port->number > (*y)->port->number) - ((*x)->port->number < (*y)->port->number);
}

const struct tr_ingress *tr_ingress(struct mz_view *v)
{
    const struct mz_sidecar *s = v->scope->sidecar;
    const size_t n = s ? s->spec->n_ingress : 0;
    if (!n && v->proxy->type == MZ_PROXY_SIDECAR && v->proxy->uncaught && !v->proxy->proxyless)
        v->targets.n = 0; /* its ports are the application's own */
    if (!n)
        return NULL;
    const ist_IstioIngressListener **l = mz_arena_alloc(v->arena, n * sizeof(*l));
    struct tr_ingress *own = mz_arena_alloc(v->arena, n * sizeof(*own));
    struct mz_target *targets = mz_arena_alloc(v->arena, n * sizeof(*targets));
    struct mz_service *named = mz_arena_new0(v->arena, struct mz_service);
    named->host = named->name =
        mz_arena_printf(v->arena, "%.*s.%.*s", MZ_STR_ARG(s->name), MZ_STR_ARG(v->scope->ns));
    named->ns = v->scope->ns;
    for (size_t i = 0; i < n; i++)
        l[i] = s->spec->ingress[i];
    qsort(l, n, sizeof(*l), compare);
    for (size_t i = 0; i < n; i++)
        fill(v, &own[i], l[i], named, &targets[i]);
    mz_targets_link(targets, n);
    v->targets = (struct mz_targets){ targets, n };
    return own;
}
