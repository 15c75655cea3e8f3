#ifndef MZ_PROTO_WIRE_H
#define MZ_PROTO_WIRE_H
/* The few pieces of protobuf's binary form that are written or read without a message, where packing one would copy too much. */
#include "base/buf.h"
#include "base/str.h"

#define MZ_WIRE_VARINT_MAX 10 /* bytes */
size_t mz_wire_varint(uint64_t v, char out[MZ_WIRE_VARINT_MAX]); /* how many it took */
/* Takes one off @s; false: cut off or too long. Bits above 64 are lost, as in protobuf-c. */
bool mz_wire_take_varint(struct mz_str *s, uint64_t *out);
struct mz_wire_piece {
    uint32_t id;
    uint8_t wire;        /* 0 a number, 2 bytes, text or message, 1 and 5 eight and four bytes */
    struct mz_str bytes; /* of all but 0 */
};
/* The next field of a message, off its front; false: there is none that is whole, @s is then as it may be. */
bool mz_wire_next(struct mz_str *s, struct mz_wire_piece *out);
struct mz_str mz_wire_bytes(struct mz_str message, unsigned id); /* the last such field of bytes, text or message; "" */
/* A field of bytes, text or message with @n bytes, which follow. */
void mz_wire_put_head(struct mz_buf *b, unsigned field, size_t n);
void mz_wire_put_bytes(struct mz_buf *b, unsigned field, struct mz_str s);
#endif
