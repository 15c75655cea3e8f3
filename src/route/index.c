#include "route/route_priv.h"
#include <stdlib.h>

/*
 * Of a virtual host with many routes, by literal paths. The prefixes that begin a given path form a chain, each within the
 * next longer one: a sorted array and a link to the parent find them with one binary search. What cannot be indexed
 * (regexes, templates, CONNECT, case-insensitive) stands in one list that always is a candidate.
 */
#define INDEX_MIN_ROUTES 9

struct node {
    struct mz_str key;
    uint32_t *routes; /* ascending */
    uint32_t n;
    int32_t parent; /* prefix nodes: the longest other key that begins this one; -1: none */
    uint32_t depth;
};
struct nodes {
    struct node *v;
    size_t n;
};
struct route_index {
    struct nodes prefixes;
    struct mz_map exact; /* path -> struct node */
    struct nodes paths;
    uint32_t *rest;
    uint32_t n_rest;
};

/* Where a route goes. */
enum place { IN_REST, IN_PREFIXES, IN_PATHS };

static enum place place_of(const struct mz_route *r)
{
    const struct route_priv *p = r->priv;
    if (p->nocase)
        return IN_REST;
    return p->kind == PATH_EXACT                                 ? IN_PATHS
           : p->kind == PATH_PREFIX || p->kind == PATH_SEPARATED ? IN_PREFIXES
                                                                 : IN_REST;
}

struct item {
    struct mz_str key;
    uint32_t route;
};

static int item_cmp(const void *x, const void *y)
{
    const struct item *a = x, *b = y;
    int c = mz_str_cmp(a->key, b->key);
    return c ? c : a->route < b->route ? -1 : 1;
}

static uint32_t items_gather(const struct mz_vhost *v, enum place where, struct item *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n_routes; i++)
        if (place_of(v->routes[i]) == where)
            out[n++] = (struct item){ ((const struct route_priv *)v->routes[i]->priv)->path, i };
    qsort(out, n, sizeof(*out), item_cmp);
    return n;
}

/* Equal keys share a node; the nodes come out sorted. */
static void nodes_build(struct nodes *x, const struct item *items, uint32_t n, struct mz_arena *a)
{
    uint32_t *routes = mz_arena_alloc(a, mz_mul(n, sizeof(*routes)));
    size_t keys = 0;
    for (uint32_t i = 0; i < n; i++)
        keys += i == 0 || !mz_str_eq(items[i].key, items[i - 1].key);
    x->v = mz_arena_alloc0(a, mz_mul(keys, sizeof(*x->v)));
    for (uint32_t i = 0; i < n; i++) {
        if (i == 0 || !mz_str_eq(items[i].key, items[i - 1].key))
            x->v[x->n++] = (struct node){ .key = items[i].key, .routes = routes + i, .parent = -1 };
        routes[i] = items[i].route;
        x->v[x->n - 1].n++;
    }
}

/* In sorted order a key's parent is its predecessor, or one on the predecessor's chain. */
static uint32_t nodes_link(struct nodes *x)
{
    uint32_t deepest = 0;
    for (size_t i = 0; i < x->n; i++) {
        int32_t up = (int32_t)i - 1;
        while (up >= 0 && !mz_str_starts(x->v[i].key, x->v[up].key))
            up = x->v[up].parent;
        x->v[i].parent = up;
        x->v[i].depth = up < 0 ? 1 : x->v[up].depth + 1;
        deepest = x->v[i].depth > deepest ? x->v[i].depth : deepest;
    }
    return deepest;
}

struct route_index *route_index_build(const struct mz_vhost *v, struct mz_arena *a)
{
    if (v->n_routes < INDEX_MIN_ROUTES)
        return NULL;
    struct route_index *x = mz_arena_new0(a, struct route_index);
    struct item *items = mz_newn0(MZ_MEM_CONFIG, struct item, v->n_routes);
    nodes_build(&x->prefixes, items, items_gather(v, IN_PREFIXES, items), a);
    nodes_build(&x->paths, items, items_gather(v, IN_PATHS, items), a);
    x->n_rest = items_gather(v, IN_REST, items);
    x->rest = mz_arena_alloc(a, mz_mul(x->n_rest, sizeof(*x->rest)));
    mz_free(MZ_MEM_CONFIG, items);
    for (uint32_t i = 0, n = 0; i < v->n_routes; i++)
        if (place_of(v->routes[i]) == IN_REST)
            x->rest[n++] = i;
    if (nodes_link(&x->prefixes) + 2 > INDEX_MAX_CURSORS)
        return NULL; /* such nesting is not worth more code: linear */
    mz_map_init(&x->exact, MZ_MEM_CONFIG);
    for (size_t i = 0; i < x->paths.n; i++)
        mz_map_put(&x->exact, x->paths.v[i].key, &x->paths.v[i]);
    mz_arena_cleanup(a, (void (*)(void *))mz_map_fini, &x->exact);
    return x;
}

/* The last key that is not after @path. */
static int32_t nodes_floor(const struct nodes *x, struct mz_str path)
{
    size_t lo = 0, hi = x->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (mz_str_cmp(x->v[mid].key, path) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return (int32_t)lo - 1;
}

unsigned route_index_find(const struct route_index *x, struct mz_str path,
                          struct route_cursor out[INDEX_MAX_CURSORS])
{
    unsigned n = 0;
    const struct node *exact = x->exact.n ? mz_map_get(&x->exact, path) : NULL;
    if (exact)
        out[n++] = (struct route_cursor){ exact->routes, exact->routes + exact->n };
    if (x->n_rest)
        out[n++] = (struct route_cursor){ x->rest, x->rest + x->n_rest };
    for (int32_t i = nodes_floor(&x->prefixes, path); i >= 0; i = x->prefixes.v[i].parent) {
        const struct node *node = &x->prefixes.v[i];
        if (mz_str_starts(path, node->key))
            out[n++] = (struct route_cursor){ node->routes, node->routes + node->n };
    }
    return n;
}
