#include "agent/relay/nds.h"

#include "proto/wire.h"

static const struct mz_str type =
    MZ_STR_INIT("type.googleapis.com/istio.networking.nds.v1.NameTable");

enum { STATE_VERSION = 1, STATE_TYPE = 4, STATE_NONCE = 5, DELTA_TYPE = 2, DELTA_NONCE = 6 };
enum { RESPONSE_VERSION = 1, RESPONSE_RESOURCES = 2, RESPONSE_TYPE = 4, RESPONSE_NONCE = 5 };
enum { RESOURCE_ANY = 2, ANY_VALUE = 2 };

void nds_request(struct mz_buf *b, bool delta, struct mz_str version, struct mz_str nonce)
{
    if (version.n && !delta)
        mz_wire_put_bytes(b, STATE_VERSION, version);
    mz_wire_put_bytes(b, delta ? DELTA_TYPE : STATE_TYPE, type);
    if (nonce.n)
        mz_wire_put_bytes(b, delta ? DELTA_NONCE : STATE_NONCE, nonce);
}

bool nds_response(struct mz_str response, bool delta, struct nds_response *out)
{
    if (!mz_str_eq(mz_wire_bytes(response, RESPONSE_TYPE), type))
        return false;
    struct mz_str any = mz_wire_bytes(response, RESPONSE_RESOURCES);
    if (delta)
        any = mz_wire_bytes(any, RESOURCE_ANY);
    *out = (struct nds_response){ .has_table = any.n != 0,
                                  .table = mz_wire_bytes(any, ANY_VALUE),
                                  .version = mz_wire_bytes(response, RESPONSE_VERSION),
                                  .nonce = mz_wire_bytes(response, RESPONSE_NONCE) };
    return true;
}
