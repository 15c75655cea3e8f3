#include "filters/http/ip_tags.h"

#include "base/map.h"

struct range { /* of one net; several tags may have the same */
    struct range *next;
    uint32_t tag;
};
struct nets { /* those of one prefix length and family */
    struct nets *next;
    struct mz_map by_net; /* masked bytes -> struct range */
    unsigned bits;
    bool v6;
};
struct ip_tags {
    struct mz_arena *arena; /* holds everything but the maps' tables, this struct too */
    struct nets *nets;
};

struct ip_tags *ip_tags_create(void)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct ip_tags *t = mz_arena_new0(a, struct ip_tags);
    t->arena = a;
    return t;
}

void ip_tags_destroy(struct ip_tags *t)
{
    if (!t)
        return;
    for (struct nets *n = t->nets; n; n = n->next)
        mz_map_fini(&n->by_net);
    mz_arena_destroy(t->arena);
}

/* The net of @bits that holds @a. */
static struct mz_str masked(const struct mz_addr *a, unsigned bits, unsigned char out[16])
{
    bool v6 = a->sa.sa_family == AF_INET6;
    const unsigned char *from =
        v6 ? a->in6.sin6_addr.s6_addr : (const unsigned char *)(const void *)&a->in4.sin_addr;
    size_t n = v6 ? 16 : 4;
    for (size_t i = 0; i < n; i++) {
        unsigned left = bits > 8 * i ? bits - (unsigned)(8 * i) : 0;
        out[i] = (unsigned char)(from[i] & (left >= 8 ? 0xffu : 0xff00u >> left));
    }
    return (struct mz_str){ (char *)out, n };
}

static struct nets *nets_of(struct ip_tags *t, bool v6, unsigned bits)
{
    for (struct nets *n = t->nets; n; n = n->next)
        if (n->v6 == v6 && n->bits == bits)
            return n;
    struct nets *n = mz_arena_new0(t->arena, struct nets);
    *n = (struct nets){ .next = t->nets, .bits = bits, .v6 = v6 };
    mz_map_init(&n->by_net, MZ_MEM_CONFIG);
    t->nets = n;
    return n;
}

void ip_tags_add(struct ip_tags *t, const struct mz_cidr *range, uint32_t tag)
{
    unsigned char bytes[16];
    struct nets *n = nets_of(t, range->addr.sa.sa_family == AF_INET6, range->bits);
    struct mz_str net = masked(&range->addr, range->bits, bytes);
    struct range *r = mz_arena_new0(t->arena, struct range), *same = mz_map_get(&n->by_net, net);
    r->tag = tag;
    r->next = same;
    (void)mz_map_put(&n->by_net, mz_arena_dup(t->arena, net), r);
}

bool ip_tags_find(const struct ip_tags *t, const struct mz_addr *a, bool *hit)
{
    bool any = false;
    unsigned char bytes[16];
    for (const struct nets *n = mz_addr_is_ip(a) ? t->nets : NULL; n; n = n->next) {
        if (n->v6 != (a->sa.sa_family == AF_INET6))
            continue;
        const struct range *r = mz_map_get(&n->by_net, masked(a, n->bits, bytes));
        for (; r; r = r->next)
            any = hit[r->tag] = true;
    }
    return any;
}
