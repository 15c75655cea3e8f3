#ifndef MZ_BASE_NEAR_H
#define MZ_BASE_NEAR_H
/* "Did you mean": of several candidates the one that is most like a word. */
#include "base/str.h"

struct mz_near {
    struct mz_str word, best; /* "" in best: none is like it. Both are the caller's */
    unsigned least;
    char text[160];
};
void mz_near_init(struct mz_near *n, struct mz_str word);
void mz_near_try(struct mz_near *n, struct mz_str candidate);
const char *mz_near_text(struct mz_near *n); /* `; did you mean "x"?`, or "" */
#endif
