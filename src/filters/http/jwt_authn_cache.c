/* Tokens whose signature was good, with what they say: the signature need not be checked again. One thread. */
#include "filters/http/jwt_authn.h"

struct entry {
    struct mz_list link;    /* the most recently used is first */
    struct mz_arena *arena; /* holds everything, this struct too */
    struct mz_str token;
    struct mz_jwt jwt;
    uint64_t version;
};
struct jwt_cache {
    struct mz_map map; /* token -> struct entry */
    struct mz_list used;
    size_t max;
};

struct jwt_cache *jwt_cache_create(size_t tokens)
{
    struct jwt_cache *c = mz_new0(MZ_MEM_CONFIG, struct jwt_cache);
    mz_map_init(&c->map, MZ_MEM_CONFIG);
    mz_list_init(&c->used);
    c->max = tokens;
    return c;
}

static void entry_drop(struct jwt_cache *c, struct entry *e)
{
    (void)mz_map_del(&c->map, e->token);
    mz_list_del(&e->link);
    mz_arena_destroy(e->arena);
}

void jwt_cache_destroy(struct jwt_cache *c)
{
    if (!c)
        return;
    while (!mz_list_empty(&c->used))
        entry_drop(c, MZ_CONTAINER(c->used.next, struct entry, link));
    mz_map_fini(&c->map);
    mz_free(MZ_MEM_CONFIG, c);
}

const struct mz_jwt *jwt_cache_get(struct jwt_cache *c, struct mz_str token, uint64_t version)
{
    struct entry *e = mz_map_get(&c->map, token);
    if (!e)
        return NULL;
    if (e->version != version) { /* the keys are others now: perhaps without the one that signed */
        entry_drop(c, e);
        return NULL;
    }
    mz_list_del(&e->link);
    mz_list_add_head(&c->used, &e->link);
    return &e->jwt;
}

void jwt_cache_put(struct jwt_cache *c, struct mz_str token, uint64_t version)
{
    struct entry *old = mz_map_get(&c->map, token);
    if (old)
        entry_drop(c, old);
    if (c->map.n >= c->max)
        entry_drop(c, MZ_CONTAINER(c->used.prev, struct entry, link));
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct entry *e = mz_arena_new0(a, struct entry);
    *e = (struct entry){ .arena = a, .token = mz_arena_dup(a, token), .version = version };
    (void)mz_jwt_parse(e->token, a, &e->jwt); /* it was read before */
    mz_list_add_head(&c->used, &e->link);
    (void)mz_map_put(&c->map, e->token, e);
}
