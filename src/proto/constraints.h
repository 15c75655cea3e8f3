#ifndef MZ_PROTO_CONSTRAINTS_H
#define MZ_PROTO_CONSTRAINTS_H
#include "base/alloc.h"

enum check {
    CHECK_REQUIRED, /* the message is present */
    CHECK_ONE_OF,   /* the oneof that this field is of has a choice; words: its name */
    CHECK_LENGTH, /* bytes of a string, lo..hi; an upper limit in characters is taken as one in bytes */
    CHECK_KEY_LENGTH,   /* the same of each key of a map */
    CHECK_ITEMS,        /* elements, lo..hi */
    CHECK_UNIQUE,       /* no element twice */
    CHECK_RANGE,        /* lo <= number <= hi, also within wrappers and of each element */
    CHECK_ABOVE,        /* number > lo */
    CHECK_NOT,          /* number != lo */
    CHECK_DURATION,     /* nanoseconds, lo..hi */
    CHECK_DEFINED,      /* the number of a value of the enum */
    CHECK_TRUE,         /* false is not allowed where the field is set */
    CHECK_WORD,         /* one of the words */
    CHECK_NO_CR_LF,     /* header name or value in its lenient form: no CR, no LF (NUL cannot be) */
    CHECK_HEADER_NAME,  /* token of RFC 9110, perhaps with a colon in front */
    CHECK_HEADER_VALUE, /* no control characters but the tab */
    CHECK_ENTRY_NAME,  /* of a collection's entry: letters, digits and _-.~: */
    CHECK_PATH_PREFIX, /* path_separated_prefix: no '?' or '#', no '/' at the end, two characters or more */
};
/* A row with a message opens the rows of its fields. */
struct constraint {
    const char *message;
    const char *field;
    enum check check;
    double lo, hi;
    const char *words;
};
extern const struct constraint constraints[];
extern const size_t constraints_n;
#endif
