#include "filters/lua/lua_priv.h"

#include "base/map.h"
#include "listener/network_filter.h"
#include "net/transport.h"

/* What is known of the request and its connection: streamInfo(), connectionStreamInfo(), connection(), route(), virtualHost(). */

static struct mz_stream_info *info_of(lua_State *L)
{
    return mz_stream_info(lua_run_here(L)->f->stream);
}

/* ---- TLS ---- */

static const struct mz_tls_facts *facts_of(const struct mz_stream_info *i)
{
    struct mz_transport *t = i->transport;
    return t && t->ops->tls ? t->ops->tls(t) : NULL;
}

static int push_ssl(lua_State *L)
{
    const struct mz_tls_facts *f = facts_of(info_of(L));
    if (f)
        return lua_push_object(L, LUA_SSL, f, 0);
    lua_pushnil(L);
    return 1;
}

static const struct mz_tls_facts *ssl(lua_State *L)
{
    return lua_object(L, 1, LUA_SSL)->p;
}

static int push_names(lua_State *L, const struct mz_tls_names *n)
{
    lua_createtable(L, (int)n->n, 0);
    for (size_t i = 0; i < n->n; i++) {
        lua_push_str(L, n->v[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int push_text(lua_State *L, struct mz_str s)
{
    lua_push_str(L, s);
    return 1;
}

static int push_time(lua_State *L, int64_t seconds)
{
    lua_pushnumber(L, seconds > 0 ? (lua_Number)seconds : 0);
    return 1;
}

static int push_flag(lua_State *L, bool b)
{
    lua_pushboolean(L, b);
    return 1;
}

/* X(name, function, what it pushes of the facts f) */
#define SSL_FACTS(X)                                                                               \
    X("peerCertificatePresented", presented, push_flag(L, f->peer_presented))                      \
    X("peerCertificateValidated", validated, push_flag(L, f->peer_validated))                      \
    X("uriSanLocalCertificate", own_uris, push_names(L, &f->own.uri_sans))                         \
    X("sha256PeerCertificateDigest", peer_sha256, push_text(L, f->peer.sha256))                    \
    X("serialNumberPeerCertificate", peer_serial, push_text(L, f->peer.serial))                    \
    X("issuerPeerCertificate", peer_issuer, push_text(L, f->peer.issuer))                          \
    X("subjectPeerCertificate", peer_subject, push_text(L, f->peer.subject))                       \
    X("uriSanPeerCertificate", peer_uris, push_names(L, &f->peer.uri_sans))                        \
    X("subjectLocalCertificate", own_subject, push_text(L, f->own.subject))                        \
    X("dnsSansPeerCertificate", peer_dns, push_names(L, &f->peer.dns_sans))                        \
    X("dnsSansLocalCertificate", own_dns, push_names(L, &f->own.dns_sans))                         \
    X("validFromPeerCertificate", peer_from, push_time(L, f->peer.valid_from_s))                   \
    X("expirationPeerCertificate", peer_until, push_time(L, f->peer.valid_until_s))                \
    X("sessionId", session, push_text(L, f->session_id))                                           \
    X("ciphersuiteString", cipher, push_text(L, f->cipher))                                        \
    X("urlEncodedPemEncodedPeerCertificate", peer_pem, push_text(L, f->peer.pem))                  \
    X("urlEncodedPemEncodedPeerCertificateChain", peer_chain, push_text(L, f->chain_pem))          \
    X("tlsVersion", version, push_text(L, f->version))

#define X(name, function, push)                                                                    \
    static int ssl_##function(lua_State *L)                                                        \
    {                                                                                              \
        const struct mz_tls_facts *f = ssl(L);                                                     \
        return push;                                                                               \
    }
SSL_FACTS(X)
#undef X

const struct lua_method lua_ssl_methods[] = {
#define X(name, function, push) { name, ssl_##function },
    SSL_FACTS(X)
#undef X
        { NULL, NULL },
};

static int connection_ssl(lua_State *L)
{
    (void)lua_object(L, 1, LUA_CONNECTION);
    return push_ssl(L);
}

const struct lua_method lua_connection_methods[] = {
    { "ssl", connection_ssl },
    { NULL, NULL },
};

/* ---- streamInfo() ---- */

static struct mz_stream_info *stream_info(lua_State *L)
{
    (void)lua_object(L, 1, LUA_STREAM_INFO);
    return info_of(L);
}

static int info_protocol(lua_State *L)
{
    const struct mz_stream_info *i = stream_info(L);
    lua_pushstring(L, mz_http_protocol_name(i->protocol));
    return 1;
}

static int push_addr(lua_State *L, const struct mz_addr *a)
{
    char text[MZ_ADDR_TEXT];
    lua_pushlstring(L, text, mz_addr_text(a, text));
    return 1;
}

static int info_local(lua_State *L)
{
    return push_addr(L, &stream_info(L)->local);
}

static int info_direct_local(lua_State *L)
{
    const struct mz_stream_info *i = stream_info(L);
    return push_addr(L, i->direct_local.len ? &i->direct_local : &i->local);
}

static int info_remote(lua_State *L)
{
    return push_addr(L, &stream_info(L)->remote);
}

static int info_direct_remote(lua_State *L)
{
    return push_addr(L, &stream_info(L)->direct_remote);
}

static int info_sni(lua_State *L)
{
    return push_text(L, stream_info(L)->sni);
}

static int info_route_name(lua_State *L)
{
    return push_text(L, stream_info(L)->route.route_name);
}

static int info_vcluster_name(lua_State *L)
{
    return push_text(L, stream_info(L)->route.vcluster_name);
}

static int info_ssl(lua_State *L)
{
    (void)stream_info(L);
    return push_ssl(L);
}

static int info_dynamic_metadata(lua_State *L)
{
    return lua_push_object(L, LUA_DYNAMIC_METADATA, stream_info(L), 0);
}

/* No filter of ours leaves typed metadata. */
static int nothing(lua_State *L)
{
    lua_pushnil(L);
    return 1;
}

static int info_filter_state(lua_State *L)
{
    return lua_push_object(L, LUA_FILTER_STATE, stream_info(L), 0);
}

static int info_drain(lua_State *L)
{
    stream_info(L)->should_drain_connection = true;
    return 0;
}

const struct lua_method lua_stream_info_methods[] = {
    { "protocol", info_protocol },
    { "dynamicMetadata", info_dynamic_metadata },
    { "dynamicTypedMetadata", nothing },
    { "filterState", info_filter_state },
    { "downstreamDirectLocalAddress", info_direct_local },
    { "downstreamLocalAddress", info_local },
    { "downstreamDirectRemoteAddress", info_direct_remote },
    { "downstreamRemoteAddress", info_remote },
    { "downstreamSslConnection", info_ssl },
    { "requestedServerName", info_sni },
    { "routeName", info_route_name },
    { "virtualClusterName", info_vcluster_name },
    { "drainConnectionUponCompletion", info_drain },
    { NULL, NULL },
};

static int filter_state_get(lua_State *L)
{
    const struct mz_stream_info *i = lua_object(L, 1, LUA_FILTER_STATE)->p;
    const struct mz_filter_object *o = mz_info_state(i, lua_arg_str(L, 2));
    struct mz_str value;
    if (!o)
        return 0;
    if (!lua_isnoneornil(L, 3)) {
        struct mz_str name = lua_arg_str(L, 3);
        return o->field && o->field(o, name, &value) ? push_text(L, value) : 0;
    }
    value = o->text(o, i->arena);
    (void)lua_take(L, value.n);
    return push_text(L, value);
}

const struct lua_method lua_filter_state_methods[] = {
    { "get", filter_state_get },
    { NULL, NULL },
};

/* ---- connectionStreamInfo() ---- */

static int cx_dynamic_metadata(lua_State *L)
{
    (void)lua_object(L, 1, LUA_CX_STREAM_INFO);
    struct mz_downstream *d = mz_stream_downstream(lua_run_here(L)->f->stream);
    return lua_push_object(L, LUA_DYNAMIC_METADATA, mz_downstream_info(d), 1);
}

const struct lua_method lua_cx_stream_info_methods[] = {
    { "dynamicMetadata", cx_dynamic_metadata },
    { "dynamicTypedMetadata", nothing },
    { NULL, NULL },
};

/* ---- route(), virtualHost(): p is their metadata under the filter's name ---- */

static int place_metadata(lua_State *L)
{
    return lua_push_object(L, LUA_METADATA, lua_object(L, 1, LUA_PLACE)->p, 0);
}

const struct lua_method lua_place_methods[] = {
    { "metadata", place_metadata },
    { NULL, NULL },
};
