#!/usr/bin/env bash
# The three requests of the specification (C11 to C13), placed, run, explained and deleted.
#
#   DWCP_CONFIG=deploy/t1-edge/federation.yaml ./dwcp up --detach
#   examples/three-requests.sh
#
# Works on Topology 1 too: there the third request is refused, because it asks for an edge, and
# the explanation names for every region what stands against it. Only `./dwcp cli` is used.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cli() { ./dwcp cli "$@"; }
say() { printf '\n=== %s\n' "$*"; }

# C11: a web server within 100 ms and 0.50 USD an hour.
web=(--tenant customer-123 --type compute --priority 5
  --spec "cpu:4,memory:8192,storage:100,bandwidth:1000"
  --constraints "max-latency:100,min-health:80,cost-limit:0.50"
  --origin london)
# C12: a database under GDPR whose data stays in the EU. No limits on latency and cost.
# The source also allows eu-central-1, which neither topology has.
database=(--tenant customer-456 --type storage --priority 10
  --spec "cpu:16,memory:65536,storage:1000")
database_limits="allowed-regions:eu-west-1,compliance:GDPR,data-locality:EU,min-health:95"
# C13: an IoT gateway on an edge within 10 ms of its users.
iot=(--tenant customer-789 --type compute --priority 8
  --spec "cpu:2,memory:4096,storage:50"
  --constraints "require-edge:true,max-latency:10,min-health:85"
  --origin tokyo)

placed=()
clean_up() {
  for vm in "${placed[@]}"; do cli vm delete "$vm" --yes --wait || true; done
}
trap clean_up EXIT

say "C11: a web server"
cli explain "${web[@]}"
cli place-vm --name vm-web-001 "${web[@]}" --wait
placed+=(vm-web-001)

say "C12: a GDPR database; where would it go without its limits?"
cli place-vm --name vm-db-001 "${database[@]}" --dry-run
say "C12: and with them"
cli explain "${database[@]}" --constraints "$database_limits"
cli place-vm --name vm-db-001 "${database[@]}" --constraints "$database_limits" --wait
placed+=(vm-db-001)
cli vm describe vm-db-001

say "C13: an IoT gateway at the edge"
if cli region describe edge-tokyo >/dev/null 2>&1; then
  cli explain "${iot[@]}"
  cli place-vm --name vm-iot-001 "${iot[@]}" --wait
  placed+=(vm-iot-001)
else
  echo "this topology has no edge, so this one is refused:"
  code=0
  cli place-vm --name vm-iot-001 "${iot[@]}" || code=$?
  if [ "$code" -eq 0 ]; then
    placed+=(vm-iot-001)
    echo "it was placed although no region is an edge" >&2
    exit 1
  fi
fi

say "what runs now"
cli vm list

say "deleting them"
clean_up
placed=()
cli vm list
