# Each worker is in the cluster as what it is: its address, its kubelet's version, the image that it booted, no taint.
# One question for each node: kubectl takes seconds to start in a translated guest.
set -eu
ctl() { /usr/lib/nodelith/kubectl-admin "$@"; }
is() { [ "$2" = "$3" ] || { echo "$1 is $2, not $3"; exit 1; }; }

ctl get nodes --show-labels --no-headers >/tmp/nodes
[ "$(wc -l </tmp/nodes)" = 2 ] || { cat /tmp/nodes; exit 1; }
seen='{.status.addresses[?(@.type=="InternalIP")].address}|{.status.addresses[?(@.type=="Hostname")].address}'
seen="$seen|{.status.nodeInfo.kubeletVersion}|{.status.nodeInfo.containerRuntimeVersion}"
seen="$seen|{.metadata.annotations.nodelith\.dev/root-hash}|{.metadata.labels.nodelith\.dev/image}"
seen="$seen|{.metadata.labels.nodelith\.dev/spec}|{.spec.taints}|{.spec.unschedulable}"
for node in worker-1 worker-2; do
    var=$(echo "$node" | tr - _)
    eval "address=\$address_$var hash=\$hash_$var kubelet=\$kubelet_$var"
    ctl get node "$node" -o "jsonpath=$seen" >/tmp/node
    IFS='|' read -r internal name version runtime annotation image spec taints unschedulable </tmp/node || true
    is "InternalIP of $node" "$internal" "$address"
    is "name of $node" "$name" "$node"
    is "version and cgroups of $node" "Kubernetes $version cgroup2fs" "$(echo $kubelet)"
    is "runtime of $node" "${runtime%%:*}" containerd
    is "annotation of $node" "$annotation" "$hash"
    is "image of $node" "$image" "$(printf %.16s "$hash")"
    is "spec of $node" "$spec" worker
    is "taints of $node" "$taints" ''
    is "unschedulable of $node" "$unschedulable" ''
done
cat /tmp/nodes
