# SPDX-License-Identifier: Apache-2.0
kiln doctor --json > found.json
"$python" -c '
import json
found = json.load(open("found.json"))
assert found["chosen"] in [b["name"] for b in found["backends"] if b["available"]], found
scores = {b["name"]: b["score"] for b in found["backends"]}
assert scores[found["chosen"]] == max(scores.values()), found
for library in found["libraries"]:
    assert library["state"] in ("found", "absent", "broken", "refused"), library
    assert (library["path"] != "") == (library["state"] in ("found", "refused")), library
    assert library["places"] and (library["state"] == "found" or library["advice"]), library
print("good")'
