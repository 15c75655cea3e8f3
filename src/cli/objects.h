#ifndef MZ_CLI_OBJECTS_H
#define MZ_CLI_OBJECTS_H
/*
 * Which document decided, and where it stands: mizzend tells file and first line (/debug/mizzen/objects); where the file can be read
 * here, the line of the very rule. Everything lives until objects_fini().
 */
#include "cli/pods.h"

struct objects {
    struct dump list; /* root NULL: the control plane does not tell */
    struct mz_str dir; /* of files whose names are relative; "" the current one */
};
struct object_ref {
    struct mz_str kind, ns, name;
    struct mz_str where; /* "rules/reviews.yaml:12", within the mesh's folder; "" unknown */
};
void objects_load(struct objects *o, const struct pods *p); /* what goes wrong leaves the list empty */
void objects_fini(struct objects *o);
/**
 * @path: to the rule inside: "spec.http[1].match[0]", "spec.subsets[name=v1]"; NULL or not found: the document's first line.
 * @kind "" or an object that is not there: where is "".
 */
struct object_ref object_ref(const struct objects *o, const char *kind, struct mz_str ns, struct mz_str name, const char *path,
                             struct mz_arena *a);
/* The Service of this name, else the ServiceEntry that has it or lists it as a host: registries know entries by their hosts. */
struct object_ref object_of_service(const struct objects *o, struct mz_str ns, struct mz_str name, const char *path,
                                    struct mz_arena *a);
bool object_exists(const struct objects *o, const char *kind, struct mz_str ns, struct mz_str name);
/* Of "/apis/networking.istio.io/v1/namespaces/NS/virtual-service/NAME", as proxies have it; false: of another form. */
bool object_of_config(struct mz_str config, struct mz_arena *a, struct object_ref *out);
/* The document itself, read from its file; NULL: it cannot be. */
const struct mz_node *object_document(const struct objects *o, const struct object_ref *r, struct mz_arena *a);
/* The member that @path names. */
const struct mz_node *object_at(const struct mz_node *doc, const char *path);
#endif
