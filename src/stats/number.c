#include "stats/stats_priv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 15 digits are always exact in decimal; 17 always read back: the first that does is the shortest without its zeros. */
static void shortest(double v, char digits[24], int *out_exponent)
{
    char text[40];
    for (int n = 15; n <= 17; n++) {
        (void)snprintf(text, sizeof(text), "%.*e", n - 1, v);
        if (strtod(text, NULL) == v)
            break;
    }
    size_t n = 0;
    const char *p = text;
    digits[0] = digits[1] = 0;
    for (; *p && *p != 'e'; p++)
        if (*p != '.')
            digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    digits[n] = 0;
    *out_exponent = (int)strtol(p + 1, NULL, 10);
}

static void with_exponent(const char *sign, const char *digits, int e, char out_text[DOUBLE_TEXT])
{
    (void)snprintf(out_text, DOUBLE_TEXT, "%s%c%s%se%c%02d", sign, digits[0], digits[1] ? "." : "",
                   digits + 1, e < 0 ? '-' : '+', abs(e));
}

static void without_exponent(const char *sign, const char *digits, int e,
                             char out_text[DOUBLE_TEXT])
{
    int n = (int)strlen(digits);
    if (e < 0)
        (void)snprintf(out_text, DOUBLE_TEXT, "%s0.%.*s%s", sign, -e - 1, "000", digits);
    else if (n <= e + 1)
        (void)snprintf(out_text, DOUBLE_TEXT, "%s%s%.*s", sign, digits, e + 1 - n,
                       "0000000000000000");
    else
        (void)snprintf(out_text, DOUBLE_TEXT, "%s%.*s.%s", sign, e + 1, digits, digits + e + 1);
}

const char *double_text(double v, char out_text[DOUBLE_TEXT])
{
    char digits[24];
    int e;
    if (!isfinite(v)) {
        (void)snprintf(out_text, DOUBLE_TEXT, "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
        return out_text;
    }
    shortest(fabs(v), digits, &e);
    if (e < -4 || e >= 16)
        with_exponent(signbit(v) ? "-" : "", digits, e, out_text);
    else
        without_exponent(signbit(v) ? "-" : "", digits, e, out_text);
    return out_text;
}

const char *double_json(double v, char out_text[DOUBLE_TEXT])
{
    char digits[24], other[DOUBLE_TEXT];
    int e;
    if (!isfinite(v))
        return "null";
    (void)double_text(v, out_text);
    shortest(fabs(v), digits, &e);
    with_exponent(signbit(v) ? "-" : "", digits, e, other);
    if (strlen(other) < strlen(out_text))
        memcpy(out_text, other, sizeof(other));
    return out_text;
}
