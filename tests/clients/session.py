"""What each Python client does: predict, rank with progress, cancel, render, read the resource.

`client` is whatever the library gives; the few calls that differ are handed in as functions.
"""

import base64
import random
import sys
import time

PROMPT = "a red circle left of a blue square on a white background"
PNG = b"\x89PNG\r\n\x1a\n"


def structured(result):
    """The reply of a call that went well."""
    failed = getattr(result, "isError", None) or getattr(result, "is_error", None)
    assert not failed, result
    reply = getattr(result, "structured_content", None)
    return reply if reply is not None else result.structuredContent


async def session(call, list_tools, read_resource, give_up_after, about):
    """`call(tool, arguments, progress)`; `give_up_after(seconds, tool, arguments)`."""
    names = [tool.name for tool in await list_tools()]
    assert len(names) == 5 and "rank_seeds" in names, names

    reply = structured(await call("predict_quality", {"prompt": PROMPT, "seeds": [1, 2]}, None))
    assert reply["complete"] and len(reply["candidates"]) == 2, reply

    told = []

    async def progress(done, total, message):
        told.append((done, total))

    ranking = structured(await call("rank_seeds", {"prompt": PROMPT, "count": 6, "keep": 2}, progress))
    seeds = [row["seed"] for row in ranking["ranking"]]
    assert len(set(seeds)) == 6, ranking
    assert len(told) >= 2 and told[0][0] == 0 and told[-1][0] == told[-1][1], told
    assert all(a[0] < b[0] for a, b in zip(told, told[1:])), told

    # Seeds that no session had before: what a server has done already it answers at once.
    fresh = random.randrange(4_000_000_000)
    seeds = list(range(fresh, fresh + 250))
    await give_up_after(0.5, "predict_quality", {"prompt": "a green ring", "seeds": seeds})
    began = time.monotonic()
    structured(await call("predict_quality", {"prompt": "a cyan heart", "seeds": [3]}, None))
    waited = time.monotonic() - began
    assert waited < 20, f"the cancelled call was in the way for {waited:.0f} s"

    result = await call("render", {"handle": ranking["ranking"][0]["handle"]}, None)
    render = structured(result)
    kinds = [block.type for block in result.content]
    assert "image" in kinds and "resource_link" in kinds, kinds
    link = next(block for block in result.content if block.type == "resource_link")
    contents = await read_resource(str(link.uri))
    png = base64.b64decode(contents[0].blob)
    with open(render["path"], "rb") as file:
        assert png == file.read() and png.startswith(PNG)
    print(f"{about}: predicted, ranked with {len(told)} notes of progress, cancelled, rendered, read")


def target():
    """The era, and the URL or the command to talk to."""
    era, *rest = sys.argv[1:]
    return era, rest[0] if rest[0].startswith("http") else rest
