#include "observe/match_tree_priv.h"

#include "base/map.h"
#include "net/transport.h"
#include "proto/mapper.h"

/* ---- building ---- */

enum {
    REQUEST = 1,
    CONNECTION = 2,
    BOTH = 3
}; /* who has it: a request or what has a chain, what has none yet */
static const struct {
    const ProtobufCMessageDescriptor *type;
    enum input_kind kind;
    unsigned of;
} inputs[] = {
    { &pb_HttpRequestHeaderMatchInput__descriptor, INPUT_HEADER, REQUEST },
    { &pb_HttpRequestQueryParamMatchInput__descriptor, INPUT_QUERY, REQUEST },
    { &pb_DestinationIPInput__descriptor, INPUT_DESTINATION_IP, BOTH },
    { &pb_DestinationPortInput__descriptor, INPUT_DESTINATION_PORT, BOTH },
    { &pb_SourceIPInput__descriptor, INPUT_SOURCE_IP, BOTH },
    { &pb_SourcePortInput__descriptor, INPUT_SOURCE_PORT, BOTH },
    { &pb_DirectSourceIPInput__descriptor, INPUT_DIRECT_SOURCE_IP, BOTH },
    { &pb_SourceTypeInput__descriptor, INPUT_SOURCE_TYPE, BOTH },
    { &pb_ServerNameInput__descriptor, INPUT_SERVER_NAME, BOTH },
    { &pb_TransportProtocolInput__descriptor, INPUT_TRANSPORT, CONNECTION },
    { &pb_ApplicationProtocolInput__descriptor, INPUT_PROTOCOLS, CONNECTION },
    { &pb_UriSanInput__descriptor, INPUT_URI_SAN, REQUEST },
    { &pb_DnsSanInput__descriptor, INPUT_DNS_SAN, REQUEST },
    { &pb_SubjectInput__descriptor, INPUT_SUBJECT, REQUEST },
    { &pb_FilterStateInput__descriptor, INPUT_FILTER_STATE, BOTH },
    { &pb_DynamicMetadataInput__descriptor, INPUT_METADATA, BOTH },
    { &pb_HttpAttributesCelMatchInput__descriptor, INPUT_CEL, REQUEST },
};

static struct mz_str lower_of(struct mz_arena *a, const char *s)
{
    struct mz_str out = mz_arena_dup(a, mz_str_c(s));
    for (size_t i = 0; i < out.n; i++)
        ((char *)(uintptr_t)out.p)[i] = mz_lower(out.p[i]); /* our own copy */
    return mz_str_eq(out, MZ_STR("host")) ? MZ_STR(":authority") : out;
}

bool input_build(const pb_core_TypedExtensionConfig *m, const struct mz_match_env *env,
                 struct mz_arena *a, struct input *out, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    if (!m || !m->typed_config)
        return mz_err_set(err, "is required") || mz_err_at(err, "input.typed_config");
    if (!mz_any_unpack(env->proto, m->typed_config, &type, &msg, err))
        return mz_err_at(err, "input.typed_config");
    size_t i = 0;
    while (i < MZ_COUNT(inputs) && inputs[i].type != type)
        i++;
    if (i == MZ_COUNT(inputs) || !(inputs[i].of & (env->of_connection ? CONNECTION : REQUEST)))
        return mz_err_set(err, "no matcher's input is of type \"%s\"", type->name) ||
               mz_err_at(err, "input.typed_config");
    *out = (struct input){ .kind = inputs[i].kind };
    if (out->kind == INPUT_HEADER) {
        out->name = lower_of(a, ((const pb_HttpRequestHeaderMatchInput *)msg)->header_name);
        return out->name.n || mz_err_set(err, "must not be empty") ||
               mz_err_at(err, "input.typed_config.header_name");
    }
    if (out->kind == INPUT_QUERY)
        out->name = mz_arena_dup(
            a, mz_str_c(((const pb_HttpRequestQueryParamMatchInput *)msg)->query_param));
    if (out->kind == INPUT_FILTER_STATE)
        out->name = mz_arena_dup(a, mz_str_c(((const pb_FilterStateInput *)msg)->key));
    if (out->kind == INPUT_METADATA)
        out->path = (const pb_DynamicMetadataInput *)msg;
    return true;
}

/* ---- values ---- */

static bool header_next(struct values *v, struct mz_str *out)
{
    const struct mz_headers *h = v->in->h;
    if (!h)
        return false;
    if (v->i == 1) {
        v->next = mz_headers_get(h, v->input->name);
        return mz_headers_joined(h, v->input->name, out);
    }
    const struct mz_header *e = v->next;
    if (!e || (v->i == 2 && !mz_headers_next(h, e))) /* a lone one was given as "all" */
        return false;
    v->next = mz_headers_next(h, e);
    *out = e->value;
    return true;
}

/* The first parameter of that name, as written. */
static bool query_value(const struct values *v, struct mz_str *out)
{
    struct mz_str path = v->in->h ? mz_headers_path(v->in->h) : (struct mz_str){ "", 0 }, pair;
    ptrdiff_t at = mz_str_chr(path, '?');
    if (at < 0)
        return false;
    struct mz_str rest = mz_str_skip(path, (size_t)at + 1);
    ptrdiff_t end = mz_str_chr(rest, '#');
    rest.n = end < 0 ? rest.n : (size_t)end;
    while (mz_str_split(&rest, '&', &pair)) {
        ptrdiff_t eq = mz_str_chr(pair, '=');
        struct mz_str key = { pair.p, eq < 0 ? pair.n : (size_t)eq };
        if (!mz_str_eq(key, v->input->name))
            continue;
        *out = eq < 0 ? MZ_STR("") : mz_str_skip(pair, (size_t)eq + 1);
        return true;
    }
    return false;
}

static bool names_next(const struct values *v, const struct mz_tls_names *names, struct mz_str *out)
{
    if (v->i > names->n)
        return false;
    *out = names->v[v->i - 1];
    return true;
}

static bool tls_next(struct values *v, struct mz_str *out)
{
    struct mz_transport *t = v->in->info->transport;
    const struct mz_tls_facts *f = t && t->ops->tls ? t->ops->tls(t) : NULL;
    if (!f)
        return false;
    if (v->input->kind != INPUT_SUBJECT)
        return names_next(
            v, v->input->kind == INPUT_URI_SAN ? &f->peer.uri_sans : &f->peer.dns_sans, out);
    *out = f->peer.subject;
    return v->i == 1 && out->n;
}

static bool state_value(const struct values *v, struct mz_str *out)
{
    const struct mz_map *states = v->in->info->filter_state;
    const struct mz_filter_object *o = states ? mz_map_get(states, v->input->name) : NULL;
    if (!o || !o->text)
        return false;
    *out = o->text(o, v->in->arena);
    return true;
}

static bool protocols_value(const struct values *v, struct mz_str *out)
{
    const struct mz_match_input *in = v->in;
    size_t n = 0;
    for (size_t i = 0; i < in->n_protocols; i++)
        n += in->protocols[i].n + 3;
    if (n == 0)
        return false;
    char *text = mz_arena_alloc(in->arena, n), *p = text;
    for (size_t i = 0; i < in->n_protocols; i++) {
        *p++ = '\'';
        p = mempcpy(p, in->protocols[i].p, in->protocols[i].n);
        *p++ = '\'';
        *p++ = ',';
    }
    *out = (struct mz_str){ text, n - 1 };
    return true;
}

const struct mz_addr *input_address(const struct input *i, const struct mz_match_input *in)
{
    const struct mz_stream_info *info = in->info;
    switch (i->kind) {
    case INPUT_DESTINATION_IP:
    case INPUT_DESTINATION_PORT:
        return &info->local;
    case INPUT_SOURCE_IP:
    case INPUT_SOURCE_PORT:
    case INPUT_SOURCE_TYPE:
        return &info->remote;
    case INPUT_DIRECT_SOURCE_IP:
        return &info->direct_remote;
    default:
        return NULL;
    }
}

static bool address_value(struct values *v, struct mz_str *out)
{
    const struct mz_addr *a = input_address(v->input, v->in);
    bool port = v->input->kind == INPUT_DESTINATION_PORT || v->input->kind == INPUT_SOURCE_PORT;
    if (v->input->kind == INPUT_SOURCE_TYPE) {
        *out = MZ_STR("local");
        return mz_addr_is_loopback(a) || mz_addr_ip_eq(a, &v->in->info->local);
    }
    if (!mz_addr_is_ip(a))
        return false;
    *out = (struct mz_str){ v->text, port ? mz_u64_text(mz_addr_port(a), v->text)
                                          : mz_addr_ip_text(a, v->text) };
    return true;
}

bool values_next(struct values *v, struct mz_str *out)
{
    v->i++;
    switch (v->input->kind) {
    case INPUT_HEADER:
        return header_next(v, out);
    case INPUT_URI_SAN:
    case INPUT_DNS_SAN:
    case INPUT_SUBJECT:
        return tls_next(v, out);
    case INPUT_QUERY:
        return v->i == 1 && query_value(v, out);
    case INPUT_FILTER_STATE:
        return v->i == 1 && state_value(v, out);
    case INPUT_SERVER_NAME:
        *out = v->in->info->sni;
        return v->i == 1 && out->n;
    case INPUT_TRANSPORT:
        *out = v->in->transport;
        return v->i == 1 && out->n;
    case INPUT_PROTOCOLS:
        return v->i == 1 && protocols_value(v, out);
    case INPUT_METADATA:
    case INPUT_CEL:
        return false;
    default:
        return v->i == 1 && address_value(v, out);
    }
}
