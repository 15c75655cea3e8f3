#include "listener/chain_match.h"

#include "base/map.h"
#include "proto/mapper.h"

/* The criteria in order; each is a level of the tree. */
enum level {
    DST_PORT,
    DST_IP,
    SERVER_NAME,
    TRANSPORT,
    PROTOCOL,
    DIRECT_IP,
    SOURCE_TYPE,
    SOURCE_IP,
    SOURCE_PORT,
    LEVELS
};

struct bit { /* one bit of an address prefix */
    struct bit *child[2];
    void *value; /* the next level's table where a prefix ends here */
};
struct table {
    struct mz_map by_key; /* levels of texts and ports; "" is "any" */
    struct bit *v4, *v6;  /* levels of prefixes */
};
struct mz_chain_match {
    struct mz_arena *arena;
    struct table *root;
};

static void table_fini(void *p)
{
    struct table *t = p;
    mz_map_fini(&t->by_key);
}

static struct table *table_new(struct mz_arena *a)
{
    struct table *t = mz_arena_new0(a, struct table);
    mz_map_init(&t->by_key, MZ_MEM_CONFIG);
    mz_arena_cleanup(a, table_fini, t);
    return t;
}

struct mz_chain_match *mz_chain_match_create(struct mz_arena *a)
{
    struct mz_chain_match *c = mz_arena_new0(a, struct mz_chain_match);
    c->arena = a;
    c->root = table_new(a);
    return c;
}

/* ---- prefixes ---- */

static const unsigned char *ip_bytes(const struct mz_addr *a)
{
    return a->sa.sa_family == AF_INET ? (const unsigned char *)&a->in4.sin_addr
                                      : (const unsigned char *)&a->in6.sin6_addr;
}

static void **prefix_slot(struct mz_arena *a, struct table *t, const struct mz_cidr *c)
{
    struct bit **at = c->addr.sa.sa_family == AF_INET ? &t->v4 : &t->v6;
    const unsigned char *b = ip_bytes(&c->addr);
    for (unsigned i = 0;; i++) {
        if (!*at)
            *at = mz_arena_new0(a, struct bit);
        if (i == c->bits)
            return &(*at)->value;
        at = &(*at)->child[b[i / 8] >> (7 - i % 8) & 1];
    }
}

static void *prefix_find(const struct table *t, const struct mz_addr *a)
{
    static const struct mz_addr pipe_stand_in = { .in4 = { .sin_family = AF_INET },
                                                  .len = sizeof(struct sockaddr_in) };
    if (!mz_addr_is_ip(a))
        a = &pipe_stand_in; /* a UNIX socket matches chains without prefixes only */
    bool v4 = a->sa.sa_family == AF_INET;
    const unsigned char *b = ip_bytes(a);
    void *best = NULL;
    const struct bit *at = v4 ? t->v4 : t->v6;
    for (unsigned i = 0; at; i++) {
        if (at->value)
            best = at->value;
        if (i == (v4 ? 32u : 128u))
            break;
        at = at->child[b[i / 8] >> (7 - i % 8) & 1];
    }
    return best;
}

/* ---- building ---- */

struct adding {
    struct mz_chain_match *c;
    const pb_FilterChainMatch *m;
    void *chain, *other;
    struct mz_err *err;
};
static bool add_level(struct adding *ad, struct table *t, enum level l);

/* One rule goes down one step; at the last level the chain itself is the value. */
static bool add_below(struct adding *ad, void **slot, enum level l)
{
    if (l + 1 < LEVELS) {
        if (!*slot)
            *slot = table_new(ad->c->arena);
        return add_level(ad, *slot, l + 1);
    }
    if (*slot && *slot != ad->chain) {
        ad->other = *slot;
        return false;
    }
    *slot = ad->chain;
    return true;
}

static bool add_key(struct adding *ad, struct table *t, enum level l, struct mz_str key)
{
    void *value = mz_map_get(&t->by_key, key), *old = value;
    if (!add_below(ad, &value, l))
        return false;
    if (value != old)
        mz_map_put(&t->by_key, mz_arena_dup(ad->c->arena, key), value);
    return true;
}

static bool add_prefixes(struct adding *ad, struct table *t, enum level l, pb_CidrRange *const *v,
                         size_t n)
{
    static const struct mz_str any[] = { MZ_STR_INIT("0.0.0.0"), MZ_STR_INIT("::") };
    for (size_t i = 0; i < (n ? n : MZ_COUNT(any)); i++) {
        struct mz_cidr c;
        struct mz_str prefix = n ? mz_str_c(v[i]->address_prefix) : any[i];
        if (!mz_cidr_make(prefix, n ? mz_u32_or(v[i]->prefix_len, 0) : 0, &c, ad->err))
            return false;
        if (!add_below(ad, prefix_slot(ad->c->arena, t, &c), l))
            return false;
    }
    return true;
}

static bool add_names(struct adding *ad, struct table *t)
{
    for (size_t i = 0; i < ad->m->n_server_names; i++) {
        struct mz_str name = mz_arena_dup(ad->c->arena, mz_str_c(ad->m->server_names[i]));
        for (char *p = (char *)(uintptr_t)name.p; p < name.p + name.n; p++)
            *p = mz_lower(*p);
        if (mz_str_starts(name, MZ_STR("*.")))
            name = mz_str_skip(
                name, 1); /* ".example.com" is the wildcard's key: no host begins with a dot */
        if (mz_str_chr(name, '*') >= 0)
            return mz_err_set(ad->err, "partial wildcards are not supported in \"server_names\"");
        if (!add_key(ad, t, SERVER_NAME, name))
            return false;
    }
    return ad->m->n_server_names > 0 || add_key(ad, t, SERVER_NAME, MZ_STR(""));
}

static struct mz_str port_key(uint16_t port, char out[2])
{
    memcpy(out, &port, 2);
    return (struct mz_str){ out, 2 };
}

static bool add_source_ports(struct adding *ad, struct table *t)
{
    char key[2];
    for (size_t i = 0; i < ad->m->n_source_ports; i++)
        if (!add_key(ad, t, SOURCE_PORT, port_key((uint16_t)ad->m->source_ports[i], key)))
            return false;
    return ad->m->n_source_ports > 0 || add_key(ad, t, SOURCE_PORT, MZ_STR(""));
}

static bool add_protocols(struct adding *ad, struct table *t)
{
    for (size_t i = 0; i < ad->m->n_application_protocols; i++)
        if (!add_key(ad, t, PROTOCOL, mz_str_c(ad->m->application_protocols[i])))
            return false;
    return ad->m->n_application_protocols > 0 || add_key(ad, t, PROTOCOL, MZ_STR(""));
}

static struct mz_str source_type_key(int type)
{
    static const struct mz_str keys[] = {
        [pb_FilterChainMatch_ConnectionSourceType_ANY] = MZ_STR_INIT("any"),
        [pb_FilterChainMatch_ConnectionSourceType_SAME_IP_OR_LOOPBACK] = MZ_STR_INIT("local"),
        [pb_FilterChainMatch_ConnectionSourceType_EXTERNAL] = MZ_STR_INIT("external")
    };
    return keys[type];
}

static bool add_level(struct adding *ad, struct table *t, enum level l)
{
    const pb_FilterChainMatch *m = ad->m;
    char key[2];
    switch (l) {
    case DST_PORT:
        return add_key(ad, t, l,
                       m->destination_port ? port_key((uint16_t)m->destination_port->value, key)
                                           : MZ_STR(""));
    case DST_IP:
        return add_prefixes(ad, t, l, m->prefix_ranges, m->n_prefix_ranges);
    case SERVER_NAME:
        return add_names(ad, t);
    case TRANSPORT:
        return add_key(ad, t, l, mz_str_c(m->transport_protocol));
    case PROTOCOL:
        return add_protocols(ad, t);
    case DIRECT_IP:
        return add_prefixes(ad, t, l, m->direct_source_prefix_ranges,
                            m->n_direct_source_prefix_ranges);
    case SOURCE_TYPE:
        return add_key(ad, t, l, source_type_key((int)m->source_type));
    case SOURCE_IP:
        return add_prefixes(ad, t, l, m->source_prefix_ranges, m->n_source_prefix_ranges);
    default:
        return add_source_ports(ad, t);
    }
}

bool mz_chain_match_add(struct mz_chain_match *c, const pb_FilterChainMatch *m, void *chain,
                        void **out_other, struct mz_err *err)
{
    static const pb_FilterChainMatch everything = pb_FilterChainMatch__INIT;
    struct adding ad = { .c = c, .m = m ? m : &everything, .chain = chain, .err = err };
    bool ok = add_level(&ad, c->root, DST_PORT);
    if (!ok)
        *out_other = ad.other;
    return ok;
}

/* ---- finding ---- */

static void *key_or_any(const struct table *t, struct mz_str key)
{
    void *v = key.n ? mz_map_get(&t->by_key, key) : NULL;
    return v ? v : mz_map_get(&t->by_key, MZ_STR(""));
}

static void *name_find(const struct table *t, struct mz_str name)
{
    void *v = name.n ? mz_map_get(&t->by_key, name) : NULL;
    for (size_t i = 1; !v && i < name.n; i++)
        if (name.p[i] == '.')
            v = mz_map_get(&t->by_key, mz_str_skip(name, i));
    return v ? v : mz_map_get(&t->by_key, MZ_STR(""));
}

static void *protocol_find(const struct table *t, const struct mz_chain_query *q)
{
    for (size_t i = 0; i < q->n_protocols; i++) {
        void *v = mz_map_get(&t->by_key, q->protocols[i]);
        if (v)
            return v;
    }
    return mz_map_get(&t->by_key, MZ_STR(""));
}

static void *source_type_find(const struct table *t, const struct mz_chain_query *q)
{
    bool local = mz_addr_is_loopback(q->remote) || mz_addr_ip_eq(q->remote, q->local);
    void *v = mz_map_get(&t->by_key, local ? MZ_STR("local") : MZ_STR("external"));
    return v ? v : mz_map_get(&t->by_key, MZ_STR("any"));
}

static void *step(const struct table *t, enum level l, const struct mz_chain_query *q)
{
    char key[2];
    switch (l) {
    case DST_PORT:
        return key_or_any(t, mz_addr_is_ip(q->local) ? port_key(mz_addr_port(q->local), key)
                                                     : MZ_STR(""));
    case DST_IP:
        return prefix_find(t, q->local);
    case SERVER_NAME:
        return name_find(t, q->server_name);
    case TRANSPORT:
        return key_or_any(t, q->transport);
    case PROTOCOL:
        return protocol_find(t, q);
    case DIRECT_IP:
        return prefix_find(t, q->direct_remote);
    case SOURCE_TYPE:
        return source_type_find(t, q);
    case SOURCE_IP:
        return prefix_find(t, q->remote);
    default:
        return key_or_any(t, mz_addr_is_ip(q->remote) ? port_key(mz_addr_port(q->remote), key)
                                                      : MZ_STR(""));
    }
}

void *mz_chain_match_find(const struct mz_chain_match *c, const struct mz_chain_query *q)
{
    void *at = c->root;
    for (unsigned l = 0; at && l < LEVELS; l++)
        at = step(at, (enum level)l, q);
    return at;
}
