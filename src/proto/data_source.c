#include "proto/data_source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/names.h"

static bool file_read(const char *path, size_t max, struct mz_arena *a, struct mz_str *out,
                      struct mz_err *err)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return mz_err_set(err, "cannot read '%s': %s", path, strerrordesc_np(errno));
    char *text = mz_alloc(MZ_MEM_MISC, max + 1);
    size_t n = fread(text, 1, max + 1, f);
    bool failed = ferror(f) != 0;
    (void)fclose(f); /* it was only read */
    if (!failed && n <= max)
        *out = mz_arena_dup(a, (struct mz_str){ text, n });
    mz_free(MZ_MEM_MISC, text);
    if (failed)
        return mz_err_set(err, "cannot read '%s'", path);
    return n <= max || mz_err_set(err, "'%s' has more than %zu bytes", path, max);
}

bool mz_data_source_read(const pb_DataSource *m, size_t max, struct mz_arena *a,
                         struct mz_str *out_bytes, struct mz_err *err)
{
    const char *value;
    switch (m->specifier_case) {
    case pb_DataSource_SPECIFIER_FILENAME:
        return file_read(m->filename, max, a, out_bytes, err) || mz_err_at(err, "filename");
    case pb_DataSource_SPECIFIER_INLINE_BYTES:
        *out_bytes = mz_arena_dup(
            a, (struct mz_str){ (const char *)m->inline_bytes.data, m->inline_bytes.len });
        return true;
    case pb_DataSource_SPECIFIER_INLINE_STRING:
        *out_bytes = mz_arena_dup(a, mz_str_c(m->inline_string));
        return true;
    case pb_DataSource_SPECIFIER_ENVIRONMENT_VARIABLE:
        value = secure_getenv(m->environment_variable);
        if (!value)
            return mz_err_set(err, "environment_variable: '%s' is not set",
                              m->environment_variable);
        *out_bytes = mz_arena_dup(a, mz_str_c(value));
        return true;
    default:
        return mz_err_set(
            err, "one of filename, inline_bytes, inline_string, environment_variable is required");
    }
}
