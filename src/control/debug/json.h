#ifndef MZ_CONTROL_DEBUG_JSON_H
#define MZ_CONTROL_DEBUG_JSON_H
/* Writes JSON as it goes: open, key, value, close. Two blanks a level. */
#include "base/buf.h"

#define JSON_MAX_DEPTH 32
struct json_out {
    struct mz_buf *b;
    unsigned level;
    bool some[JSON_MAX_DEPTH]; /* of the group at this level something was written */
    bool keyed;                /* a key stands, its value comes */
};
void json_open(struct json_out *j, char bracket); /* '{' or '[' */
void json_close(struct json_out *j, char bracket);
void json_key(struct json_out *j, const char *key);
void json_key_str(struct json_out *j, struct mz_str key);
void json_str(struct json_out *j, struct mz_str s);
void json_u64(struct json_out *j, uint64_t v);
void json_bool(struct json_out *j, bool v);
void json_time(struct json_out *j, uint64_t wall_us); /* RFC 3339, UTC */
void json_raw(struct json_out *j, struct mz_str text); /* JSON by itself, its lines indented */
/* A member that is left out when it is empty. */
void json_member(struct json_out *j, const char *key, struct mz_str value);
#endif
