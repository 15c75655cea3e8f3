#ifndef MZ_FILTERS_NETWORK_SNIFFER_H
#define MZ_FILTERS_NETWORK_SNIFFER_H
/* What filters share that only listen to a protocol (L5): each byte of a connection once, in order, in whatever pieces. */
#include "filters/network/network_filters.h"

struct sniffer { /* first member of the filter's object; on_new_connection sets @feed */
    struct mz_net_filter base;
    /* False: it understands no more, and wants to hear no more. */
    bool (*feed)(struct sniffer *s, bool from_client, const char *bytes, size_t n);
    uint64_t seen; /* bytes of the client that were fed */
    bool deaf;
};
struct mz_stat_kind;
/* Statistics "<kind><stat_prefix>.". Main thread. */
struct mz_scope *sniffer_scope(const struct mz_factory *f, const struct mz_stat_kind *k, const char *kind, const char *stat_prefix);
enum mz_net_flow sniffer_data(struct mz_net_filter *f, struct mz_buf *data, bool end); /* on_data; CONTINUE */
void sniffer_write(struct mz_net_filter *f, const struct mz_buf *data, bool end);      /* on_write */
#endif
