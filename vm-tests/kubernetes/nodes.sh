# Each worker is in the cluster as what it is: its address, its kubelet's version, the image that it booted, no taint.
set -eu
ctl() { /usr/lib/nodelith/kubectl-admin "$@"; }
is() { [ "$2" = "$3" ] || { echo "$1 is $2, not $3"; exit 1; }; }

[ "$(ctl get nodes --no-headers | wc -l)" = 2 ]
for node in worker-1 worker-2; do
    get() { ctl get node "$node" -o "jsonpath=$1"; }
    var=$(echo "$node" | tr - _)
    eval "address=\$address_$var hash=\$hash_$var kubelet=\$kubelet_$var"
    is "InternalIP of $node" "$(get '{.status.addresses[?(@.type=="InternalIP")].address}')" "$address"
    is "name of $node" "$(get '{.status.addresses[?(@.type=="Hostname")].address}')" "$node"
    is "version and cgroups of $node" "Kubernetes $(get '{.status.nodeInfo.kubeletVersion}') cgroup2fs" "$(echo $kubelet)"
    is "runtime of $node" "$(get '{.status.nodeInfo.containerRuntimeVersion}' | cut -d: -f1)" containerd
    is "annotation of $node" "$(get '{.metadata.annotations.nodelith\.dev/root-hash}')" "$hash"
    is "image of $node" "$(get '{.metadata.labels.nodelith\.dev/image}')" "$(printf %.16s "$hash")"
    is "spec of $node" "$(get '{.metadata.labels.nodelith\.dev/spec}')" worker
    is "taints of $node" "$(get '{.spec.taints}')" ''
    is "unschedulable of $node" "$(get '{.spec.unschedulable}')" ''
    ctl get node "$node" --show-labels
done
