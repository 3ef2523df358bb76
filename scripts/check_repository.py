"""Documents name what there is: links lead somewhere, make targets exist, every crate has an owner, locks name no registry."""

import fnmatch
import json
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOT_OURS = {".git", ".weir", "target", "node_modules", ".venv"}
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
MAKE = re.compile(r"^(?:[A-Z_]+=\S+ )*make ([a-z][a-z0-9-]*)")


def files(pattern):
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name not in NOT_OURS)
        for name in sorted(fnmatch.filter(names, pattern)):
            yield pathlib.Path(folder) / name


def slug(heading):
    """The anchor GitHub gives a heading."""
    heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(text):
    return {slug(line.lstrip("#")) for line in FENCE.sub("", text).splitlines() if line.startswith("#")}


def links(path, text):
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists():
            yield f"links to {target}, which is not there"
        elif anchor and there.suffix == ".md" and anchor not in anchors(there.read_text()):
            yield f"links to {target}, a heading that is not there"


def make_targets():
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def named_targets(text, targets):
    commands = CODE.findall(FENCE.sub("", text))
    commands += [line.strip() for block in FENCE.findall(text) for line in block.splitlines()]
    for command in commands:
        found = MAKE.match(command)
        if found and found.group(1) not in targets:
            yield f"speaks of `make {found.group(1)}`, which is not there"


def owners():
    patterns = []
    for line in (ROOT / "CODEOWNERS").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            patterns.append(line.split()[0].strip("/"))
    for pattern in patterns:
        if pattern != "*" and not list(ROOT.glob(pattern)):
            yield f"CODEOWNERS: {pattern} is not there"
    for crate in sorted((ROOT / "crates").iterdir()):
        if (crate / "Cargo.toml").exists() and f"crates/{crate.name}" not in patterns:
            yield f"CODEOWNERS: crates/{crate.name} has no owner"


def locks():
    for path in files("package-lock.json"):
        packages = json.loads(path.read_text())["packages"]
        for name, package in packages.items():
            if "resolved" in package and not package.get("link"):
                yield f"{path.relative_to(ROOT)}: {name} names a registry; .npmrc says omit-lockfile-registry-resolved"
            if name and not package.get("link") and "integrity" not in package:
                yield f"{path.relative_to(ROOT)}: {name} has no hash"
    for path in files("requirements*.txt"):
        if re.search(r"^--(index|extra-index|find-links)", path.read_text(), re.MULTILINE):
            yield f"{path.relative_to(ROOT)} names a registry"


def main():
    targets = make_targets()
    wrong = [*owners(), *locks()]
    read = 0
    for path in files("*.md"):
        text = path.read_text()
        read += 1
        wrong += [f"{path.relative_to(ROOT)} {w}" for w in (*links(path, text), *named_targets(text, targets))]
    for line in wrong:
        print(line)
    print(f"documents: {read} read, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
