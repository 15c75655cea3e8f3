/* Delegation: a route of one VirtualService whose rest stands in another. */
#include "control/model/virtual_merge.h"

#include "base/log.h"

enum { MAX_MATCHES = 4096 }; /* of one route: roots and delegates multiply */
/* Of one VirtualService with what it delegates: matches that are made, one at each of its hosts, and routes that are tried. */
enum { MAX_ALL = 65536, MAX_PAIRS = 1000000 };

/* ---- can both hold? ---- */

static struct mz_str value_of(const ist_StringMatch *m, ist_StringMatch_MatchTypeCase which)
{
    if (m->match_type_case != which)
        return MZ_STR("");
    return mz_str_c(which == ist_StringMatch_MATCH_TYPE_EXACT    ? m->exact
                    : which == ist_StringMatch_MATCH_TYPE_PREFIX ? m->prefix
                                                                 : m->regex);
}

/* The delegate may only narrow what the root lets in; expressions cannot be compared. */
static bool texts_conflict(const ist_StringMatch *root, const ist_StringMatch *leaf)
{
    if (!root || !leaf)
        return false;
    const struct mz_str exact = value_of(root, ist_StringMatch_MATCH_TYPE_EXACT),
                        prefix = value_of(root, ist_StringMatch_MATCH_TYPE_PREFIX),
                        leaf_exact = value_of(leaf, ist_StringMatch_MATCH_TYPE_EXACT),
                        leaf_prefix = value_of(leaf, ist_StringMatch_MATCH_TYPE_PREFIX);
    if (exact.n)
        return leaf_prefix.n || !mz_str_eq(leaf_exact, exact);
    if (prefix.n && (leaf_prefix.n || leaf_exact.n))
        return !mz_str_starts(leaf_prefix.n ? leaf_prefix : leaf_exact, prefix);
    return true;
}

/* Maps of texts to matches: those of both. All of them have one shape. */
typedef ist_HTTPMatchRequest_HeadersEntry entry;

static const entry *find(entry *const *v, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(v[i]->key, key) == 0)
            return v[i];
    return NULL;
}

static bool maps_conflict(entry *const *root, size_t root_n, entry *const *leaf, size_t leaf_n)
{
    for (size_t i = 0; i < leaf_n; i++) {
        const entry *e = find(root, root_n, leaf[i]->key);
        if (e && texts_conflict(e->value, leaf[i]->value))
            return true;
    }
    return false;
}

static bool labels_conflict(const ist_HTTPMatchRequest *root, const ist_HTTPMatchRequest *leaf)
{
    for (size_t i = 0; i < leaf->n_source_labels; i++)
        for (size_t k = 0; k < root->n_source_labels; k++)
            if (strcmp(root->source_labels[k]->key, leaf->source_labels[i]->key) == 0 &&
                strcmp(root->source_labels[k]->value, leaf->source_labels[i]->value) != 0)
                return true;
    return false;
}

static bool has_gateway(const ist_HTTPMatchRequest *m, const char *gateway)
{
    for (size_t i = 0; i < m->n_gateways; i++)
        if (strcmp(m->gateways[i], gateway) == 0)
            return true;
    return false;
}

static bool gateways_conflict(const ist_HTTPMatchRequest *root, const ist_HTTPMatchRequest *leaf)
{
    for (size_t i = 0; root->n_gateways && i < leaf->n_gateways; i++)
        if (!has_gateway(root, leaf->gateways[i]))
            return true;
    return false;
}

#define ENTRIES(m, field) ((entry *const *)(m)->field), (m)->n_##field

static bool conflict(const ist_HTTPMatchRequest *root, const ist_HTTPMatchRequest *leaf)
{
    return texts_conflict(root->uri, leaf->uri) || texts_conflict(root->scheme, leaf->scheme) ||
           texts_conflict(root->method, leaf->method) ||
           texts_conflict(root->authority, leaf->authority) ||
           maps_conflict(ENTRIES(root, headers), ENTRIES(leaf, headers)) ||
           maps_conflict(ENTRIES(root, without_headers), ENTRIES(leaf, without_headers)) ||
           maps_conflict(ENTRIES(root, query_params), ENTRIES(leaf, query_params)) ||
           root->ignore_uri_case != leaf->ignore_uri_case ||
           (root->port && leaf->port && root->port != leaf->port) ||
           (root->source_namespace[0] &&
            strcmp(root->source_namespace, leaf->source_namespace) != 0) ||
           labels_conflict(root, leaf) || gateways_conflict(root, leaf);
}

/* ---- joining ---- */

/* The leaf's, and the root's that it does not have. */
static void *join_entries(struct mz_arena *a, void *root, size_t root_n, void *leaf, size_t *leaf_n)
{
    entry **own = mz_arena_alloc(a, (root_n + *leaf_n) * sizeof(*own));
    size_t n = *leaf_n;
    if (n)
        memcpy(own, leaf, n * sizeof(*own));
    for (size_t i = 0; i < root_n; i++)
        if (!find(own, *leaf_n, ((entry **)root)[i]->key))
            own[n++] = ((entry **)root)[i];
    *leaf_n = n;
    return own;
}

#define JOIN(a, out, root, field)                                                                  \
    ((out)->field =                                                                                \
         join_entries((a), (root)->field, (root)->n_##field, (out)->field, &(out)->n_##field))

static char *join_names(struct mz_arena *a, char *root, char *leaf)
{
    if (!leaf[0])
        return root;
    return root[0] ? (char *)(uintptr_t)mz_arena_printf(a, "%s-%s", root, leaf).p : leaf;
}

static ist_HTTPMatchRequest *join(struct mz_arena *a, const ist_HTTPMatchRequest *root,
                                  const ist_HTTPMatchRequest *leaf)
{
    ist_HTTPMatchRequest *m = mz_arena_new0(a, ist_HTTPMatchRequest);
    *m = *leaf;
    m->name = join_names(a, root->name, leaf->name);
    m->uri = m->uri ? m->uri : root->uri;
    m->scheme = m->scheme ? m->scheme : root->scheme;
    m->method = m->method ? m->method : root->method;
    m->authority = m->authority ? m->authority : root->authority;
    JOIN(a, m, root, headers);
    JOIN(a, m, root, without_headers);
    JOIN(a, m, root, query_params);
    JOIN(a, m, root, source_labels); /* of texts: the same shape as far as it is looked at */
    m->port = m->port ? m->port : root->port;
    if (!m->source_namespace[0])
        m->source_namespace = root->source_namespace;
    if (!m->n_gateways) {
        m->gateways = root->gateways;
        m->n_gateways = root->n_gateways;
    }
    if (!m->stat_prefix[0])
        m->stat_prefix = root->stat_prefix;
    return m;
}

/* Each of the delegate's matches lies within one of the root's. */
static bool fits(const ist_HTTPRoute *root, ist_HTTPMatchRequest *const *leaf, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool any = false;
        for (size_t k = 0; k < root->n_match && !any; k++)
            any = !conflict(root->match[k], leaf[i]);
        if (!any)
            return false;
    }
    return true;
}

/* False: one of the delegate's matches lies outside of all of the root's. Before, nothing was made for it. */
static bool join_matches(struct mz_arena *a, const ist_HTTPRoute *root, ist_HTTPRoute *out)
{
    ist_HTTPMatchRequest **leaf = out->match;
    const size_t leaf_n = out->n_match;
    if (!root->n_match)
        return true;
    if (!leaf_n) {
        out->match = root->match;
        out->n_match = root->n_match;
        return true;
    }
    if (!fits(root, leaf, leaf_n))
        return false;
    const size_t all = root->n_match * leaf_n, room = all < MAX_MATCHES ? all : MAX_MATCHES;
    out->match = mz_arena_alloc(a, room * sizeof(*out->match));
    out->n_match = 0;
    for (size_t i = 0; i < leaf_n; i++) {
        const size_t before = out->n_match;
        for (size_t k = 0; k < root->n_match && out->n_match < room; k++)
            if (!conflict(root->match[k], leaf[i]))
                out->match[out->n_match++] = join(a, root->match[k], leaf[i]);
        if (out->n_match == before)
            return false;
    }
    return true;
}

static ist_HTTPRoute *join_routes(struct mz_arena *a, const ist_HTTPRoute *root,
                                  const ist_HTTPRoute *leaf)
{
    ist_HTTPRoute joined = *leaf;
    if (!join_matches(a, root, &joined))
        return NULL;
    ist_HTTPRoute *m = mz_arena_new0(a, ist_HTTPRoute);
    *m = joined;
    m->name = join_names(a, root->name, leaf->name);
    m->rewrite = m->rewrite ? m->rewrite : root->rewrite;
    m->direct_response = m->direct_response ? m->direct_response : root->direct_response;
    m->timeout = m->timeout ? m->timeout : root->timeout;
    m->retries = m->retries ? m->retries : root->retries;
    m->fault = m->fault ? m->fault : root->fault;
    m->mirror = m->mirror ? m->mirror : root->mirror;
    m->mirror_percent = m->mirror_percent ? m->mirror_percent : root->mirror_percent;
    m->mirror_percentage = m->mirror_percentage ? m->mirror_percentage : root->mirror_percentage;
    m->cors_policy = m->cors_policy ? m->cors_policy : root->cors_policy;
    m->headers = m->headers ? m->headers : root->headers;
    if (!m->n_mirrors) {
        m->mirrors = root->mirrors;
        m->n_mirrors = root->n_mirrors;
    }
    return m;
}

static bool delegates_itself(const ist_VirtualService *m)
{
    for (size_t i = 0; i < m->n_http; i++)
        if (m->http[i]->delegate)
            return true;
    return false;
}

static const struct mz_virtual *delegate_of(struct model_draft *d, const struct mz_virtual *v,
                                            const ist_Delegate *to, const struct mz_map *delegates)
{
    const struct mz_str ns = to->namespace_[0] ? mz_str_c(to->namespace_) : v->ns;
    const struct mz_virtual *found =
        mz_map_get(delegates, mz_arena_printf(d->scratch, "%.*s/%s", MZ_STR_ARG(ns), to->name));
    return found && mz_virtual_visible(found, v->ns) && !delegates_itself(found->spec) ? found
                                                                                       : NULL;
}

struct expanding {
    struct model_draft *d;
    struct mz_virtual *v;
    ist_VirtualService *out;
    size_t pairs, matches, room; /* tried; made, of as many as may be */
};

static void add_route(struct expanding *e, ist_HTTPRoute *r)
{
    e->matches += r->n_match ? r->n_match : 1;
    e->out->http[e->out->n_http++] = r;
}

/* What stands in the place of one route of @v; each at most once into @out, which has room for all. */
static void expand(struct expanding *e, const ist_HTTPRoute *root, const struct mz_virtual *leaf)
{
    e->v->hash = mz_xxh64(&e->v->hash, sizeof(e->v->hash), leaf ? leaf->hash : 0);
    for (size_t i = 0; leaf && i < leaf->spec->n_http; i++) {
        if (e->matches >= e->room || e->pairs++ >= MAX_PAIRS)
            return;
        ist_HTTPRoute *one = join_routes(e->d->m->arena, root, leaf->spec->http[i]);
        if (one)
            add_route(e, one);
    }
}

void model_merge_delegates(struct model_draft *d, struct mz_virtual *v,
                           const struct mz_map *delegates)
{
    if (!delegates_itself(v->spec))
        return;
    const ist_VirtualService *from = v->spec;
    ist_VirtualService *m = mz_arena_new0(d->m->arena, ist_VirtualService);
    struct expanding e = { d, v, m, .room = MAX_ALL / (from->n_hosts ? from->n_hosts : 1) };
    size_t room = 0;
    const struct mz_virtual **to = mz_arena_alloc(d->scratch, from->n_http * sizeof(*to));
    for (size_t i = 0; i < from->n_http; i++) {
        to[i] =
            from->http[i]->delegate ? delegate_of(d, v, from->http[i]->delegate, delegates) : NULL;
        room += to[i] ? to[i]->spec->n_http : 1;
    }
    room = room < e.room + from->n_http ? room : e.room + from->n_http;
    *m = *from;
    m->http = mz_arena_alloc(d->m->arena, room * sizeof(*m->http));
    m->n_http = 0;
    for (size_t i = 0; i < from->n_http; i++)
        if (from->http[i]->delegate)
            expand(&e, from->http[i], to[i]);
        else
            add_route(&e, from->http[i]);
    if (e.matches >= e.room || e.pairs > MAX_PAIRS)
        MZ_LOG(WARN, config,
               "VirtualService/%.*s/%.*s: routes of what it delegates are left out: hosts and "
               "matches may multiply to %d, of %d routes that are tried",
               MZ_STR_ARG(v->ns), MZ_STR_ARG(v->name), MAX_ALL, MAX_PAIRS);
    v->spec = m;
}
