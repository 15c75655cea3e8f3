/* node_context_params: what of the node becomes parameters of names of collections (xDS-TP, X1). */
#include "base/buf.h"
#include "server/server.h"
#include "xds/name.h"

struct context {
    struct mz_arena *arena;
    const pb_Node *node;
    struct mz_xds_params out;
    size_t room;
};

static void add(struct context *c, const char *key, struct mz_str value)
{
    if (c->out.n == c->room) {
        struct mz_xds_param *old = c->out.v;
        c->room = c->room * 2 + 8;
        c->out.v = mz_arena_alloc0(c->arena, mz_mul(c->room, sizeof(*old)));
        if (c->out.n)
            memcpy(c->out.v, old, c->out.n * sizeof(*old));
    }
    c->out.v[c->out.n++] =
        (struct mz_xds_param){ mz_arena_printf(c->arena, "xds.node.%s", key), value };
}

static struct mz_str text(const char *s)
{
    return mz_str_c(s ? s : "");
}

static struct mz_str id(const pb_Node *n)
{
    return text(n->id);
}

static struct mz_str cluster(const pb_Node *n)
{
    return text(n->cluster);
}

static struct mz_str agent_name(const pb_Node *n)
{
    return text(n->user_agent_name);
}

static struct mz_str agent_version(const pb_Node *n)
{
    return n->user_agent_version_type_case == pb_Node_USER_AGENT_VERSION_TYPE_USER_AGENT_VERSION
               ? text(n->user_agent_version)
               : MZ_STR("");
}

static struct mz_str region(const pb_Node *n)
{
    return text(n->locality ? n->locality->region : NULL);
}

static struct mz_str zone(const pb_Node *n)
{
    return text(n->locality ? n->locality->zone : NULL);
}

static struct mz_str sub_zone(const pb_Node *n)
{
    return text(n->locality ? n->locality->sub_zone : NULL);
}

static const pb_BuildVersion *build_of(const pb_Node *n)
{
    return n->user_agent_version_type_case ==
                   pb_Node_USER_AGENT_VERSION_TYPE_USER_AGENT_BUILD_VERSION
               ? n->user_agent_build_version
               : NULL;
}

static void add_build_version(struct context *c, const char *name)
{
    const pb_BuildVersion *b = build_of(c->node);
    const pb_SemanticVersion *v = b ? b->version : NULL;
    add(c, name,
        mz_arena_printf(c->arena, "%u.%u.%u", v ? v->major_number : 0, v ? v->minor_number : 0,
                        v ? v->patch : 0));
}

/* Each member by itself, its value as JSON. */
static void add_members(struct context *c, const char *name, const pb_Struct *s)
{
    for (size_t i = 0; s && i < s->n_fields; i++) {
        struct mz_buf json;
        mz_buf_init(&json);
        if (s->fields[i]->value)
            mz_msg_to_json(&s->fields[i]->value->base, &json, 0);
        struct mz_str value = mz_buf_linearize(&json, mz_buf_len(&json));
        struct mz_str key = mz_arena_printf(c->arena, "%s.%s", name, s->fields[i]->key);
        add(c, key.p, mz_arena_dup(c->arena, value));
        mz_buf_fini(&json);
    }
}

static bool add_named(struct context *c, const char *name)
{
    static const struct {
        const char *name;
        struct mz_str (*of)(const pb_Node *n);
    } texts[] = {
        { "id", id },
        { "cluster", cluster },
        { "user_agent_name", agent_name },
        { "user_agent_version", agent_version },
        { "locality.region", region },
        { "locality.zone", zone },
        { "locality.sub_zone", sub_zone },
    };
    for (size_t i = 0; i < MZ_COUNT(texts); i++) {
        if (strcmp(texts[i].name, name) != 0)
            continue;
        add(c, name, texts[i].of(c->node));
        return true;
    }
    const pb_BuildVersion *b = build_of(c->node);
    if (strcmp(name, "user_agent_build_version.version") == 0)
        add_build_version(c, name);
    else if (strcmp(name, "user_agent_build_version.metadata") == 0)
        add_members(c, name, b ? b->metadata : NULL);
    else if (strcmp(name, "metadata") == 0)
        add_members(c, name, c->node->metadata);
    else
        return false;
    return true;
}

bool mz_server_xds_context(struct mz_server *s, struct mz_err *err)
{
    const pb_Bootstrap *b = s->bootstrap;
    struct context c = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                         .node = mz_server_node_message(s) };
    bool ok = true;
    for (size_t i = 0; ok && i < b->n_node_context_params; i++)
        if (!add_named(&c, b->node_context_params[i]))
            ok = mz_err_set(err,
                            "'%s' is no part of the node: id, cluster, metadata, locality.region, "
                            "locality.zone, locality.sub_zone, user_agent_name, "
                            "user_agent_version, user_agent_build_version.version or "
                            "user_agent_build_version.metadata is",
                            b->node_context_params[i]) ||
                 mz_err_at(err, "node_context_params[%zu]", i);
    if (ok)
        mz_xds_set_context(s->xds, &c.out);
    mz_arena_destroy(c.arena);
    return ok;
}
