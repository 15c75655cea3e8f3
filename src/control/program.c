#include "control/program.h"

#include <stdio.h>

#include "base/log.h"
#include "control/analyze/report.h"
#include "control/model/model.h"

static void nobody(void *arg)
{
    (void)arg; /* the directory is read once */
}

static int validate(const struct mz_control_options *o)
{
    struct mz_store *store = mz_store_create(nobody, NULL);
    const struct mz_directory_opts d = { .dir = o->config_dir, .mesh_file = o->mesh_config };
    const struct mz_model_opts mo = { .domain = o->domain };
    struct mz_source *s = mz_directory_create(NULL, store, &d);
    struct mz_err err = { .path = "", .msg = "" };
    int rc = 1;
    if (!s->ops->start(s, &err)) {
        fprintf(stderr, "%s\n", err.msg);
    } else {
        struct mz_report_counts c = mz_report_print(s, stdout);
        struct mz_model *m = mz_model_build(store, &mo, NULL);
        printf("%s: %zu services, %u errors, %u warnings\n", o->config_dir, m->services_n, c.errors,
               c.warnings);
        mz_model_unref(m);
        rc = c.errors != 0;
    }
    s->ops->destroy(s);
    mz_store_destroy(store);
    return rc;
}

int mz_control_run(const struct mz_control_options *o)
{
    return validate(o);
}
