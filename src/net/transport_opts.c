#include "net/transport.h"

#include <string.h>

#include "net/addr.h"

/* Options of upstream transports as parts of a pool's key (U3). */

struct copy {
    struct mz_transport_opts o;
    struct mz_addr source, destination, bind;
    char text[];
};

static bool names(const struct mz_transport_opts *o, unsigned uses)
{
    return o && (uses & MZ_TRANSPORT_USES_NAMES) && (o->sni.n || o->sans.n || o->alpn.n);
}

static bool client(const struct mz_transport_opts *o, unsigned uses)
{
    return o && (uses & MZ_TRANSPORT_USES_CLIENT) && o->source;
}

static bool socket_of(const struct mz_transport_opts *o, unsigned uses)
{
    return o && (uses & MZ_TRANSPORT_USES_SOCKET) && o->bind;
}

static bool state_of(const struct mz_transport_opts *o, unsigned uses)
{
    return o && (uses & MZ_TRANSPORT_USES_STATE) && o->state;
}

static unsigned hops_of(const struct mz_transport_opts *o, unsigned uses)
{
    return o && (uses & MZ_TRANSPORT_USES_HOPS) ? o->hops : 0;
}

static uint64_t state_key(const struct mz_transport_opts *o, unsigned uses)
{
    return state_of(o, uses) ? o->state->key : 0;
}

static size_t list_bytes(const struct mz_tls_names *l)
{
    size_t n = l->n * sizeof(*l->v);
    for (size_t i = 0; i < l->n; i++)
        n += l->v[i].n + 1;
    return n;
}

static struct mz_str text_copy(struct mz_str s, char **at)
{
    char *to = *at;
    if (s.n)
        memcpy(to, s.p, s.n);
    to[s.n] = '\0';
    *at += s.n + 1;
    return (struct mz_str){ to, s.n };
}

static void list_copy(const struct mz_tls_names *from, struct mz_tls_names *to, struct mz_str **v,
                      char **at)
{
    *to = (struct mz_tls_names){ *v, from->n };
    *v += from->n;
    for (size_t i = 0; i < from->n; i++)
        to->v[i] = text_copy(from->v[i], at);
}

struct mz_transport_opts *mz_transport_opts_copy(const struct mz_transport_opts *o, unsigned uses)
{
    bool n = names(o, uses), c = client(o, uses), b = socket_of(o, uses);
    if (!n && !c && !b && !state_of(o, uses) && !hops_of(o, uses))
        return NULL;
    size_t bytes = (n ? list_bytes(&o->sans) + list_bytes(&o->alpn) + o->sni.n + 1 : 0) +
                   (c ? o->tlvs.n + 1 : 0);
    struct copy *to = mz_alloc0(MZ_MEM_UPSTREAM, sizeof(*to) + bytes);
    struct mz_str *v = (struct mz_str *)(void *)to->text;
    char *at = (char *)(v + (n ? o->sans.n + o->alpn.n : 0));
    if (n) {
        list_copy(&o->sans, &to->o.sans, &v, &at);
        list_copy(&o->alpn, &to->o.alpn, &v, &at);
        to->o.sni = text_copy(o->sni, &at);
    }
    if (c) {
        to->source = *o->source;
        to->destination = *o->destination;
        to->o.source = &to->source;
        to->o.destination = &to->destination;
        to->o.tlvs = text_copy(o->tlvs, &at);
    }
    if (b) {
        to->bind = *o->bind;
        to->o.bind = &to->bind;
        to->o.mark = o->mark;
    }
    to->o.state = state_of(o, uses) ? mz_shared_state_ref(o->state) : NULL;
    to->o.hops = hops_of(o, uses);
    return &to->o;
}

void mz_transport_opts_destroy(struct mz_transport_opts *copy)
{
    if (copy)
        mz_shared_state_unref(copy->state);
    mz_free(MZ_MEM_UPSTREAM, copy); /* the first member of its allocation */
}

static uint64_t list_hash(const struct mz_tls_names *l, uint64_t h)
{
    for (size_t i = 0; i < l->n; i++)
        h = mz_xxh64(l->v[i].p, l->v[i].n, h + 1);
    return h;
}

uint64_t mz_transport_opts_hash(const struct mz_transport_opts *o, unsigned uses)
{
    uint64_t h = 0;
    if (names(o, uses))
        h = list_hash(&o->alpn, list_hash(&o->sans, mz_xxh64(o->sni.p, o->sni.n, 1)));
    if (client(o, uses)) {
        h = h * 31 + mz_addr_hash(o->source);
        h = h * 31 + mz_addr_hash(o->destination);
        h = mz_xxh64(o->tlvs.p, o->tlvs.n, h);
    }
    if (socket_of(o, uses))
        h = h * 31 + mz_addr_hash(o->bind) + o->mark;
    return h + state_key(o, uses) + hops_of(o, uses);
}

static bool list_same(const struct mz_tls_names *a, const struct mz_tls_names *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!mz_str_eq(a->v[i], b->v[i]))
            return false;
    return true;
}

bool mz_transport_opts_same(const struct mz_transport_opts *a, const struct mz_transport_opts *b,
                            unsigned uses)
{
    bool n = names(a, uses), c = client(a, uses);
    if (n != names(b, uses) || c != client(b, uses) || socket_of(a, uses) != socket_of(b, uses))
        return false;
    if (state_key(a, uses) != state_key(b, uses) || hops_of(a, uses) != hops_of(b, uses))
        return false;
    if (socket_of(a, uses) && (!mz_addr_eq(a->bind, b->bind) || a->mark != b->mark))
        return false;
    if (n && (!mz_str_eq(a->sni, b->sni) || !list_same(&a->sans, &b->sans) ||
              !list_same(&a->alpn, &b->alpn)))
        return false;
    return !c || (mz_addr_eq(a->source, b->source) && mz_addr_eq(a->destination, b->destination) &&
                  mz_str_eq(a->tlvs, b->tlvs));
}
