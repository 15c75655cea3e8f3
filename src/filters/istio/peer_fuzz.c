/* Peer metadata as strangers send it: the exchange at the begin of a connection, headers, baggage, endpoints. */
#include "filters/istio/exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_str name = MZ_STR("role"), text = { (const char *)data, size };
    const struct peer_labels labels = { &name, 1 };
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct exchange x = { 0 };
    struct peer p = { .type = PEER_UNKNOWN };
    struct peer_object o;
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append(&b, data, size);
    if (exchange_read(&x, &b, size & 1, &labels, a, &p) == EXCHANGE_FOUND)
        (void)peer_header(peer_copy(&p, a), a);
    mz_buf_fini(&b);
    if (peer_from_struct(text, &labels, a, &p)) {
        peer_object_init(&o, &p);
        (void)o.base.text(&o.base, a);
        (void)peer_header(&p, a);
    }
    (void)peer_from_header(text, &labels, a, &p);
    (void)peer_from_endpoint(text, &p);
    peer_from_baggage(text, &p);
    (void)peer_baggage(&p, a);
    peer_fields_init(&o, &p);
    (void)o.base.text(&o.base, a);
    mz_arena_destroy(a);
    return 0;
}
