/* filter_chain_matcher (L4): a tree whose actions name the chain. */
#include "base/map.h"
#include "listener/listener_priv.h"
#include "observe/match_tree.h"
#include "observe/shared_state.h"
#include "proto/mapper.h"

struct mz_chain_tree {
    struct mz_arena *arena;
    struct mz_map by_name;
    struct mz_match_tree *tree;
    struct mz_proto_ctx *proto; /* while it is being built */
};
struct choice {                    /* an action */
    struct mz_filter_chain *chain; /* NULL: there is none of that name */
};

static const void *action_build(void *arg, const pb_Any *any, struct mz_err *err)
{
    struct mz_chain_tree *t = arg;
    ProtobufCMessage *msg;
    if (!mz_any_unpack_as(t->proto, any, &pb_StringValue__descriptor, &msg, err))
        return NULL;
    struct choice *c = mz_arena_new0(t->arena, struct choice);
    c->chain = mz_map_get(&t->by_name, mz_str_c(((const pb_StringValue *)msg)->value));
    return c;
}

static bool names_build(struct mz_chain_tree *t, struct mz_filter_chain *const *chains, size_t n,
                        struct mz_err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct mz_str name = chains[i]->name;
        if (name.n == 0)
            mz_err_set(err, "\"name\" field is required when using a listener matcher");
        else if (mz_map_put(&t->by_name, name, chains[i]))
            mz_err_set(err, "\"name\" field is duplicated with value '" MZ_STR_FMT "'",
                       MZ_STR_ARG(name));
        else
            continue;
        return mz_err_at(err, "filter_chains[%zu]", i);
    }
    return true;
}

struct mz_chain_tree *mz_chain_tree_create(const pb_Matcher *m,
                                           struct mz_filter_chain *const *chains, size_t n,
                                           const struct mz_factory *f, struct mz_err *err)
{
    struct mz_chain_tree *t = mz_new0(MZ_MEM_CONFIG, struct mz_chain_tree);
    t->arena = mz_arena_create(MZ_MEM_CONFIG);
    t->proto = f->proto;
    mz_map_init(&t->by_name, MZ_MEM_CONFIG);
    const struct mz_match_env env = { .proto = f->proto,
                                      .stats = f->stats,
                                      .action = action_build,
                                      .arg = t,
                                      .of_connection = true };
    if (names_build(t, chains, n, err)) {
        t->tree = mz_match_tree_create(m, &env, err);
        if (t->tree)
            return t;
        mz_err_at(err, "filter_chain_matcher");
    }
    mz_chain_tree_destroy(t);
    return NULL;
}

void mz_chain_tree_destroy(struct mz_chain_tree *t)
{
    if (!t)
        return;
    mz_match_tree_destroy(t->tree);
    mz_map_fini(&t->by_name);
    mz_arena_destroy(t->arena);
    mz_free(MZ_MEM_CONFIG, t);
}

bool mz_chain_tree_find(const struct mz_chain_tree *t, const struct mz_incoming *in,
                        struct mz_filter_chain **out)
{
    struct mz_stream_info info;
    mz_info_init(&info);
    info.arena = mz_arena_create(MZ_MEM_CONN);
    info.local = in->local;
    info.remote = in->remote;
    info.direct_remote = in->direct_remote;
    info.sni = in->server_name;
    info.dynamic_metadata = in->metadata;
    mz_shared_state_put(in->state, &info);
    const struct mz_match_input input = { .info = &info,
                                          .arena = info.arena,
                                          .transport = in->transport,
                                          .protocols = in->protocols,
                                          .n_protocols = in->n_protocols };
    const struct choice *c = mz_match_tree_find(t->tree, &input, NULL);
    if (c)
        *out = c->chain;
    mz_arena_destroy(info.arena);
    return c != NULL;
}
