#ifndef MZ_HTTP_VALIDATE_H
#define MZ_HTTP_VALIDATE_H
/*
 * What a header name, a value, a method, an authority may consist of (RFC 9110 5.1, 5.5, 9.1; RFC 3986 3.2). Tables only;
 * any thread.
 */
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

/* The lower-case form of a token character, 0 for every other byte. */
extern const uint8_t mz_token_lower[256];

bool mz_header_name_valid(struct mz_str name); /* a token; either case */
bool mz_header_name_lower(
    struct mz_str name); /* a token without upper-case letters, as HTTP/2 wants */
bool mz_header_value_valid(
    struct mz_str value); /* no control characters but TAB, no DEL; bytes above 0x7f are fine */
bool mz_method_known(
    struct mz_str method); /* the methods that Envoy's parser takes without allow_custom_methods */
bool mz_method_prefix(struct mz_str start); /* could still become a known method */
/* Host or :authority: may be empty, holds no user information, no slash, blank or control character (B06). */
bool mz_authority_valid(struct mz_str authority);
bool mz_target_valid(
    struct mz_str target); /* visible ASCII, not empty: a request target or :path (B10) */

/* Calls for each comma-separated, trimmed, non-empty element of a list header. */
bool mz_list_next(struct mz_str *rest, struct mz_str *out_element);
bool mz_list_has(struct mz_str list, struct mz_str word); /* case-insensitive */
#endif
