#include "observe/stream_info.h"

static const struct flag_name {
    struct mz_str brief, full;
} flag_names[MZ_FLAG__COUNT] = {
#define X(id, s, l) [MZ_FLAG_BIT_##id] = { MZ_STR_INIT(s), MZ_STR_INIT(l) },
    MZ_RESPONSE_FLAGS(X)
#undef X
};

size_t mz_flags_text(uint64_t flags, bool long_names, char out_text[MZ_FLAGS_TEXT])
{
    size_t n = 0;
    for (uint64_t rest = flags; rest; rest &= rest - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(rest);
        if (bit >= MZ_FLAG__COUNT)
            break;
        struct mz_str name = long_names ? flag_names[bit].full : flag_names[bit].brief;
        if (n)
            out_text[n++] = ',';
        memcpy(out_text + n, name.p, name.n);
        n += name.n;
    }
    if (n == 0)
        out_text[n++] = '-';
    return n;
}

bool mz_flag_parse(struct mz_str short_name, uint64_t *out_flag)
{
    for (unsigned i = 0; i < MZ_FLAG__COUNT; i++)
        if (mz_str_eq(short_name, flag_names[i].brief)) {
            *out_flag = 1ull << i;
            return true;
        }
    return false;
}
