/* Trees made rather than read. */
#include "agent/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/show.h"

void map_drop(struct map *m, struct mz_str key)
{
    for (size_t i = 0; i < m->v.n; i++)
        if (mz_str_eq(m->v.v[i].key, key)) {
            m->v.v[i] = m->v.v[--m->v.n];
            return;
        }
}

void map_set(struct map *m, struct mz_str key, const struct mz_node *value)
{
    map_drop(m, key);
    *mz_vec_push(&m->v, MZ_MEM_CONFIG) =
        (struct mz_pair){ .key = mz_arena_dup(m->a, key), .value = value };
}

const struct mz_node *made_text(struct mz_arena *a, struct mz_str s)
{
    struct mz_node *n = mz_arena_new0(a, struct mz_node);
    n->kind = MZ_NODE_STR;
    n->text = mz_arena_dup(a, s);
    return n;
}

void map_text(struct map *m, const char *key, struct mz_str value)
{
    map_set(m, mz_str_c(key), made_text(m->a, value));
}

void map_number(struct map *m, const char *key, uint64_t value)
{
    struct mz_node *n = mz_arena_new0(m->a, struct mz_node);
    n->kind = MZ_NODE_NUM;
    n->text = mz_arena_printf(m->a, "%llu", (unsigned long long)value);
    map_set(m, mz_str_c(key), n);
}

void map_all(struct map *m, const struct mz_node *from)
{
    for (uint32_t i = 0; from && from->kind == MZ_NODE_MAP && i < from->n; i++)
        map_set(m, from->pairs[i].key, from->pairs[i].value);
}

static int by_key(const void *x, const void *y)
{
    const struct mz_pair *p = x, *q = y;
    return mz_str_cmp(p->key, q->key);
}

const struct mz_node *map_node(struct map *m)
{
    struct mz_node *n = mz_arena_new0(m->a, struct mz_node);
    n->kind = MZ_NODE_MAP;
    n->n = (uint32_t)m->v.n;
    if (m->v.n) {
        n->pairs = mz_arena_alloc(m->a, m->v.n * sizeof(*n->pairs));
        memcpy(n->pairs, m->v.v, m->v.n * sizeof(*n->pairs));
        qsort(n->pairs, n->n, sizeof(*n->pairs), by_key);
    }
    mz_vec_free(&m->v, MZ_MEM_CONFIG);
    return n;
}

const struct mz_node *node_list(struct mz_arena *a, const struct mz_node *const *v, size_t n)
{
    struct mz_node *list = mz_arena_new0(a, struct mz_node);
    list->kind = MZ_NODE_LIST;
    list->n = (uint32_t)n;
    list->list = mz_arena_alloc(a, (n + 1) * sizeof(*v));
    memcpy(list->list, v, n * sizeof(*v));
    return list;
}

struct mz_str member_text(const struct mz_node *map, const char *key)
{
    for (uint32_t i = 0; i < map->n; i++)
        if (mz_str_eq(map->pairs[i].key, mz_str_c(key)) && map->pairs[i].value->kind == MZ_NODE_STR)
            return map->pairs[i].value->text;
    return (struct mz_str){ 0 };
}

struct mz_str node_json(struct mz_arena *a, const struct mz_node *n)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_show_json(&b, n, false);
    struct mz_str text = mz_str_trim(mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b))));
    while (text.n && text.p[text.n - 1] == '\n')
        text.n--;
    mz_buf_fini(&b);
    return text;
}

struct mz_str text_json(struct mz_arena *a, struct mz_str s)
{
    return node_json(a, made_text(a, s));
}

#define FILE_MAX  (1u << 20)
#define FILE_STEP 4096

bool file_read(const char *path, struct mz_arena *a, struct file_text *out, struct mz_err *err)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        *out = (struct file_text){ 0 };
        return errno == ENOENT || errno == ENOTDIR
                   ? true
                   : mz_err_set(err, "cannot read %s: %s", path, strerrordesc_np(errno));
    }
    MZ_VEC(char) text = { 0 };
    size_t n = 0, got;
    do {
        if (text.cap < n + FILE_STEP)
            text.v = mz_vec_grow(MZ_MEM_CONFIG, text.v, &text.cap, n + FILE_STEP, 1);
        got = fread(text.v + n, 1, FILE_STEP, f);
        n += got;
    } while (got == FILE_STEP && n <= FILE_MAX);
    const bool bad = ferror(f) != 0;
    (void)fclose(f);
    if (bad || n > FILE_MAX) {
        mz_vec_free(&text, MZ_MEM_CONFIG);
        return mz_err_set(err, bad ? "cannot read %s" : "%s is longer than 1 MiB", path);
    }
    *out = (struct file_text){ mz_arena_dup(a, (struct mz_str){ text.v, n }), true };
    if (text.cap)
        explicit_bzero(text.v, text.cap); /* it may be a key */
    mz_vec_free(&text, MZ_MEM_CONFIG);
    return true;
}

uint64_t file_version(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return 0;
    return ((uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec) ^
           (uint64_t)st.st_size << 40 ^ (uint64_t)st.st_ino;
}

bool file_write(const char *path, struct mz_str text, unsigned mode, struct mz_err *err)
{
    char next[PATH_MAX];
    if (snprintf(next, sizeof(next), "%s.new", path) >= (int)sizeof(next))
        return mz_err_set(err, "too long a path: %.100s", path);
    (void)unlink(next); /* of one that ended meanwhile, or a link of somebody else's */
    const int fd = open(next, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    size_t n = 0;
    ssize_t put = 1;
    while (fd >= 0 && n < text.n && put > 0)
        if ((put = write(fd, text.p + n, text.n - n)) > 0)
            n += (size_t)put;
    const bool whole = fd >= 0 && n == text.n && fchmod(fd, mode) == 0;
    const int error = errno;
    if (fd >= 0)
        (void)close(fd);
    if (whole && rename(next, path) == 0)
        return true;
    mz_err_set(err, "cannot write %s: %s", path, strerrordesc_np(whole ? errno : error));
    if (fd >= 0)
        (void)unlink(next);
    return false;
}
