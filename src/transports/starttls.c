/* envoy.transport_sockets.starttls (U8): plain until a network filter says that TLS begins. Of listeners. */
#include "net/conn.h"
#include "transports/transports.h"
#include "transports/wrap.h"

struct start_factory {
    struct mz_transport_factory base; /* inner: the plain one */
    const struct mz_transport_factory *tls;
};
struct start_transport {
    struct wrap w;
    struct mz_transport *tls; /* NULL: it is the inner one */
    bool wanted;
};

static struct start_transport *of(const struct mz_transport *t)
{
    return (struct start_transport *)(void *)wrap_of(t);
}

static void change(struct start_transport *s)
{
    wrap_fini(&s->w);
    s->w.inner = s->tls;
    s->tls = NULL;
    mz_conn_handshakes(s->w.base.conn);
    wrap_connected(&s->w.base);
    mz_io_again(&s->w.base.conn->io, MZ_IO_READ); /* what was not read meanwhile */
}

/* Nothing is read in the clear once TLS was promised. */
static enum mz_io_status start_read(struct mz_transport *t, struct mz_buf *in, size_t max)
{
    const struct start_transport *s = of(t);
    return s->wanted && s->tls ? MZ_IO_AGAIN : wrap_read(t, in, max);
}

static bool secure(struct mz_transport *t)
{
    struct start_transport *s = of(t);
    if (!s->tls || s->wanted)
        return false;
    s->wanted = true;
    if (mz_conn_unsent(t->conn) == 0)
        change(s);
    return true;
}

static enum mz_io_status start_write(struct mz_transport *t, struct mz_buf *out, bool end)
{
    struct start_transport *s = of(t);
    enum mz_io_status st = wrap_write(t, out, end);
    if (st == MZ_IO_OK && s->wanted && s->tls && !end)
        change(s);
    return st;
}

static void transport_destroy(struct mz_transport *t)
{
    struct start_transport *s = of(t);
    if (s->tls)
        s->tls->ops->destroy(s->tls);
    wrap_fini(&s->w);
    mz_free(MZ_MEM_CONN, s);
}

static const struct mz_transport_ops ops = {
    .name = "starttls",
    .read = start_read,
    .write = start_write,
    .connected = wrap_connected,
    .ready = wrap_ready,
    .failure = wrap_failure,
    .protocol = wrap_protocol,
    .tls = wrap_tls,
    .pending = wrap_pending,
    .secure = secure,
    .close = wrap_close,
    .destroy = transport_destroy,
};

static struct mz_transport *transport_create(const struct mz_transport_factory *base,
                                             const struct mz_transport_opts *o)
{
    const struct start_factory *f = (const struct start_factory *)(const void *)base;
    struct start_transport *s = mz_new0(MZ_MEM_CONN, struct start_transport);
    wrap_init(&s->w, &ops, base->inner->create(base->inner, o));
    s->tls = f->tls->create(f->tls, o);
    return &s->w.base;
}

static void factory_destroy(struct mz_transport_factory *base)
{
    struct start_factory *f = (struct start_factory *)(void *)base;
    mz_transport_factory_unref(base->inner);
    mz_transport_factory_unref(f->tls);
    mz_free(MZ_MEM_CONFIG, f);
}

struct mz_transport_factory *
mz_transport_starttls_create(const struct mz_transport_factory *take_tls)
{
    struct start_factory *f = mz_new0(MZ_MEM_CONFIG, struct start_factory);
    wrap_factory_init(&f->base, "starttls", mz_transport_factory_raw());
    f->tls = take_tls;
    f->base.create = transport_create;
    f->base.destroy = factory_destroy;
    return &f->base;
}
