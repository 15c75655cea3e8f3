#include "control/model/change.h"

static bool same_endpoints(const struct mz_service *a, const struct mz_service *b)
{
    for (size_t i = 0; i < a->ports_n; i++) /* of services with equal hashes: as many ports */
        if (a->endpoints[i].hash != b->endpoints[i].hash)
            return false;
    return true;
}

static void note(struct mz_change *c, const struct mz_service *s)
{
    (void)mz_map_put(&c->hosts, s->host, c);
}

void mz_change_init(struct mz_change *c, const struct mz_model *before,
                    const struct mz_model *after)
{
    *c = (struct mz_change){ .all = !before || before->mesh.hash != after->mesh.hash ||
                                    before->rules_hash != after->rules_hash ||
                                    before->mtls_hash != after->mtls_hash ||
                                    before->sidecars_hash != after->sidecars_hash };
    mz_map_init(&c->hosts, MZ_MEM_XDS);
    for (size_t i = 0; !c->all && i < after->services_n; i++) {
        const struct mz_service *now = after->services[i];
        if (mz_model_service_in(after, now->ns, now->host) != now)
            continue; /* nobody sees it */
        const struct mz_service *was = mz_model_service_in(before, now->ns, now->host);
        const bool same = was && was->hash == now->hash;
        c->services |= !same;
        if (!same || !same_endpoints(was, now))
            note(c, now);
    }
    for (size_t i = 0; !c->all && i < before->services_n; i++)
        if (!mz_model_service_in(after, before->services[i]->ns, before->services[i]->host)) {
            c->services = true;
            note(c, before->services[i]);
        }
}

void mz_change_fini(struct mz_change *c)
{
    mz_map_fini(&c->hosts);
}

bool mz_change_none(const struct mz_change *c)
{
    return !c->all && !c->services && c->hosts.n == 0;
}
