/* Documents between the reader of trees and jansson's values, which can be changed. */
#include <stdlib.h>

#include "control/inject/inject.h"

static json_t *number(struct mz_str s)
{
    char text[64], *end;
    int64_t whole;
    if (mz_str_i64(s, &whole))
        return json_integer(whole);
    if (s.n >= sizeof(text))
        return NULL;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    const double v = strtod(text, &end);
    return *end ? json_stringn(s.p, s.n) : json_real(v);
}

static json_t *group(const struct mz_node *n)
{
    json_t *out = n->kind == MZ_NODE_LIST ? json_array() : json_object();
    bool ok = out != NULL;
    for (uint32_t i = 0; ok && i < n->n; i++) {
        if (n->kind == MZ_NODE_LIST) {
            ok = json_array_append_new(out, mz_json_from_tree(n->list[i])) == 0;
        } else {
            char *key = strndup(n->pairs[i].key.p, n->pairs[i].key.n);
            ok = key && json_object_set_new(out, key, mz_json_from_tree(n->pairs[i].value)) == 0;
            free(key);
        }
    }
    if (ok)
        return out;
    json_decref(out);
    return NULL;
}

json_t *mz_json_from_tree(const struct mz_node *n)
{
    switch (n->kind) {
    case MZ_NODE_NULL:
        return json_null();
    case MZ_NODE_BOOL:
        return json_boolean(n->b);
    case MZ_NODE_NUM:
        return number(n->text);
    case MZ_NODE_STR:
        return json_stringn(n->text.p, n->text.n);
    default:
        return group(n);
    }
}

/* ---- patches ---- */

static char *pointer(const char *path, const char *key)
{
    const size_t n = strlen(path), k = strlen(key);
    char *out = malloc(n + 2 * k + 2), *at = out;
    if (!out)
        abort();
    memcpy(at, path, n);
    at += n;
    *at++ = '/';
    for (size_t i = 0; i < k; i++) {
        if (key[i] == '~' || key[i] == '/') {
            *at++ = '~';
            *at++ = key[i] == '~' ? '0' : '1';
        } else {
            *at++ = key[i];
        }
    }
    *at = 0;
    return out;
}

static void put(json_t *out, const char *op, const char *path, json_t *value)
{
    json_t *one = json_pack("{s:s, s:s}", "op", op, "path", path);
    if (value)
        (void)json_object_set(one, "value", value);
    (void)json_array_append_new(out, one); /* only without memory */
}

static void differ(json_t *out, const char *path, json_t *from, json_t *to);

static void differ_maps(json_t *out, const char *path, json_t *from, json_t *to)
{
    const char *key;
    json_t *value;
    json_object_foreach(from, key, value)
    {
        char *p = pointer(path, key);
        if (!json_object_get(to, key))
            put(out, "remove", p, NULL);
        free(p);
    }
    json_object_foreach(to, key, value)
    {
        char *p = pointer(path, key);
        json_t *before = json_object_get(from, key);
        if (!before)
            put(out, "add", p, value);
        else
            differ(out, p, before, value);
        free(p);
    }
}

/* What stands in front is the same: the rest is added. */
static bool differ_lists(json_t *out, const char *path, json_t *from, json_t *to)
{
    const size_t n = json_array_size(from);
    if (json_array_size(to) < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char key[24];
        (void)snprintf(key, sizeof(key), "%zu", i);
        char *p = pointer(path, key);
        differ(out, p, json_array_get(from, i), json_array_get(to, i));
        free(p);
    }
    char *p = pointer(path, "-");
    for (size_t i = n; i < json_array_size(to); i++)
        put(out, "add", p, json_array_get(to, i));
    free(p);
    return true;
}

static void differ(json_t *out, const char *path, json_t *from, json_t *to)
{
    if (json_equal(from, to))
        return;
    if (json_is_object(from) && json_is_object(to))
        differ_maps(out, path, from, to);
    else if (!(json_is_array(from) && json_is_array(to) && differ_lists(out, path, from, to)))
        put(out, "replace", path, to);
}

json_t *mz_inject_patch(json_t *from, json_t *to)
{
    json_t *out = json_array();
    differ(out, "", from, to);
    return out;
}
