#include "filters/tracers/context.h"

#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What is taken can be written, and is the same when it comes back. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mz_str all = { (const char *)data, n }, rest = all;
    struct trace_context c, again;
    char text[TRACEPARENT_TEXT];
    if (traceparent_parse(all, &c)) {
        traceparent_write(&c, text);
        MZ_ASSERT(traceparent_parse(mz_str_c(text), &again) && again.id == c.id &&
                  again.trace_lo == c.trace_lo && again.sampled == c.sampled);
    }
    if (b3_single_parse(all, &c))
        MZ_ASSERT(!c.has_ids || (c.trace_hi | c.trace_lo));
    struct b3_headers h = { 0 };
    struct mz_str *const fields[] = { &h.trace, &h.id, &h.parent, &h.sampled, &h.flags };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        (void)mz_str_split(&rest, '\n', fields[i]);
    if (b3_parse(&h, &c))
        MZ_ASSERT(!c.has_ids || h.trace.n);
    return 0;
}
