#include "control/options.h"

#include <string.h>

#include "base/alloc.h"
#include "base/flags.h"
#include "base/log.h"

#include "revision.h" /* generated: the commit that was built */

/* clang-format off */
static const struct mz_flag flags[] = {
#define AT(member) offsetof(struct mz_control_options, member)
    { "config-dir", 'c', MZ_FLAG_TEXTS, AT(config_dirs),
      "Directory of documents (YAML, JSON) of Kubernetes and Istio. May be given several times: of one object in two of them the first counts" },
    { "mesh-config", 0, MZ_FLAG_TEXT, AT(mesh_config), "File with the MeshConfig. Default is mesh.yaml in the directory, if it is there" },
    { "domain", 0, MZ_FLAG_TEXT, AT(domain), "DNS domain of services. Default is cluster.local" },
    { "service-cidr", 0, MZ_FLAG_TEXT, AT(service_cidr),
      "Ranges that Services without clusterIP get one from, as an API server would give it: one of IPv4, one of IPv6; services that do not name their ipFamilies "
      "get one of the first. Default is 10.96.0.0/16,fd00:10:96::/112; \"\" is none" },
    { "mode", 0, MZ_FLAG_TEXT, AT(mode),
      "'serve' (default): watches the directory and serves xDS. 'validate': reads the directory, prints what is wrong, and exits: 0 when nothing is broken (warnings do not count), else 1. "
      "'dump': writes what the proxy of --node would be given into cds.json, eds.json, lds.json and rds.json of --output. "
      "'status': writes the status of each object below --status-dir, and exits. "
      "'token': prints a token for the service account of --account, signed with the key in --ca-dir" },
    { "grpc-addr", 0, MZ_FLAG_TEXT, AT(grpc_addr), "Address and port for xDS over plain gRPC. Default is :15010, every address" },
    { "secure-grpc-addr", 0, MZ_FLAG_TEXT, AT(secure_grpc_addr),
      "Address and port for xDS and certificates over TLS; clients show a certificate or a token. Default is :15012; \"\" is none" },
    { "webhook-addr", 0, MZ_FLAG_TEXT, AT(webhook_addr),
      "Address and port for /inject and /validate over HTTPS, as an API server asks them. Default is :15017; \"\" is none" },
    { "inject-image", 0, MZ_FLAG_TEXT, AT(inject_image), "Image of proxies that are injected" },
    { "ca-dir", 0, MZ_FLAG_TEXT, AT(ca_dir),
      "Directory of the authority: ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem that are plugged in; or it gets a root of its own. "
      "Without it the root lasts as long as the process" },
    { "workload-cert-ttl", 0, MZ_FLAG_NUMBER, AT(workload_ttl_s), "Seconds that a certificate lasts where the request does not say. Default is 86400" },
    { "max-workload-cert-ttl", 0, MZ_FLAG_NUMBER, AT(max_workload_ttl_s), "The most seconds that a request may ask for. Default is 7776000" },
    { "ca-root-ttl", 0, MZ_FLAG_NUMBER, AT(root_ttl_s), "Seconds that a root of its own lasts; it is renewed when a fifth is left. Default is 10 years" },
    { "ca-refresh-ms", 0, MZ_FLAG_NUMBER, AT(refresh_ms), "How often files and dates of the authority are looked at. Default is 5000" },
    { "token-issuer", 0, MZ_FLAG_TEXT, AT(token_issuer), "Another issuer of tokens whose keys are in --token-jwks" },
    { "token-jwks", 0, MZ_FLAG_TEXT, AT(token_jwks), "File with the keys of --token-issuer (JWKS)" },
    { "keys-dir", 0, MZ_FLAG_TEXT, AT(keys_dir),
      "Directory that keeps the last good keys fetched for JWT rules (jwksUri), so that tokens are good after a restart though the issuer is down" },
    { "status-dir", 0, MZ_FLAG_TEXT, AT(status_dir),
      "Directory for the status of objects (NAMESPACE/KIND/NAME.yaml); 'serve' keeps it up to date. It is made; not below --config-dir" },
    { "account", 0, MZ_FLAG_TEXT, AT(account), "For 'token': NAMESPACE/NAME of a service account" },
    { "token-ttl", 0, MZ_FLAG_NUMBER, AT(token_ttl_s), "For 'token': seconds that it lasts. Default is 43200" },
    { "monitoring-addr", 0, MZ_FLAG_TEXT, AT(monitoring_addr),
      "Address and port for /ready, /metrics, /version, and /debug for clients on this machine. Default is :15014; \"\" is none" },
    { "node", 0, MZ_FLAG_TEXT, AT(node), "For 'dump': file with the Node message of a proxy, as JSON or YAML" },
    { "output", 'o', MZ_FLAG_TEXT, AT(output), "For 'dump': directory to write to; it is made" },
    { "log-level", 'l', MZ_FLAG_TEXT, AT(log_level), "Log levels: [trace][debug][info][warning|warn][error][critical][off]. Default is [info]" },
    { "component-log-level", 0, MZ_FLAG_TEXT, AT(component_log_level), "Comma-separated list of component log levels, as config:debug" },
    { "log-format", 0, MZ_FLAG_TEXT, AT(log_format), "Log message format in spdlog syntax" },
    { "log-as-json", 0, MZ_FLAG_SWITCH, AT(log_as_json), "Log messages as JSON objects with time, level, logger and message" },
    { "log-path", 0, MZ_FLAG_TEXT, AT(log_path), "Path to logfile" },
#undef AT
};
/* clang-format on */

static int check(const char *program, const struct mz_control_options *o)
{
    enum mz_log_level level;
    const bool token = strcmp(o->mode, "token") == 0;
    if (token && (!o->account || !o->ca_dir))
        return mz_flags_refuse(program, "(--mode)", "error: 'token' needs --account and --ca-dir");
    if (!o->config_dirs.n && !token)
        return mz_flags_refuse(program, "(--config-dir)", "error: it is required");
    if (strcmp(o->mode, "serve") != 0 && strcmp(o->mode, "validate") != 0 &&
        strcmp(o->mode, "dump") != 0 && strcmp(o->mode, "status") != 0 && !token)
        return mz_flags_refuse(
            program, "(--mode)",
            "error: unknown mode, it is 'serve', 'validate', 'dump', 'status' or "
            "'token'");
    if (strcmp(o->mode, "status") == 0 && !o->status_dir)
        return mz_flags_refuse(program, "(--mode)", "error: 'status' needs --status-dir");
    if (strcmp(o->mode, "dump") == 0 && (!o->node || !o->output))
        return mz_flags_refuse(program, "(--mode)", "error: 'dump' needs --node and --output");
    if (!mz_log_level_parse(mz_str_c(o->log_level), &level))
        return mz_flags_refuse(program, "(--log-level)", "error: invalid log level specified");
    return -1;
}

int mz_control_options_parse(int argc, char **argv, struct mz_control_options *out_options)
{
    const struct mz_program program = { "mizzend", "--config-dir <directory> [flags]", flags,
                                        MZ_COUNT(flags), MZ_REVISION };
    struct mz_control_options o = { .mode = "serve",
                                    .domain = "cluster.local",
                                    .service_cidr = "10.96.0.0/16,fd00:10:96::/112",
                                    .grpc_addr = ":15010",
                                    .monitoring_addr = ":15014",
                                    .secure_grpc_addr = ":15012",
                                    .webhook_addr = ":15017",
                                    .token_ttl_s = 43200,
                                    .log_level = "info" };
    int rc = mz_flags_parse(&program, argc, argv, &o);
    if (rc < 0)
        rc = check(argv[0], &o);
    if (rc < 0)
        *out_options = o;
    return rc;
}
