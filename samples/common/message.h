/* Parts of HTTP/1.1 messages. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HEAD_MAX = 65536, BODY_MAX = 16 << 20 };

/** Copies the first field @name of a head (start line and fields, each with its line end) to @out, cut to @cap. */
bool message_field(const char *head, size_t len, const char *name, char *out, size_t cap);
/** Length of a chunked body in place at @p; 0: not whole yet, -1: malformed. The decoded bytes move to the front. */
int64_t message_dechunk(char *p, size_t n, size_t *out_len);
