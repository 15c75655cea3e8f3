#include "control/model/service_ips.h"

#include "base/log.h"
#include "control/model/model_priv.h"

/* ---- ranges ---- */

struct range {
    struct mz_addr first; /* the address of offset 0; len 0: there is no such range */
    uint32_t size;
};
struct given {         /* to one service, in one family */
    struct mz_str key; /* "ns/name", behind the struct */
    uint32_t at;
};
struct mz_service_ips {
    struct range ranges[2]; /* IPv4, IPv6 */
    unsigned primary;       /* of ranges */
    struct mz_map given[2]; /* struct given */
    bool told;              /* that a family or a range was not enough */
};

static bool parse_range(struct mz_str text, struct mz_service_ips *s, unsigned *out_family,
                        struct mz_err *err)
{
    struct mz_cidr c;
    uint64_t bits;
    struct mz_str rest = text, ip;
    (void)mz_str_split(&rest, '/', &ip); /* without a '/' nothing is left, which is no number */
    if (!mz_str_u64(rest, &bits) || bits > 128 || !mz_cidr_make(ip, (unsigned)bits, &c, err) ||
        c.bits != bits)
        return mz_err_set(err, "\"%.*s\" is not a range of addresses", MZ_STR_ARG(text));
    const unsigned f = c.addr.sa.sa_family == AF_INET6;
    const unsigned host = (f ? 128 : 32) - c.bits;
    if (s->ranges[f].size)
        return mz_err_set(err, "\"%.*s\" is the second range of its family", MZ_STR_ARG(text));
    if (host < 2 || bits < (f ? 64 : 8))
        return mz_err_set(err, "\"%.*s\" is too %s", MZ_STR_ARG(text),
                          host < 2 ? "small" : "large");
    s->ranges[f] = (struct range){ c.addr, host > 24 ? 1u << 24 : 1u << host };
    *out_family = f;
    return true;
}

struct mz_service_ips *mz_service_ips_create(const char *ranges, struct mz_err *err)
{
    struct mz_service_ips *s = mz_new0(MZ_MEM_CONFIG, struct mz_service_ips);
    struct mz_str rest = mz_str_c(ranges), one;
    unsigned family;
    bool first = true;
    mz_map_init(&s->given[0], MZ_MEM_CONFIG);
    mz_map_init(&s->given[1], MZ_MEM_CONFIG);
    while (mz_str_split(&rest, ',', &one)) {
        if (!parse_range(mz_str_trim(one), s, &family, err)) {
            mz_service_ips_destroy(s);
            return NULL;
        }
        s->primary = first ? family : s->primary;
        first = false;
    }
    return s;
}

static void forget(struct mz_service_ips *s, unsigned f)
{
    mz_map_foreach (it, &s->given[f])
        mz_free(MZ_MEM_CONFIG, it->value);
    mz_map_fini(&s->given[f]);
}

void mz_service_ips_destroy(struct mz_service_ips *s)
{
    if (!s)
        return;
    forget(s, 0);
    forget(s, 1);
    mz_free(MZ_MEM_CONFIG, s);
}

static struct mz_addr address_at(const struct range *r, uint32_t at)
{
    struct mz_addr a = r->first;
    uint8_t *low = a.sa.sa_family == AF_INET6 ? &a.in6.sin6_addr.s6_addr[12]
                                              : (uint8_t *)&a.in4.sin_addr.s_addr;
    for (int i = 3; i >= 0; i--, at >>= 8)
        low[i] = (uint8_t)(low[i] + (at & 255)); /* bits that the prefix leaves are 0: no carry */
    return a;
}

/* ---- one build ---- */

struct want {
    struct mz_service *s;
    unsigned families[2], n; /* in the order of its addresses */
    uint32_t at[2];          /* 0: not yet */
    struct mz_str key;
};
struct model_addresses {
    MZ_VEC(struct want) wants;     /* by namespace and name */
    struct mz_map claimed;         /* texts of addresses that may not be given */
    MZ_VEC(struct mz_cidr) ranges; /* claimed as a whole */
};

struct model_addresses *model_addresses_begin(struct model_draft *d)
{
    struct model_addresses *a = mz_arena_new0(d->scratch, struct model_addresses);
    mz_map_init(&a->claimed, MZ_MEM_CONFIG);
    return a;
}

/* As ipFamilies says; else of the first range, and of the other where the policy wants both. */
static void wanted_families(const struct mz_service_ips *s, const k8s_ServiceSpec *spec,
                            struct want *w)
{
    const bool both = strcmp(spec->ipfamilypolicy, "PreferDualStack") == 0 ||
                      strcmp(spec->ipfamilypolicy, "RequireDualStack") == 0;
    for (size_t i = 0; i < spec->n_ipfamilies && w->n < 2; i++) {
        const unsigned f = strcmp(spec->ipfamilies[i], "IPv6") == 0;
        if (!w->n || w->families[0] != f)
            w->families[w->n++] = f;
    }
    if (!w->n)
        w->families[w->n++] = s->primary;
    if (w->n == 1 && both)
        w->families[w->n++] = !w->families[0];
}

void model_addresses_want(struct model_addresses *a, struct mz_service *s,
                          const k8s_ServiceSpec *spec, const struct mz_service_ips *ips)
{
    struct want w = { .s = s };
    if (!ips)
        return;
    wanted_families(ips, spec, &w);
    *mz_vec_push(&a->wants, MZ_MEM_CONFIG) = w;
}

/* ---- what documents claim ---- */

static void claim(struct model_draft *d, struct model_addresses *a, const char *text)
{
    struct mz_addr ip;
    struct mz_cidr c;
    struct mz_err err;
    char canonical[MZ_ADDR_TEXT];
    struct mz_str rest = mz_str_c(text), first;
    uint64_t bits;
    (void)mz_str_split(&rest, '/', &first); /* an empty one is no address */
    if (mz_str_u64(rest, &bits) && bits <= 128 && mz_cidr_make(first, (unsigned)bits, &c, &err)) {
        *mz_vec_push(&a->ranges, MZ_MEM_CONFIG) = c;
    } else if (mz_addr_parse_ip(mz_str_c(text), 0, &ip)) {
        const size_t n = mz_addr_ip_text(&ip, canonical);
        (void)mz_map_put(&a->claimed, mz_arena_dup(d->scratch, (struct mz_str){ canonical, n }), a);
    }
}

/* Of all documents, those of namespaces that are not looked at, too. */
static void claim_all(struct model_draft *d, struct model_addresses *a)
{
    size_t n;
    const struct mz_doc *const *v = mz_store_list(d->store, MZ_KIND_SERVICE, &n);
    for (size_t i = 0; i < n; i++) {
        const k8s_ServiceSpec *s = ((const k8s_Service *)mz_doc_body(v[i], d->scratch))->spec;
        if (!s)
            continue;
        claim(d, a, s->clusterip);
        for (size_t k = 0; k < s->n_clusterips; k++)
            claim(d, a, s->clusterips[k]);
        for (size_t k = 0; k < s->n_externalips; k++)
            claim(d, a, s->externalips[k]);
    }
    v = mz_store_list(d->store, MZ_KIND_SERVICE_ENTRY, &n);
    for (size_t i = 0; i < n; i++) {
        const ist_ServiceEntry *e = (const ist_ServiceEntry *)mz_doc_body(v[i], d->scratch);
        for (size_t k = 0; k < e->n_addresses; k++)
            claim(d, a, e->addresses[k]);
    }
}

static bool is_free(const struct model_draft *d, const struct model_addresses *a,
                    const struct range *r, uint32_t at)
{
    const struct mz_addr ip = address_at(r, at);
    char text[MZ_ADDR_TEXT];
    const struct mz_str key = { text, mz_addr_ip_text(&ip, text) };
    bool claimed = mz_map_get(&a->claimed, key) || mz_index_get(d->m->by_address, key);
    for (size_t i = 0; !claimed && i < a->ranges.n; i++)
        claimed = mz_cidr_match(&a->ranges.v[i], &ip);
    return !claimed;
}

/* ---- giving ---- */

static void take(struct model_draft *d, struct model_addresses *a, struct want *w, unsigned i,
                 uint32_t at)
{
    const struct mz_addr ip = address_at(&d->addresses->ranges[w->families[i]], at);
    char text[MZ_ADDR_TEXT];
    const struct mz_str key = { text, mz_addr_ip_text(&ip, text) };
    (void)mz_map_put(&a->claimed, mz_arena_dup(d->scratch, key), w->s);
    w->at[i] = at;
}

static void keep(struct model_draft *d, struct model_addresses *a, struct want *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        struct given *had = mz_map_get(&d->addresses->given[w->families[i]], w->key);
        const struct range *r = &d->addresses->ranges[w->families[i]];
        if (had && is_free(d, a, r, had->at))
            take(d, a, w, i, had->at);
    }
}

/* By the name from somewhere in the upper part on; the lower part comes last. */
static uint32_t find(struct model_draft *d, struct model_addresses *a, const struct range *r,
                     struct mz_str key)
{
    const uint32_t part = r->size / 16, band = part < 16    ? (r->size > 32 ? 16 : 1)
                                               : part > 256 ? 256
                                                            : part;
    const uint32_t last = r->size - 1; /* the broadcast address, or a name for it */
    const uint64_t h = model_hash_str(0, key);
    for (uint32_t i = 0; i < last - band; i++) {
        const uint32_t at = band + (uint32_t)((h + i) % (last - band));
        if (is_free(d, a, r, at))
            return at;
    }
    for (uint32_t at = 1; at < band; at++)
        if (is_free(d, a, r, at))
            return at;
    return 0;
}

static void give(struct model_draft *d, struct model_addresses *a, struct want *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        const struct range *r = &d->addresses->ranges[w->families[i]];
        const uint32_t at = w->at[i] || !r->size ? 0 : find(d, a, r, w->key);
        if (at)
            take(d, a, w, i, at);
        if (w->at[i] || d->addresses->told)
            continue;
        d->addresses->told = true;
        MZ_LOG(WARN, config, "Service %.*s gets no address of IPv%c: --service-cidr has none %s",
               MZ_STR_ARG(w->key), w->families[i] ? '6' : '4', r->size ? "left" : "of that family");
    }
}

/* Those that nobody has any more are forgotten. */
static void remember(struct mz_service_ips *s, const struct model_addresses *a)
{
    forget(s, 0);
    forget(s, 1);
    mz_map_init(&s->given[0], MZ_MEM_CONFIG);
    mz_map_init(&s->given[1], MZ_MEM_CONFIG);
    for (size_t k = 0; k < a->wants.n; k++)
        for (unsigned i = 0; i < a->wants.v[k].n; i++) {
            const struct want *w = &a->wants.v[k];
            if (!w->at[i])
                continue;
            struct given *g = mz_alloc0(MZ_MEM_CONFIG, sizeof(*g) + w->key.n);
            memcpy(g + 1, w->key.p, w->key.n);
            *g = (struct given){ { (const char *)(g + 1), w->key.n }, w->at[i] };
            mz_free(MZ_MEM_CONFIG, mz_map_put(&s->given[w->families[i]], g->key, g));
        }
}

/* In the service; its hash tells of them. */
static void set_addresses(struct model_draft *d, const struct want *w)
{
    struct mz_str *v = mz_arena_alloc(d->m->arena, w->n * sizeof(*v));
    size_t n = 0;
    for (unsigned i = 0; i < w->n; i++) {
        if (!w->at[i])
            continue;
        const struct mz_addr ip = address_at(&d->addresses->ranges[w->families[i]], w->at[i]);
        char text[MZ_ADDR_TEXT];
        v[n] = mz_arena_dup(d->m->arena, (struct mz_str){ text, mz_addr_ip_text(&ip, text) });
        w->s->hash = model_hash_str(w->s->hash, v[n++]);
    }
    w->s->addresses = v;
    w->s->addresses_n = n;
    w->s->given = true;
}

void model_addresses_give(struct model_draft *d, struct model_addresses *a)
{
    mz_vec_foreach (w, &a->wants)
        w->key =
            mz_arena_printf(d->scratch, "%.*s/%.*s", MZ_STR_ARG(w->s->ns), MZ_STR_ARG(w->s->name));
    if (a->wants.n)
        claim_all(d, a);
    mz_vec_foreach (w, &a->wants)
        keep(d, a, w);
    mz_vec_foreach (w, &a->wants)
        give(d, a, w);
    mz_vec_foreach (w, &a->wants)
        set_addresses(d, w);
    if (d->addresses)
        remember(d->addresses, a);
    mz_vec_free(&a->wants, MZ_MEM_CONFIG);
    mz_vec_free(&a->ranges, MZ_MEM_CONFIG);
    mz_map_fini(&a->claimed);
}
