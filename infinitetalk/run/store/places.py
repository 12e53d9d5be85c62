"""Where a class or a function comes from, in words that stay when an installation is moved or our folder is renamed.

ComfyUI loads custom nodes, and its own additional ones, under names that are the whole path of their folder.
"""

from __future__ import annotations

import functools

_HERE = ".infinitetalk.run.store.places"
_OURS = __name__.removesuffix(_HERE)
_NODES = "custom_nodes"
_EXTRAS = "comfy_extras"


def is_ours(module: str | None) -> bool:
    """Whether a module is one of this package."""
    return module is not None and (module == _OURS or module.startswith(_OURS + "."))


@functools.lru_cache(maxsize=4096)
def place_of(module: str | None) -> str:
    """The name of a module without the folder that it was loaded from.

    Ours are named from the package on, those of other custom nodes by what follows ``custom_nodes``.
    """
    if module is None:
        return ""
    if is_ours(module):
        return "longtalk" + module[len(_OURS) :]
    folders = module.replace("\\", "/").split("/")
    if len(folders) == 1:
        return module
    if _NODES in folders[:-1]:
        begin = len(folders) - folders[::-1].index(_NODES)
        return "/".join([_NODES, *folders[begin:]])
    return f"{_EXTRAS}.{folders[-1]}" if folders[-2] == _EXTRAS else folders[-1]
