#include "filters/rbac/rbac_priv.h"

#include "proto/mapper.h"

/* Permissions and principals of the configuration to rules. Both messages have much the same choices; nesting is bounded by
 * the reader of messages. */

static void keep(struct rule_builder *b, void (*destroy)(void *), void *object)
{
    mz_arena_cleanup(b->arena, destroy, object);
}

static bool string_build(struct rule_builder *b, const pb_StringMatcher *m, struct rule *out)
{
    out->text.string = mz_string_match_build(m, b->err);
    if (out->text.string)
        keep(b, (void (*)(void *))mz_string_match_destroy, out->text.string);
    return out->text.string != NULL;
}

static bool header_build(struct rule_builder *b, const pb_HeaderMatcher *m, struct rule *out)
{
    out->kind = RULE_HEADER;
    if (!b->http)
        return mz_err_set(b->err, "connections have no headers");
    out->header = mz_header_match_build(m, b->err);
    if (out->header)
        keep(b, (void (*)(void *))mz_header_match_destroy, out->header);
    return out->header != NULL;
}

static bool path_build(struct rule_builder *b, const pb_PathMatcher *m, struct rule *out)
{
    out->kind = RULE_PATH;
    b->path = true;
    return (m->rule_case == pb_PathMatcher_RULE_PATH ? string_build(b, m->path, out)
                                                     : mz_err_set(b->err, "is required")) ||
           mz_err_at(b->err, "path");
}

static bool cidr_build(struct rule_builder *b, enum rule_kind kind, const pb_CidrRange *m,
                       struct rule *out)
{
    out->kind = (uint8_t)kind;
    return mz_cidr_make(mz_str_c(m->address_prefix), mz_u32_or(m->prefix_len, 0), &out->cidr,
                        b->err);
}

static bool ports_build(struct rule_builder *b, const pb_Int32Range *m, struct rule *out)
{
    out->kind = RULE_PORTS;
    if (m->start < 0 || m->end > 65536 || m->start >= m->end)
        return mz_err_set(b->err, "start must be less than end, both from 0 to 65536, is %d to %d",
                          m->start, m->end);
    out->ports.from = (uint32_t)m->start;
    out->ports.to = (uint32_t)m->end;
    return true;
}

static bool metadata_build(struct rule_builder *b, const pb_MetadataMatcher *m, enum rule_kind kind,
                           struct rule *out)
{
    out->kind = (uint8_t)kind;
    out->metadata = mz_metadata_match_build(m, b->err);
    if (out->metadata)
        keep(b, (void (*)(void *))mz_metadata_match_destroy, out->metadata);
    return out->metadata != NULL;
}

static bool sourced_build(struct rule_builder *b, const pb_SourcedMetadata *m, struct rule *out)
{
    if (!m->metadata_matcher)
        return mz_err_set(b->err, "is required") || mz_err_at(b->err, "metadata_matcher");
    return metadata_build(b, m->metadata_matcher,
                          m->metadata_source == pb_MetadataSource_ROUTE ? RULE_ROUTE_METADATA
                                                                        : RULE_METADATA,
                          out) ||
           mz_err_at(b->err, "metadata_matcher");
}

static bool state_build(struct rule_builder *b, const pb_FilterStateMatcher *m, struct rule *out)
{
    out->kind = RULE_STATE;
    out->text.key = mz_arena_dup(b->arena, mz_str_c(m->key));
    return (m->matcher_case == pb_FilterStateMatcher_MATCHER_STRING_MATCH
                ? string_build(b, m->string_match, out)
                : mz_err_set(b->err, "is required")) ||
           mz_err_at(b->err, "string_match");
}

static bool template_build(struct rule_builder *b, const pb_TypedExtensionConfig *m,
                           struct rule *out)
{
    ProtobufCMessage *msg;
    out->kind = RULE_TEMPLATE;
    b->path = true;
    if (!m->typed_config)
        return mz_err_set(b->err, "is required") || mz_err_at(b->err, "typed_config");
    if (!mz_any_unpack_as(b->f->proto, m->typed_config, &pb_UriTemplateMatchConfig__descriptor,
                          &msg, b->err))
        return mz_err_at(b->err, "typed_config");
    const pb_UriTemplateMatchConfig *c = (const pb_UriTemplateMatchConfig *)msg;
    out->tpl = mz_uri_template_create(mz_str_c(c->path_template), b->err);
    if (!out->tpl)
        return mz_err_at(b->err, "typed_config.path_template");
    keep(b, (void (*)(void *))mz_uri_template_destroy, out->tpl);
    return true;
}

/* Room for the members of a list. */
static struct rule *members(struct rule_builder *b, enum rule_kind kind, const char *list, size_t n,
                            struct rule *out)
{
    struct rule *v = mz_arena_alloc0(b->arena, n * sizeof(*v));
    out->kind = (uint8_t)kind;
    out->list = list;
    out->of.v = v;
    out->of.n = n;
    return v;
}

static bool permissions_build(struct rule_builder *b, enum rule_kind kind,
                              const pb_Permission_Set *m, struct rule *out)
{
    struct rule *v = members(b, kind, "rules", m->n_rules, out);
    for (size_t i = 0; i < m->n_rules; i++)
        if (!rule_build_permission(b, m->rules[i], &v[i]))
            return mz_err_at(b->err, "rules[%zu]", i);
    return true;
}

bool rule_build_permission(struct rule_builder *b, const pb_Permission *m, struct rule *out)
{
#define FIELD(name) (out->field = #name)
    bool ok = true;
    switch (m->rule_case) {
    case pb_Permission_RULE_AND_RULES:
        FIELD(and_rules);
        ok = permissions_build(b, RULE_AND, m->and_rules, out);
        break;
    case pb_Permission_RULE_OR_RULES:
        FIELD(or_rules);
        ok = permissions_build(b, RULE_OR, m->or_rules, out);
        break;
    case pb_Permission_RULE_ANY:
        FIELD(any);
        out->kind = m->any ? RULE_ANY : RULE_NEVER;
        break;
    case pb_Permission_RULE_HEADER:
        FIELD(header);
        ok = header_build(b, m->header, out);
        break;
    case pb_Permission_RULE_URL_PATH:
        FIELD(url_path);
        ok = path_build(b, m->url_path, out);
        break;
    case pb_Permission_RULE_DESTINATION_IP:
        FIELD(destination_ip);
        ok = cidr_build(b, RULE_LOCAL_IP, m->destination_ip, out);
        break;
    case pb_Permission_RULE_DESTINATION_PORT:
        FIELD(destination_port);
        out->kind = RULE_PORTS;
        out->ports.from = m->destination_port;
        out->ports.to = m->destination_port + 1;
        break;
    case pb_Permission_RULE_DESTINATION_PORT_RANGE:
        FIELD(destination_port_range);
        ok = ports_build(b, m->destination_port_range, out);
        break;
    case pb_Permission_RULE_METADATA:
        FIELD(metadata);
        ok = metadata_build(b, m->metadata, RULE_METADATA, out);
        break;
    case pb_Permission_RULE_SOURCED_METADATA:
        FIELD(sourced_metadata);
        ok = sourced_build(b, m->sourced_metadata, out);
        break;
    case pb_Permission_RULE_NOT_RULE:
        FIELD(not_rule);
        ok = rule_build_permission(b, m->not_rule, members(b, RULE_NOT, NULL, 1, out));
        break;
    case pb_Permission_RULE_REQUESTED_SERVER_NAME:
        FIELD(requested_server_name);
        out->kind = RULE_SNI;
        ok = string_build(b, m->requested_server_name, out);
        break;
    case pb_Permission_RULE_URI_TEMPLATE:
        FIELD(uri_template);
        ok = template_build(b, m->uri_template, out);
        break;
    default:
        return mz_err_set(b->err, "no rule is set");
    }
    return ok || mz_err_at(b->err, "%s", out->field);
}

static bool principals_build(struct rule_builder *b, enum rule_kind kind, const pb_Principal_Set *m,
                             struct rule *out)
{
    struct rule *v = members(b, kind, "ids", m->n_ids, out);
    for (size_t i = 0; i < m->n_ids; i++)
        if (!rule_build_principal(b, m->ids[i], &v[i]))
            return mz_err_at(b->err, "ids[%zu]", i);
    return true;
}

static bool authenticated_build(struct rule_builder *b, const pb_Principal_Authenticated *m,
                                struct rule *out)
{
    out->kind = RULE_AUTHENTICATED;
    return !m->principal_name || string_build(b, m->principal_name, out) ||
           mz_err_at(b->err, "principal_name");
}

static bool san_build(struct rule_builder *b, const pb_SubjectAltNameMatcher *m, struct rule *out)
{
    static const int8_t kinds[] = {
        [pb_SubjectAltNameMatcher_SanType_EMAIL] = SAN_EMAIL,
        [pb_SubjectAltNameMatcher_SanType_DNS] = SAN_DNS,
        [pb_SubjectAltNameMatcher_SanType_URI] = SAN_URI,
        [pb_SubjectAltNameMatcher_SanType_IP_ADDRESS] = SAN_IP,
    };
    if (m->san_type == pb_SubjectAltNameMatcher_SanType_OTHER_NAME)
        return mz_err_set(b->err, "OTHER_NAME is not supported here") ||
               mz_err_at(b->err, "san_type");
    out->text.san = (uint8_t)kinds[m->san_type];
    return string_build(b, m->matcher, out) || mz_err_at(b->err, "matcher");
}

static bool custom_build(struct rule_builder *b, const pb_TypedExtensionConfig *m, struct rule *out)
{
    ProtobufCMessage *msg;
    out->kind = RULE_VALIDATED;
    if (!m->typed_config)
        return mz_err_set(b->err, "is required") || mz_err_at(b->err, "typed_config");
    if (!mz_any_unpack_as(b->f->proto, m->typed_config, &pb_mtls_authenticated_Config__descriptor,
                          &msg, b->err))
        return mz_err_at(b->err, "typed_config");
    const pb_mtls_authenticated_Config *c = (const pb_mtls_authenticated_Config *)msg;
    if (c->san_matcher)
        return san_build(b, c->san_matcher, out) || mz_err_at(b->err, "typed_config.san_matcher");
    return c->any_validated_client_certificate ||
           mz_err_set(b->err, "san_matcher or any_validated_client_certificate is required") ||
           mz_err_at(b->err, "typed_config");
}

bool rule_build_principal(struct rule_builder *b, const pb_Principal *m, struct rule *out)
{
    bool ok = true;
    switch (m->identifier_case) {
    case pb_Principal_IDENTIFIER_AND_IDS:
        FIELD(and_ids);
        ok = principals_build(b, RULE_AND, m->and_ids, out);
        break;
    case pb_Principal_IDENTIFIER_OR_IDS:
        FIELD(or_ids);
        ok = principals_build(b, RULE_OR, m->or_ids, out);
        break;
    case pb_Principal_IDENTIFIER_ANY:
        FIELD(any);
        out->kind = m->any ? RULE_ANY : RULE_NEVER;
        break;
    case pb_Principal_IDENTIFIER_AUTHENTICATED:
        FIELD(authenticated);
        ok = authenticated_build(b, m->authenticated, out);
        break;
    case pb_Principal_IDENTIFIER_SOURCE_IP:
        FIELD(source_ip);
        ok = cidr_build(b, RULE_SOURCE_IP, m->source_ip, out);
        break;
    case pb_Principal_IDENTIFIER_DIRECT_REMOTE_IP:
        FIELD(direct_remote_ip);
        ok = cidr_build(b, RULE_DIRECT_IP, m->direct_remote_ip, out);
        break;
    case pb_Principal_IDENTIFIER_REMOTE_IP:
        FIELD(remote_ip);
        ok = cidr_build(b, RULE_REMOTE_IP, m->remote_ip, out);
        break;
    case pb_Principal_IDENTIFIER_HEADER:
        FIELD(header);
        ok = header_build(b, m->header, out);
        break;
    case pb_Principal_IDENTIFIER_URL_PATH:
        FIELD(url_path);
        ok = path_build(b, m->url_path, out);
        break;
    case pb_Principal_IDENTIFIER_METADATA:
        FIELD(metadata);
        ok = metadata_build(b, m->metadata, RULE_METADATA, out);
        break;
    case pb_Principal_IDENTIFIER_SOURCED_METADATA:
        FIELD(sourced_metadata);
        ok = sourced_build(b, m->sourced_metadata, out);
        break;
    case pb_Principal_IDENTIFIER_FILTER_STATE:
        FIELD(filter_state);
        ok = state_build(b, m->filter_state, out);
        break;
    case pb_Principal_IDENTIFIER_CUSTOM:
        FIELD(custom);
        ok = custom_build(b, m->custom, out);
        break;
    case pb_Principal_IDENTIFIER_NOT_ID:
        FIELD(not_id);
        ok = rule_build_principal(b, m->not_id, members(b, RULE_NOT, NULL, 1, out));
        break;
    default:
        return mz_err_set(b->err, "no identifier is set");
    }
    return ok || mz_err_at(b->err, "%s", out->field);
}
