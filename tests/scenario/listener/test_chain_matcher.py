"""filter_chain_matcher (row L4): a tree of inputs chooses the chain by name. What it chooses is compared with Envoy in tests/conformance."""
import json
import socket
import subprocess

import config
import pytest
from wire import HOST, free_port, until

INPUT = "envoy.extensions.matching.common_inputs.network.v3."
NETWORK = "envoy.extensions.filters.network."


def chain(name, text):
    return {"name": name, "filters": [config.ext("direct", NETWORK + "direct_response.v3.Config", response={"inline_string": text})]}


def action(name):
    return {"action": config.ext("name", "google.protobuf.StringValue", value=name)}


def source_is(ip, then):
    single = {"input": config.ext("ip", INPUT + "SourceIPInput"), "value_match": {"exact": ip}}
    return {"matcher_list": {"matchers": [{"predicate": {"single_predicate": single}, "on_match": then}]}}


def listener(port, matcher, *chains):
    return {"name": "main", "stat_prefix": "main", "address": config.address(port), "filter_chains": list(chains), "filter_chain_matcher": matcher}


def say(port, source=HOST):
    with socket.create_connection((HOST, port), timeout=5, source_address=(source, 0)) as s:
        s.shutdown(socket.SHUT_WR)
        return s.recv(100).decode()


TREE = {"matcher_tree": {"input": config.ext("port", INPUT + "DestinationPortInput"), "exact_match_map": {"map": {"80": action("one")}}}}


@pytest.mark.parametrize("matcher,chains,said", [
    (source_is("1.2.3.4", action("one")), ["", "two"], ["filter_chains[0]", '"name" field is required']),
    (source_is("1.2.3.4", action("one")), ["one", "one"], ["filter_chains[1]", "duplicated with value 'one'"]),
    (source_is("1.2.3.4", {"action": config.ext("x", "google.protobuf.UInt32Value", value=1)}), ["one"],
     ["filter_chain_matcher.matcher_list.matchers[0].on_match.action.typed_config", "UInt32Value"]),
    ({"matcher_tree": {"input": config.ext("x", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name="a"),
                       "exact_match_map": {"map": {"b": action("one")}}}}, ["one"],
     ["filter_chain_matcher.matcher_tree.input.typed_config", "HttpRequestHeaderMatchInput"]),
    ({"matcher_tree": {**TREE["matcher_tree"], "exact_match_map": {"map": {"80": {"matcher": {"matcher_tree": {
        "input": config.ext("ip", INPUT + "DestinationIPInput"), "custom_match": config.ext("ip", "xds.type.matcher.v3.IPMatcher", range_matchers=[
            {"ranges": [{"address_prefix": "nowhere", "prefix_len": 8}], "on_match": action("one")}])}}}}}}}, ["one"],
     ['filter_chain_matcher.matcher_tree.exact_match_map.map["80"].matcher.matcher_tree.custom_match.typed_config.range_matchers[0].ranges[0]', "nowhere"]),
], ids=["no-name", "same-name", "action", "input-of-requests", "range"])
def test_errors_name_the_path(proxy_binary, is_envoy, tmp_path, matcher, chains, said):
    boot = config.bootstrap([listener(free_port(), matcher, *[chain(c, c) for c in chains])], [], free_port())
    (tmp_path / "boot.json").write_text(json.dumps(boot))
    r = subprocess.run([proxy_binary, "--mode", "validate", "-c", tmp_path / "boot.json"], capture_output=True, text=True)
    assert r.returncode == 1
    assert is_envoy or all(s in r.stderr for s in said), r.stderr


def test_a_new_tree_keeps_the_connections_of_its_chains(mesh):
    """Only chains that went drain (L7): another tree over the same chains is no new listener."""
    port, lds = free_port(), mesh.folder / "lds.json"
    echo = {"name": "echo", "filters": [config.ext("echo", NETWORK + "echo.v3.Echo")]}

    def write(matcher):
        new = mesh.folder / "lds.new"
        new.write_text(json.dumps({"resources": [{"@type": config.TYPE + "envoy.config.listener.v3.Listener", **listener(port, matcher, echo, chain("two", "two"))}]}))
        new.rename(lds)

    write(source_is(HOST, action("echo")))
    boot = config.bootstrap([], [], free_port())
    boot["dynamic_resources"] = {"lds_config": {"path_config_source": {"path": str(lds)}, "resource_api_version": "V3"}}
    px = mesh.proxy(boot=boot)
    with socket.create_connection((HOST, port), timeout=5) as kept:
        kept.sendall(b"a")
        assert kept.recv(10) == b"a"
        write(source_is(HOST, action("two")))
        until(lambda: px.stat("listener_manager.listener_in_place_updated") == 1, what="the update in place")
        until(lambda: say(port) == "two", what="the new tree")
        kept.sendall(b"b")
        assert kept.recv(10) == b"b"
    assert px.stat("listener.main.no_filter_chain_match") == 0
    assert say(port, "127.0.0.9") == ""
    px.wait_stat("listener.main.no_filter_chain_match", 1)
