#include "observe/match_tree_priv.h"

#include "base/buf.h"

struct mz_match_tree *mz_match_tree_create(const pb_Matcher *m, const struct mz_match_env *env,
                                           struct mz_err *err)
{
    struct mz_match_tree *t = mz_new0(MZ_MEM_CONFIG, struct mz_match_tree);
    t->arena = mz_arena_create(MZ_MEM_CONFIG);
    if (node_build(m, env, t->arena, &t->root, err))
        return t;
    mz_match_tree_destroy(t);
    return NULL;
}

void mz_match_tree_destroy(struct mz_match_tree *t)
{
    if (!t)
        return;
    mz_arena_destroy(t->arena);
    mz_free(MZ_MEM_CONFIG, t);
}

/* ---- predicates ---- */

static bool in_ranges(const struct predicate *p, const struct mz_addr *a)
{
    for (size_t i = 0; i < p->n_cidrs; i++)
        if (mz_cidr_match(&p->cidrs[i], a))
            return true;
    return false;
}

static bool ip_matches(const struct predicate *p, const struct mz_match_input *in)
{
    const struct mz_addr *direct = input_address(&p->input, in);
    if (direct)
        return in_ranges(p, direct);
    struct values v = { .input = &p->input, .in = in };
    for (struct mz_str text; values_next(&v, &text);) {
        struct mz_addr a;
        if (mz_addr_parse_ip(text, 0, &a)) {
            if (in_ranges(p, &a))
                return true;
        } else if (p->scope && text.n) {
            mz_count(p->scope, IP_PARSING_FAILED, 1);
        }
    }
    return false;
}

static bool string_matches(const struct predicate *p, const struct mz_match_input *in)
{
    struct values v = { .input = &p->input, .in = in };
    for (struct mz_str text; values_next(&v, &text);)
        if (mz_string_match(p->string, text))
            return true;
    return false;
}

static bool cel_matches(const struct predicate *p, const struct mz_match_input *in)
{
    const struct mz_format_ctx ctx = { .info = in->info, .req = in->h };
    struct mz_attributes attributes;
    mz_attributes_init(&attributes, &ctx);
    return mz_cel_test(p->cel, &attributes.vars, in->arena) == MZ_CEL_YES;
}

static bool matches(const struct predicate *p, const struct mz_match_input *in)
{
    bool wanted = p->kind == PREDICATE_OR;
    switch (p->kind) {
    case PREDICATE_OR:
    case PREDICATE_AND:
        for (size_t i = 0; i < p->n; i++)
            if (matches(&p->v[i], in) == wanted)
                return wanted;
        return !wanted;
    case PREDICATE_NOT:
        return !matches(p->v, in);
    case PREDICATE_ONE:
        break;
    }
    switch (p->test) {
    case TEST_STRING:
        return string_matches(p, in);
    case TEST_IP:
        return ip_matches(p, in);
    case TEST_METADATA:
        return mz_metadata_match(p->metadata, in->info->dynamic_metadata);
    case TEST_CEL:
        return cel_matches(p, in);
    }
    return false;
}

/* ---- nodes ---- */

static const void *node_find(const struct node *n, const struct mz_match_input *in,
                             struct mz_buf *trail);

/* What a match leads to; NULL: nothing. */
static const void *follow(const struct on_match *on, const struct mz_match_input *in,
                          struct mz_buf *trail)
{
    return on->node ? node_find(on->node, in, trail) : on->action;
}

static const void *entry_follow(const struct node *n, const struct entry *e,
                                const struct mz_match_input *in, struct mz_buf *trail)
{
    if (!trail)
        return follow(&e->on, in, NULL);
    struct mz_buf rest;
    mz_buf_init(&rest);
    const void *found = follow(&e->on, in, &rest);
    if (found) {
        if (n->kind == NODE_LIST || n->kind == NODE_IP || n->kind == NODE_DOMAIN)
            mz_buf_printf(trail, ".%s[%zu]",
                          n->kind == NODE_LIST ? "matcher_list.matchers"
                          : n->kind == NODE_IP ? "matcher_tree.custom_match.range_matchers"
                                               : "matcher_tree.custom_match.domain_matchers",
                          e->at);
        else
            mz_buf_printf(trail, ".matcher_tree.%s[\"" MZ_STR_FMT "\"]",
                          n->kind == NODE_EXACT ? "exact_match_map" : "prefix_match_map",
                          MZ_STR_ARG(e->key));
        mz_buf_move_all(trail, &rest);
    }
    mz_buf_fini(&rest);
    return found;
}

static const void *list_find(const struct node *n, const struct mz_match_input *in,
                             struct mz_buf *trail)
{
    for (size_t i = 0; i < n->n; i++) {
        const void *found =
            matches(&n->v[i].predicate, in) ? entry_follow(n, &n->v[i], in, trail) : NULL;
        if (found)
            return found;
    }
    return NULL;
}

static const void *exact_find(const struct node *n, struct mz_str text,
                              const struct mz_match_input *in, struct mz_buf *trail)
{
    size_t low = 0, high = n->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = mz_str_cmp(n->v[mid].key, text);
        if (c == 0)
            return entry_follow(n, &n->v[mid], in, trail);
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

static bool domain_fits(struct mz_str key, struct mz_str name)
{
    if (key.n && key.p[0] == '*') {
        struct mz_str end = mz_str_skip(key, 1);
        return name.n > end.n && mz_str_ieq(mz_str_skip(name, name.n - end.n), end);
    }
    return mz_str_ieq(key, name);
}

/* Prefixes and domains: the longest that leads somewhere. */
static const void *longest_find(const struct node *n, struct mz_str text,
                                const struct mz_match_input *in, struct mz_buf *trail)
{
    for (size_t i = 0; i < n->n; i++) {
        struct mz_str key = n->v[i].key;
        if (n->kind == NODE_PREFIX ? !mz_str_starts(text, key) : !domain_fits(key, text))
            continue;
        const void *found = entry_follow(n, &n->v[i], in, trail);
        if (found)
            return found;
    }
    return NULL;
}

static const void *ip_find(const struct node *n, const struct mz_addr *a,
                           const struct mz_match_input *in, struct mz_buf *trail)
{
    for (size_t i = 0; i < n->n; i++) {
        if (!mz_cidr_match(&n->v[i].cidr, a))
            continue;
        const void *found = entry_follow(n, &n->v[i], in, trail);
        if (found || n->v[i].exclusive)
            return found;
    }
    return NULL;
}

static const void *text_find(const struct node *n, struct mz_str text,
                             const struct mz_match_input *in, struct mz_buf *trail)
{
    struct mz_addr a;
    switch (n->kind) {
    case NODE_EXACT:
        return exact_find(n, text, in, trail);
    case NODE_IP:
        return mz_addr_parse_ip(text, 0, &a) ? ip_find(n, &a, in, trail) : NULL;
    default:
        return longest_find(n, text, in, trail);
    }
}

static const void *node_find(const struct node *n, const struct mz_match_input *in,
                             struct mz_buf *trail)
{
    const void *found = NULL;
    if (n->kind == NODE_LIST) {
        found = list_find(n, in, trail);
    } else {
        struct values v = { .input = &n->input, .in = in };
        for (struct mz_str text; !found && values_next(&v, &text);)
            found = text_find(n, text, in, trail);
    }
    if (found)
        return found;
    found = follow(&n->on_no_match, in, trail);
    if (found && trail && !n->on_no_match.node)
        mz_buf_append_str(trail, MZ_STR(".on_no_match"));
    return found;
}

const void *mz_match_tree_find(const struct mz_match_tree *t, const struct mz_match_input *in,
                               struct mz_buf *trail)
{
    return node_find(&t->root, in, trail);
}
