#include "cli/command.h"

#include <stdio.h>

#include "base/str.h"

static bool has_word(const char *list, struct mz_str word)
{
    struct mz_str rest = mz_str_c(list);
    for (struct mz_str w; mz_str_split(&rest, ' ', &w);)
        if (mz_str_eq(w, word))
            return true;
    return false;
}

const struct command *command_find(const struct command *const *v, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (mz_str_eq(mz_str_c(v[i]->name), mz_str_c(name)) ||
            has_word(v[i]->aliases, mz_str_c(name)))
            return v[i];
    return NULL;
}

void command_usage(const struct command *c, const char *program)
{
    printf("%s\n\nUsage:\n  %s %s%s%s%s\n", c->help, program, c->name, c->sub ? " COMMAND" : "",
           c->arguments[0] ? " " : "", c->arguments);
    printf("%s", c->aliases[0] ? "\nAliases:\n  " : "");
    printf("%s%s", c->aliases, c->aliases[0] ? "\n" : "");
    if (c->sub)
        printf("\nCommands:\n");
    for (size_t i = 0; i < c->sub_n; i++)
        printf("  %-14s %s\n", c->sub[i]->name, c->sub[i]->help);
    if (c->flags_n)
        printf("\nFlags:\n");
    for (size_t i = 0; i < c->flags_n; i++) {
        const struct arg_flag *f = &c->flags[i];
        static const char *const values[] = { " string", " uint", "", " strings" };
        char name[80];
        (void)snprintf(name, sizeof(name), "--%s%s", f->name, values[f->kind]);
        if (f->letter)
            printf("  -%c, %-26s %s\n", f->letter, name, f->help);
        else
            printf("      %-26s %s\n", name, f->help);
    }
}

int command_args(const struct command *c, int argc, char **argv, void *options,
                 struct arg_result *out)
{
    char why[256];
    if (!args_parse(c->flags, c->flags_n, argc, argv, options, out, why)) {
        fprintf(stderr, "Error: %s\nRun 'mizzenctl %s --help' for usage.\n", why, c->name);
        return EXIT_USAGE;
    }
    if (out->help) {
        command_usage(c, "mizzenctl");
        return EXIT_OK;
    }
    return -1;
}

int command_usage_error(const struct command *c, const char *why)
{
    fprintf(stderr, "Error: %s\nRun 'mizzenctl %s --help' for usage.\n", why, c->name);
    return EXIT_ERROR;
}

int command_fail(const struct mz_err *err)
{
    char text[sizeof(*err)];
    fprintf(stderr, "Error: %s\n", mz_err_text(err, text, sizeof(text)));
    return EXIT_ERROR;
}
