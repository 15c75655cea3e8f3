/* ps: the pods of a mesh on this machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/mesh.h"
#include "cli/table.h"
#include "mesh/json.h"

struct ps_options {
    const char *output;
    bool wide;
};
static const struct arg_flag ps_flags[] = {
    { "output", 'o', ARG_TEXT, offsetof(struct ps_options, output),
      "wide, or json: all there is to know" },
};

static json_int_t memory(json_t *containers)
{
    json_int_t sum = 0;
    size_t at;
    json_t *c;
    json_array_foreach(containers, at, c) sum += mz_json_number(c, "pss_kb", 0);
    return sum;
}

static unsigned ready_ones(json_t *containers, unsigned *out_all)
{
    unsigned ready = 0;
    size_t at;
    json_t *c;
    *out_all = 0;
    json_array_foreach(containers, at, c)
    {
        const char *state = mz_json_text(c, "state", "");
        const bool done = strcmp(state, "ended") == 0;
        *out_all += !done;
        ready += strcmp(state, "running") == 0;
    }
    return ready;
}

static void mib(struct table *t, json_int_t kb)
{
    table_cellf(t, "%.1f MiB", (double)kb / 1024);
}

static void pod_row(struct table *t, json_t *pod, bool wide)
{
    json_t *containers = json_object_get(pod, "containers");
    unsigned all;
    const unsigned up = ready_ones(containers, &all);
    const bool ready = json_is_true(json_object_get(pod, "ready")),
               leaving = json_is_true(json_object_get(pod, "leaving"));
    const char *phase = mz_json_text(pod, "phase", "");
    table_cell(t, mz_str_c(mz_json_text(pod, "namespace", "")));
    table_cell(t, mz_str_c(mz_json_text(pod, "name", "")));
    table_cellf(t, "%u/%u", up, all);
    table_cell(t, mz_str_c(leaving ? "Terminating" : ready ? "Ready" : phase));
    table_cellf(t, "%lld", (long long)mz_json_number(pod, "restarts", 0));
    table_cell(t, mz_str_c(mz_json_text(pod, "ip", "")));
    table_cell(t, mz_str_c(mz_json_text(pod, "proxy", "")));
    mib(t, memory(containers));
    if (wide)
        table_cell(t, mz_str_c(mz_json_text(pod, "why", "")));
    table_end_row(t);
}

static void own_row(struct table *t, json_t *list, const char *name)
{
    table_cell(t, MZ_STR("-"));
    table_cell(t, mz_str_c(name));
    table_cell(t, MZ_STR("1/1"));
    table_cell(t, MZ_STR("Running"));
    table_cell(t, MZ_STR("-"));
    table_cell(t, MZ_STR("10.244.0.1"));
    table_cell(t, MZ_STR("-"));
    mib(t, mz_json_number(json_object_get(list, name), "pss_kb", 0));
    table_end_row(t);
}

static void print_table(json_t *list, bool wide)
{
    struct table t;
    size_t at;
    json_t *one;
    table_init(&t, 3);
    table_head(&t, wide ? "NAMESPACE|NAME|UP|STATUS|RESTARTS|IP|PROXY|MEMORY|WAITS FOR"
                        : "NAMESPACE|NAME|UP|STATUS|RESTARTS|IP|PROXY|MEMORY");
    json_array_foreach(json_object_get(list, "pods"), at, one) pod_row(&t, one, wide);
    own_row(&t, list, "mizzend");
    own_row(&t, list, "supervisor");
    table_print(&t, stdout);
    table_fini(&t);
    json_array_foreach(json_object_get(list, "services_published"), at, one)
        printf("http://%s is port %lld of %s\n", mz_json_text(one, "host", ""),
               (long long)mz_json_number(one, "port", 0), mz_json_text(one, "service", ""));
}

static int run_ps(const struct command *c, int argc, char **argv)
{
    struct ps_options o = { .output = "" };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    const bool json = strcmp(o.output, "json") == 0;
    if (o.output[0] && !json && strcmp(o.output, "wide") != 0)
        return command_usage_error(c, "--output must be wide or json");
    if (r.others.n > 1)
        return command_usage_error(c, "at most one mesh can be named");
    struct mz_mesh_client *m = mz_mesh_open(r.others.n ? r.others.v[0] : NULL, &err);
    json_t *list = m ? mz_mesh_list(m, &err) : NULL;
    if (list && json) {
        char *text = json_dumps(list, JSON_INDENT(4));
        printf("%s\n", text ? text : "");
        free(text);
    } else if (list) {
        print_table(list, o.output[0] != 0);
    }
    mz_mesh_close(m);
    const bool ok = list != NULL;
    json_decref(list);
    return ok ? EXIT_OK : command_fail(&err);
}

const struct command command_ps = {
    .name = "ps",
    .aliases = "",
    .arguments = "[NAME|DIR]",
    .run = run_ps,
    .flags = ps_flags,
    .flags_n = MZ_COUNT(ps_flags),
    .help = "List the pods of a mesh on this machine, and published ports",
};
