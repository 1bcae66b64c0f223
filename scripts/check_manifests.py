#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manifests of docs/deploy against the server that they start.

    scripts/check_manifests.py KILN

KILN is the program. Each manifest parses; probes are health paths on the port that the server
listens on; options are those of `kiln serve`; the grace period is longer than what goes before.
With the Python package kubernetes-validate, Kubernetes' schemas are asked too. Ends with 77 where
PyYAML is not installed.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "docs", "deploy")
HEALTH = {"livenessProbe": "/v2/health/live", "readinessProbe": "/v2/health/ready",
          "startupProbe": "/v2/health/ready"}
problems = []


def say(where, what):
    problems.append(f"{where}: {what}")


def options_of(program):
    text = subprocess.run([program, "serve", "--help"], capture_output=True, text=True,
                          check=True).stdout
    return set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", text))


def image_arguments():
    """The ENTRYPOINT of the images, which the arguments of a manifest follow."""
    with open(os.path.join(FOLDER, "Containerfile"), encoding="utf-8") as file:
        text = file.read()
    entries = re.findall(r"^ENTRYPOINT \[(.*)\]$", text, re.M)
    if len(set(entries)) != 1:
        say("Containerfile", "the images have different entry points")
    commands = re.findall(r"^CMD \[(.*)\]$", text, re.M)
    return [re.findall(r'"([^"]*)"', line) for line in (entries[0], *commands)]


def check_recipe():
    """What the recipe names of the tree is there, and what it ignores is not in it."""
    with open(os.path.join(FOLDER, "Containerfile"), encoding="utf-8") as file:
        text = file.read()
    with open(os.path.join(FOLDER, "Containerfile.dockerignore"), encoding="utf-8") as file:
        ignored = file.read().split()
    named = re.findall(r"(?<![\w/])((?:scripts|docs|cmake|src)/[\w./]+)", text)
    for path in named:
        if not os.path.exists(os.path.join(ROOT, path)):
            say("Containerfile", f"{path} is not there")
    if not any(path.startswith("scripts/") for path in named) or "build" not in ignored:
        say("Containerfile", "it runs no script, or copies the folder of builds")


def pod_specs(document):
    """(name, the specification that holds containers)."""
    spec = document.get("spec", {})
    if document["kind"] == "ServingRuntime":
        yield document["metadata"]["name"], spec
    elif "template" in spec:
        yield document["metadata"]["name"], spec["template"]["spec"]


def after(arguments, option, default):
    return arguments[arguments.index(option) + 1] if option in arguments else default


def check_container(where, container, pod, entry, known):
    arguments = [*container.get("command", entry), *container.get("args", [])]
    port = int(after(arguments, "--port", 8000))
    names = {p.get("name"): p["containerPort"] for p in container["ports"]}
    if port not in names.values():
        say(where, f"it listens on {port}, and its ports are {sorted(names.values())}")
    if after(arguments, "--host", "127.0.0.1") == "127.0.0.1":
        say(where, "it listens on the loopback, which no probe reaches")
    for option in [word for word in arguments if word.startswith("--")]:
        if option not in known:
            say(where, f"kiln serve has no option {option}")
    for probe, path in HEALTH.items():
        get = container.get(probe, {}).get("httpGet", {})
        if get.get("path") != path or names.get(get.get("port"), get.get("port")) != port:
            say(where, f"{probe} is {get}, and not {path} on port {port}")
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [0, 0])
    grace = pod.get("terminationGracePeriodSeconds")
    drain = int(after(arguments, "--drain-time", 25))
    if grace is not None and grace <= drain + int(sleep[-1]):
        say(where, f"{grace} s of grace are not longer than {sleep[-1]} + {drain} s")


def check_schema(path, document):
    try:
        import kubernetes_validate
    except ImportError:
        return False
    if "kserve" in document["apiVersion"]:
        return False
    try:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        say(path, f"{document['kind']}: {error.message}")
    return True


def main():
    try:
        import yaml
    except ImportError:
        print("PyYAML is not installed")
        return 77
    known = options_of(sys.argv[1])
    entry, *commands = image_arguments()
    for option in [word for line in (entry, *commands) for word in line if word.startswith("--")]:
        if option not in known:
            say("Containerfile", f"kiln serve has no option {option}")
    check_recipe()
    documents = containers = asked = 0
    for name in sorted(os.listdir(FOLDER)):
        if not name.endswith(".yaml"):
            continue
        with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
            parsed = list(yaml.safe_load_all(file))
        for document in parsed:
            documents += 1
            asked += check_schema(name, document)
            for owner, pod in pod_specs(document):
                for container in pod["containers"]:
                    containers += 1
                    check_container(f"{name}: {owner}", container, pod, entry, known)
    if containers == 0:
        say(FOLDER, "no manifest has a container")
    print("\n".join(problems) or
          f"{documents} manifests, {containers} containers; {asked} by schema")
    return 1 if problems else 0


sys.exit(main())
