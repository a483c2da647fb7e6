"""Looks at every request of a recording that was accepted. A call's arguments must be valid under the
schema that the server published for the tool, any other request under the schema that the protocol
publishes for it (it comes with mcp-fuzzer). `accepted.py LOG...` fails where one is not."""

import json
import pathlib
import sys

import jsonschema
import mcp_fuzzer

SPEC = pathlib.Path(mcp_fuzzer.__file__).parent / "schemas/mcp-spec/schema"
MODERN = "2026-07-28"


def requests_of(revision):
    """By method: what the protocol says a request looks like."""
    document = json.loads((SPEC / revision / "schema.json").read_text())
    rules = {}
    for entry in document["$defs"]["ClientRequest"]["anyOf"]:
        name = entry["$ref"].rsplit("/", 1)[1]
        method = document["$defs"][name]["properties"]["method"]["const"]
        rules[method] = jsonschema.Draft202012Validator({**entry, "$defs": document["$defs"]})
    return rules


PUBLISHED = {revision: requests_of(revision) for revision in ("2025-11-25", MODERN)}


def problem_of(message, schemas):
    """Why a request that was accepted should not have been, or None."""
    params = message.get("params") or {}
    if message["method"] == "tools/call":
        rule = jsonschema.Draft202012Validator(schemas[params["name"]])
        found = rule.iter_errors(params.get("arguments") or {})
    else:
        said = (params.get("_meta") or {}).get("io.modelcontextprotocol/protocolVersion")
        rule = PUBLISHED[MODERN if said == MODERN else "2025-11-25"].get(message["method"])
        rule = rule or PUBLISHED[MODERN].get(message["method"])
        if rule is None:
            return "there is no such method"
        found = rule.iter_errors(message)
    first = next(found, None)
    return first and first.message[:200]


def messages(path):
    for line in open(path, encoding="utf-8"):
        said = json.loads(line)
        try:
            message = json.loads(said["text"])
        except ValueError:
            continue
        if isinstance(message, dict):
            yield said["who"], message


def look(path):
    schemas, asked = {}, {}
    calls, others, refused, errors = 0, 0, 0, 0
    wrong = []
    for who, message in messages(path):
        key = json.dumps(message.get("id"))
        if who == "client":
            if isinstance(message.get("method"), str) and message.get("id") is not None:
                asked[key] = message
            continue
        result = message.get("result")
        if isinstance(result, dict) and isinstance(result.get("tools"), list):
            schemas.update({tool["name"]: tool["inputSchema"] for tool in result["tools"]})
        request = asked.pop(key, None) if message.get("id") is not None else None
        if request is None:
            continue
        if "error" in message:
            errors += 1
        elif result.get("isError"):
            refused += 1
        else:
            calls += request["method"] == "tools/call"
            others += request["method"] != "tools/call"
            if problem := problem_of(request, schemas):
                wrong.append(f"{problem}: {json.dumps(request)[:300]}")
    assert schemas, f"{path}: the tools were never listed"
    print(f"{pathlib.Path(path).name}: {calls} calls and {others} other requests accepted, of which "
          f"{len(wrong)} malformed; {refused} calls refused in words, {errors} errors of the protocol, "
          f"{len(asked)} refused by the transport alone")
    for problem in wrong:
        print("accepted, though", problem)
    return not wrong


if not all([look(path) for path in sys.argv[1:]]):
    sys.exit(1)
