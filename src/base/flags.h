#ifndef MZ_BASE_FLAGS_H
#define MZ_BASE_FLAGS_H
/* A program's command line: one table of flags, its parser and its help, in Envoy's manner. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mz_flag_kind {
    MZ_FLAG_TEXT,   /* const char *, borrows argv */
    MZ_FLAG_TEXTS,  /* struct mz_flag_texts: may be given several times */
    MZ_FLAG_NUMBER, /* uint32_t */
    MZ_FLAG_SWITCH, /* bool */
};
enum { MZ_FLAG_TEXTS_MAX = 16 };
struct mz_flag_texts { /* in the order of the command line; borrows argv */
    const char *v[MZ_FLAG_TEXTS_MAX];
    size_t n;
};
struct mz_flag {
    const char *name; /* --name VALUE, --name=VALUE */
    char letter;      /* 0: none */
    enum mz_flag_kind kind;
    size_t at; /* offset in the program's struct of options */
    const char *help;
};
struct mz_program {
    const char *name, *usage; /* "mizzen-proxy", "-c <string> [flags]" */
    const struct mz_flag *flags;
    size_t flags_n;
    const char *version; /* printed by --version */
};
/* -1: go on; otherwise the process shall end with this exit code (what there was to say is printed). */
int mz_flags_parse(const struct mz_program *p, int argc, char **argv, void *out_options);
int mz_flags_refuse(const char *program, const char *arg, const char *why); /* prints; the exit code, 1 */
#endif
