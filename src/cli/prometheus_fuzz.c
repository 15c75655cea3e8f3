/* Statistics of a proxy, as it answers them. */
#include <stdint.h>

#include "cli/prometheus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_str rest = { (const char *)data, size };
    struct prom_sample s;
    while (prom_next(&rest, &s)) {
        (void)prom_label(&s, "le");
        (void)prom_label(&s, "reporter");
    }
    return 0;
}
