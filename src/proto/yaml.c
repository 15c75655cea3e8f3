/* YAML to a tree, over libyaml's events. */
#include "base/map.h"
#include "base/vec.h"
#include "proto/tree.h"
#include <errno.h>
#include <stdlib.h>
#include <yaml.h>

struct anchor {
    const struct mz_node *node;
    size_t weight; /* nodes of it, unfolded */
};
struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one; always valid to delete */
    struct mz_arena *arena;
    struct mz_map anchors; /* name to struct anchor, both in the arena */
    size_t count, aliased; /* nodes so far, unfolded; those that aliases added */
    unsigned depth;
    uint32_t line0; /* lines before the text */
    bool loose;     /* keys may stand twice */
    bool words;     /* keys are values that are written out: y is "true" */
    struct mz_err *err;
};

static struct mz_str event_str(const void *p, size_t n)
{
    return (struct mz_str){ p, n };
}

static bool next(struct reader *r)
{
    yaml_event_delete(&r->event);
    if (yaml_parser_parse(&r->parser, &r->event))
        return true;
    const yaml_parser_t *p = &r->parser;
    yaml_mark_t at = p->problem_mark;
    if (p->error == YAML_READER_ERROR)
        return mz_err_set(r->err, "not a text: %s (byte %zu)",
                          p->problem ? p->problem : "bad character", p->problem_offset);
    return mz_err_set(r->err, "not YAML: %s%s%s (line %zu, column %zu)",
                      p->context ? p->context : "", p->context ? ", " : "",
                      p->problem ? p->problem : "out of memory", at.line + 1 + r->line0,
                      at.column + 1);
}

static bool fail_here(struct reader *r, const char *what)
{
    yaml_mark_t at = r->event.start_mark;
    return mz_err_set(r->err, "%s (line %zu, column %zu)", what, at.line + 1 + r->line0,
                      at.column + 1);
}

static struct mz_node *node_new(struct reader *r, enum mz_node_kind kind)
{
    struct mz_node *n = mz_arena_new0(r->arena, struct mz_node);
    n->kind = kind;
    n->line = (uint32_t)r->event.start_mark.line + 1 + r->line0;
    n->col = (uint32_t)r->event.start_mark.column + 1;
    r->count++;
    return n;
}

/* Lower case, upper case or capitalised, as yaml-cpp compares. */
static bool is_word(struct mz_str s, const char *lower)
{
    struct mz_str w = mz_str_c(lower);
    if (!mz_str_ieq(s, w))
        return false;
    bool first_up = s.p[0] != lower[0], rest_up = s.n > 1 && s.p[1] != lower[1];
    for (size_t i = 1; i < s.n; i++)
        if ((s.p[i] != lower[i]) != rest_up)
            return false;
    return first_up || !rest_up;
}

static bool bool_word(struct mz_str s, bool *out_value)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = { { "true", true }, { "false", false }, { "yes", true }, { "no", false },
                  { "on", true },   { "off", false },   { "y", true },   { "n", false } };
    if (s.n == 0 || s.n > 5 || !memchr("tfynoTFYNO", s.p[0], 10))
        return false; /* most scalars */
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if (is_word(s, words[i].word)) {
            *out_value = words[i].value;
            return true;
        }
    return false;
}

static bool is_null(struct mz_str s)
{
    return s.n == 0 || mz_str_eq(s, MZ_STR("~")) || (s.n == 4 && is_word(s, "null"));
}

/* Decimal, 0x or 0 octal with an optional sign; @s has a NUL behind it. */
static bool int_word(struct mz_str s, int64_t *out_value)
{
    const char *digits = s.p + (s.n && (*s.p == '-' || *s.p == '+'));
    if (!s.n || *digits < '0' || *digits > '9' || memchr(s.p, 0, s.n))
        return false;
    char *end;
    errno = 0;
    *out_value = strtoll(s.p, &end, 0);
    return errno == 0 && end == s.p + s.n;
}

/* 1.5, -.5, 1e3 */
static bool is_fraction(struct mz_str s)
{
    char *end;
    if (!s.n || memchr(s.p, 0, s.n))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!strchr("0123456789+-.eE", s.p[i]))
            return false;
    errno = 0;
    (void)strtod(s.p, &end);
    return errno == 0 && end == s.p + s.n;
}

static struct mz_str int_text(struct mz_arena *a, int64_t v)
{
    char text[21] = "-";
    size_t minus = v < 0;
    size_t n = mz_u64_text(minus ? 0 - (uint64_t)v : (uint64_t)v, text + minus);
    return mz_arena_dup(a, (struct mz_str){ text, minus + n });
}

static const struct mz_node *read_scalar(struct reader *r)
{
    const char *tag = (const char *)r->event.data.scalar.tag;
    struct mz_str s = event_str(r->event.data.scalar.value, r->event.data.scalar.length);
    bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                 !(tag && !strcmp(tag, YAML_STR_TAG));
    bool b = false;
    int64_t i = 0;
    struct mz_node *n = node_new(r, MZ_NODE_STR);
    if (plain && is_null(s)) {
        n->kind = MZ_NODE_NULL;
    } else if (plain && bool_word(s, &b)) {
        n->kind = MZ_NODE_BOOL;
        n->b = b;
    } else if (plain && int_word(s, &i)) {
        n->kind = MZ_NODE_NUM;
        n->loose = i < INT32_MIN || i > INT32_MAX;
        n->text = int_text(r->arena, i);
    } else {
        n->text = mz_arena_dup(r->arena, s);
        n->fraction = plain && is_fraction(s);
    }
    return n;
}

static const struct mz_node *read_node(struct reader *r);

/* Both consume up to and with their end event, which stays current. */
static const struct mz_node *read_list(struct reader *r)
{
    struct mz_node *n = node_new(r, MZ_NODE_LIST);
    MZ_VEC(const struct mz_node *) items = { 0 };
    bool ok;
    while ((ok = next(r)) && r->event.type != YAML_SEQUENCE_END_EVENT) {
        const struct mz_node *item = read_node(r);
        if (!item) {
            ok = false;
            break;
        }
        *mz_vec_push(&items, MZ_MEM_CONFIG) = item;
    }
    n->n = (uint32_t)items.n;
    if (ok && items.n) {
        n->list = mz_arena_alloc(r->arena, items.n * sizeof(struct mz_node *));
        memcpy(n->list, items.v, items.n * sizeof(struct mz_node *));
    }
    mz_vec_free(&items, MZ_MEM_CONFIG);
    return ok ? n : NULL;
}

/* As Kubernetes' reader makes JSON's names of them: of truth values and whole numbers by what they mean. */
static struct mz_str key_of(struct reader *r, struct mz_str s)
{
    bool b = false;
    int64_t i = 0;
    if (r->words && r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        if (bool_word(s, &b))
            return b ? MZ_STR("true") : MZ_STR("false");
        if (int_word(s, &i))
            return int_text(r->arena, i);
    }
    return mz_arena_dup(r->arena, s);
}

static bool read_pair(struct reader *r, struct mz_pair *out)
{
    if (r->event.type != YAML_SCALAR_EVENT)
        return fail_here(r, "a key must be a plain text");
    out->key = key_of(r, event_str(r->event.data.scalar.value, r->event.data.scalar.length));
    out->line = (uint32_t)r->event.start_mark.line + 1 + r->line0;
    out->col = (uint32_t)r->event.start_mark.column + 1;
    if (!next(r))
        return false;
    out->value = read_node(r);
    return out->value != NULL;
}

static const struct mz_node *read_map(struct reader *r)
{
    struct mz_node *n = node_new(r, MZ_NODE_MAP);
    MZ_VEC(struct mz_pair) pairs = { 0 };
    bool ok;
    while ((ok = next(r)) && r->event.type != YAML_MAPPING_END_EVENT) {
        struct mz_pair pair = { 0 };
        if (!read_pair(r, &pair)) {
            ok = false;
            break;
        }
        *mz_vec_push(&pairs, MZ_MEM_CONFIG) = pair;
    }
    ok = ok && (r->loose || mz_tree_check_pairs(pairs.v, pairs.n, r->err));
    n->n = (uint32_t)pairs.n;
    if (ok && pairs.n) {
        n->pairs = mz_arena_alloc(r->arena, pairs.n * sizeof(*pairs.v));
        memcpy(n->pairs, pairs.v, pairs.n * sizeof(*pairs.v));
    }
    mz_vec_free(&pairs, MZ_MEM_CONFIG);
    return ok ? n : NULL;
}

static const struct mz_node *read_alias(struct reader *r)
{
    const struct anchor *a =
        mz_map_get(&r->anchors, mz_str_c((const char *)r->event.data.alias.anchor));
    if (!a) {
        fail_here(r, "this alias has no anchor before it");
        return NULL;
    }
    r->count += a->weight;
    r->aliased += a->weight;
    if (r->aliased <= MZ_TREE_MAX_ALIASED)
        return a->node;
    fail_here(r, "aliases unfold to too many values");
    return NULL;
}

static const struct mz_node *read_content(struct reader *r)
{
    if (r->event.type == YAML_SCALAR_EVENT)
        return read_scalar(r);
    if (r->depth == MZ_TREE_MAX_DEPTH) {
        fail_here(r, "nested too deeply");
        return NULL;
    }
    r->depth++;
    const struct mz_node *n =
        r->event.type == YAML_SEQUENCE_START_EVENT ? read_list(r) : read_map(r);
    r->depth--;
    return n;
}

static const yaml_char_t *anchor_of(const yaml_event_t *e)
{
    return e->type == YAML_SCALAR_EVENT           ? e->data.scalar.anchor
           : e->type == YAML_SEQUENCE_START_EVENT ? e->data.sequence_start.anchor
                                                  : e->data.mapping_start.anchor;
}

/* The node that the current event starts. */
static const struct mz_node *read_node(struct reader *r)
{
    if (r->event.type == YAML_ALIAS_EVENT)
        return read_alias(r);
    const char *name = (const char *)anchor_of(&r->event);
    struct mz_str anchor = name ? mz_arena_dup(r->arena, mz_str_c(name)) : (struct mz_str){ 0 };
    size_t before = r->count;
    const struct mz_node *n = read_content(r);
    if (n && name) {
        struct anchor *a = mz_arena_new0(r->arena, struct anchor);
        *a = (struct anchor){ n, r->count - before };
        (void)mz_map_put(&r->anchors, anchor, a); /* an anchor may be set again */
    }
    return n;
}

/* Everything between stream start and stream end. */
static const struct mz_node *read_stream(struct reader *r)
{
    if (!next(r)) /* the stream's start */
        return NULL;
    if (!next(r))
        return NULL;
    if (r->event.type == YAML_STREAM_END_EVENT)
        return node_new(r, MZ_NODE_NULL);
    if (!next(r))
        return NULL;
    const struct mz_node *root = read_node(r);
    if (!root || !next(r) || !next(r))
        return NULL;
    if (r->event.type == YAML_STREAM_END_EVENT)
        return root;
    fail_here(r, "a second document starts here; only one is read");
    return NULL;
}

static const struct mz_node *read_yaml(struct mz_arena *a, struct mz_str text, uint32_t line0,
                                       bool loose, bool words, struct mz_err *err)
{
    struct reader r = { .arena = a, .line0 = line0, .loose = loose, .words = words, .err = err };
    if (!yaml_parser_initialize(&r.parser)) {
        mz_err_set(err, "out of memory");
        return NULL;
    }
    mz_map_init(&r.anchors, MZ_MEM_CONFIG);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text.n ? text.p : ""), text.n);
    const struct mz_node *root = read_stream(&r);
    yaml_event_delete(&r.event);
    mz_map_fini(&r.anchors);
    yaml_parser_delete(&r.parser);
    return root;
}

const struct mz_node *mz_tree_read_yaml(struct mz_arena *a, struct mz_str text, uint32_t line0,
                                        struct mz_err *err)
{
    return read_yaml(a, text, line0, false, false, err);
}

const struct mz_node *mz_tree_read_kubernetes(struct mz_arena *a, struct mz_str text,
                                              uint32_t line0, struct mz_err *err)
{
    return read_yaml(a, text, line0, false, true, err);
}

const struct mz_node *mz_tree_read_yaml_loose(struct mz_arena *a, struct mz_str text,
                                              struct mz_err *err)
{
    return read_yaml(a, text, 0, true, false, err);
}
