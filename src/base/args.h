#ifndef MZ_BASE_ARGS_H
#define MZ_BASE_ARGS_H
/*
 * Command lines in the manner of the field's tool: `-o json`, `-ojson`, `-o=json`, `--output json`, `--output=json`, switches also
 * as `--verbose=false`, `--` before arguments; flags and arguments in any order.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/alloc.h"

enum arg_kind {
    ARG_TEXT,   /* const char * */
    ARG_NUMBER, /* uint32_t */
    ARG_SWITCH, /* bool */
    ARG_MAYBE,  /* enum arg_maybe: a switch that may be left alone */
    ARG_LIST,   /* struct arg_list; may be repeated */
};
enum arg_maybe { ARG_UNSAID, ARG_YES, ARG_NO };
#define ARG_LIST_MAX 64
struct arg_list {
    const char *v[ARG_LIST_MAX];
    size_t n;
};
struct arg_flag {
    const char *name;
    char letter; /* 0: none */
    enum arg_kind kind;
    size_t at; /* in the command's options */
    const char *help;
};
struct arg_result {
    bool help;              /* --help or -h */
    struct arg_list others; /* what is no flag */
};
/* False: @out_why tells what is wrong with the command line ("unknown flag: --x"). Borrows argv. */
bool args_parse(const struct arg_flag *flags, size_t n, int argc, char **argv, void *options,
                struct arg_result *out, char out_why[256]);
#endif
