#ifndef MZ_OBSERVE_MATCHER_H
#define MZ_OBSERVE_MATCHER_H
/*
 * String, header and metadata matchers: routes, virtual clusters, retries and access-log filters share them. Built on the
 * main thread, immutable, any thread. A text that is not UTF-8 is matched as bytes, so a negated regex cannot be
 * passed by sending some (C13).
 */
#include "base/err.h"
#include "base/str.h"
#include "http/header_map.h"
#include "observe/metadata.h"

struct mz_string_match;
struct Envoy__Type__Matcher__V3__StringMatcher;
struct mz_string_match *
mz_string_match_build(const struct Envoy__Type__Matcher__V3__StringMatcher *m, struct mz_err *err);
void mz_string_match_destroy(struct mz_string_match *m); /* NULL is fine */
bool mz_string_match(const struct mz_string_match *m, struct mz_str s);
const char *mz_string_match_text(const struct mz_string_match *m); /* "exact b": for the story */
/* What can be said of every text that matches, for indexes: it is @out_text, or begins with it (also a regex whose first
 * characters are plain). */
enum mz_string_literal { MZ_STRING_OTHER, MZ_STRING_EXACT, MZ_STRING_PREFIX };
enum mz_string_literal mz_string_match_literal(const struct mz_string_match *m,
                                               struct mz_str *out_text);

struct mz_header_match;
struct Envoy__Config__Route__V3__HeaderMatcher;
struct mz_header_match *
mz_header_match_build(const struct Envoy__Config__Route__V3__HeaderMatcher *m, struct mz_err *err);
void mz_header_match_destroy(struct mz_header_match *m); /* NULL is fine */
/* Of several fields of one name any single value may match, none may when inverted (C10; Envoy 1.40). An absent header
 * matches only where treat_missing_header_as_empty or presence says so. */
bool mz_header_match(const struct mz_header_match *m, const struct mz_headers *h);
const char *
mz_header_match_text(const struct mz_header_match *m); /* "header x-a exact b": for the story */

/* True: it matches exactly when some field @out_name has the value @out_value. */
bool mz_header_match_exact(const struct mz_header_match *m, struct mz_str *out_name,
                           struct mz_str *out_value);

struct mz_metadata_match;
struct Envoy__Type__Matcher__V3__MetadataMatcher;
struct mz_metadata_match *
mz_metadata_match_build(const struct Envoy__Type__Matcher__V3__MetadataMatcher *m,
                        struct mz_err *err);
void mz_metadata_match_destroy(struct mz_metadata_match *m); /* NULL is fine */
/* @meta NULL: no namespace at all. An absent path matches present_match: false only; invert turns the outcome. */
bool mz_metadata_match(const struct mz_metadata_match *m, const struct mz_meta *meta);
bool mz_metadata_match_found(const struct mz_metadata_match *m,
                             const struct mz_meta *meta); /* does the path exist? */
#endif
