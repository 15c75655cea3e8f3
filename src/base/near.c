#include "base/near.h"

#include <stdio.h>

void mz_near_init(struct mz_near *n, struct mz_str word)
{
    const unsigned third = word.n > 60 ? 20 : (unsigned)word.n / 3;
    *n = (struct mz_near){ .word = word, .least = third ? third : 1 };
}

/* What begins like a candidate is as near to it as one wrong letter. */
void mz_near_try(struct mz_near *n, struct mz_str candidate)
{
    const bool begins = n->word.n > 2 && mz_str_starts(candidate, n->word);
    const unsigned d = begins ? 1 : mz_str_distance(candidate, n->word, n->least);
    if (!candidate.n || d > n->least || (n->best.n && d == n->least))
        return;
    n->best = candidate;
    n->least = d;
}

const char *mz_near_text(struct mz_near *n)
{
    if (n->best.n)
        (void)snprintf(n->text, sizeof(n->text), "; did you mean \"%.*s\"?",
                       (int)(n->best.n > 100 ? 100 : n->best.n), n->best.p);
    return n->text;
}
