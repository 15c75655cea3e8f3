#include "tls/stats.h"

#include <string.h>

static const struct mz_stat_def defs[] = {
#define X(id, name) { name, MZ_COUNTER, MZ_UNIT_NONE, 0 },
    MZ_TLS_STATS(X)
#undef X
#define X(group, openssl, name) { name, MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
        MZ_TLS_NAMED(X)
#undef X
};
const struct mz_stat_kind mz_tls_stats = { "tls", defs, MZ_COUNT(defs) };

static const struct mz_stat_def sds_defs[] = {
    [MZ_SDS_DOWN_NOT_READY] = { "downstream_context_secrets_not_ready", MZ_COUNTER, MZ_UNIT_NONE,
                                0 },
    [MZ_SDS_UP_NOT_READY] = { "upstream_context_secrets_not_ready", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [MZ_SDS_UPDATED] = { "ssl_context_update_by_sds", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
const struct mz_stat_kind mz_tls_sds_stats = { "tls_sds", sds_defs, MZ_COUNT(sds_defs) };

static const struct mz_stat_def expiry_defs[] = { { "expiration_unix_time_seconds", MZ_GAUGE,
                                                    MZ_UNIT_NONE, 0 } };
const struct mz_stat_kind mz_tls_expiry_stats = { "tls_expiry", expiry_defs, 1 };

static const struct {
    enum mz_tls_group group;
    const char *openssl; /* "": every other one of the group */
} named[] = {
#define X(group, openssl, name) { MZ_TLS_GROUP_##group, openssl },
    MZ_TLS_NAMED(X)
#undef X
};

void mz_tls_count_named(struct mz_scope *s, enum mz_tls_group g, const char *openssl_name)
{
    for (unsigned i = 0; i < MZ_COUNT(named); i++)
        if (named[i].group == g &&
            (!named[i].openssl[0] || strcmp(named[i].openssl, openssl_name) == 0)) {
            mz_count(s, MZ_TLS_NAMED_FIRST + i, 1);
            return;
        }
}
