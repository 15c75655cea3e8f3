#ifndef MZ_PROTO_CONTROL_FIELD_H
#define MZ_PROTO_CONTROL_FIELD_H
/*
 * Fields that the control plane writes for proxies that have them, and that our own proxy does not do yet (marked "control plane
 * only" in the schema). Without `control` in its context the mapper takes them for unknown: no third state.
 */
#include <protobuf-c/protobuf-c.h>

struct mz_control_field {
    const ProtobufCMessageDescriptor *message;
    uint32_t number;
};
extern const struct mz_control_field mz_proto_control_fields[]; /* ends with NULL; messages.c, by tools/gen_proto.py */
#endif
