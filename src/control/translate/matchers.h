#ifndef MZ_CONTROL_TRANSLATE_MATCHERS_H
#define MZ_CONTROL_TRANSLATE_MATCHERS_H
/* Istio's patterns ("a", "a*", "*a", "*") as Envoy's matchers; everything lives in the arena. */
#include "control/translate/build.h"

pb_StringMatcher *tr_match_exact(struct mz_arena *a, struct mz_str text);
pb_StringMatcher *tr_match_prefix(struct mz_arena *a, struct mz_str text);
pb_StringMatcher *tr_match_suffix(struct mz_arena *a, struct mz_str text);
pb_StringMatcher *tr_match_regex(struct mz_arena *a, char *regex); /* keeps it */
/* @prefix stands in front of whatever the pattern says. */
pb_StringMatcher *tr_match_pattern(struct mz_arena *a, struct mz_str pattern, struct mz_str prefix);
pb_HeaderMatcher *tr_match_header(struct mz_arena *a, char *name, struct mz_str pattern, bool ignore_case);
/* Any of them; lists of headers that ignore case. */
pb_ListStringMatcher *tr_match_names(struct mz_arena *a, char *const *patterns, size_t n); /* NULL: of none */

pb_ValueMatcher *tr_value_string(struct mz_arena *a, pb_StringMatcher *m);
pb_ValueMatcher *tr_value_any(struct mz_arena *a, pb_ValueMatcher *const *v, size_t n); /* one by itself */
pb_ValueMatcher *tr_value_in_list(struct mz_arena *a, pb_ValueMatcher *of); /* an element of a list is like that */
pb_MetadataMatcher *tr_match_metadata(struct mz_arena *a, const char *filter, const char *const *path, size_t n,
                                      pb_ValueMatcher *value);
pb_CidrRange *tr_cidr(struct mz_arena *a, struct mz_str text); /* address or address/bits; NULL: neither */
struct mz_str tr_regex_quote(struct mz_arena *a, struct mz_str text); /* so that a regex takes it literally */
#endif
