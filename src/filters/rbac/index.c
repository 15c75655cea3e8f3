#include "filters/rbac/rbac_priv.h"

#include "base/map.h"
#include "base/vec.h"
#include <stdlib.h>

/*
 * Of each policy a set of literals is known of which at least one must hold for it to match: the cheapest that its ANDs and
 * ORs allow. A request looks its own values up (path, headers, addresses, port, SNI); what it does not find cannot match.
 * Policies without such a set (regexes, negations, "any") are candidates of every request.
 */

enum literal_kind {
    LITERAL_PATH,
    LITERAL_PATH_PREFIX,
    LITERAL_HEADER, /* some field of that name has that value */
    LITERAL_SNI,
    LITERAL_PORT,
    LITERAL_LOCAL_IP,
    LITERAL_SOURCE_IP,
    LITERAL_DIRECT_IP,
    LITERAL_REMOTE_IP,
};
#define IP_KINDS 4
struct literal {
    enum literal_kind kind;
    struct mz_str text, name; /* borrowed from the rules */
    struct mz_cidr cidr;
    uint16_t port;
};
struct literals {
    MZ_VEC(struct literal) v;
    double cost;    /* roughly how many of thousand requests have one */
    bool unbounded; /* no such set */
};

struct posting { /* policies of one literal, in a chain of blocks that begin at the first */
    MZ_VEC(uint32_t) v;
    struct mz_str key;
};
struct prefix {
    struct mz_str text;
    struct posting *posting;
    int32_t parent; /* the longest other prefix of text; -1: none */
};
struct values { /* of one header name */
    struct mz_str name;
    struct mz_map map; /* value -> posting */
};
struct network { /* addresses with one length of prefix */
    unsigned bits;
    sa_family_t family;
    struct mz_map map; /* masked bytes -> posting */
};
struct index {
    struct mz_arena *arena; /* postings' keys and objects */
    uint64_t *always;       /* bits: candidates of every request */
    size_t words;
    struct mz_map paths, snis, ports;
    MZ_VEC(struct prefix) prefixes; /* sorted */
    struct mz_map headers;          /* name -> values */
    MZ_VEC(struct network) networks[IP_KINDS];
    MZ_VEC(struct posting *) postings;
};

/* ---- what a rule needs ---- */

static void literals_need(const struct rule *r, struct literals *out);

static void literals_add(struct literals *l, struct literal x, double cost)
{
    *mz_vec_push(&l->v, MZ_MEM_MISC) = x;
    l->cost += cost;
}

static void literals_take(struct literals *into, struct literals *from)
{
    mz_vec_free(&into->v, MZ_MEM_MISC);
    *into = *from;
    *from = (struct literals){ 0 };
}

static void and_need(const struct rule *r, struct literals *out)
{
    out->unbounded = true;
    for (size_t i = 0; i < r->of.n; i++) {
        struct literals one = { 0 };
        literals_need(&r->of.v[i], &one);
        if (!one.unbounded && (out->unbounded || one.cost < out->cost))
            literals_take(out, &one);
        mz_vec_free(&one.v, MZ_MEM_MISC);
    }
}

#define LITERALS_MAX 1000 /* of one policy: beyond it looking is dearer than comparing */

static void or_need(const struct rule *r, struct literals *out)
{
    for (size_t i = 0; i < r->of.n && !out->unbounded; i++) {
        struct literals one = { 0 };
        literals_need(&r->of.v[i], &one);
        out->unbounded = one.unbounded || out->v.n + one.v.n > LITERALS_MAX;
        out->cost += one.cost;
        for (size_t k = 0; k < one.v.n; k++)
            *mz_vec_push(&out->v, MZ_MEM_MISC) = one.v.v[k];
        mz_vec_free(&one.v, MZ_MEM_MISC);
    }
}

static void path_need(const struct rule *r, struct literals *out)
{
    struct mz_str text;
    enum mz_string_literal kind = mz_string_match_literal(r->text.string, &text);
    if (kind == MZ_STRING_EXACT)
        literals_add(out, (struct literal){ .kind = LITERAL_PATH, .text = text }, 1);
    else if (kind == MZ_STRING_PREFIX && text.n > 1)
        literals_add(out, (struct literal){ .kind = LITERAL_PATH_PREFIX, .text = text },
                     text.n > 4 ? 5 : 100);
    else
        out->unbounded = true;
}

static void header_need(const struct rule *r, struct literals *out)
{
    struct literal l = { .kind = LITERAL_HEADER };
    if (mz_header_match_exact(r->header, &l.name, &l.text))
        literals_add(out, l, mz_str_eq(l.name, MZ_STR(":method")) ? 400 : 10);
    else
        out->unbounded = true;
}

static void ip_need(const struct rule *r, enum literal_kind kind, struct literals *out)
{
    unsigned width = r->cidr.addr.sa.sa_family == AF_INET ? 32 : 128;
    unsigned share = r->cidr.bits * 32 / width;
    if (r->cidr.bits == 0)
        out->unbounded = true;
    else
        literals_add(out, (struct literal){ .kind = kind, .cidr = r->cidr },
                     kind == LITERAL_LOCAL_IP ? 900 : 2.0 + 500.0 / (1.0 + share));
}

static void literals_need(const struct rule *r, struct literals *out)
{
    struct mz_str text;
    switch ((enum rule_kind)r->kind) {
    case RULE_NEVER:
        return; /* the empty set: it never matches */
    case RULE_AND:
        and_need(r, out);
        return;
    case RULE_OR:
        or_need(r, out);
        return;
    case RULE_PATH:
        path_need(r, out);
        return;
    case RULE_HEADER:
        header_need(r, out);
        return;
    case RULE_SNI:
        if (mz_string_match_literal(r->text.string, &text) == MZ_STRING_EXACT)
            literals_add(out, (struct literal){ .kind = LITERAL_SNI, .text = text }, 50);
        else
            out->unbounded = true;
        return;
    case RULE_PORTS:
        if (r->ports.to - r->ports.from == 1)
            literals_add(out,
                         (struct literal){ .kind = LITERAL_PORT, .port = (uint16_t)r->ports.from },
                         300);
        else
            out->unbounded = true;
        return;
    case RULE_LOCAL_IP:
        ip_need(r, LITERAL_LOCAL_IP, out);
        return;
    case RULE_SOURCE_IP:
        ip_need(r, LITERAL_SOURCE_IP, out);
        return;
    case RULE_DIRECT_IP:
        ip_need(r, LITERAL_DIRECT_IP, out);
        return;
    case RULE_REMOTE_IP:
        ip_need(r, LITERAL_REMOTE_IP, out);
        return;
    default:
        out->unbounded = true;
    }
}

/* ---- building ---- */

static struct posting *posting_of(struct index *x, struct mz_map *map, struct mz_str key)
{
    struct posting *p = mz_map_get(map, key);
    if (p)
        return p;
    p = mz_arena_new0(x->arena, struct posting);
    p->key = mz_arena_dup(x->arena, key);
    (void)mz_map_put(map, p->key, p); /* there was none */
    *mz_vec_push(&x->postings, MZ_MEM_CONFIG) = p;
    return p;
}

static struct mz_str ip_key(const struct mz_addr *a, unsigned bits, unsigned char out_key[16])
{
    size_t width = a->sa.sa_family == AF_INET ? 4 : 16;
    const void *from = a->sa.sa_family == AF_INET ? (const void *)&a->in4.sin_addr
                                                  : (const void *)&a->in6.sin6_addr;
    memcpy(out_key, from, width);
    for (size_t i = 0; i < width; i++) {
        size_t keep = bits > i * 8 ? bits - i * 8 : 0;
        if (keep < 8)
            out_key[i] = (unsigned char)(out_key[i] & (0xff00u >> keep));
    }
    return (struct mz_str){ (const char *)out_key, width };
}

static struct mz_map *network_map(struct index *x, const struct literal *l)
{
    unsigned k = l->kind - LITERAL_LOCAL_IP;
    for (size_t i = 0; i < x->networks[k].n; i++) {
        struct network *old = &x->networks[k].v[i];
        if (old->bits == l->cidr.bits && old->family == l->cidr.addr.sa.sa_family)
            return &old->map;
    }
    struct network *n = mz_vec_push(&x->networks[k], MZ_MEM_CONFIG);
    *n = (struct network){ .bits = l->cidr.bits, .family = l->cidr.addr.sa.sa_family };
    mz_map_init(&n->map, MZ_MEM_CONFIG);
    return &n->map;
}

static struct mz_map *header_map(struct index *x, struct mz_str name)
{
    struct values *v = mz_map_get(&x->headers, name);
    if (!v) {
        v = mz_arena_new0(x->arena, struct values);
        v->name = mz_arena_dup(x->arena, name);
        mz_map_init(&v->map, MZ_MEM_CONFIG);
        (void)mz_map_put(&x->headers, v->name, v); /* there was none */
    }
    return &v->map;
}

static struct posting *literal_posting(struct index *x, struct mz_map *prefixes,
                                       const struct literal *l)
{
    unsigned char key[16];
    switch (l->kind) {
    case LITERAL_PATH:
        return posting_of(x, &x->paths, l->text);
    case LITERAL_PATH_PREFIX:
        return posting_of(x, prefixes, l->text);
    case LITERAL_HEADER:
        return posting_of(x, header_map(x, l->name), l->text);
    case LITERAL_SNI:
        return posting_of(x, &x->snis, l->text);
    case LITERAL_PORT:
        return posting_of(x, &x->ports, (struct mz_str){ (const char *)&l->port, 2 });
    default:
        return posting_of(x, network_map(x, l), ip_key(&l->cidr.addr, l->cidr.bits, key));
    }
}

static void policy_add(struct index *x, struct mz_map *prefixes, const struct policy *p, size_t i)
{
    const struct rule both[] = { p->permissions, p->principals };
    const struct rule all = { .kind = RULE_AND, .of = { both, 2 } };
    struct literals need = { 0 };
    literals_need(&all, &need);
    if (need.unbounded)
        x->always[i / 64] |= UINT64_C(1) << (i % 64);
    for (size_t k = 0; k < need.v.n; k++) {
        struct posting *to = literal_posting(x, prefixes, &need.v.v[k]);
        if (!to->v.n || to->v.v[to->v.n - 1] != (uint32_t)i)
            *mz_vec_push(&to->v, MZ_MEM_CONFIG) = (uint32_t)i;
    }
    mz_vec_free(&need.v, MZ_MEM_MISC);
}

static int prefix_cmp(const void *a, const void *b)
{
    return mz_str_cmp(((const struct prefix *)a)->text, ((const struct prefix *)b)->text);
}

static void prefixes_sort(struct index *x, const struct mz_map *map)
{
    mz_map_foreach (e, map) {
        struct posting *p = e->value;
        *mz_vec_push(&x->prefixes, MZ_MEM_CONFIG) = (struct prefix){ p->key, p, -1 };
    }
    if (!x->prefixes.n)
        return;
    qsort(x->prefixes.v, x->prefixes.n, sizeof(*x->prefixes.v), prefix_cmp);
    for (size_t i = 1; i < x->prefixes.n; i++) {
        int32_t up = (int32_t)i - 1;
        while (up >= 0 && !mz_str_starts(x->prefixes.v[i].text, x->prefixes.v[up].text))
            up = x->prefixes.v[up].parent;
        x->prefixes.v[i].parent = up;
    }
}

struct index *index_create(const struct policy *v, size_t n)
{
    struct index *x = mz_new0(MZ_MEM_CONFIG, struct index);
    x->arena = mz_arena_create(MZ_MEM_CONFIG);
    x->words = (n + 63) / 64;
    x->always = mz_arena_alloc0(x->arena, x->words * sizeof(*x->always));
    mz_map_init(&x->paths, MZ_MEM_CONFIG);
    mz_map_init(&x->snis, MZ_MEM_CONFIG);
    mz_map_init(&x->ports, MZ_MEM_CONFIG);
    mz_map_init(&x->headers, MZ_MEM_CONFIG);
    struct mz_map prefixes;
    mz_map_init(&prefixes, MZ_MEM_CONFIG);
    for (size_t i = 0; i < n; i++)
        policy_add(x, &prefixes, &v[i], i);
    prefixes_sort(x, &prefixes);
    mz_map_fini(&prefixes);
    return x;
}

void index_destroy(struct index *x)
{
    if (!x)
        return;
    for (size_t i = 0; i < x->postings.n; i++)
        mz_vec_free(&x->postings.v[i]->v, MZ_MEM_CONFIG);
    mz_vec_free(&x->postings, MZ_MEM_CONFIG);
    mz_vec_free(&x->prefixes, MZ_MEM_CONFIG);
    mz_map_foreach (e, &x->headers)
        mz_map_fini(&((struct values *)e->value)->map);
    for (unsigned k = 0; k < IP_KINDS; k++) {
        for (size_t i = 0; i < x->networks[k].n; i++)
            mz_map_fini(&x->networks[k].v[i].map);
        mz_vec_free(&x->networks[k], MZ_MEM_CONFIG);
    }
    mz_map_fini(&x->headers);
    mz_map_fini(&x->paths);
    mz_map_fini(&x->snis);
    mz_map_fini(&x->ports);
    mz_arena_destroy(x->arena);
    mz_free(MZ_MEM_CONFIG, x);
}

/* ---- looking up ---- */

static void posting_set(const struct posting *p, uint64_t *out)
{
    if (!p)
        return;
    for (const uint32_t *i = p->v.v, *end = i + p->v.n; i != end; i++)
        out[*i / 64] |= UINT64_C(1) << (*i % 64);
}

static void key_set(const struct mz_map *map, struct mz_str key, uint64_t *out)
{
    if (map->n)
        posting_set(mz_map_get(map, key), out);
}

/* All prefixes of the path: the greatest text not above it, or those on its chain of parents. */
static void prefixes_set(const struct index *x, struct mz_str path, uint64_t *out)
{
    size_t low = 0, high = x->prefixes.n; /* below low: <= path */
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (mz_str_cmp(x->prefixes.v[mid].text, path) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (int32_t i = (int32_t)low - 1; i >= 0; i = x->prefixes.v[i].parent)
        if (mz_str_starts(path, x->prefixes.v[i].text))
            posting_set(x->prefixes.v[i].posting, out);
}

static void values_set(const struct values *v, const struct mz_headers *h, uint64_t *out)
{
    for (const struct mz_header *e = mz_headers_get(h, v->name); e; e = mz_headers_next(h, e))
        key_set(&v->map, e->value, out);
}

/* A policy may name any number of headers, a request has at most some hundred. */
static void headers_set(const struct index *x, const struct mz_headers *h, uint64_t *out)
{
    if (x->headers.n <= 8) {
        mz_map_foreach (e, &x->headers)
            values_set(e->value, h, out);
        return;
    }
    mz_headers_foreach(e, h)
    {
        const struct values *v = mz_map_get(&x->headers, e->name);
        if (v)
            key_set(&v->map, e->value, out);
    }
}

static void networks_set(const struct index *x, unsigned k, const struct mz_addr *a, uint64_t *out)
{
    unsigned char key[16];
    if (!mz_addr_is_ip(a))
        return;
    for (size_t i = 0; i < x->networks[k].n; i++) {
        const struct network *n = &x->networks[k].v[i];
        if (n->family == a->sa.sa_family)
            posting_set(mz_map_get(&n->map, ip_key(a, n->bits, key)), out);
    }
}

void index_candidates(const struct index *x, const struct ask *q, uint64_t *out)
{
    const struct mz_stream_info *info = q->in->info;
    memcpy(out, x->always, x->words * sizeof(*out));
    if (q->has_path) {
        key_set(&x->paths, q->path, out);
        prefixes_set(x, q->path, out);
    }
    if (x->headers.n && q->in->h)
        headers_set(x, q->in->h, out);
    key_set(&x->snis, info->sni, out);
    if (x->ports.n) {
        uint16_t port = mz_addr_port(&info->local);
        key_set(&x->ports, (struct mz_str){ (const char *)&port, 2 }, out);
    }
    networks_set(x, 0, &info->local, out);
    networks_set(x, 1, ask_peer(q), out);
    networks_set(x, 2, &info->direct_remote, out);
    networks_set(x, 3, &info->remote, out);
}
