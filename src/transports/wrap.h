#ifndef MZ_TRANSPORTS_WRAP_H
#define MZ_TRANSPORTS_WRAP_H
/* A transport around another one: functions that hand on to the inner one, for tables of operations of this folder. */
#include "net/conn.h"
#include "net/transport.h"

struct wrap { /* first member of the wrapper's own struct */
    struct mz_transport base;
    struct mz_transport *inner; /* owned */
};
static inline struct wrap *wrap_of(const struct mz_transport *t)
{
    return (struct wrap *)(uintptr_t)t;
}
void wrap_init(struct wrap *w, const struct mz_transport_ops *ops, struct mz_transport *take_inner);
/* Takes @take_inner's reference; secure and uses are the inner one's. */
void wrap_factory_init(struct mz_transport_factory *f, const char *name, const struct mz_transport_factory *take_inner);

enum mz_io_status wrap_read(struct mz_transport *t, struct mz_buf *in, size_t max);
enum mz_io_status wrap_write(struct mz_transport *t, struct mz_buf *out, bool end);
void wrap_connected(struct mz_transport *t);
bool wrap_ready(const struct mz_transport *t);
struct mz_str wrap_failure(const struct mz_transport *t);
struct mz_str wrap_protocol(const struct mz_transport *t);
const struct mz_tls_facts *wrap_tls(struct mz_transport *t);
struct mz_conn_state *wrap_state(struct mz_transport *t);
bool wrap_pending(const struct mz_transport *t);
bool wrap_raw(const struct mz_transport *t);
struct mz_passed *wrap_pass(struct mz_transport *t);
void wrap_close(struct mz_transport *t, bool reset);
void wrap_fini(struct wrap *w); /* ends the inner one */
#endif
