#ifndef MZ_BASE_REGEX_H
#define MZ_BASE_REGEX_H
/* RE2 behind a C face (one C++ file): linear time whatever the pattern and the text (E12). Immutable, any thread. */
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
struct mz_regex;
struct mz_regex *mz_regex_create(struct mz_str pattern, struct mz_err *err); /* NULL: err names the pattern and RE2's reason */
void mz_regex_destroy(struct mz_regex *r);
bool mz_regex_full(const struct mz_regex *r, struct mz_str text);   /* matches the whole text */
bool mz_regex_search(const struct mz_regex *r, struct mz_str text); /* anywhere */
/* Anywhere; out_groups[0] is the match, unmatched groups have p NULL. n is at most 16. */
bool mz_regex_groups(const struct mz_regex *r, struct mz_str text, struct mz_str *out_groups, unsigned n);
/* All matches replaced by @with (RE2's \1 \2 ..); the result lives in @a. */
struct mz_str mz_regex_replace(const struct mz_regex *r, struct mz_str text, struct mz_str with, struct mz_arena *a);
bool mz_regex_rewrite_ok(const struct mz_regex *r, struct mz_str with, struct mz_err *err); /* \N within the groups? */
unsigned mz_regex_size(const struct mz_regex *r); /* RE2 program size, for limits */
#endif
