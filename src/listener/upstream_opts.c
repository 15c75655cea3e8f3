/* What a downstream connection asks of the transports of connections that are made for it (U8, Envoy's filter state keys). */
#include "listener/listener_priv.h"
#include "listener/network_filter.h"
#include "observe/shared_state.h"

static struct mz_str state_text(const struct mz_stream_info *info, struct mz_str key)
{
    const struct mz_filter_object *o = mz_info_state(info, key);
    return o && o->text ? o->text(o, info->arena) : MZ_STR("");
}

static struct mz_tls_names list_of(struct mz_str text, struct mz_arena *a)
{
    size_t n = text.n != 0;
    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == ',';
    struct mz_tls_names out = { mz_arena_alloc0(a, n * sizeof(*out.v)), 0 };
    for (struct mz_str one; text.n && mz_str_split(&text, ',', &one);) {
        one = mz_str_trim(one);
        if (one.n)
            out.v[out.n++] = one;
    }
    return out;
}

static void names(const struct mz_stream_info *info, struct mz_transport_opts *out)
{
    out->sni = state_text(info, MZ_STR(MZ_STATE_SERVER_NAME));
    out->sans = list_of(state_text(info, MZ_STR(MZ_STATE_SANS)), info->arena);
    out->alpn = list_of(state_text(info, MZ_STR(MZ_STATE_ALPN)), info->arena);
}

static void state_unref(void *state)
{
    mz_shared_state_unref(state);
}

/* Made anew for each attempt: filters may have set more. Lives as long as the stream. */
static struct mz_shared_state *shared_state(const struct mz_stream_info *info)
{
    struct mz_shared_state *s = mz_shared_state_create(info);
    if (s)
        mz_arena_cleanup(info->arena, state_unref, s);
    return s;
}

unsigned mz_downstream_transport_uses(const struct mz_downstream *d)
{
    return d->found ? (d->found->upstream_source.len ? MZ_TRANSPORT_USES_SOCKET : 0u) |
                          (d->found->hops ? MZ_TRANSPORT_USES_HOPS : 0u)
                    : 0;
}

void mz_downstream_transport_opts(const struct mz_downstream *d, const struct mz_stream_info *info,
                                  unsigned uses, struct mz_transport_opts *out)
{
    *out = (struct mz_transport_opts){ 0 };
    if ((uses & MZ_TRANSPORT_USES_NAMES) && info->filter_state)
        names(info, out);
    if (uses & MZ_TRANSPORT_USES_CLIENT) {
        out->source = &d->conn->remote;
        out->destination = &d->local_restored;
        if (d->found)
            out->tlvs = d->found->proxy_tlvs;
    }
    out->hops = d->found ? d->found->hops : 0;
    if (uses & MZ_TRANSPORT_USES_STATE)
        out->state = shared_state(info);
    if (mz_downstream_transport_uses(d) & MZ_TRANSPORT_USES_SOCKET) {
        out->bind = &d->found->upstream_source;
        out->mark = d->found->upstream_mark;
    }
}
