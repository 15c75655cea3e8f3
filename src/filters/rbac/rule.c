#include "filters/rbac/rbac_priv.h"

#include "base/buf.h"
#include "base/map.h"
#include "net/transport.h"

void ask_init(struct ask *q, const struct mz_rbac_input *in, bool path)
{
    *q = (struct ask){ .in = in };
    const struct mz_header *e = path && in->h ? mz_headers_get_id(in->h, MZ_H_PATH) : NULL;
    if (!e)
        return;
    q->has_path = true;
    q->path = e->value;
    for (size_t i = 0; i < q->path.n; i++)
        if (q->path.p[i] == '?' || q->path.p[i] == '#')
            q->path.n = i;
}

static bool port_matches(const struct rule *r, const struct mz_addr *local)
{
    uint16_t port = mz_addr_port(local);
    return mz_addr_is_ip(local) && port >= r->ports.from && port < r->ports.to;
}

static bool state_matches(const struct rule *r, const struct ask *q)
{
    const struct mz_map *states = q->in->info->filter_state;
    const struct mz_filter_object *o = states ? mz_map_get(states, r->text.key) : NULL;
    return o && o->text && mz_string_match(r->text.string, o->text(o, q->in->arena));
}

static bool any_name(const struct mz_string_match *m, const struct mz_tls_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        if (mz_string_match(m, names->v[i]))
            return true;
    return false;
}

/* Any TLS connection, or one of these names: URI SANs, DNS SANs, the subject. */
static bool authenticated(const struct rule *r, const struct ask *q)
{
    struct mz_transport *t = q->in->info->transport;
    const struct mz_tls_facts *f = t && t->ops->tls ? t->ops->tls(t) : NULL;
    const struct mz_string_match *m = r->text.string;
    return f && (!m || any_name(m, &f->peer.uri_sans) || any_name(m, &f->peer.dns_sans) ||
                 mz_string_match(m, f->peer.subject));
}

static const struct mz_tls_names *names_of(const struct mz_tls_cert_facts *c, uint8_t kind)
{
    switch ((enum san_kind)kind) {
    case SAN_EMAIL:
        return &c->email_sans;
    case SAN_DNS:
        return &c->dns_sans;
    case SAN_IP:
        return &c->ip_sans;
    case SAN_URI:
        break;
    }
    return &c->uri_sans;
}

static bool validated(const struct rule *r, const struct ask *q)
{
    struct mz_transport *t = q->in->info->transport;
    const struct mz_tls_facts *f = t && t->ops->tls ? t->ops->tls(t) : NULL;
    return f && f->peer_validated &&
           (!r->text.string || any_name(r->text.string, names_of(&f->peer, r->text.san)));
}

static bool and_matches(const struct rule *r, const struct ask *q)
{
    for (size_t i = 0; i < r->of.n; i++)
        if (!rule_matches(&r->of.v[i], q))
            return false;
    return true;
}

static bool or_matches(const struct rule *r, const struct ask *q)
{
    for (size_t i = 0; i < r->of.n; i++)
        if (rule_matches(&r->of.v[i], q))
            return true;
    return false;
}

bool rule_matches(const struct rule *r, const struct ask *q)
{
    const struct mz_stream_info *info = q->in->info;
    switch ((enum rule_kind)r->kind) {
    case RULE_ANY:
        return true;
    case RULE_NEVER:
        return false;
    case RULE_AND:
        return and_matches(r, q);
    case RULE_OR:
        return or_matches(r, q);
    case RULE_NOT:
        return !rule_matches(r->of.v, q);
    case RULE_HEADER:
        return mz_header_match(r->header, q->in->h);
    case RULE_PATH:
        return q->has_path && mz_string_match(r->text.string, q->path);
    case RULE_TEMPLATE:
        return q->has_path && mz_uri_template_match(r->tpl, q->path);
    case RULE_LOCAL_IP:
        return mz_cidr_match(&r->cidr, &info->local);
    case RULE_PORTS:
        return port_matches(r, &info->local);
    case RULE_SNI:
        return mz_string_match(r->text.string, info->sni);
    case RULE_METADATA:
        return mz_metadata_match(r->metadata, info->dynamic_metadata);
    case RULE_ROUTE_METADATA: /* no route: no match, not even an inverted one */
        return q->in->has_route && mz_metadata_match(r->metadata, info->route_metadata);
    case RULE_SOURCE_IP:
        return mz_cidr_match(&r->cidr, ask_peer(q));
    case RULE_DIRECT_IP:
        return mz_cidr_match(&r->cidr, &info->direct_remote);
    case RULE_REMOTE_IP:
        return mz_cidr_match(&r->cidr, &info->remote);
    case RULE_STATE:
        return state_matches(r, q);
    case RULE_AUTHENTICATED:
        return authenticated(r, q);
    case RULE_VALIDATED:
        return validated(r, q);
    }
    return false;
}

/* ---- why ---- */

static void leaf_text(const struct rule *r, struct mz_buf *out)
{
    char text[MZ_ADDR_TEXT];
    switch ((enum rule_kind)r->kind) {
    case RULE_HEADER:
        mz_buf_printf(out, ": %s", mz_header_match_text(r->header));
        return;
    case RULE_PATH:
    case RULE_SNI:
        mz_buf_printf(out, ": %s", mz_string_match_text(r->text.string));
        return;
    case RULE_AUTHENTICATED:
        if (r->text.string)
            mz_buf_printf(out, ".principal_name: %s", mz_string_match_text(r->text.string));
        return;
    case RULE_VALIDATED:
        if (r->text.string)
            mz_buf_printf(out, ".san_matcher: %s", mz_string_match_text(r->text.string));
        return;
    case RULE_STATE:
        mz_buf_printf(out, ": " MZ_STR_FMT " %s", MZ_STR_ARG(r->text.key),
                      mz_string_match_text(r->text.string));
        return;
    case RULE_LOCAL_IP:
    case RULE_SOURCE_IP:
    case RULE_DIRECT_IP:
    case RULE_REMOTE_IP:
        mz_buf_printf(out, ": %.*s/%u", (int)mz_addr_ip_text(&r->cidr.addr, text), text,
                      r->cidr.bits);
        return;
    case RULE_PORTS:
        mz_buf_printf(out, ": %u to %u", r->ports.from, r->ports.to - 1);
        return;
    default:
        return;
    }
}

/* The first member whose outcome is @yes; they are what decides an AND that fails and an OR that holds. */
static const struct rule *decider(const struct rule *r, const struct ask *q, bool yes)
{
    for (size_t i = 0; i < r->of.n; i++)
        if (rule_matches(&r->of.v[i], q) == yes)
            return &r->of.v[i];
    return r->of.v;
}

void rule_why(const struct rule *r, const struct ask *q, bool yes, struct mz_buf *out)
{
    if (r->field)
        mz_buf_append_str(out, mz_str_c(r->field));
    if (r->kind == RULE_NOT) {
        mz_buf_append(out, ".", 1);
        rule_why(r->of.v, q, !yes, out);
        return;
    }
    if (r->kind != RULE_AND && r->kind != RULE_OR) {
        leaf_text(r, out);
        return;
    }
    const struct rule *one = decider(r, q, yes);
    if (r->field)
        mz_buf_append(out, ".", 1);
    mz_buf_printf(out, "%s[%zu].", r->list, (size_t)(one - r->of.v));
    rule_why(one, q, yes, out);
    size_t others = r->of.n - 1;
    if (others && (r->kind == RULE_AND) == yes)
        mz_buf_printf(out, " (and %zu more)", others);
}
