#include "proto/show.h"

#include <stdlib.h>

#include "proto/node.h"

/* What a map below a field of this name holds. */
enum keys {
    KEYS_FIELDS, /* fields of a message */
    KEYS_NAMES,  /* a map: its keys are data, its values messages */
    KEYS_FREE,   /* a Struct: all is data */
};
static const struct {
    struct mz_str name;
    enum keys keys;
} special[] = {
    { MZ_STR_INIT("filter_metadata"), KEYS_FREE },
    { MZ_STR_INIT("static_layer"), KEYS_FREE },
    { MZ_STR_INIT("json_format"), KEYS_FREE },
    { MZ_STR_INIT("typed_filter_metadata"), KEYS_NAMES },
    { MZ_STR_INIT("typed_per_filter_config"), KEYS_NAMES },
    { MZ_STR_INIT("typed_extension_protocol_options"), KEYS_NAMES },
    { MZ_STR_INIT("map"), KEYS_NAMES },
    { MZ_STR_INIT("policies"), KEYS_NAMES },
    { MZ_STR_INIT("providers"), KEYS_NAMES },
    { MZ_STR_INIT("requirement_map"), KEYS_NAMES },
    { MZ_STR_INIT("config_dump"), KEYS_NAMES },
    { MZ_STR_INIT("key_values"), KEYS_NAMES },
};

struct printer {
    struct mz_buf *out;
    struct mz_arena *arena;
    bool camel;
};

/* Of the map @n under field @name of @parent. */
static enum keys keys_of(const struct mz_node *parent, struct mz_str name, const struct mz_node *n)
{
    for (size_t i = 0; i < MZ_COUNT(special); i++)
        if (mz_str_eq(name, special[i].name))
            return special[i].keys;
    if (mz_str_eq(name, MZ_STR("metadata"))) /* of a node it is a Struct, of others a message */
        return mz_node_get(n, "filter_metadata") || mz_node_get(n, "typed_filter_metadata") ||
                       mz_node_get(n, "metadata_key") /* of a tag of spans */
                   ? KEYS_FIELDS
                   : KEYS_FREE;
    if (mz_str_eq(name, MZ_STR("value")) && mz_node_get(parent, "type_url"))
        return KEYS_FREE; /* TypedStruct */
    return KEYS_FIELDS;
}

static void blanks(struct printer *p, unsigned n)
{
    mz_buf_printf(p->out, "%*s", (int)n, "");
}

/* Characters that YAML takes for the end of a line or for a mark of order: bytes at @p, 0 none. */
static size_t odd_break(const char *p, size_t n, unsigned *out_code)
{
    static const struct {
        const char *bytes;
        unsigned code;
    } odd[] = { { "\xc2\x85", 0x85 },
                { "\xe2\x80\xa8", 0x2028 },
                { "\xe2\x80\xa9", 0x2029 },
                { "\xef\xbb\xbf", 0xfeff } };
    for (size_t i = 0; i < MZ_COUNT(odd); i++) {
        const size_t len = strlen(odd[i].bytes);
        if (n >= len && memcmp(p, odd[i].bytes, len) == 0) {
            *out_code = odd[i].code;
            return len;
        }
    }
    return 0;
}

static void quoted(struct printer *p, struct mz_str s)
{
    unsigned code = 0;
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    mz_buf_append(p->out, "\"", 1);
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        const char *brief = c ? strchr(from, c) : NULL;
        const size_t odd = c < 0x80 ? 0 : odd_break(s.p + i, s.n - i, &code);
        if (odd) {
            mz_buf_printf(p->out, "\\u%04x", code);
            i += odd - 1;
        } else if (brief)
            mz_buf_printf(p->out, "\\%c", to[brief - from]);
        else if (c < 0x20 || c == 0x7f)
            mz_buf_printf(p->out, "\\u%04x", c);
        else
            mz_buf_append(p->out, s.p + i, 1);
    }
    mz_buf_append(p->out, "\"", 1);
}

/* ---- members in the order and with the names that are shown ---- */

struct member {
    struct mz_str shown;
    const struct mz_pair *pair;
};

static int by_name(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    return mz_str_cmp(x->shown, y->shown);
}

/* n->n of them. A Struct and a map have no order of their own. */
static struct member *members_of(struct printer *p, const struct mz_node *n, enum keys keys,
                                 bool sorted)
{
    struct member *v = mz_arena_alloc0(p->arena, ((size_t)n->n + 1) * sizeof(*v));
    for (uint32_t i = 0; i < n->n; i++) {
        const struct mz_str key = n->pairs[i].key;
        v[i].pair = &n->pairs[i];
        v[i].shown = p->camel && keys == KEYS_FIELDS ? mz_node_camel(key, p->arena) : key;
    }
    if (sorted || keys != KEYS_FIELDS)
        qsort(v, n->n, sizeof(*v), by_name);
    return v;
}

static enum keys keys_below(const struct mz_node *parent, const struct mz_pair *member,
                            enum keys keys)
{
    if (keys == KEYS_FREE)
        return KEYS_FREE;
    return keys == KEYS_NAMES ? KEYS_FIELDS : keys_of(parent, member->key, member->value);
}

/* ---- JSON ---- */

static void json(struct printer *p, const struct mz_node *n, unsigned level, enum keys keys);

static void json_scalar(struct printer *p, const struct mz_node *n)
{
    if (n->kind == MZ_NODE_STR)
        quoted(p, n->text);
    else if (n->kind == MZ_NODE_NUM)
        mz_buf_append_str(p->out, n->text);
    else if (n->kind == MZ_NODE_BOOL)
        mz_buf_append_str(p->out, n->b ? MZ_STR("true") : MZ_STR("false"));
    else
        mz_buf_append_str(p->out, MZ_STR("null"));
}

static void json_map(struct printer *p, const struct mz_node *n, unsigned level, enum keys keys)
{
    const struct member *m = members_of(p, n, keys, false);
    for (uint32_t i = 0; i < n->n; i++) {
        mz_buf_append_str(p->out, i ? MZ_STR(",\n") : MZ_STR("{\n"));
        blanks(p, level + 4);
        quoted(p, m[i].shown);
        mz_buf_append_str(p->out, MZ_STR(": "));
        json(p, m[i].pair->value, level + 4, keys_below(n, m[i].pair, keys));
    }
    mz_buf_append_str(p->out, MZ_STR("\n"));
    blanks(p, level);
    mz_buf_append_str(p->out, MZ_STR("}"));
}

static void json(struct printer *p, const struct mz_node *n, unsigned level, enum keys keys)
{
    if (n->kind == MZ_NODE_MAP && n->n) {
        json_map(p, n, level, keys);
    } else if (n->kind == MZ_NODE_LIST && n->n) {
        for (uint32_t i = 0; i < n->n; i++) {
            mz_buf_append_str(p->out, i ? MZ_STR(",\n") : MZ_STR("[\n"));
            blanks(p, level + 4);
            json(p, n->list[i], level + 4, keys);
        }
        mz_buf_append_str(p->out, MZ_STR("\n"));
        blanks(p, level);
        mz_buf_append_str(p->out, MZ_STR("]"));
    } else if (n->kind == MZ_NODE_MAP || n->kind == MZ_NODE_LIST) {
        mz_buf_append_str(p->out, n->kind == MZ_NODE_MAP ? MZ_STR("{}") : MZ_STR("[]"));
    } else {
        json_scalar(p, n);
    }
}

/* ---- YAML ---- */

/* A date, a time of day or a number to the base of sixty, as YAML 1.1 has them; an address (127.0.0.1) is none. */
static bool is_date(const char *text, size_t n)
{
    const size_t sign = text[0] == '-' || text[0] == '+', year = strspn(text, "0123456789"),
                 first = strspn(text + sign, "0123456789_");
    if (year == 4 && text[4] == '-')
        return strspn(text, "0123456789-:.TtZz+ ") == n;
    return first && text[sign + first] == ':' &&
           sign + first + strspn(text + sign + first, "0123456789:._") == n;
}

/* Would a reader take the plain text for something else than this string? */
static bool is_ambiguous(struct mz_str s)
{
    static const char *const words[] = { "true",  "false", "yes", "no", "on",   "off",
                                         "null",  "y",     "n",   "~",  ".inf", "-.inf",
                                         "+.inf", ".nan",  "<<",  "=" };
    char *end;
    char text[64];
    if (!s.n)
        return true;
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if (mz_str_ieq(s, mz_str_c(words[i])))
            return true;
    if (s.n >= sizeof(text))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    (void)strtod(text, &end); /* only where it ends matters */
    if (!*end)
        return true;
    (void)strtoull(text, &end, 0); /* likewise: octal, hexadecimal */
    return !*end || is_date(text, s.n) ||
           (s.p[0] >= '0' && s.p[0] <= '9' && strspn(text, "0123456789_") == s.n);
}

static bool needs_quotes(struct mz_str s)
{
    if (strchr("!&*-?:,[]{}#|>@`\"'% ", s.p[0]) &&
        !(strchr("-?:", s.p[0]) && s.n > 1 && s.p[1] != ' '))
        return true;
    for (size_t i = 0; i < s.n; i++)
        if ((s.p[i] == ':' && (i + 1 == s.n || s.p[i + 1] == ' ')) ||
            (s.p[i] == '#' && i && s.p[i - 1] == ' '))
            return true;
    return s.p[s.n - 1] == ' ';
}

static bool is_text(struct mz_str s, bool lines)
{
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        unsigned code;
        if ((c < 0x20 && !(lines && c == '\n')) || c == 0x7f ||
            (c >= 0x80 && odd_break(s.p + i, s.n - i, &code)))
            return false;
    }
    return true;
}

/* Lines as they are, where they can stand so. */
static void yaml_block(struct printer *p, struct mz_str s, unsigned level)
{
    const bool ends = s.p[s.n - 1] == '\n', more = s.n > 1 && ends && s.p[s.n - 2] == '\n';
    mz_buf_append_str(p->out, more ? MZ_STR("|+") : ends ? MZ_STR("|") : MZ_STR("|-"));
    if (s.p[0] == ' ')
        mz_buf_append_str(p->out, MZ_STR("2"));
    while (s.n) {
        const ptrdiff_t at = mz_str_chr(s, '\n');
        const struct mz_str line = { s.p, at < 0 ? s.n : (size_t)at };
        mz_buf_append_str(p->out, MZ_STR("\n"));
        if (line.n)
            blanks(p, level);
        mz_buf_append_str(p->out, line);
        s = mz_str_skip(s, at < 0 ? s.n : (size_t)at + 1);
    }
}

static void yaml_string(struct printer *p, struct mz_str s, unsigned level)
{
    if (s.n && mz_str_chr(s, '\n') >= 0 && s.p[0] != '\n' && is_text(s, true)) {
        yaml_block(p, s, level);
    } else if (is_ambiguous(s) || !is_text(s, false)) {
        quoted(p, s);
    } else if (needs_quotes(s)) {
        mz_buf_append_str(p->out, MZ_STR("'"));
        for (size_t i = 0; i < s.n; i++)
            mz_buf_append(p->out, s.p[i] == '\'' ? "''" : s.p + i, s.p[i] == '\'' ? 2 : 1);
        mz_buf_append_str(p->out, MZ_STR("'"));
    } else {
        mz_buf_append_str(p->out, s);
    }
}

static bool is_group(const struct mz_node *n)
{
    return (n->kind == MZ_NODE_MAP || n->kind == MZ_NODE_LIST) && n->n;
}

static void yaml(struct printer *p, const struct mz_node *n, unsigned level, enum keys keys,
                 bool first_inline);

static void yaml_value(struct printer *p, const struct mz_node *n, unsigned level, enum keys keys)
{
    if (is_group(n)) { /* a list stands as deep as its key */
        mz_buf_append_str(p->out, MZ_STR("\n"));
        yaml(p, n, n->kind == MZ_NODE_LIST ? level : level + 2, keys, false);
        return;
    }
    mz_buf_append_str(p->out, MZ_STR(" "));
    if (n->kind == MZ_NODE_STR)
        yaml_string(p, n->text, level + 2);
    else if (n->kind == MZ_NODE_MAP || n->kind == MZ_NODE_LIST)
        mz_buf_append_str(p->out, n->kind == MZ_NODE_MAP ? MZ_STR("{}") : MZ_STR("[]"));
    else
        json_scalar(p, n);
    mz_buf_append_str(p->out, MZ_STR("\n"));
}

static void yaml(struct printer *p, const struct mz_node *n, unsigned level, enum keys keys,
                 bool first_inline)
{
    if (n->kind == MZ_NODE_LIST) {
        for (uint32_t i = 0; i < n->n; i++) {
            if (!(first_inline && i == 0))
                blanks(p, level);
            mz_buf_append_str(p->out, MZ_STR("-"));
            if (is_group(n->list[i])) {
                mz_buf_append_str(p->out, MZ_STR(" "));
                yaml(p, n->list[i], level + 2, keys, true);
            } else {
                yaml_value(p, n->list[i], level, keys);
            }
        }
        return;
    }
    const struct member *m = members_of(p, n, keys, true);
    for (uint32_t i = 0; i < n->n; i++) {
        if (!(first_inline && i == 0))
            blanks(p, level);
        yaml_string(p, m[i].shown, level);
        mz_buf_append_str(p->out, MZ_STR(":"));
        yaml_value(p, m[i].pair->value, level, keys_below(n, m[i].pair, keys));
    }
}

void mz_show_json(struct mz_buf *out, const struct mz_node *n, bool camel)
{
    struct printer p = { out, mz_arena_create(MZ_MEM_MISC), camel };
    json(&p, n, 0, camel ? KEYS_FIELDS : KEYS_FREE);
    mz_arena_destroy(p.arena);
}

void mz_show_yaml(struct mz_buf *out, const struct mz_node *n, bool camel)
{
    struct printer p = { out, mz_arena_create(MZ_MEM_MISC), camel };
    if (is_group(n)) {
        yaml(&p, n, 0, camel ? KEYS_FIELDS : KEYS_FREE, false);
    } else if (n->kind == MZ_NODE_STR) {
        yaml_string(&p, n->text, 0);
        mz_buf_append(out, "\n", 1);
    } else {
        json(&p, n, 0, KEYS_FREE);
        mz_buf_append(out, "\n", 1);
    }
    mz_arena_destroy(p.arena);
}
