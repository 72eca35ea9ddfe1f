# Nodes and pods by what no two of them share.
set -eu
ctl() { HOME=/tmp /usr/lib/nodelith/kubectl-admin "$@"; }
ctl get nodes,pods,services -A -o 'jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}{"\n"}{end}' | sort
