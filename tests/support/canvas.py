"""Workflows of the canvas, made ready for the server as the browser does it."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from demo_server import ComfyServer, wait_until_up


def info_of(server: ComfyServer) -> dict[str, Any]:
    async def fetch() -> Any:
        async with aiohttp.ClientSession(server.url) as session:
            await wait_until_up(server, session)
            async with session.get("/object_info") as answer:
                return await answer.json()

    return asyncio.run(fetch())


def as_prompt(graph: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """A saved canvas in API format, as the browser makes it: widget values go to the inputs by their order."""
    links = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        info = object_info[node["type"]]
        sockets = {entry["name"] for entry in node["inputs"] if "widget" not in entry}
        linked = {entry["name"]: links[entry["link"]] for entry in node["inputs"] if entry["link"] is not None}
        inputs: dict[str, Any] = dict(linked)
        values = iter(node["widgets_values"])
        for group in ("required", "optional"):
            for name in info["input_order"].get(group, []):
                if name in sockets:
                    continue
                value = next(values)  # a widget keeps its value while something is connected to it
                inputs[name] = linked.get(name, value)
                spec = info["input"][group][name]
                if len(spec) > 1 and spec[1].get("control_after_generate"):
                    assert next(values) == "fixed"
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
