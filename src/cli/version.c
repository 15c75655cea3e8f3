/* version, completion. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cli/command.h"
#include "cli/dump.h"
#include "cli/print.h"

#include "revision.h" /* generated: the commit that was built */

struct version_options {
    const char *output, *where;
    enum arg_maybe remote;
    bool brief;
};
#define AT(member) offsetof(struct version_options, member)
static const struct arg_flag version_flags[] = {
    { "output", 'o', ARG_TEXT, AT(output), "One of 'yaml' or 'json'" },
    { "short", 's', ARG_SWITCH, AT(brief),
      "Use --short=false to generate full version information" },
    { "control-plane", 0, ARG_TEXT, AT(where),
      "Monitoring address of a mizzend whose version is asked, too" },
    { "remote", 0, ARG_MAYBE, AT(remote),
      "Use --remote to ask the control plane of this machine, --remote=false to ask none" },
};
#undef AT

/* The client's, as the document that -o prints. */
static const char client[] =
    "{\"clientVersion\":{\"version\":\"" MZ_REVISION "\",\"revision\":\"" MZ_REVISION "\"}}";

static int print_document(enum show_form form)
{
    struct mz_err err;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    const struct mz_node *n = mz_tree_read(a, mz_str_c(client), MZ_TEXT_JSON, &err);
    if (n)
        show_print(n, form, false, stdout);
    mz_arena_destroy(a);
    return n ? EXIT_OK : EXIT_ERROR;
}

static int print_remote(const char *where)
{
    struct mz_err err = { .path = "", .msg = "" };
    struct dump d;
    const bool ok = dump_load(&d, where, 15014, "/version?format=json", NULL, &err);
    if (ok)
        printf("control plane version: %.*s\n", MZ_STR_ARG(mz_node_text(d.root, "version")));
    dump_fini(&d);
    return ok ? EXIT_OK : command_fail(&err);
}

static int run_version(const struct command *c, int argc, char **argv)
{
    struct version_options o = { .brief = true };
    struct arg_result r;
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    if (o.output && strcmp(o.output, "json") != 0 && strcmp(o.output, "yaml") != 0)
        return command_usage_error(c, "--output must be 'yaml' or 'json'");
    if (o.output)
        return print_document(o.output[0] == 'y' ? SHOW_YAML : SHOW_JSON);
    if (o.brief)
        printf("client version: %s\n", MZ_REVISION);
    else
        printf("client version: version.BuildInfo{Version:\"%s\", GitRevision:\"%s\"}\n",
               MZ_REVISION, MZ_REVISION);
    if (!o.where && o.remote == ARG_YES)
        o.where = "127.0.0.1:15014";
    return o.where && o.remote != ARG_NO ? print_remote(o.where) : EXIT_OK;
}

const struct command command_version = {
    .name = "version",
    .aliases = "",
    .arguments = "",
    .run = run_version,
    .flags = version_flags,
    .flags_n = MZ_COUNT(version_flags),
    .help = "Prints out build version information",
};

/* ---- completion ---- */

static void words(const struct command *const *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%s%s", i ? " " : "", v[i]->name);
}

static void flags(const struct command *c)
{
    for (size_t i = 0; i < c->flags_n; i++)
        printf("--%s ", c->flags[i].name);
    printf("--help");
}

/* A case per command; zsh reads it too, by bashcompinit. */
static void bash(void)
{
    printf("_mizzenctl() {\n    local cur=${COMP_WORDS[COMP_CWORD]} words=\n    case "
           "\"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
    for (size_t i = 0; i < commands_n; i++)
        for (size_t j = 0; j < commands[i]->sub_n; j++) {
            printf("    '%s %s') words='", commands[i]->name, commands[i]->sub[j]->name);
            flags(commands[i]->sub[j]);
            printf("' ;;\n");
        }
    for (size_t i = 0; i < commands_n; i++) {
        printf("    '%s '*) words='", commands[i]->name);
        if (commands[i]->sub)
            words(commands[i]->sub, commands[i]->sub_n);
        else
            flags(commands[i]);
        printf("' ;;\n");
    }
    printf("    *) words='");
    words(commands, commands_n);
    printf("' ;;\n    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n    [ "
           "${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\ncomplete -o "
           "filenames -F _mizzenctl mizzenctl\n");
}

static void fish(void)
{
    for (size_t i = 0; i < commands_n; i++) {
        const struct command *c = commands[i];
        printf("complete -c mizzenctl -n __fish_use_subcommand -a %s -d '%s'\n", c->name, c->help);
        for (size_t j = 0; j < c->sub_n; j++)
            printf("complete -c mizzenctl -n '__fish_seen_subcommand_from %s' -a %s\n", c->name,
                   c->sub[j]->name);
        for (size_t j = 0; j < c->flags_n; j++)
            printf("complete -c mizzenctl -n '__fish_seen_subcommand_from %s' -l %s\n", c->name,
                   c->flags[j].name);
    }
}

static int run_completion(const struct command *c, int argc, char **argv)
{
    struct arg_result r;
    const int rc = command_args(c, argc, argv, NULL, &r);
    if (rc >= 0)
        return rc;
    const char *shell = r.others.n == 1 ? r.others.v[0] : "";
    if (strcmp(shell, "zsh") == 0)
        printf("#compdef mizzenctl\nautoload -U +X bashcompinit && bashcompinit\n");
    if (strcmp(shell, "zsh") == 0 || strcmp(shell, "bash") == 0)
        bash();
    else if (strcmp(shell, "fish") == 0)
        fish();
    else
        return command_usage_error(c, "completion requires the name of a shell: bash, zsh or fish");
    return EXIT_OK;
}

const struct command command_completion = {
    .name = "completion",
    .aliases = "",
    .arguments = "bash|zsh|fish",
    .run = run_completion,
    .help = "Prints a script for the given shell that completes commands and flags",
};
