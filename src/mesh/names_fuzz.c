/* Questions at the node's name server: an answer is never longer than the question, has its number, and holds no records. */
#include <stdlib.h>
#include <string.h>

#include "mesh/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n > MZ_MESH_QUESTION_MAX)
        return 0;
    unsigned char *m = malloc(n + 1); /* of its size: what is read behind it is seen */
    if (!m)
        return 0;
    memcpy(m, p, n);
    const size_t answer = mz_mesh_no_such_name(m, n);
    const bool fine = !answer || (answer >= 17 && answer <= n && m[2] & 0x80 &&
                                  memcmp(m, p, 2) == 0 && m[7] == 0 && m[9] == 0 && m[11] == 0 &&
                                  memcmp(m + 12, p + 12, answer - 12) == 0);
    if (!fine || (answer && mz_mesh_no_such_name(m, answer)))
        abort(); /* an answer is no question */
    free(m);
    return 0;
}
