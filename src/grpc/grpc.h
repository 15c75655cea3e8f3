#ifndef MZ_GRPC_GRPC_H
#define MZ_GRPC_GRPC_H
/* What client and server share: status, methods, messages. */
#include "base/arena.h"
#include "base/buf.h"
#include "proto/names.h"

enum mz_grpc_code { /* https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
    MZ_GRPC_OK, MZ_GRPC_CANCELLED, MZ_GRPC_UNKNOWN, MZ_GRPC_INVALID_ARGUMENT, MZ_GRPC_DEADLINE_EXCEEDED, MZ_GRPC_NOT_FOUND,
    MZ_GRPC_ALREADY_EXISTS, MZ_GRPC_PERMISSION_DENIED, MZ_GRPC_RESOURCE_EXHAUSTED, MZ_GRPC_FAILED_PRECONDITION,
    MZ_GRPC_ABORTED, MZ_GRPC_OUT_OF_RANGE, MZ_GRPC_UNIMPLEMENTED, MZ_GRPC_INTERNAL, MZ_GRPC_UNAVAILABLE, MZ_GRPC_DATA_LOSS,
    MZ_GRPC_UNAUTHENTICATED, MZ_GRPC__COUNT
};
const char *mz_grpc_code_name(int code); /* "Unavailable" as Envoy writes it; "InvalidCode" */
struct mz_grpc_status {
    int code;              /* enum mz_grpc_code; -1: a number that is none */
    struct mz_str message; /* percent-decoded; "" */
};
struct mz_grpc_method {
    const char *path; /* "/envoy.service.auth.v3.Authorization/Check" */
    const ProtobufCMessageDescriptor *request, *response;
};
/* A received message. It lies in @arena together with what it points to, valid until the callback returns; who keeps it
 * longer sets take (and destroys the arena itself later). */
struct mz_grpc_message {
    struct mz_arena *arena;
    struct mz_str bytes;         /* as received, in one piece, in the arena */
    const ProtobufCMessage *msg; /* of the method's type; NULL: it was asked for bytes only */
    bool take;
};

/* grpc-message: percent-encoding of everything outside of printable ASCII and of '%'. */
struct mz_str mz_grpc_message_encode(struct mz_str text, struct mz_arena *a);
struct mz_str mz_grpc_message_decode(struct mz_str text, struct mz_arena *a); /* malformed escapes stay as they are */
#endif
