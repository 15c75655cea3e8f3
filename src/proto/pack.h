#ifndef MZ_PROTO_PACK_H
#define MZ_PROTO_PACK_H
/*
 * Messages to their binary form, in one pass and octet by octet what protobuf-c writes: from the end to the begin, so that the
 * length of what stands inside is known when it is written in front of it, however deep it lies. Any thread.
 */
#include "base/str.h"
#include <protobuf-c/protobuf-c.h>

enum { MZ_PACKER_ROOM = 4096 }; /* what most messages fit in */
/* Stands, packed already, for a message inside of one that is only packed: who looks into it finds nothing. */
struct mz_packed {
    ProtobufCMessage base; /* of mz_packed__descriptor */
    struct mz_str bytes;   /* borrowed */
};
extern const ProtobufCMessageDescriptor mz_packed__descriptor;

struct mz_packer {
    unsigned char *mem; /* the room, which is filled from its end */
    size_t size;
    unsigned char *more; /* ... where the one below is too small; owned */
    unsigned char own[MZ_PACKER_ROOM];
};
/* One message each: the bytes are the packer's until it is finished. It need not be initialised. */
struct mz_str mz_packer_pack(struct mz_packer *p, const ProtobufCMessage *m);
void mz_packer_fini(struct mz_packer *p);
#endif
