#include "filters/http/ext_authz.h"

#include "base/map.h"
#include "http/query.h"
#include "http/validate.h"

/*
 * What an authorization service's answer changes (F11). Names and values are foreign: what could not be sent is never put
 * into a message, and what frames a message is not the service's business.
 */

/* ---- the request ---- */

static void set(struct mz_headers *h, struct mz_str name, struct mz_str value)
{
    mz_headers_set(h, mz_str_eq(name, MZ_STR("host")) ? MZ_STR(":authority") : name, value);
}

/* Joined when all are there: a service may send a thousand of one name. */
static void add_another(struct mz_headers *h, const struct authz_header *c)
{
    mz_headers_add_raw(h, c->name, c->value, (uint8_t)mz_header_id(c->name));
}

/* A list of changes at work. */
struct changing {
    const struct authz_headers *all;
    bool *left;           /* of each: it may be done, and was not yet */
    struct mz_str *parts; /* room for a value of all of them */
};

/* With all that is appended to this field behind it. */
static void append(struct changing *x, size_t at, struct mz_headers *h)
{
    const struct authz_header *v = x->all->v;
    struct mz_header *e = mz_headers_get(h, v[at].name);
    size_t n = 0;
    if (!e)
        return;
    if (e->value.n)
        x->parts[n++] = e->value;
    for (size_t i = at; i < x->all->n; i++) {
        if (!x->left[i] || !mz_str_eq(v[i].name, v[at].name))
            continue;
        if (v[i].action != AUTHZ_APPEND)
            break;
        x->left[i] = false;
        if (n)
            x->parts[n++] = MZ_STR(",");
        x->parts[n++] = v[i].value;
    }
    e->value = mz_arena_cat(h->arena, n, x->parts);
}

static enum ea_applied verdict_of(enum mutation_verdict v)
{
    return v == MUTATION_REFUSED ? EA_FORBIDDEN : EA_APPLIED;
}

static enum ea_applied may_change(const struct authz_header *c, const struct mutation_rules *rules,
                                  bool *out_may)
{
    *out_may = false;
    if (foreign_header_frames(c->name))
        return EA_APPLIED;
    bool fits = foreign_header_fits_request(c->name, c->value);
    if (!fits && !rules)
        return EA_BAD_HEADER;
    enum mutation_verdict v = !rules ? MUTATION_ALLOWED
                              : fits ? mutation_rules_set(rules, c->name)
                                     : mutation_rules_deny(rules);
    *out_may = v == MUTATION_ALLOWED;
    return verdict_of(v);
}

static void change_one(struct changing *x, size_t at, struct mz_headers *h)
{
    const struct authz_header *c = &x->all->v[at];
    const bool pseudo = c->name.n && c->name.p[0] == ':';
    if (c->action == AUTHZ_APPEND && !pseudo)
        append(x, at, h);
    else if (c->action == AUTHZ_ADD && !pseudo && !mz_str_eq(c->name, MZ_STR("host")))
        add_another(h, c);
    else if (c->action != AUTHZ_APPEND)
        set(h, c->name, c->value);
    x->left[at] = false;
}

static enum ea_applied change_request(const struct authz_headers *all,
                                      const struct mutation_rules *rules, struct mz_headers *h,
                                      struct mz_str *out_name)
{
    struct changing x = { all, mz_arena_alloc(h->arena, all->n),
                          mz_arena_alloc(h->arena, (2 * all->n + 1) * sizeof(*x.parts)) };
    for (size_t i = 0; i < all->n; i++) {
        const enum ea_applied done = may_change(&all->v[i], rules, &x.left[i]);
        if (done != EA_APPLIED) {
            *out_name = all->v[i].name;
            return done;
        }
    }
    for (size_t i = 0; i < all->n; i++)
        if (x.left[i])
            change_one(&x, i, h);
    mz_headers_join_repeated(h);
    return EA_APPLIED;
}

static bool removable(struct mz_str name)
{
    return name.n && name.p[0] != ':' && !mz_str_eq(name, MZ_STR("host")) &&
           !foreign_header_frames(name);
}

static enum ea_applied remove_one(struct mz_str name, const struct mutation_rules *rules,
                                  struct mz_headers *h)
{
    enum mutation_verdict v = rules && !foreign_header_frames(name)
                                  ? mutation_rules_remove(rules, name)
                                  : MUTATION_ALLOWED;
    if (v == MUTATION_ALLOWED && removable(name))
        (void)mz_headers_remove(h, name);
    return verdict_of(v);
}

/* ---- the query ---- */

static bool query_part_valid(struct mz_str s)
{
    return (!s.n || mz_target_valid(s)) && mz_str_chr(s, '#') < 0 && mz_str_chr(s, '&') < 0;
}

/* Parameters that do not stay as they were. */
static void note_dropped(const struct authz_reply *r, struct mz_map *out)
{
    mz_map_init(out, MZ_MEM_STREAM);
    for (size_t i = 0; i < r->n_query_remove; i++)
        (void)mz_map_put(out, r->query_remove[i], out);
    for (size_t i = 0; i < r->query.n; i++)
        (void)mz_map_put(out, r->query.v[i].name, out);
}

static void query_add(struct mz_buf *b, struct mz_str name, struct mz_str value)
{
    mz_buf_append_str(b, mz_buf_len(b) ? MZ_STR("&") : MZ_STR("?"));
    mz_buf_append_str(b, name);
    mz_buf_append_str(b, MZ_STR("="));
    mz_buf_append_str(b, value);
}

static bool change_query(const struct authz_reply *r, struct mz_headers *h, struct mz_str *out_name)
{
    if (!r->query.n && !r->n_query_remove)
        return true;
    for (size_t i = 0; i < r->query.n; i++)
        if (!query_part_valid(r->query.v[i].name) || !query_part_valid(r->query.v[i].value)) {
            *out_name = r->query.v[i].name;
            return false;
        }
    struct mz_str path = mz_headers_path(h), rest = mz_query_of(path), name, value;
    ptrdiff_t at = mz_str_chr(path, '?');
    struct mz_buf b;
    struct mz_map dropped;
    mz_buf_init(&b);
    note_dropped(r, &dropped);
    while (mz_query_next(&rest, &name, &value))
        if (!mz_map_get(&dropped, name))
            query_add(&b, name, value);
    mz_map_fini(&dropped);
    for (size_t i = 0; i < r->query.n; i++)
        query_add(&b, r->query.v[i].name, r->query.v[i].value);
    struct mz_str parts[] = { at < 0 ? path : (struct mz_str){ path.p, (size_t)at },
                              mz_buf_linearize(&b, mz_buf_len(&b)) };
    mz_headers_set_id(h, MZ_H_PATH, mz_arena_cat(h->arena, 2, parts));
    mz_buf_fini(&b);
    return true;
}

/* Of the request's head, as the connection manager limits what comes in. */
#define HEAD_COUNT_MAX 100
#define HEAD_BYTES_MAX (60u << 10)

enum ea_applied ea_apply_request(const struct authz_reply *r, const struct mutation_rules *rules,
                                 struct mz_headers *h, struct mz_str *out_name)
{
    uint32_t before = h->live;
    enum ea_applied done;
    if (r->request.n && (done = change_request(&r->request, rules, h, out_name)) != EA_APPLIED)
        return done;
    for (size_t i = 0; i < r->n_remove; i++)
        if ((done = remove_one(r->remove[i], rules, h)) != EA_APPLIED) {
            *out_name = r->remove[i];
            return done;
        }
    if (!change_query(r, h, out_name))
        return EA_BAD_HEADER;
    bool grown = h->live > before || r->request.n || r->query.n;
    return grown && (h->live > HEAD_COUNT_MAX || mz_headers_bytes(h) > HEAD_BYTES_MAX)
               ? EA_TOO_LARGE
               : EA_APPLIED;
}

/* ---- answers ---- */

bool ea_valid(const struct authz_headers *v, struct mz_str *out_name)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->v[i].name.n && v->v[i].name.p[0] != ':' && !foreign_header_frames(v->v[i].name) &&
            !foreign_header_fits_answer(v->v[i].name, v->v[i].value)) {
            *out_name = v->v[i].name;
            return false;
        }
    return true;
}

void ea_apply_response(const struct authz_headers *v, struct mz_headers *h)
{
    for (size_t i = 0; i < v->n; i++) {
        const struct authz_header *c = &v->v[i];
        if (!foreign_header_fits_answer(c->name, c->value))
            continue;
        bool there = mz_headers_get(h, c->name) != NULL;
        if (c->action == AUTHZ_ADD || (c->action == AUTHZ_ADD_IF_ABSENT && !there))
            add_another(h, c);
        else if (c->action == AUTHZ_SET || (c->action == AUTHZ_SET_IF_THERE && there))
            mz_headers_set(h, c->name, c->value);
    }
    mz_headers_join_repeated(h);
}

/* They replace what the answer has, and may come more than once. */
void ea_apply_own(const struct authz_headers *v, struct mz_headers *h)
{
    for (size_t i = 0; i < v->n; i++)
        if (foreign_header_fits_answer(v->v[i].name, v->v[i].value))
            (void)mz_headers_remove(h, v->v[i].name);
    for (size_t i = 0; i < v->n; i++)
        if (foreign_header_fits_answer(v->v[i].name, v->v[i].value))
            add_another(h, &v->v[i]);
    mz_headers_join_repeated(h);
}
