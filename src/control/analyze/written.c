#include "control/analyze/written.h"

#include "control/analyze/finders.h"
#include "control/model/model.h"

#define SEE "See https://istio.io/latest/docs/ops/deployment/application-requirements/"

static void fault(struct mz_documents *d, bool warning, const struct mz_object *o,
                  struct mz_str text)
{
    const struct mz_str key = mz_arena_printf(d->arena, "%.*s/%.*s/%.*s", MZ_STR_ARG(o->kind),
                                              MZ_STR_ARG(o->ns), MZ_STR_ARG(o->name));
    *mz_vec_push(&d->faults, MZ_MEM_CONFIG) =
        (struct mz_fault){ warning, false, o->file, key, o->line, text };
}

static void port(struct mz_documents *d, const struct mz_object *service, const struct mz_node *p)
{
    const struct mz_str name = mz_node_text(p, "name"), app = mz_node_text(p, "appProtocol");
    const ptrdiff_t dash = mz_str_chr(name, '-');
    const struct mz_str first = { name.p, dash < 0 ? name.n : (size_t)dash };
    if (mz_str_ieq(mz_node_text(p, "protocol"), MZ_STR("UDP")) ||
        mz_protocol_parse(app.n ? app : first) != MZ_PROTOCOL_UNKNOWN)
        return;
    fault(
        d, false, service,
        app.n ? mz_arena_printf(d->arena,
                                "service \"%.*s/%.*s/:\" doesn't follow Istio protocol selection. "
                                "This is not recommended, " SEE,
                                MZ_STR_ARG(service->name), MZ_STR_ARG(service->ns))
        : name.n
            ? mz_arena_printf(d->arena,
                              "service \"%.*s/%.*s/:\" port \"%.*s\" does not follow the Istio "
                              "naming convention. " SEE,
                              MZ_STR_ARG(service->name), MZ_STR_ARG(service->ns), MZ_STR_ARG(name))
            : mz_arena_printf(d->arena,
                              "service \"%.*s/%.*s/:\" has an unnamed port. This is not "
                              "recommended, " SEE,
                              MZ_STR_ARG(service->name), MZ_STR_ARG(service->ns)));
}

static void unused(void *arg, const struct mz_object *vs, bool whole, struct mz_str what)
{
    struct mz_documents *d = arg;
    (void)whole;          /* a warning in either case */
    what.n -= what.n > 0; /* the full stop */
    fault(d, true, vs, mz_arena_printf(d->arena, "virtualService %.*s", MZ_STR_ARG(what)));
}

static void warned(void *arg, const struct mz_object *of, uint32_t line, struct mz_str text)
{
    (void)line; /* of the object's first is told */
    fault(arg, true, of, text);
}

static void refused(void *arg, const struct mz_object *of, uint32_t line, struct mz_str text)
{
    (void)line;
    fault(arg, false, of, text);
}

void mz_documents_check_written(struct mz_documents *d)
{
    documents_index(d, true);
    objects_foreach(it, d, "Service")
    {
        const struct mz_node *ports = mz_node_at((*it)->tree, "spec.ports");
        for (size_t i = 0;
             !mz_str_eq((*it)->ns, MZ_STR("istio-system")) && i < mz_node_count(ports); i++)
            port(d, *it, ports->list[i]);
    }
    objects_foreach(it, d, "VirtualService") routes_unused(*it, d->arena, unused, d);
    objects_warn(d, warned, d);
    objects_refuse(d, refused, d);
}
