/* What a session asks of the upstream connection's transport: the client's addresses, TLVs, names (L6, U8). */
#include "filters/network/tcp_proxy.h"
#include "listener/listener_filter.h"
#include "observe/substitution.h"

#define VALUE_MAX 65535

static struct mz_str tlvs_made(struct tcp_session *s)
{
    const struct tcp_cfg *c = tcp_cfg_of(s);
    const struct mz_format_ctx ctx = { .info = s->info, .now_us = tcp_now_us(s) };
    struct mz_buf all, one;
    mz_buf_init(&all);
    for (size_t i = 0; i < c->n_tlvs; i++) {
        struct mz_str value = c->tlvs[i].value;
        mz_buf_init(&one);
        if (c->tlvs[i].format) {
            mz_log_format_append(c->tlvs[i].format, &ctx, &one);
            value = mz_buf_linearize(&one, mz_buf_len(&one));
        }
        if (value.n <= VALUE_MAX) {
            const char head[3] = { (char)c->tlvs[i].type, (char)(value.n >> 8), (char)value.n };
            mz_buf_append(&all, head, sizeof(head));
            mz_buf_append_str(&all, value);
        }
        mz_buf_fini(&one);
    }
    struct mz_str out = mz_arena_dup(s->arena, mz_buf_linearize(&all, mz_buf_len(&all)));
    mz_buf_fini(&all);
    return out;
}

const struct mz_transport_opts *tcp_transport_opts(struct tcp_session *s, const struct mz_host *h)
{
    const struct mz_downstream *d = s->base.down;
    unsigned uses = h->cluster->transport_uses | mz_downstream_transport_uses(d);
    if (!uses)
        return NULL;
    struct mz_transport_opts *o = mz_arena_new0(s->arena, struct mz_transport_opts);
    mz_downstream_transport_opts(d, s->info, uses, o);
    /* A header that came says all there is to say (Envoy). */
    if ((uses & MZ_TRANSPORT_USES_CLIENT) && tcp_cfg_of(s)->n_tlvs &&
        !(d->found && d->found->proxied))
        o->tlvs = tlvs_made(s);
    return o;
}
