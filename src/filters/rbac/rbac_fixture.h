#ifndef MZ_FILTERS_RBAC_RBAC_FIXTURE_H
#define MZ_FILTERS_RBAC_RBAC_FIXTURE_H
/* What test, fuzzer and benchmark of this folder share; they include rbac.c to compare with the engine without its index. */
#include "proto/mapper.h"

static inline struct mz_rbac *rbac_of_text(struct mz_str yaml, struct mz_arena *a, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = a };
    struct mz_factory f = { .proto = &ctx };
    ProtobufCMessage *m;
    bool matcher = mz_str_starts(yaml, MZ_STR("matcher_")); /* the other form */
    if (!mz_msg_from_text(&ctx, yaml, MZ_TEXT_YAML, matcher ? &pb_Matcher__descriptor : &pb_RBAC__descriptor, &m, err))
        return NULL;
    return matcher ? mz_rbac_create_matcher((const pb_Matcher *)m, &f, err) : mz_rbac_create((const pb_RBAC *)m, true, &f, err);
}

/* The first policy that matches, every one compared. */
static inline struct mz_str rbac_slow(const struct mz_rbac *r, const struct mz_rbac_input *in)
{
    struct ask q;
    ask_init(&q, in, true);
    for (size_t i = 0; i < r->n; i++)
        if (policy_matches(r, &r->policies[i], &q))
            return r->policies[i].name;
    return MZ_STR("");
}
#endif
