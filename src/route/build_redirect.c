#include "proto/data_source.h"
#include "route/route_priv.h"

/* ---- path and host rewrites of a cluster action ---- */

static bool template_rewrite_build(struct builder *b, const pb_TypedExtensionConfig *m,
                                   const struct mz_route *r, struct path_rewrite *w)
{
    const struct route_priv *p = r->priv;
    ProtobufCMessage *msg;
    if (!m->typed_config)
        return mz_err_set(b->err, "typed_config is required");
    if (!mz_any_unpack_as(b->env->factory->proto, m->typed_config,
                          &pb_UriTemplateRewriteConfig__descriptor, &msg, b->err))
        return mz_err_at(b->err, "typed_config");
    if (p->kind != PATH_TEMPLATE)
        return mz_err_set(
            b->err,
            "a URI template rewrite needs a match by path_match_policy with a URI template");
    w->kind = REWRITE_TEMPLATE;
    w->tpl = mz_uri_rewrite_create(
        mz_str_c(((const pb_UriTemplateRewriteConfig *)msg)->path_template_rewrite), p->tpl,
        b->err);
    if (!w->tpl)
        return mz_err_at(b->err, "typed_config.path_template_rewrite");
    mz_arena_cleanup(b->a, (void (*)(void *))mz_uri_rewrite_destroy, w->tpl);
    return true;
}

bool build_path_rewrite(struct builder *b, const pb_RouteAction *m, struct mz_route *r)
{
    unsigned given = (m->prefix_rewrite[0] != 0) + (m->regex_rewrite != NULL) +
                     (m->path_rewrite_policy != NULL) + (m->path_rewrite[0] != 0);
    if (!given)
        return true;
    if (given > 1)
        return mz_err_set(b->err, "only one of prefix_rewrite, regex_rewrite, path_rewrite_policy, "
                                  "path_rewrite is allowed");
    struct path_rewrite *w = ((struct route_priv *)r->priv)->rewrite =
        build_new0(b, struct path_rewrite);
    if (m->path_rewrite_policy)
        return template_rewrite_build(b, m->path_rewrite_policy, r, w) ||
               mz_err_at(b->err, "path_rewrite_policy");
    if (m->path_rewrite[0]) {
        w->kind = REWRITE_FORMAT;
        return build_format(b, m->path_rewrite, true, &w->format) ||
               mz_err_at(b->err, "path_rewrite");
    }
    if (m->regex_rewrite) {
        w->kind = REWRITE_REGEX;
        return build_substitution(b, m->regex_rewrite, &w->regex, &w->with) ||
               mz_err_at(b->err, "regex_rewrite");
    }
    w->kind = REWRITE_PREFIX;
    w->with = build_str(b, m->prefix_rewrite);
    return true;
}

bool build_host_rewrite(struct builder *b, const pb_RouteAction *m, struct mz_route *r)
{
    switch (m->host_rewrite_specifier_case) {
    case pb_RouteAction_HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL:
        r->host_rewrite = build_str(b, m->host_rewrite_literal);
        break;
    case pb_RouteAction_HOST_REWRITE_SPECIFIER_AUTO_HOST_REWRITE:
        r->auto_host_rewrite = m->auto_host_rewrite->value != 0;
        break;
    case pb_RouteAction_HOST_REWRITE_SPECIFIER_HOST_REWRITE_HEADER:
        r->host_rewrite_header = build_lower(b, m->host_rewrite_header);
        break;
    case pb_RouteAction_HOST_REWRITE_SPECIFIER_HOST_REWRITE_PATH_REGEX:
        return build_substitution(b, m->host_rewrite_path_regex, &r->host_rewrite_path_regex,
                                  &r->host_rewrite_path_with) ||
               mz_err_at(b->err, "host_rewrite_path_regex");
    case pb_RouteAction_HOST_REWRITE_SPECIFIER_HOST_REWRITE:
        return build_format(b, m->host_rewrite, false,
                            &((struct route_priv *)r->priv)->host_format) ||
               mz_err_at(b->err, "host_rewrite");
    default:
        break;
    }
    return true;
}

/* ---- redirect ---- */

static bool redirect_path_build(struct builder *b, const pb_RedirectAction *m, struct redirect *d)
{
    switch (m->path_rewrite_specifier_case) {
    case pb_RedirectAction_PATH_REWRITE_SPECIFIER_PATH_REDIRECT:
        d->path = build_str(b, m->path_redirect);
        d->path_has_query = mz_str_chr(d->path, '?') >= 0;
        return true;
    case pb_RedirectAction_PATH_REWRITE_SPECIFIER_PREFIX_REWRITE:
        if (!m->prefix_rewrite[0])
            return true;
        d->rewrite = build_new0(b, struct path_rewrite);
        d->rewrite->kind = REWRITE_PREFIX;
        d->rewrite->with = build_str(b, m->prefix_rewrite);
        return true;
    case pb_RedirectAction_PATH_REWRITE_SPECIFIER_REGEX_REWRITE:
        d->rewrite = build_new0(b, struct path_rewrite);
        d->rewrite->kind = REWRITE_REGEX;
        return build_substitution(b, m->regex_rewrite, &d->rewrite->regex, &d->rewrite->with) ||
               mz_err_at(b->err, "regex_rewrite");
    default:
        return true;
    }
}

bool build_redirect(struct builder *b, const pb_RedirectAction *m, struct mz_route *r)
{
    static const unsigned codes[] = { 301, 302, 303, 307, 308 };
    r->action = MZ_ACTION_REDIRECT;
    if ((unsigned)m->response_code >= MZ_COUNT(codes))
        return mz_err_set(b->err, "response_code %d is not a known value", (int)m->response_code);
    if (m->port_redirect > 65535)
        return mz_err_set(b->err, "port_redirect must be at most 65535, is %u",
                          (unsigned)m->port_redirect);
    r->status = codes[m->response_code];
    struct redirect *d = ((struct route_priv *)r->priv)->redirect = build_new0(b, struct redirect);
    if (m->scheme_rewrite_specifier_case ==
        pb_RedirectAction_SCHEME_REWRITE_SPECIFIER_SCHEME_REDIRECT)
        d->scheme = build_str(b, m->scheme_redirect);
    else if (m->scheme_rewrite_specifier_case ==
                 pb_RedirectAction_SCHEME_REWRITE_SPECIFIER_HTTPS_REDIRECT &&
             m->https_redirect)
        d->scheme = MZ_STR("https");
    d->host = build_str(b, m->host_redirect);
    if (m->port_redirect)
        d->port = mz_arena_printf(b->a, ":%u", (unsigned)m->port_redirect);
    d->strip_query = m->strip_query;
    return redirect_path_build(b, m, d);
}

/* ---- direct response ---- */

enum { FORMAT_MAX_BYTES = 1 << 20 };

static bool body_format_build(struct builder *b, const pb_SubstitutionFormatString *m,
                              struct mz_direct_response *r)
{
    struct mz_format *text = NULL;
    struct mz_format_json *json;
    struct mz_str source = { 0 };
    r->content_type = build_str(b, m->content_type);
    switch (m->format_case) {
    case pb_SubstitutionFormatString_FORMAT_TEXT_FORMAT:
        if (!build_format(b, m->text_format, m->omit_empty_values, &text))
            return mz_err_at(b->err, "text_format");
        break;
    case pb_SubstitutionFormatString_FORMAT_TEXT_FORMAT_SOURCE:
        if (!mz_data_source_read(m->text_format_source, FORMAT_MAX_BYTES, b->a, &source, b->err) ||
            !build_format(b, source.p, m->omit_empty_values, &text))
            return mz_err_at(b->err, "text_format_source");
        break;
    case pb_SubstitutionFormatString_FORMAT_JSON_FORMAT:
        json = mz_format_json_create(m->json_format, m->omit_empty_values, false, b->err);
        if (!json)
            return mz_err_at(b->err, "json_format");
        mz_arena_cleanup(b->a, (void (*)(void *))mz_format_json_destroy, json);
        r->json = json;
        break;
    default:
        return mz_err_set(b->err,
                          "one of text_format, json_format, text_format_source is required");
    }
    r->format = text;
    return true;
}

bool build_direct(struct builder *b, const pb_DirectResponseAction *m, struct mz_route *r)
{
    r->action = MZ_ACTION_DIRECT;
    r->status = m->status;
    if (m->status < 200 || m->status > 599)
        return mz_err_set(b->err, "status must be 200 to 599, is %u", (unsigned)m->status);
    struct mz_direct_response *d = build_new0(b, struct mz_direct_response);
    r->direct = d;
    if (m->body && !mz_data_source_read(m->body, b->max_direct_body, b->a, &d->body, b->err))
        return mz_err_at(b->err, "body");
    if (d->body.n > b->max_direct_body)
        return mz_err_set(b->err, "body has %zu bytes; max_direct_response_body_size_bytes is %u",
                          d->body.n, b->max_direct_body);
    return !m->body_format || body_format_build(b, m->body_format, d) ||
           mz_err_at(b->err, "body_format");
}
