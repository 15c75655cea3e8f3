#include "control/model/duration.h"

bool mz_duration_parse(struct mz_str text, uint64_t *out_ms)
{
    uint64_t total = 0, n = 0;
    bool digits = false;
    for (size_t i = 0; i < text.n; i++) {
        const char c = text.p[i];
        if (c >= '0' && c <= '9' && n < 1000000000) {
            n = n * 10 + (uint64_t)(c - '0');
            digits = true;
            continue;
        }
        const bool ms = c == 'm' && i + 1 < text.n && text.p[i + 1] == 's';
        if (!digits || (c != 'h' && c != 'm' && c != 's'))
            return false;
        total += n * (ms ? 1 : c == 'h' ? 3600000 : c == 'm' ? 60000 : 1000);
        i += ms;
        n = 0;
        digits = false;
    }
    if (!text.n || (digits && (n || total))) /* a number needs its unit, but for 0 */
        return false;
    *out_ms = total;
    return true;
}
