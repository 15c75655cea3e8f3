/* envoy.filters.network.direct_response: one fixed answer, then the end (L5). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "filters/network/network_filters.h"
#include "observe/stream_info.h"
#include "proto/mapper.h"

#define FILE_MAX (64L * 1024 * 1024)

struct direct_cfg {
    size_t n;
    char text[];
};

static struct direct_cfg *cfg_new(struct mz_str s)
{
    struct direct_cfg *c = mz_alloc(MZ_MEM_CONFIG, sizeof(*c) + s.n);
    c->n = s.n;
    if (s.n)
        memcpy(c->text, s.p, s.n);
    return c;
}

static struct direct_cfg *cfg_from_file(const char *path, struct mz_err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct direct_cfg *c = NULL;
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size > FILE_MAX) {
        mz_err_set(err, "file %s: %s", path, fd < 0 ? strerrordesc_np(errno) : "too large");
        mz_err_at(err, "response");
    } else {
        c = mz_alloc(MZ_MEM_CONFIG, sizeof(*c) + (size_t)st.st_size);
        ssize_t n = read(fd, c->text, (size_t)st.st_size);
        c->n = n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        (void)close(fd);
    return c;
}

static void *cfg_from_environment(const char *name, struct mz_err *err)
{
    const char *text = secure_getenv(name);
    if (text)
        return cfg_new(mz_str_c(text));
    mz_err_set(err, "Environment variable doesn't exist: %s", name);
    mz_err_at(err, "response");
    return NULL;
}

static void *direct_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    const pb_DataSource *s = ((const pb_direct_response_Config *)msg)->response;
    switch (s ? s->specifier_case : pb_DataSource_SPECIFIER__NOT_SET) {
    case pb_DataSource_SPECIFIER_INLINE_STRING:
        return cfg_new(mz_str_c(s->inline_string));
    case pb_DataSource_SPECIFIER_INLINE_BYTES:
        return cfg_new((struct mz_str){ (const char *)s->inline_bytes.data, s->inline_bytes.len });
    case pb_DataSource_SPECIFIER_FILENAME:
        return cfg_from_file(s->filename, err);
    case pb_DataSource_SPECIFIER_ENVIRONMENT_VARIABLE:
        return cfg_from_environment(s->environment_variable, err);
    default:
        return cfg_new(MZ_STR(""));
    }
}

static void direct_destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}

#define LINGER_MS 1000

static enum mz_net_flow direct_new(struct mz_net_filter *f)
{
    const struct direct_cfg *c = f->cfg;
    struct mz_conn *conn = f->down->conn;
    if (c->n)
        mz_buf_append(mz_conn_out(conn), c->text, c->n);
    mz_conn_written(conn, true);
    mz_downstream_info(f->down)->details = "direct_response";
    /* What the client has sent meanwhile must not turn the end into a reset, which might destroy the answer. */
    mz_conn_close(conn, MZ_CLOSE_FLUSH_DELAY, NULL, LINGER_MS);
    return MZ_NET_STOP;
}

const struct mz_net_filter_type mz_net_filter_direct_response = {
    .name = "envoy.filters.network.direct_response",
    .config_type = "envoy.extensions.filters.network.direct_response.v3.Config",
    .terminal = true,
    .size = sizeof(struct mz_net_filter),
    .config_build = direct_build,
    .config_destroy = direct_destroy,
    .on_new_connection = direct_new,
};
