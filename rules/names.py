"""What the names in a rule mean in one run: which tag or expression each metric is.

A metric is the first of its candidates whose tags the run has logged, from then on and for good: a rule
must not change its subject half way. Names are asked when a tick closes, so the order of tags inside it
does not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rules.compile import Alias
from rules.tree import Aligned, Each, Metric, Missing, Node, Tag, children, walk, with_children


class Names:
    """One run's metrics.

    Args:
        aliases: every metric's candidates.
        tags: what the run has logged; grows.
    """

    def __init__(self, aliases: Mapping[str, Alias], tags: Collection[str]) -> None:
        self._aliases = aliases
        self._tags = tags
        self._chosen: dict[str, tuple[str, Node]] = {}

    def chosen(self, name: str) -> str | None:
        """The candidate that a metric is: a tag, or "=expression"; None while it is unresolved."""
        return self._chosen[name][0] if name in self._chosen else None

    def metric(self, name: str) -> Node | None:
        """What a metric is in this run; the first candidate that exists sticks."""
        if name in self._chosen:
            return self._chosen[name][1]
        alias = self._aliases.get(name)
        for candidate in alias.candidates if alias else ():
            if candidate.tree is None:
                tree: Node = Tag(candidate.text) if candidate.text in self._tags else Missing()
            else:
                tree = self.tree(candidate.tree)
            if not any(isinstance(part, Missing) for part in walk(tree)):
                assert alias is not None
                if alias.same_step and not isinstance(tree, Tag):
                    tree = Aligned(tree)
                self._chosen[name] = (candidate.text, tree)
                return tree
        return None

    def settled(self, node: Node, tag: str | None, captures: Mapping[str, str]) -> Node:
        """As `tree`, but nothing is chosen by asking: what no tick has settled yet is Missing."""
        if isinstance(node, Metric):
            return self._chosen[node.name][1] if node.name in self._chosen else Missing()
        return self.tree(node, tag, captures)

    def tree(self, node: Node, tag: str | None = None, captures: Mapping[str, str] | None = None) -> Node:
        """A tree with its names replaced by this run's tags; what is not there (yet) is Missing."""
        match node:
            case Metric():
                return self.metric(node.name) or Missing()
            case Each():
                return Tag(tag) if tag is not None else Missing()
            case Tag():
                name = node.name
                for capture, text in (captures or {}).items():
                    name = name.replace(f"{{{capture}}}", text)
                return Tag(name) if name in self._tags else Missing()
        return with_children(node, [self.tree(child, tag, captures) for child in children(node)])
