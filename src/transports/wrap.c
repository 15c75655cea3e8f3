#include "transports/wrap.h"

void wrap_init(struct wrap *w, const struct mz_transport_ops *ops, struct mz_transport *take_inner)
{
    w->base.ops = ops;
    w->inner = take_inner;
}

void wrap_factory_init(struct mz_transport_factory *f, const char *name,
                       const struct mz_transport_factory *take_inner)
{
    f->name = name;
    f->inner = take_inner;
    f->secure = take_inner->secure;
    f->uses = take_inner->uses;
    f->refs = 1;
}

/* The connection learns its transport after this one was made: the inner one learns it here. */
static struct mz_transport *inner_of(const struct mz_transport *t)
{
    struct mz_transport *inner = wrap_of(t)->inner;
    inner->conn = t->conn;
    return inner;
}

enum mz_io_status wrap_read(struct mz_transport *t, struct mz_buf *in, size_t max)
{
    struct mz_transport *inner = inner_of(t);
    return inner->ops->read(inner, in, max);
}

enum mz_io_status wrap_write(struct mz_transport *t, struct mz_buf *out, bool end)
{
    struct mz_transport *inner = inner_of(t);
    return inner->ops->write(inner, out, end);
}

void wrap_connected(struct mz_transport *t)
{
    struct mz_transport *inner = inner_of(t);
    if (inner->ops->connected)
        inner->ops->connected(inner);
}

bool wrap_ready(const struct mz_transport *t)
{
    const struct mz_transport *inner = wrap_of(t)->inner;
    return !inner->ops->ready || inner->ops->ready(inner);
}

struct mz_str wrap_failure(const struct mz_transport *t)
{
    const struct mz_transport *inner = wrap_of(t)->inner;
    return inner->ops->failure ? inner->ops->failure(inner) : MZ_STR("");
}

struct mz_str wrap_protocol(const struct mz_transport *t)
{
    const struct mz_transport *inner = wrap_of(t)->inner;
    return inner->ops->protocol ? inner->ops->protocol(inner) : MZ_STR("");
}

const struct mz_tls_facts *wrap_tls(struct mz_transport *t)
{
    struct mz_transport *inner = inner_of(t);
    return inner->ops->tls ? inner->ops->tls(inner) : NULL;
}

struct mz_conn_state *wrap_state(struct mz_transport *t)
{
    struct mz_transport *inner = inner_of(t);
    return inner->ops->state ? inner->ops->state(inner) : NULL;
}

bool wrap_pending(const struct mz_transport *t)
{
    const struct mz_transport *inner = wrap_of(t)->inner;
    return inner->ops->pending && inner->ops->pending(inner);
}

bool wrap_raw(const struct mz_transport *t)
{
    return mz_transport_is_raw(wrap_of(t)->inner);
}

struct mz_passed *wrap_pass(struct mz_transport *t)
{
    struct mz_transport *inner = inner_of(t);
    return inner->ops->pass ? inner->ops->pass(inner) : NULL;
}

void wrap_close(struct mz_transport *t, bool reset)
{
    struct mz_transport *inner = inner_of(t);
    if (inner->ops->close)
        inner->ops->close(inner, reset);
}

void wrap_fini(struct wrap *w)
{
    w->inner->ops->destroy(w->inner);
}
