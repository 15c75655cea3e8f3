/* The layers' sources: a Struct of the bootstrap, a directory, an admin's request. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/mapper.h"
#include "runtime/runtime_priv.h"

#define KEY_MAX   512
#define DEPTH_MAX 16
#define FILE_MAX  65536

void mz_runtime_layer_init(struct mz_runtime_layer *l)
{
    l->arena = mz_arena_create(MZ_MEM_CONFIG);
    mz_map_init(&l->values, MZ_MEM_CONFIG);
}

void mz_runtime_layer_fini(struct mz_runtime_layer *l)
{
    mz_map_fini(&l->values);
    mz_arena_destroy(l->arena);
    l->arena = NULL;
}

static struct mz_runtime_value *value_new(struct mz_runtime_layer *l, struct mz_str key,
                                          struct mz_str text)
{
    struct mz_runtime_value *v = mz_arena_new0(l->arena, struct mz_runtime_value);
    v->key = mz_arena_dup(l->arena, key);
    v->text = mz_arena_dup(l->arena, text);
    (void)mz_map_put(&l->values, v->key, v); /* what it replaces goes with the arena */
    return v;
}

static void number_set(struct mz_runtime_value *v, double d)
{
    v->has |= MZ_RT_DOUBLE;
    v->number = d;
    if (d >= 0 && d < 18446744073709551616.0 && d == floor(d)) {
        v->has |= MZ_RT_U64;
        v->u64 = (uint64_t)d;
    }
}

void mz_runtime_layer_set(struct mz_runtime_layer *l, struct mz_str key, struct mz_str text)
{
    struct mz_runtime_value *v = value_new(l, key, text);
    char *end;
    errno = 0;
    double d = v->text.n ? strtod(v->text.p, &end) : 0; /* arena texts end with NUL */
    if (v->text.n && end == v->text.p + v->text.n && errno == 0 && isfinite(d))
        number_set(v, d);
    uint64_t exact;
    if (mz_str_u64(v->text, &exact)) {
        v->has |= MZ_RT_U64;
        v->u64 = exact;
    }
    if (mz_str_ieq(v->text, MZ_STR("true")) || mz_str_ieq(v->text, MZ_STR("false"))) {
        v->has |= MZ_RT_BOOL;
        v->boolean = mz_str_ieq(v->text, MZ_STR("true"));
    }
}

/* ---- Struct ---- */

static const pb_Value *field(const pb_Struct *s, const char *name)
{
    for (size_t i = 0; i < s->n_fields; i++)
        if (s->fields[i]->value && strcmp(s->fields[i]->key, name) == 0)
            return s->fields[i]->value;
    return NULL;
}

static uint32_t denominator(const pb_Value *v)
{
    if (v && v->kind_case == pb_Value_KIND_STRING_VALUE) {
        if (strcmp(v->string_value, "TEN_THOUSAND") == 0)
            return 10000;
        if (strcmp(v->string_value, "MILLION") == 0)
            return 1000000;
    }
    return 100;
}

static bool fraction_set(struct mz_runtime_layer *l, struct mz_str key, const pb_Struct *s)
{
    static const struct mz_str names[] = { MZ_STR_INIT("HUNDRED"), MZ_STR_INIT("TEN_THOUSAND"),
                                           MZ_STR_INIT("MILLION") };
    const pb_Value *num = field(s, "numerator"), *den = field(s, "denominator");
    if (!num && !den)
        return false;
    double n = num && num->kind_case == pb_Value_KIND_NUMBER_VALUE ? num->number_value : 0;
    uint32_t d = denominator(den), number = n < 0 ? 0 : n > 4294967295.0 ? UINT32_MAX : (uint32_t)n;
    struct mz_str name = names[d == 100 ? 0 : d == 10000 ? 1 : 2];
    char text[96];
    int len = snprintf(text, sizeof(text), "{\"numerator\":%u,\"denominator\":\"" MZ_STR_FMT "\"}",
                       number, MZ_STR_ARG(name));
    struct mz_runtime_value *v = value_new(l, key, (struct mz_str){ text, (size_t)len });
    v->has = MZ_RT_FRACTION;
    v->numerator = number;
    v->denominator = d;
    return true;
}

static void struct_walk(struct mz_runtime_layer *l, struct mz_str prefix, const pb_Struct *s);

static void value_walk(struct mz_runtime_layer *l, struct mz_str key, const pb_Value *v)
{
    char text[64];
    switch (v->kind_case) {
    case pb_Value_KIND_STRING_VALUE:
        mz_runtime_layer_set(l, key, mz_str_c(v->string_value));
        break;
    case pb_Value_KIND_NUMBER_VALUE: {
        int n = snprintf(text, sizeof(text), "%.17g", v->number_value);
        for (int p = 1; p < 17 && strtod(text, NULL) == v->number_value;
             p++) { /* the shortest that reads back */
            char shorter[64];
            int k = snprintf(shorter, sizeof(shorter), "%.*g", p, v->number_value);
            if (strtod(shorter, NULL) != v->number_value)
                continue;
            memcpy(text, shorter, (size_t)k + 1);
            n = k;
            break;
        }
        number_set(value_new(l, key, (struct mz_str){ text, (size_t)n }), v->number_value);
        break;
    }
    case pb_Value_KIND_BOOL_VALUE:
        mz_runtime_layer_set(l, key, v->bool_value ? MZ_STR("true") : MZ_STR("false"));
        break;
    case pb_Value_KIND_STRUCT_VALUE:
        if (!fraction_set(l, key, v->struct_value))
            struct_walk(l, key, v->struct_value);
        break;
    default:
        break; /* null and lists are no values, as in Envoy */
    }
}

static void struct_walk(struct mz_runtime_layer *l, struct mz_str prefix, const pb_Struct *s)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        if (!s->fields[i]->value)
            continue;
        struct mz_str parts[] = { prefix, prefix.n ? MZ_STR(".") : MZ_STR(""),
                                  mz_str_c(s->fields[i]->key) };
        value_walk(l, mz_arena_cat(l->arena, MZ_COUNT(parts), parts), s->fields[i]->value);
    }
}

void mz_runtime_layer_struct(struct mz_runtime_layer *l, const pb_Struct *s)
{
    struct_walk(l, MZ_STR(""), s);
}

/* ---- directory ---- */

/* Lines that begin with '#' are comments; blanks around the rest go. */
static struct mz_str file_text(struct mz_arena *a, const char *raw, size_t n)
{
    struct mz_str rest = { raw, n }, line, text = MZ_STR("");
    while (mz_str_split(&rest, '\n', &line)) {
        if (mz_str_starts(line, MZ_STR("#")))
            continue;
        struct mz_str parts[] = { text, text.n ? MZ_STR("\n") : MZ_STR(""), line };
        text = mz_arena_cat(a, MZ_COUNT(parts), parts);
    }
    while (text.n &&
           (text.p[text.n - 1] == '\n' || text.p[text.n - 1] == '\r' || text.p[text.n - 1] == ' '))
        text.n--;
    return mz_str_trim(text);
}

static bool file_read(struct mz_runtime_layer *l, int dir, const char *name, struct mz_str key,
                      struct mz_err *err)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mz_err_set(err, "cannot open runtime file '" MZ_STR_FMT "': %s", MZ_STR_ARG(key),
                          strerrordesc_np(errno));
    char *raw = mz_alloc(MZ_MEM_CONFIG, FILE_MAX);
    ssize_t n = read(fd, raw, FILE_MAX);
    if (n >= 0)
        mz_runtime_layer_set(l, key, file_text(l->arena, raw, (size_t)n));
    mz_free(MZ_MEM_CONFIG, raw);
    (void)close(fd);
    return n >= 0 || mz_err_set(err, "cannot read runtime file '" MZ_STR_FMT "'", MZ_STR_ARG(key));
}

static bool dir_walk(struct mz_runtime_layer *l, int take_dir, struct mz_str prefix, unsigned depth,
                     struct mz_err *err)
{
    DIR *d = fdopendir(take_dir);
    if (!d) {
        (void)close(take_dir);
        return mz_err_set(err, "cannot list a runtime directory: %s", strerrordesc_np(errno));
    }
    bool ok = depth < DEPTH_MAX ||
              mz_err_set(err, "runtime directories are nested deeper than %d", DEPTH_MAX);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread reads this stream */
    for (struct dirent *e; ok && (e = readdir(d)) != NULL;) {
        struct stat st;
        struct mz_str parts[] = { prefix, prefix.n ? MZ_STR(".") : MZ_STR(""),
                                  mz_str_c(e->d_name) };
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            fstatat(take_dir, e->d_name, &st, 0) != 0)
            continue;
        struct mz_str key = mz_arena_cat(l->arena, MZ_COUNT(parts), parts);
        if (S_ISREG(st.st_mode) && key.n <= KEY_MAX)
            ok = file_read(l, take_dir, e->d_name, key, err);
        else if (S_ISDIR(st.st_mode)) {
            int sub = openat(take_dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            ok = sub < 0 || dir_walk(l, sub, key, depth + 1, err);
        }
    }
    (void)closedir(d);
    return ok;
}

bool mz_runtime_layer_disk(struct mz_runtime_layer *l, struct mz_str path, struct mz_err *err)
{
    struct mz_str p = mz_arena_dup(l->arena, path);
    int fd = open(p.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || mz_err_set(err, "cannot open runtime directory '%s': %s", p.p,
                                             strerrordesc_np(errno));
    return dir_walk(l, fd, MZ_STR(""), 0, err);
}
