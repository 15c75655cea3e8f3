#include "http/validate.h"

#include "base/alloc.h"

/* clang-format off */
const uint8_t mz_token_lower[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
    ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|', ['~'] = '~',
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6', ['7'] = '7',
    ['8'] = '8', ['9'] = '9',
#define L(up, low) [up] = low, [low] = low
    L('A', 'a'), L('B', 'b'), L('C', 'c'), L('D', 'd'), L('E', 'e'), L('F', 'f'), L('G', 'g'), L('H', 'h'),
    L('I', 'i'), L('J', 'j'), L('K', 'k'), L('L', 'l'), L('M', 'm'), L('N', 'n'), L('O', 'o'), L('P', 'p'),
    L('Q', 'q'), L('R', 'r'), L('S', 's'), L('T', 't'), L('U', 'u'), L('V', 'v'), L('W', 'w'), L('X', 'x'),
    L('Y', 'y'), L('Z', 'z'),
#undef L
};

static const bool authority_char[256] = {
    ['0' ... '9'] = true, ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['!'] = true, ['$'] = true, ['%'] = true,
    ['&'] = true, ['\''] = true, ['('] = true, [')'] = true, ['*'] = true, ['+'] = true, [','] = true, ['-'] = true,
    ['.'] = true, [':'] = true, [';'] = true, ['='] = true, ['['] = true, [']'] = true, ['_'] = true, ['~'] = true,
};

static const struct mz_str methods[] = {
    MZ_STR_INIT("GET"), MZ_STR_INIT("POST"), MZ_STR_INIT("PUT"), MZ_STR_INIT("HEAD"), MZ_STR_INIT("DELETE"),
    MZ_STR_INIT("OPTIONS"), MZ_STR_INIT("PATCH"), MZ_STR_INIT("CONNECT"), MZ_STR_INIT("TRACE"), MZ_STR_INIT("ACL"),
    MZ_STR_INIT("BIND"), MZ_STR_INIT("CHECKOUT"), MZ_STR_INIT("COPY"), MZ_STR_INIT("LINK"), MZ_STR_INIT("LOCK"),
    MZ_STR_INIT("M-SEARCH"), MZ_STR_INIT("MERGE"), MZ_STR_INIT("MKACTIVITY"), MZ_STR_INIT("MKCALENDAR"),
    MZ_STR_INIT("MKCOL"), MZ_STR_INIT("MOVE"), MZ_STR_INIT("NOTIFY"), MZ_STR_INIT("PROPFIND"),
    MZ_STR_INIT("PROPPATCH"), MZ_STR_INIT("PURGE"), MZ_STR_INIT("REBIND"), MZ_STR_INIT("REPORT"),
    MZ_STR_INIT("SEARCH"), MZ_STR_INIT("SOURCE"), MZ_STR_INIT("SUBSCRIBE"), MZ_STR_INIT("UNBIND"),
    MZ_STR_INIT("UNLINK"), MZ_STR_INIT("UNLOCK"), MZ_STR_INIT("UNSUBSCRIBE"),
};
/* clang-format on */

bool mz_header_name_valid(struct mz_str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!mz_token_lower[(unsigned char)name.p[i]])
            return false;
    return name.n > 0;
}

bool mz_header_name_lower(struct mz_str name)
{
    for (size_t i = 0; i < name.n; i++)
        if (!name.p[i] || (char)mz_token_lower[(unsigned char)name.p[i]] != name.p[i])
            return false;
    return name.n > 0;
}

bool mz_header_value_valid(struct mz_str value)
{
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

bool mz_method_known(struct mz_str method)
{
    for (size_t i = 0; i < MZ_COUNT(methods); i++)
        if (mz_str_eq(method, methods[i]))
            return true;
    return false;
}

bool mz_method_prefix(struct mz_str start)
{
    for (size_t i = 0; i < MZ_COUNT(methods); i++)
        if (mz_str_starts(methods[i], start))
            return true;
    return false;
}

bool mz_authority_valid(struct mz_str authority)
{
    for (size_t i = 0; i < authority.n; i++)
        if (!authority_char[(unsigned char)authority.p[i]])
            return false;
    return true;
}

bool mz_target_valid(struct mz_str target)
{
    for (size_t i = 0; i < target.n; i++)
        if (target.p[i] <= 0x20 || target.p[i] == 0x7f) /* a char above 0x7f is negative */
            return false;
    return target.n > 0;
}

bool mz_list_next(struct mz_str *rest, struct mz_str *out_element)
{
    struct mz_str e;
    while (mz_str_split(rest, ',', &e)) {
        e = mz_str_trim(e);
        if (e.n) {
            *out_element = e;
            return true;
        }
    }
    return false;
}

bool mz_list_has(struct mz_str list, struct mz_str word)
{
    for (struct mz_str e; mz_list_next(&list, &e);)
        if (mz_str_ieq(e, word))
            return true;
    return false;
}
